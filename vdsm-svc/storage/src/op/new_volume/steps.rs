//! The names of the steps that all verbs which make a volume have in common.

/// The same steps under each verb's own names: fail points are enumerated by the verbs' tables.
pub(in crate::op) struct Steps {
    pub(in crate::op) note_intent: &'static str,
    pub(in crate::op) make_image: &'static str,
    pub(in crate::op) sync_images: &'static str,
    pub(in crate::op) create_file: &'static str,
    pub(in crate::op) note_draft: &'static str,
    pub(in crate::op) qemu_img: &'static str,
    pub(in crate::op) allocate: &'static str,
    pub(in crate::op) sync_file: &'static str,
    pub(in crate::op) look: &'static str,
    pub(in crate::op) note_file: &'static str,
    pub(in crate::op) place_file: &'static str,
    pub(in crate::op) sync_image: &'static str,
    pub(in crate::op) write_meta: &'static str,
    pub(in crate::op) note_done: &'static str,
    pub(in crate::op) undo_note: &'static str,
    pub(in crate::op) undo_file: &'static str,
    pub(in crate::op) undo_meta: &'static str,
    pub(in crate::op) undo_sync_image: &'static str,
    pub(in crate::op) undo_image: &'static str,
    pub(in crate::op) undo_sync_images: &'static str,
    pub(in crate::op) forward_sync: &'static str,
}

/// The [`Steps`] of a verb.
macro_rules! steps_of {
    ($verb:literal) => {
        $crate::op::new_volume::Steps {
            note_intent: concat!($verb, ".note_intent"),
            make_image: concat!($verb, ".make_image"),
            sync_images: concat!($verb, ".sync_images"),
            create_file: concat!($verb, ".create_file"),
            note_draft: concat!($verb, ".note_draft"),
            qemu_img: concat!($verb, ".qemu_img"),
            allocate: concat!($verb, ".allocate"),
            sync_file: concat!($verb, ".sync_file"),
            look: concat!($verb, ".look"),
            note_file: concat!($verb, ".note_file"),
            place_file: concat!($verb, ".place_file"),
            sync_image: concat!($verb, ".sync_image"),
            write_meta: concat!($verb, ".write_meta"),
            note_done: concat!($verb, ".note_done"),
            undo_note: concat!($verb, ".undo_note"),
            undo_file: concat!($verb, ".undo_file"),
            undo_meta: concat!($verb, ".undo_meta"),
            undo_sync_image: concat!($verb, ".undo_sync_image"),
            undo_image: concat!($verb, ".undo_image"),
            undo_sync_images: concat!($verb, ".undo_sync_images"),
            forward_sync: concat!($verb, ".forward_sync"),
        }
    };
}

pub(in crate::op) use steps_of;
