//! A "container": one process cloned into namespaces and cgroups of its own, which becomes clawkerd.
//!
//! ```text
//! [Recipe], all of it made before ─▶ clone ─▶ child: cgroups ─▶ tmpfs root, binds, /proc, /dev ─▶ pivot ─▶ exec
//!                                         └─▶ parent: pid and pidfd
//! ```
//! Between clone and exec the child of a threaded process may make system calls and nothing else.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use libc::{c_char, c_int, c_ulong};
use tokio::sync::{mpsc, oneshot};

/// The capabilities of Docker's containers, without NET_RAW: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID,
/// SETPCAP, NET_BIND_SERVICE, SYS_CHROOT, MKNOD, AUDIT_WRITE, SETFCAP.
const CAPABILITIES: [c_int; 13] = [0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 27, 29, 31];
const FOLDERS: [&str; 9] = ["proc", "dev", "tmp", "run", "var", "etc", "root", "bin", "sys"];
/// Name, major, minor.
const DEVICES: [(&str, u32, u32); 3] = [("dev/null", 1, 3), ("dev/zero", 1, 5), ("dev/urandom", 1, 9)];

/// A bind mount.
#[derive(Debug, Clone)]
pub struct Bind {
    pub source: PathBuf,
    /// Absolute, in the container.
    pub target: String,
    pub read_only: bool,
}

/// What is to run, and where.
pub struct Recipe {
    pub hostname: String,
    /// An empty folder of the host, over which each container mounts its root unseen by the others.
    pub staging: PathBuf,
    pub binds: Vec<Bind>,
    pub cgroups: Vec<OwnedFd>,
    pub argv: Vec<String>,
    pub env: Vec<String>,
    /// Gets what the container writes.
    pub log: OwnedFd,
}

/// A child that was made.
pub struct Spawned {
    pub pid: i32,
    pub pidfd: OwnedFd,
}

type Order = (Recipe, oneshot::Sender<Result<Spawned>>);

/// Makes children in one thread, which lives as long as this: the kernel kills a child whose maker's thread ends.
#[derive(Clone)]
pub struct Spawner(mpsc::Sender<Order>);

impl Spawner {
    pub fn start() -> Result<Self> {
        let (orders, mut queue) = mpsc::channel::<Order>(1024);
        std::thread::Builder::new()
            .name("spawner".into())
            .spawn(move || {
                while let Some((recipe, made)) = queue.blocking_recv() {
                    // Whoever gave up waiting finds a container that ends by itself: nobody knows its pid.
                    let _ = made.send(Prepared::of(&recipe).and_then(|prepared| prepared.spawn()));
                }
            })
            .context("starting the thread that makes containers")?;
        Ok(Self(orders))
    }

    pub async fn spawn(&self, recipe: Recipe) -> Result<Spawned> {
        let (made, answer) = oneshot::channel();
        self.0
            .send((recipe, made))
            .await
            .ok()
            .context("the spawner has ended")?;
        answer.await.context("the spawner has ended")?
    }
}

/// The recipe as the kernel takes it.
struct Prepared {
    hostname: CString,
    staging: CString,
    folders: Vec<CString>,
    devices: Vec<(CString, libc::dev_t)>,
    /// Source, target below the staging folder, read-only.
    binds: Vec<(CString, CString, bool)>,
    cgroups: Vec<RawFd>,
    argv: Vec<CString>,
    env: Vec<CString>,
    log: RawFd,
}

fn c(text: impl Into<Vec<u8>>) -> Result<CString> {
    CString::new(text).context("a zero byte")
}

fn path(path: &Path) -> Result<CString> {
    use std::os::unix::ffi::OsStrExt;
    c(path.as_os_str().as_bytes())
}

impl Prepared {
    fn of(recipe: &Recipe) -> Result<Self> {
        let mut folders = Vec::new();
        let mut binds = Vec::new();
        for folder in FOLDERS {
            folders.push(c(folder)?);
        }
        for bind in &recipe.binds {
            let target = bind.target.trim_matches('/');
            let mut below = String::new();
            for part in target.split('/') {
                below = if below.is_empty() {
                    part.to_owned()
                } else {
                    format!("{below}/{part}")
                };
                folders.push(c(below.as_str())?);
            }
            binds.push((path(&bind.source)?, c(target)?, bind.read_only));
        }
        let device = |(name, major, minor): (&str, u32, u32)| Ok((c(name)?, libc::makedev(major, minor)));
        Ok(Self {
            hostname: c(recipe.hostname.as_str())?,
            staging: path(&recipe.staging)?,
            folders,
            devices: DEVICES.into_iter().map(device).collect::<Result<_>>()?,
            binds,
            cgroups: recipe.cgroups.iter().map(AsRawFd::as_raw_fd).collect(),
            argv: recipe.argv.iter().map(|word| c(word.as_str())).collect::<Result<_>>()?,
            env: recipe.env.iter().map(|word| c(word.as_str())).collect::<Result<_>>()?,
            log: recipe.log.as_raw_fd(),
        })
    }

    fn spawn(&self) -> Result<Spawned> {
        let null = std::fs::File::open("/dev/null").context("/dev/null")?;
        let argv = pointers(&self.argv);
        let env = pointers(&self.env);
        let flags = libc::CLONE_NEWPID
            | libc::CLONE_NEWNS
            | libc::CLONE_NEWNET
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS
            | libc::CLONE_PIDFD
            | libc::SIGCHLD;
        let mut pidfd: c_int = -1;
        // SAFETY: no memory is shared and no stack given, so this is a fork; `pidfd` outlives the call.
        let pid = unsafe { libc::syscall(libc::SYS_clone, c_ulong::from(flags as u32), 0, &raw mut pidfd, 0, 0) };
        match pid {
            -1 => Err(io::Error::last_os_error()).context("clone"),
            // SAFETY: this is the child, and what it points to was made before the clone.
            0 => unsafe { self.child(null.as_raw_fd(), &argv, &env) },
            pid => Ok(Spawned {
                pid: i32::try_from(pid).context("a pid")?,
                // SAFETY: the kernel gave us a new descriptor that nobody else owns.
                pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
            }),
        }
    }

    /// Never returns. Makes system calls alone.
    ///
    /// # Safety
    /// To be called in a child whose memory is its own; `argv` and `env` end with a null.
    unsafe fn child(&self, null: RawFd, argv: &[*const c_char], env: &[*const c_char]) -> ! {
        // SAFETY: as this function's.
        let errno = unsafe {
            match self.become_container(null) {
                Ok(()) => {
                    libc::execve(argv[0], argv.as_ptr(), env.as_ptr());
                    *libc::__errno_location()
                }
                Err(errno) => errno,
            }
        };
        // SAFETY: as this function's. 126: it could not be run.
        unsafe { libc::_exit(if errno == libc::ENOENT { 127 } else { 126 }) }
    }

    /// # Safety
    /// As [`Self::child`]'s.
    unsafe fn become_container(&self, null: RawFd) -> Result<(), c_int> {
        let none = std::ptr::null::<c_char>();
        // SAFETY: system calls with constants, and with strings that live in the memory that the child has a copy of.
        unsafe {
            done(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
            // Rust's runtime ignores it, and exec keeps that.
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            for procs in &self.cgroups {
                done(libc::write(*procs, c"0".as_ptr().cast(), 1) as c_int)?;
            }
            done(libc::unshare(libc::CLONE_NEWCGROUP))?;
            done(libc::mount(
                none,
                c"/".as_ptr(),
                none,
                libc::MS_REC | libc::MS_PRIVATE,
                none.cast(),
            ))?;
            done(libc::mount(
                c"tmpfs".as_ptr(),
                self.staging.as_ptr(),
                c"tmpfs".as_ptr(),
                libc::MS_NOSUID,
                c"mode=755,size=16m".as_ptr().cast(),
            ))?;
            done(libc::chdir(self.staging.as_ptr()))?;
            libc::umask(0o022);
            for folder in &self.folders {
                // A parent may be there already.
                libc::mkdir(folder.as_ptr(), 0o755);
            }
            libc::chmod(c"tmp".as_ptr(), 0o1777);
            done(libc::symlink(c"../run".as_ptr(), c"var/run".as_ptr()))?;
            for (name, device) in &self.devices {
                done(libc::mknod(name.as_ptr(), libc::S_IFCHR | 0o666, *device))?;
            }
            for (source, target, read_only) in &self.binds {
                done(libc::mount(
                    source.as_ptr(),
                    target.as_ptr(),
                    none,
                    libc::MS_BIND,
                    none.cast(),
                ))?;
                if *read_only {
                    let again = libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY;
                    done(libc::mount(none, target.as_ptr(), none, again, none.cast()))?;
                }
            }
            done(libc::mount(
                c"proc".as_ptr(),
                c"proc".as_ptr(),
                c"proc".as_ptr(),
                0,
                none.cast(),
            ))?;
            done(libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) as c_int)?;
            done(libc::umount2(c".".as_ptr(), libc::MNT_DETACH))?;
            done(libc::chdir(c"/".as_ptr()))?;
            done(libc::sethostname(
                self.hostname.as_ptr(),
                self.hostname.as_bytes().len(),
            ))?;
            done(libc::setsid())?;
            done(libc::dup2(null, 0))?;
            done(libc::dup2(self.log, 1))?;
            done(libc::dup2(self.log, 2))?;
            done(libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) as c_int)?;
            for capability in 0..=63 {
                if !CAPABILITIES.contains(&capability) {
                    // Those that this kernel doesn't know are refused.
                    libc::prctl(libc::PR_CAPBSET_DROP, capability);
                }
            }
        }
        Ok(())
    }
}

/// # Safety
/// To be called right after the system call whose result this is.
unsafe fn done(result: c_int) -> Result<(), c_int> {
    if result < 0 {
        // SAFETY: errno is this thread's.
        return Err(unsafe { *libc::__errno_location() });
    }
    Ok(())
}

/// With a null at the end, as exec wants it.
fn pointers(words: &[CString]) -> Vec<*const c_char> {
    let end = std::iter::once(std::ptr::null());
    words.iter().map(|word| word.as_ptr()).chain(end).collect()
}
