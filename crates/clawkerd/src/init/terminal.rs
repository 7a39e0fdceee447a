//! What PID 1 says on the container's own standard error, which the agent's command shares.

use std::io::Write;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// One line, if the other end takes it now: PID 1 never waits for a reader.
pub fn say(message: &str) {
    let stderr = std::io::stderr();
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut fds = [PollFd::new(&stderr, PollFlags::OUT)];
    if matches!(poll(&mut fds, Some(&now)), Ok(1)) && fds[0].revents().contains(PollFlags::OUT) {
        // One write below PIPE_BUF doesn't block after that.
        let line: String = message.chars().take(400).collect();
        let _ = stderr.lock().write_all(format!("clawkerd: {line}\n").as_bytes());
    }
}

/// Lets go of the controlling terminal, so that the agent's command can have it in a session of its own.
pub fn give_up() {
    // SAFETY: the ioctl takes no argument.
    unsafe {
        libc::ioctl(0, libc::TIOCNOTTY);
    }
}
