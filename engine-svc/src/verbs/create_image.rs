//! CreateImage.

wire_form! { CreateImage <=> CreateImageParameters { vm_id: optional_id, disk: disk, volume_id: id, host_id: id } }
