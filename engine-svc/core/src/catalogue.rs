//! The catalogue of commands, with one row per kind. Everything that must be total over the kinds is generated from
//! it: the parameters, the requests, the event codes of their ends, their planning (`plan`), and how they are
//! recorded and shown (the shell).

/// Calls the macro of the given name with every kind of command.
///
/// A client can request a root; its row has the codes of the events that report its end: done (with the severity),
/// failed, cancelled. A part is always a child of another command.
#[macro_export]
macro_rules! commands {
    ($rows:ident) => {
        $rows! {
            roots {
                AddHost(Info HostAdded "HOST_ADDED", HostAddFailed "HOST_ADD_FAILED",
                    HostAddCancelled "HOST_ADD_CANCELLED");
                RemoveHost(Info HostRemoved "HOST_REMOVED", HostRemoveFailed "HOST_REMOVE_FAILED",
                    HostRemoveCancelled "HOST_REMOVE_CANCELLED");
                TakeOverHost(Alert HostTakenOver "HOST_TAKEN_OVER", HostTakeOverFailed "HOST_TAKE_OVER_FAILED",
                    HostTakeOverCancelled "HOST_TAKE_OVER_CANCELLED");
                CreateStorageDomain(Info StorageDomainCreated "STORAGE_DOMAIN_CREATED",
                    StorageDomainCreateFailed "STORAGE_DOMAIN_CREATE_FAILED",
                    StorageDomainCreateCancelled "STORAGE_DOMAIN_CREATE_CANCELLED");
                CreateVm(Info VmCreated "VM_CREATED", VmCreateFailed "VM_CREATE_FAILED",
                    VmCreateCancelled "VM_CREATE_CANCELLED");
                RemoveVm(Info VmRemoved "VM_REMOVED", VmRemoveFailed "VM_REMOVE_FAILED",
                    VmRemoveCancelled "VM_REMOVE_CANCELLED");
                CreateDisk(Info DiskCreated "DISK_CREATED", DiskCreateFailed "DISK_CREATE_FAILED",
                    DiskCreateCancelled "DISK_CREATE_CANCELLED");
                RemoveDisk(Info DiskRemoved "DISK_REMOVED", DiskRemoveFailed "DISK_REMOVE_FAILED",
                    DiskRemoveCancelled "DISK_REMOVE_CANCELLED");
                AttachDisk(Info DiskAttached "DISK_ATTACHED", DiskAttachFailed "DISK_ATTACH_FAILED",
                    DiskAttachCancelled "DISK_ATTACH_CANCELLED");
                DetachDisk(Info DiskDetached "DISK_DETACHED", DiskDetachFailed "DISK_DETACH_FAILED",
                    DiskDetachCancelled "DISK_DETACH_CANCELLED");
                CopyDisk(Info DiskCopied "DISK_COPIED", DiskCopyFailed "DISK_COPY_FAILED",
                    DiskCopyCancelled "DISK_COPY_CANCELLED");
                ExtendDisk(Info DiskExtended "DISK_EXTENDED", DiskExtendFailed "DISK_EXTEND_FAILED",
                    DiskExtendCancelled "DISK_EXTEND_CANCELLED");
            }
            parts {
                CreateImage;
                RemoveAllVmImages;
                RemoveImage;
                CopyImage;
            }
        }
    };
}
