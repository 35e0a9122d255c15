//! Which calls a child may not make: those of the network, and those that act on the machine or on other processes.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// Refused with EPERM: a program that can do without (io_uring) does.
const REFUSED: [libc::c_long; 42] = [
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_fsmount,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_mount_setattr,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
];

/// The process and what it becomes make none of these calls.
pub(super) fn refuse() -> Result<(), String> {
    let architecture = std::env::consts::ARCH
        .try_into()
        .map_err(|error| format!("no filter of calls is known for this processor ({error})"))?;
    let always = |call: libc::c_long| (call, Vec::new());
    let refused: BTreeMap<_, _> = REFUSED.into_iter().map(always).collect();
    let eperm = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let program: BpfProgram = SeccompFilter::new(refused, SeccompAction::Allow, eperm, architecture)
        .and_then(TryInto::try_into)
        .map_err(|error| format!("the filter of calls cannot be made ({error})"))?;
    seccompiler::apply_filter(&program)
        .map_err(|error| format!("the kernel does not take a filter of calls ({error})"))
}
