//! The system calls that a child may not make: those of the network, those that act on the machine or on other
//! processes, and those that create something that outlives it: processes, a process group, memory that no process
//! owns.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    sock_filter,
};

/// Refused with EPERM, so that a program that has an alternative (to io_uring) uses it.
const REFUSED: &[libc::c_long] = &[
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
    libc::SYS_fanotify_init,
    // It stays in its process group, through which it is killed.
    libc::SYS_setsid,
    libc::SYS_setpgid,
    // The lock of its task, which identifies it, stays locked.
    libc::SYS_flock,
    // Memory that no process limit counts, or that remains when all processes are gone.
    libc::SYS_memfd_create,
    libc::SYS_memfd_secret,
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_msgget,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_msgctl,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_semctl,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
    // Processes; the flags of `clone` are checked (`threads_only`).
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
];

/// Numbers from here on belong to another ABI of the same processor (x32), and would bypass any list.
const NO_CALLS_FROM: u32 = 0x4000_0000;

/// Forbids these calls to the process and to the program that it executes.
pub(super) fn refuse() -> Result<(), String> {
    let unmade = |error: seccompiler::BackendError| format!("the seccomp filter cannot be built ({error})");
    let always = |call: &libc::c_long| (*call, Vec::new());
    let mut refused: BTreeMap<_, _> = REFUSED.iter().map(always).collect();
    refused.insert(libc::SYS_clone, vec![of_a_process().map_err(unmade)?]);
    // Its flags are in memory, which a filter cannot read. With ENOSYS, programs fall back to `clone`.
    let unknown = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    apply(unknown, libc::ENOSYS)?;
    apply(refused, libc::EPERM)
}

/// A `clone` that creates a process and not a thread.
fn of_a_process() -> Result<SeccompRule, seccompiler::BackendError> {
    let thread = u64::from(libc::CLONE_THREAD.cast_unsigned());
    SeccompRule::new(vec![SeccompCondition::new(
        0,
        SeccompCmpArgLen::Qword,
        SeccompCmpOp::MaskedEq(thread),
        0,
    )?])
}

fn apply(refused: BTreeMap<libc::c_long, Vec<SeccompRule>>, errno: libc::c_int) -> Result<(), String> {
    let architecture = std::env::consts::ARCH
        .try_into()
        .map_err(|error| format!("there is no seccomp filter for this processor ({error})"))?;
    let refusal = SeccompAction::Errno(errno.cast_unsigned());
    let listed: BpfProgram = SeccompFilter::new(refused, SeccompAction::Allow, refusal, architecture)
        .and_then(TryInto::try_into)
        .map_err(|error| format!("the seccomp filter cannot be built ({error})"))?;
    let program = [no_other_abi(), listed].concat();
    seccompiler::apply_filter(&program)
        .map_err(|error| format!("the kernel refuses the seccomp filter ({error})"))
}

/// Precedes the list: a number that is too high fails with ENOSYS. (Calls of another processor kill the process, by
/// the check that `seccompiler` puts first.)
fn no_other_abi() -> BpfProgram {
    let instruction = |code: u32, jf: u8, k: u32| sock_filter {
        // All codes are below 256.
        code: u16::try_from(code).unwrap_or_default(),
        jt: 0,
        jf,
        k,
    };
    vec![
        // The number of the call is the first word of the filter's input.
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 1, NO_CALLS_FROM),
        instruction(
            libc::BPF_RET | libc::BPF_K,
            0,
            libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned(),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::ErrorKind;
    use std::process::Command;
    use std::thread;

    use rustix::fs::{FlockOperation, MemfdFlags, flock, memfd_create};
    use rustix::io::Errno;
    use rustix::process::{setpgid, setsid};

    use super::*;

    /// The filter is that of the thread which takes it, and of those that it starts.
    fn under_it(work: impl FnOnce() + Send + 'static) {
        let filtered = thread::spawn(|| {
            rustix::thread::set_no_new_privs(true).unwrap();
            refuse().unwrap();
            work();
        });
        filtered.join().unwrap();
    }

    #[test]
    fn threads_are_made_and_no_processes() {
        under_it(|| {
            assert_eq!(thread::spawn(|| 7).join().unwrap(), 7);
            for _ in 0..2 {
                let refused = Command::new("true").spawn().unwrap_err();
                assert_eq!(refused.kind(), ErrorKind::PermissionDenied, "{refused}");
            }
        });
    }

    #[test]
    fn nothing_leaves_its_group_unlocks_what_it_was_given_or_takes_memory_of_nobodys() {
        let lock = tempfile::tempfile().unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        let held: File = lock.try_clone().unwrap();
        under_it(move || {
            assert_eq!(setsid(), Err(Errno::PERM));
            assert_eq!(setpgid(None, None), Err(Errno::PERM));
            assert_eq!(flock(&held, FlockOperation::Unlock), Err(Errno::PERM));
            assert_eq!(memfd_create("m", MemfdFlags::empty()).err(), Some(Errno::PERM));
        });
        drop(lock);
    }
}
