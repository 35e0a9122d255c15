//! The system calls that a child may make: those that `qemu-img`, the C library and a wrapper script need to work on the
//! files that the child was given. All others are refused, whichever they are: those of the network, those that act on
//! the machine, on other processes or on files by name, and those that create something that outlives the child.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, sock_filter,
};

/// Allowed with any arguments: each acts on the child itself, on files that it has open, or opens what Landlock allows.
/// Measured with `strace` over all our command lines with qemu-img 7.2.22 and 10.0.2, and over wrapper scripts in sh,
/// bash, Perl and Python; siblings of these that another C library uses are added.
const ALLOWED: &[libc::c_long] = &[
    // Reading, writing, and waiting for that.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_lseek,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fadvise64,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync_file_range,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_signalfd4,
    // Descriptors, and what can be seen of files.
    libc::SYS_openat,
    libc::SYS_dup,
    libc::SYS_pipe2,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_chdir,
    libc::SYS_umask,
    // Memory.
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_get_mempolicy,
    libc::SYS_set_mempolicy,
    libc::SYS_membarrier,
    // Threads and signals of its own, and its end.
    libc::SYS_execve,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_wait4,
    libc::SYS_futex,
    libc::SYS_futex_waitv,
    libc::SYS_rseq,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_sched_yield,
    libc::SYS_getcpu,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    // Clocks, and random numbers.
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
    libc::SYS_getitimer,
    libc::SYS_setitimer,
    libc::SYS_getrandom,
    // Who and where it is.
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_getgroups,
    libc::SYS_getrlimit,
    libc::SYS_setrlimit,
    libc::SYS_getrusage,
    libc::SYS_times,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    // The filter that is installed first answers this one, with ENOSYS.
    libc::SYS_clone3,
];

/// Older forms of the same, which newer processors never had.
#[cfg(target_arch = "x86_64")]
const ALLOWED_OLD: &[libc::c_long] = &[
    libc::SYS_access,
    libc::SYS_alarm,
    libc::SYS_arch_prctl,
    libc::SYS_creat,
    libc::SYS_epoll_create,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd,
    libc::SYS_getdents,
    libc::SYS_getpgrp,
    libc::SYS_lstat,
    libc::SYS_open,
    libc::SYS_pause,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_select,
    libc::SYS_signalfd,
    libc::SYS_stat,
    libc::SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_OLD: &[libc::c_long] = &[];

/// Copies and flags of a descriptor, and locks of records, which are qemu's. Not who is signalled about a file, leases
/// (they make others wait who open it), hints (the file keeps them) and seals.
const FCNTL: &[libc::c_int] = &[
    libc::F_DUPFD,
    libc::F_DUPFD_CLOEXEC,
    libc::F_GETFD,
    libc::F_GETFL,
    libc::F_SETFL,
    libc::F_GETLK,
    libc::F_SETLK,
    libc::F_SETLKW,
    libc::F_OFD_GETLK,
    libc::F_OFD_SETLK,
    libc::F_OFD_SETLKW,
];

/// Questions about a file, by which qemu determines alignment, and what interpreters ask of their standard files. No
/// ioctl changes a file or its flags: qemu's hint to XFS about the size of extents (FS_IOC_FSSETXATTR) is the same call as
/// other flags, in memory that a filter cannot read; qemu does without.
const IOCTL: &[u64] = &[
    libc::TCGETS,
    libc::TIOCGPGRP,
    libc::TIOCGWINSZ,
    libc::FIONCLEX,
    libc::BLKSSZGET,
    FS_IOC_FSGETXATTR,
    XFS_IOC_DIOINFO,
];
const FS_IOC_FSGETXATTR: u64 = 0x801c_581f;
const XFS_IOC_DIOINFO: u64 = 0x800c_581e;

/// Names and timers of threads. Not PR_SET_DUMPABLE: it would hide the child from the service.
const PRCTL: &[libc::c_int] = &[
    libc::PR_SET_NAME,
    libc::PR_GET_NAME,
    libc::PR_SET_TIMERSLACK,
    // The C library names its memory.
    libc::PR_SET_VMA,
];

/// Close a descriptor, or the first of several, in this argument: any but the standard input. A child that let go of the
/// lock of its task would not be found by a service that was started anew.
const CLOSES: &[(libc::c_long, u8)] = &[
    (libc::SYS_close, 0),
    (libc::SYS_close_range, 0),
    (libc::SYS_dup3, 1),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_dup2, 1),
];

/// Numbers from here on are of kernels that came after the list (5.16): with ENOSYS, a C library that is newer falls back
/// to older calls. It also excludes another ABI of the same processor (x32), whose numbers are above 0x4000_0000.
const NO_CALLS_FROM: u32 = 450;

/// Restricts the process, and the program that it executes, to the calls that are allowed. The rest is refused with
/// EPERM, so that a program that has an alternative (to io_uring) uses it.
pub(super) fn refuse() -> Result<(), String> {
    // Its flags are in memory, which a filter cannot read. With ENOSYS, programs fall back to `clone`.
    let unknown = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    apply(
        unknown,
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS.cast_unsigned()),
    )?;
    apply(
        allowed().map_err(|error| unmade(&error))?,
        SeccompAction::Errno(libc::EPERM.cast_unsigned()),
        SeccompAction::Allow,
    )
}

type Rules = BTreeMap<libc::c_long, Vec<SeccompRule>>;

fn allowed() -> Result<Rules, BackendError> {
    let mut rules: Rules = [ALLOWED, ALLOWED_OLD]
        .concat()
        .into_iter()
        .map(|call| (call, Vec::new()))
        .collect();
    let signed = |value: &libc::c_int| u64::from(value.cast_unsigned());
    let mut fcntl = one_of(1, FCNTL.iter().map(signed))?;
    fcntl.push(SeccompRule::new(vec![
        equals(1, signed(&libc::F_SETFD))?,
        not_the_lock(0)?,
    ])?);
    rules.insert(libc::SYS_fcntl, fcntl);
    let mut ioctl = one_of(1, IOCTL.iter().copied())?;
    ioctl.push(SeccompRule::new(vec![
        equals(1, libc::FIOCLEX)?,
        not_the_lock(0)?,
    ])?);
    rules.insert(libc::SYS_ioctl, ioctl);
    for (call, descriptor) in CLOSES {
        rules.insert(*call, vec![SeccompRule::new(vec![not_the_lock(*descriptor)?])?]);
    }
    rules.insert(libc::SYS_prctl, one_of(0, PRCTL.iter().map(signed))?);
    // These act on the process that the first argument names: the child itself, whose number stays when it executes
    // another program. 0 is the child, too, but for signals, where it is a group.
    let own = u64::from(std::process::id());
    for call in [libc::SYS_kill, libc::SYS_tgkill] {
        rules.insert(call, one_of(0, [own])?);
    }
    for call in [libc::SYS_prlimit64, libc::SYS_sched_getaffinity] {
        rules.insert(call, one_of(0, [0, own])?);
    }
    rules.insert(libc::SYS_clone, vec![of_a_thread()?]);
    Ok(rules)
}

/// The argument, of which the kernel looks at 32 bits, has one of these values.
fn one_of(argument: u8, values: impl IntoIterator<Item = u64>) -> Result<Vec<SeccompRule>, BackendError> {
    let is = |value| SeccompRule::new(vec![equals(argument, value)?]);
    values.into_iter().map(is).collect()
}

fn equals(argument: u8, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

/// The argument is not the standard input, which is the lock of the task.
fn not_the_lock(argument: u8) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, 0)
}

/// A `clone` that creates a thread and not a process.
fn of_a_thread() -> Result<SeccompRule, BackendError> {
    let thread = u64::from(libc::CLONE_THREAD.cast_unsigned());
    SeccompRule::new(vec![SeccompCondition::new(
        0,
        SeccompCmpArgLen::Qword,
        SeccompCmpOp::MaskedEq(thread),
        thread,
    )?])
}

fn unmade(error: &BackendError) -> String {
    format!("the seccomp filter cannot be built ({error})")
}

fn apply(rules: Rules, others: SeccompAction, listed: SeccompAction) -> Result<(), String> {
    let architecture = std::env::consts::ARCH
        .try_into()
        .map_err(|error| format!("there is no seccomp filter for this processor ({error})"))?;
    let filter: BpfProgram = SeccompFilter::new(rules, others, listed, architecture)
        .and_then(TryInto::try_into)
        .map_err(|error| unmade(&error))?;
    let program = [no_later_calls(), filter].concat();
    seccompiler::apply_filter(&program)
        .map_err(|error| format!("the kernel refuses the seccomp filter ({error})"))
}

/// Precedes a list: a number that is too high fails with ENOSYS. (Calls of another processor kill the process, by
/// the check that `seccompiler` puts first.)
fn no_later_calls() -> BpfProgram {
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
    use std::fs::{self, File, Permissions};
    use std::io::{Error, ErrorKind};
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};
    use std::path::PathBuf;
    use std::process::{Child, Command};
    use std::thread;
    use std::time::SystemTime;

    use rustix::fs::{
        FlockOperation, IFlags, MemfdFlags, XattrFlags, fchown, flock, fsetxattr, ioctl_getflags,
        ioctl_setflags, memfd_create, removexattr, setxattr,
    };
    use rustix::io::Errno;
    use rustix::process::{
        DumpableBehavior, Pid, PidfdFlags, Resource, Signal, getpriority_process, getrlimit, kill_process,
        kill_process_group, pidfd_open, prlimit, set_dumpable_behavior, setpgid, setpriority_process,
        setpriority_user, setsid, test_kill_process,
    };
    use rustix::thread::{sched_getaffinity, sched_setaffinity};

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

    /// A process of the same user, which would have its limits or its priority changed.
    struct Victim(Child);

    impl Victim {
        fn new() -> Self {
            Self(Command::new("sleep").arg("600").spawn().unwrap())
        }

        fn pid(&self) -> Pid {
            Pid::from_child(&self.0)
        }
    }

    impl Drop for Victim {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    #[test]
    fn nothing_acts_on_another_process_of_the_same_user() {
        let victim = Victim::new();
        let pid = victim.pid();
        let limits = getrlimit(Resource::Core);
        let processors = sched_getaffinity(Some(pid)).unwrap();
        let priority = getpriority_process(Some(pid)).unwrap();
        let user = rustix::process::getuid();
        under_it(move || {
            assert_eq!(prlimit(Some(pid), Resource::Core, limits), Err(Errno::PERM));
            assert_eq!(sched_setaffinity(Some(pid), &processors), Err(Errno::PERM));
            assert_eq!(setpriority_process(Some(pid), priority), Err(Errno::PERM));
            assert_eq!(setpriority_user(user, 0), Err(Errno::PERM));
            assert_eq!(pidfd_open(pid, PidfdFlags::empty()).err(), Some(Errno::PERM));
            assert_eq!(test_kill_process(pid), Err(Errno::PERM));
            assert_eq!(kill_process(pid, Signal::CONT), Err(Errno::PERM));
            assert_eq!(kill_process_group(pid, Signal::CONT), Err(Errno::PERM));
            assert_eq!(setpgid(Some(pid), None), Err(Errno::PERM));
            // What it does to itself is its own affair.
            let own = rustix::process::getpid();
            for of in [None, Some(own)] {
                assert_eq!(prlimit(of, Resource::Core, limits), Ok(limits));
            }
            assert_eq!(test_kill_process(own), Ok(()));
            assert_eq!(
                set_dumpable_behavior(DumpableBehavior::Dumpable),
                Err(Errno::PERM)
            );
        });
    }

    fn refused<T>(done: std::io::Result<T>) -> bool {
        done.err()
            .as_ref()
            .and_then(Error::raw_os_error)
            .is_some_and(|number| number == libc::EPERM)
    }

    #[test]
    fn no_file_has_its_owner_mode_attributes_times_or_flags_changed() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("file");
        let file = File::create(&path).unwrap();
        let link = temp.path().join("link");
        symlink("file", &link).unwrap();
        let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
        let flags = ioctl_getflags(&file).unwrap_or(IFlags::empty());
        under_it(move || {
            let by_descriptor = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
            for path in [&path, &by_descriptor] {
                assert!(refused(fs::set_permissions(path, Permissions::from_mode(0o777))));
                assert!(refused(chown(path, Some(uid.as_raw()), Some(gid.as_raw()))));
                let set = setxattr(path, "user.mine", b"1", XattrFlags::empty());
                assert_eq!(set, Err(Errno::PERM));
                assert_eq!(removexattr(path, "user.mine"), Err(Errno::PERM));
            }
            assert!(refused(file.set_permissions(Permissions::from_mode(0o777))));
            assert_eq!(fchown(&file, Some(uid), Some(gid)), Err(Errno::PERM));
            let set = fsetxattr(&file, "user.mine", b"1", XattrFlags::empty());
            assert_eq!(set, Err(Errno::PERM));
            assert!(refused(file.set_modified(SystemTime::UNIX_EPOCH)));
            assert_eq!(ioctl_setflags(&file, flags), Err(Errno::PERM));
            for done in [
                fs::remove_file(&path),
                fs::remove_file(&link),
                fs::rename(&path, &link),
                fs::hard_link(&path, path.with_extension("second")),
                symlink("file", path.with_extension("third")),
                fs::create_dir(path.with_extension("fourth")),
            ] {
                assert!(refused(done));
            }
            // What the work needs.
            file.set_len(4096).unwrap();
            file.sync_all().unwrap();
        });
    }

    /// A C library that is newer than the list falls back.
    #[test]
    fn calls_of_later_kernels_are_not_there() {
        for call in allowed().unwrap().keys() {
            assert!(u32::try_from(*call).unwrap() < NO_CALLS_FROM, "{call}");
        }
    }
}
