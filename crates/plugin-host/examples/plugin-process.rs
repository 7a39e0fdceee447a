//! What the tests start as worker and compiler, in the place of the control plane's program; or
//! `plugin-process confined ATTEMPT`, which confines itself as a worker does and then tries what a worker never needs.

use std::process::ExitCode;

use clawker_plugin_host::worker;

fn main() -> ExitCode {
    if let Some(ended) = worker::run_child() {
        return ended;
    }
    let attempt = std::env::args().nth(2).unwrap_or_default();
    if worker::confine_as_worker().is_err() {
        return ExitCode::from(3);
    }
    match attempt.as_str() {
        "nothing" => {}
        "open" => drop(std::fs::File::open("/proc/self/status")),
        "connect" => drop(std::net::TcpStream::connect("127.0.0.1:1")),
        "unix" => drop(std::os::unix::net::UnixStream::connect("/run/clawker/admin.sock")),
        "exec" => drop(std::process::Command::new("/proc/self/exe").spawn()),
        "thread" => drop(std::thread::Builder::new().spawn(|| ())),
        "kill" => drop(rustix::process::kill_process(
            rustix::process::getpid(),
            rustix::process::Signal::TERM,
        )),
        "terminal" => drop(rustix::termios::tcgetattr(std::io::stdin())),
        _ => return ExitCode::from(4),
    }
    ExitCode::SUCCESS
}
