//! A session's connection as the kernel has it: found in clawkerd, cut, and watched for its end.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{Shutdown, getpeername, shutdown};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

/// A copy of the descriptor by which a process of clawkerd's holds its connection to the control plane.
pub struct Wire(OwnedFd);

impl Wire {
    /// `None` when this process holds none.
    pub fn of(pid: i32) -> Result<Option<Self>> {
        let process = Pid::from_raw(pid).context("a pid")?;
        let pidfd = pidfd_open(process, PidfdFlags::empty()).with_context(|| format!("pidfd of {pid}"))?;
        for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).with_context(|| format!("descriptors of {pid}"))? {
            let entry = entry?;
            let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
            // Closed meanwhile, or no socket.
            let (Some(number), Ok(target)) = (number, std::fs::read_link(entry.path())) else {
                continue;
            };
            if !target.to_string_lossy().starts_with("socket:") {
                continue;
            }
            let Ok(copy) = pidfd_getfd(&pidfd, number, PidfdGetfdFlags::empty()) else {
                continue;
            };
            // The name by which the control plane bound it.
            if getpeername(&copy).is_ok_and(|peer| format!("{peer:?}").contains("session.sock")) {
                return Ok(Some(Self(copy)));
            }
        }
        Ok(None)
    }

    /// As a lost connection: both ends read its end.
    pub fn cut(&self) -> Result<()> {
        shutdown(&self.0, Shutdown::Both).context("cutting a session")
    }

    /// Waits until the control plane has closed it.
    pub fn dead(&self, patience: Duration) -> Result<Instant> {
        let end = Instant::now() + patience;
        loop {
            // RDHUP alone: what is sent meanwhile is none of ours to read.
            let mut fds = [PollFd::new(&self.0, PollFlags::RDHUP)];
            let left = Timespec::try_from(end.saturating_duration_since(Instant::now()))?;
            match poll(&mut fds, Some(&left)) {
                Ok(0) => {}
                Ok(_) => return Ok(Instant::now()),
                Err(rustix::io::Errno::INTR) => continue,
                Err(errno) => return Err(errno).context("watching a session"),
            }
            ensure!(Instant::now() < end, "the session lives after {} s", patience.as_secs());
        }
    }
}

/// Processor time of a whole process, threads that have ended included, in seconds.
pub fn cpu(pid: i32) -> Result<f64> {
    let mut clock: libc::clockid_t = 0;
    // SAFETY: `clock` outlives the call.
    let failed = unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) };
    ensure!(failed == 0, "the clock of process {pid}: error {failed}");
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` outlives the call.
    let failed = unsafe { libc::clock_gettime(clock, &raw mut time) };
    ensure!(
        failed == 0,
        "the clock of process {pid}: {}",
        std::io::Error::last_os_error()
    );
    Ok(time.tv_sec as f64 + time.tv_nsec as f64 / 1e9)
}
