//! CopyImage.

wire_form! {
    CopyImage <=> CopyImageParameters { source: volume, disk: disk, volume_id: id, host_id: id, verify: flag }
}
