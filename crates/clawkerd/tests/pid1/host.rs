//! A container without an engine: clawkerd as PID 1 of a PID namespace of its own, with its own /proc and /run.

use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::AsRawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub const PATIENCE: Duration = Duration::from_secs(20);

/// `false`, with a printed line, where this test can't make namespaces.
pub fn can_run() -> bool {
    // SAFETY: no pointer is passed.
    let root = unsafe { libc::geteuid() } == 0;
    if !root {
        println!("skipped: only root makes PID namespaces");
    }
    root
}

pub struct Container {
    /// Stands between us and PID 1; exits as it does.
    outer: Child,
    /// All of its standard error so far.
    said: Arc<Mutex<String>>,
    listening: Option<JoinHandle<()>>,
    pub init: i32,
}

impl Container {
    pub fn start(run_dir: &Path, args: &[&str]) -> Self {
        Self::start_prepared(run_dir, args, || Ok(()))
    }

    /// With something done in its namespaces before PID 1 is executed there; only system calls may be.
    pub fn start_prepared(
        run_dir: &Path,
        args: &[&str],
        prepare: impl Fn() -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_clawkerd"));
        command
            .arg("init")
            .arg(format!("--run-dir={}", run_dir.display()))
            .args(args)
            .args(["--", "command"]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // SAFETY: only system calls between fork and exec.
        unsafe {
            command.pre_exec(move || {
                into_namespaces()?;
                prepare()
            });
        }
        Self::spawned(&mut command)
    }

    /// As under `docker run -it`: PID 1 leads the session whose controlling terminal is its stdio. The other end.
    pub fn start_on_terminal(run_dir: &Path) -> (Self, std::fs::File) {
        use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("pty");
        unlockpt(&master).expect("unlocked");
        let name = ptsname(&master, Vec::new())
            .expect("named")
            .into_string()
            .expect("text");
        let slave = || {
            std::fs::File::options()
                .read(true)
                .write(true)
                .open(&name)
                .expect("slave")
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_clawkerd"));
        command
            .arg("init")
            .arg(format!("--run-dir={}", run_dir.display()))
            .args(["--", "command"]);
        command.stdin(slave()).stdout(slave()).stderr(slave());
        // SAFETY: only system calls between fork and exec.
        unsafe {
            command.pre_exec(|| {
                into_namespaces()?;
                libc::setsid();
                check(libc::ioctl(0, libc::TIOCSCTTY, 0))
            });
        }
        (Self::spawned(&mut command), master.into())
    }

    /// clawkerd with these arguments beside PID 1, as `docker exec` starts it.
    pub fn exec(&self, args: &[&str]) -> Output {
        let files = ["mnt", "pid"]
            .map(|kind| std::fs::File::open(format!("/proc/{}/ns/{kind}", self.init)).expect("PID 1 has namespaces"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_clawkerd"));
        // SAFETY: only system calls between fork and exec.
        unsafe {
            command.pre_exec(move || {
                for file in &files {
                    check(libc::setns(file.as_raw_fd(), 0))?;
                }
                inside()
            });
        }
        command.args(args).output().expect("clawkerd starts beside PID 1")
    }

    fn spawned(command: &mut Command) -> Self {
        let mut outer = command.spawn().expect("namespaces and clawkerd");
        let children = format!("/proc/{0}/task/{0}/children", outer.id());
        let init = eventually("PID 1 is there", || {
            std::fs::read_to_string(&children)
                .ok()?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        });
        let said = Arc::<Mutex<String>>::default();
        let listening = outer.stderr.take().map(|stderr| {
            let said = Arc::clone(&said);
            std::thread::spawn(move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    said.lock().expect("lock").push_str(&format!("{line}\n"));
                }
            })
        });
        Self {
            outer,
            said,
            listening,
            init,
        }
    }

    /// What it has said on its terminal, once that holds `text`.
    pub fn expect_said(&self, text: &str) -> String {
        eventually(text, || {
            let said = self.said.lock().expect("lock").clone();
            said.contains(text).then_some(said)
        })
    }

    pub fn signal(&self, signo: i32) {
        clawker_proc::signal::kill(self.init, signo).expect("PID 1 is ours");
    }

    /// Every process below PID 1's namespace: (host pid, pids by namespace).
    pub fn processes(&self) -> Vec<(i32, Vec<i32>)> {
        let namespace = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let ours = namespace(self.init);
        clawker_proc::procfs::pids()
            .expect("proc")
            .into_iter()
            .filter(|pid| ours.is_some() && namespace(*pid) == ours)
            .filter_map(|pid| Some((pid, clawker_proc::procfs::ns_pids(pid).ok()?)))
            .collect()
    }

    /// The session half, by what it does on its command line.
    pub fn half(&self) -> Option<i32> {
        self.processes().into_iter().map(|(pid, _)| pid).find(|pid| {
            std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"clawkerd\0session\0"))
        })
    }

    /// Exit code, standard output, standard error.
    pub fn wait(mut self) -> (Option<i32>, String, String) {
        let status = eventually("the container ends", || self.outer.try_wait().expect("ours"));
        let mut stdout = String::new();
        if let Some(mut pipe) = self.outer.stdout.take() {
            pipe.read_to_string(&mut stdout).expect("text");
        }
        if let Some(listening) = self.listening.take() {
            listening.join().expect("it only reads");
        }
        let stderr = self.said.lock().expect("lock").clone();
        (status.code().or(status.signal().map(|s| -s)), stdout, stderr)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = clawker_proc::signal::kill(self.init, libc::SIGKILL);
        let _ = self.outer.kill();
        let _ = self.outer.wait();
    }
}

/// clawkerd with these arguments as PID 1 of a container, to its end; `more` is done in there before.
pub fn first_process(args: &[&str], more: fn() -> io::Result<()>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_clawkerd"));
    // SAFETY: only system calls between fork and exec.
    unsafe {
        command.pre_exec(move || {
            into_namespaces()?;
            more()
        });
    }
    command.args(args).output().expect("clawkerd starts as PID 1")
}

/// Nothing is mounted at /proc any more that could be read.
pub fn without_proc() -> io::Result<()> {
    let none = std::ptr::null();
    // SAFETY: C strings that are literals.
    check(unsafe { libc::mount(c"none".as_ptr(), c"/proc".as_ptr(), c"tmpfs".as_ptr(), 0, none) })
}

pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Forks once more, because a new PID namespace holds only children. The process in between waits and exits alike.
fn inside() -> io::Result<()> {
    // SAFETY: system calls with constants.
    unsafe {
        match libc::fork() {
            -1 => Err(io::Error::last_os_error()),
            0 => check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL)),
            child => {
                // Else std would wait here for an exec that is the child's.
                libc::syscall(libc::SYS_close_range, 0, libc::c_uint::MAX, 0);
                let mut status = 0;
                libc::waitpid(child, &raw mut status, 0);
                let code = if libc::WIFEXITED(status) {
                    libc::WEXITSTATUS(status)
                } else {
                    200
                };
                libc::_exit(code);
            }
        }
    }
}

fn into_namespaces() -> io::Result<()> {
    // SAFETY: a system call with constants.
    check(unsafe { libc::unshare(libc::CLONE_NEWPID | libc::CLONE_NEWNS) })?;
    inside()?;
    // SAFETY: system calls with constants, and C strings that are literals.
    unsafe {
        let none = std::ptr::null();
        check(libc::mount(
            none,
            c"/".as_ptr(),
            none,
            libc::MS_REC | libc::MS_PRIVATE,
            none.cast(),
        ))?;
        check(libc::mount(
            c"proc".as_ptr(),
            c"/proc".as_ptr(),
            c"proc".as_ptr(),
            0,
            none.cast(),
        ))?;
        for dir in [c"/run", c"/dev/shm"] {
            check(libc::mount(
                c"tmpfs".as_ptr(),
                dir.as_ptr(),
                c"tmpfs".as_ptr(),
                0,
                none.cast(),
            ))?;
        }
    }
    for capability in 0..=63 {
        if !DOCKERS.contains(&capability) && clawker_proc::harden::in_bounding(capability).unwrap_or(false) {
            clawker_proc::harden::drop_bounding(capability)?;
        }
    }
    Ok(())
}

/// CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, SYS_CHROOT, MKNOD, AUDIT_WRITE,
/// SETFCAP: a container's capabilities, without NET_RAW.
const DOCKERS: [u32; 13] = [0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 27, 29, 31];

pub fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
