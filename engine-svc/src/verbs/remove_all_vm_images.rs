//! RemoveAllVmImages.

wire_form! { RemoveAllVmImages <=> RemoveAllVmImagesParameters { vm_id: id, disk_ids: ids } }
