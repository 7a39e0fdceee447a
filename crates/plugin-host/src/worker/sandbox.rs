//! What a child gives up before it sees the first byte of a plugin.
//!
//! ```text
//! network ──► (engine, threads) ──► user ──► limits ──► no_new_privs, undumpable ──► system calls
//! ```
//! The filter is what holds: whoever gets out of WebAssembly can compute and answer, and any other system call ends
//! the process. The steps before it need rights that a control plane without root doesn't have; what couldn't be done
//! is told.

use std::collections::BTreeMap;
use std::error::Error;

use clawker_proc::{confine, harden};
use rustix::process::{Resource, Rlimit, geteuid, getpid, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// What the process will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    Calls,
    Compiling,
}

/// Bytes that a child may have as its own, over all its memories. The address space can't be the limit: the pool
/// reserves tens of gigabytes of it.
const DATA: u64 = 4 << 30;
/// Bytes of the only files that a child makes: the first content of a plugin's memory, which has no name and no place.
const IMAGE: u64 = 64 << 20;
/// Seconds of processor time of a compiler.
const COMPILE_SECONDS: u64 = 600;
/// `PAGEMAP_SCAN` (include/uapi/linux/fs.h): how the pool finds what a call wrote.
const PAGEMAP_SCAN: u64 = 0xc060_6610;
/// `PR_SET_NAME` (include/uapi/linux/prctl.h).
const PR_SET_NAME: u64 = 15;

/// What both may call.
const COMMON: &[i64] = &[
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_lseek,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_pread64,
    libc::SYS_read,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_sendto,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    libc::SYS_statx,
    libc::SYS_write,
];

/// Before there are threads, because each has its own. What couldn't be left.
pub(super) fn leave_network() -> Vec<String> {
    told(confine::leave_network())
}

/// The rest. An error where the filter isn't in force; else what of the others couldn't be done.
pub(super) fn confine(what: For) -> Result<Vec<String>, Box<dyn Error>> {
    let mut without = Vec::new();
    if geteuid().is_root() {
        without.extend(told(confine::become_nobody()));
    } else {
        without.push("it has the control plane's own user".to_owned());
    }
    limit(Resource::Fsize, IMAGE)?;
    limit(Resource::Core, 0)?;
    limit(Resource::Nproc, 0)?;
    limit(Resource::Data, DATA)?;
    if what == For::Compiling {
        limit(Resource::Cpu, COMPILE_SECONDS)?;
    }
    harden::undumpable()?;
    harden::no_new_privs()?;
    if what == For::Compiling {
        seccompiler::apply_filter_all_threads(&no_files()?)?;
    }
    seccompiler::apply_filter_all_threads(&filter(what)?)?;
    Ok(without)
}

fn limit(resource: Resource, value: u64) -> std::io::Result<()> {
    let limit = Rlimit {
        current: Some(value),
        maximum: Some(value),
    };
    Ok(setrlimit(resource, limit)?)
}

fn filter(what: For) -> Result<BpfProgram, Box<dyn Error>> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = COMMON.iter().map(|call| (*call, Vec::new())).collect();
    // To abort, and nobody else: others run as nobody too.
    let own = u64::from(getpid().as_raw_nonzero().get().unsigned_abs());
    rules.insert(libc::SYS_tgkill, vec![only(0, own)?]);
    // A thread that was made before may begin only now: it gives itself a name, and asks for its processors.
    rules.insert(libc::SYS_prctl, vec![only(0, PR_SET_NAME)?]);
    if what == For::Compiling {
        rules.insert(libc::SYS_openat, Vec::new());
    }
    if what == For::Calls {
        rules.insert(libc::SYS_memfd_create, Vec::new());
        rules.insert(libc::SYS_ioctl, vec![only(1, PAGEMAP_SCAN)?]);
    }
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        std::env::consts::ARCH.try_into()?,
    )?;
    Ok(filter.try_into()?)
}

/// What a compiler opens can't be opened, and isn't its end: libraries look up how many processors there are, now and
/// then. Of two filters the stricter answer counts.
fn no_files() -> Result<BpfProgram, Box<dyn Error>> {
    let refused = SeccompAction::Errno(rustix::io::Errno::ACCESS.raw_os_error().unsigned_abs());
    let filter = SeccompFilter::new(
        BTreeMap::from([(libc::SYS_openat, Vec::new())]),
        SeccompAction::Allow,
        refused,
        std::env::consts::ARCH.try_into()?,
    )?;
    Ok(filter.try_into()?)
}

fn only(argument: u8, value: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)?;
    SeccompRule::new(vec![condition])
}

fn told(done: std::io::Result<()>) -> Vec<String> {
    done.err().map(|error| error.to_string()).into_iter().collect()
}
