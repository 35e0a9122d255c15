//! RemoveImage.

wire_form! {
    RemoveImage <=> RemoveImageParameters {
        vm_id: optional_id, disk_id: id, domain_id: id, host_id: id, capacity_bytes: bytes,
    }
}
