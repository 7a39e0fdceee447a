//! The session half: TLS and gRPC on the connection that PID 1 hands over, and nothing that would be missed.
//!
//! Its first acts are to become undumpable and to say so; only then does it get a connection and the bundle. It owns
//! no process, no pipe and no truth: killed at any moment it is started anew, learns all states from PID 1 and
//! serves on. One thread runs everything; what may block (files) runs on tokio's blocking threads.
//!
//! ```text
//!  PID 1 --reports, replies--> Hub --Response--> Session stream --\
//!        <--requests, acks----     --rings-----> Io streams -------> TLS --> control plane
//! ```

mod control;
pub(crate) mod convert;
mod hub;
mod io;
mod register;
mod rotate;
mod serve;

use std::io::Error;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use clawker_proc::{harden, procfs};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::cli::MISCONFIGURED;
use crate::halves::frame::{self, Frame, FrameError, MAX_INLINE};
use crate::halves::{ToHalf, ToInit, VERSION};
use hub::Hub;

/// PID 1's end of the pair is our descriptor 3.
const SOCKET: i32 = 3;
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Serves until PID 1, which speaks this version of the internal wire, is gone.
pub fn run(wire: u8) -> u8 {
    if harden::undumpable().is_err() {
        return 1;
    }
    if wire != VERSION {
        eprintln!("clawkerd: this session half speaks version {VERSION} of the internal wire, PID 1 speaks {wire}");
        return MISCONFIGURED;
    }
    // SAFETY: started by PID 1, which put its socket there; nothing else in this process owns descriptor 3.
    let socket = unsafe { OwnedFd::from_raw_fd(SOCKET) };
    if !rustix::net::sockopt::socket_type(&socket).is_ok_and(|kind| kind == rustix::net::SocketType::SEQPACKET) {
        // Not ours to close.
        std::mem::forget(socket);
        eprintln!("clawkerd: session is started by clawkerd init only");
        return MISCONFIGURED;
    }
    match serve(socket) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("clawkerd: session half: {error}");
            1
        }
    }
}

fn serve(socket: OwnedFd) -> Result<(), FrameError> {
    let hardened = ToInit::Hardened {
        dumpable: harden::is_dumpable()?,
        tracer_pid: procfs::tracer_pid(std::process::id() as i32)?,
    };
    rustix::io::ioctl_fionbio(&socket, true).map_err(Error::from)?;
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC).map_err(Error::from)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // SAFETY: an OwnedFd always gives the same descriptor, which stays open until the AsyncFd is dropped.
        let registered = unsafe { AsyncFd::register(socket) };
        let socket = Arc::new(registered.map_err(Error::from)?);
        let (out, queue) = mpsc::unbounded_channel();
        let hub = Arc::new(Hub::new(out));
        hub.send(hardened);
        let mut tasks = JoinSet::new();
        tasks.spawn(write(Arc::clone(&socket), queue));
        tasks.spawn(beat(Arc::clone(&hub)));
        let result = read(&socket, &hub).await;
        tasks.shutdown().await;
        result
    })
}

/// All messages of PID 1; ends with it. Never waits for anybody else, so that PID 1 always finds a reader.
async fn read(socket: &AsyncFd<OwnedFd>, hub: &Arc<Hub>) -> Result<(), FrameError> {
    let mut sessions = serve::Sessions::new(Arc::clone(hub));
    let mut buf = vec![0; MAX_INLINE];
    loop {
        let mut ready = socket.readable().await?;
        let received = ready.try_io(|socket| match frame::recv(std::os::fd::AsFd::as_fd(socket), &mut buf) {
            Err(FrameError::Io(error)) => Err(error),
            Err(other) => Ok(Err(other)),
            Ok(received) => Ok(Ok(received)),
        });
        let Ok(received) = received else { continue };
        let Some(mut received) = received?? else { return Ok(()) };
        let fds = std::mem::take(&mut received.fds);
        match received.message()? {
            ToHalf::Session => sessions.add(fds),
            message => hub.hear(message, fds),
        }
    }
}

async fn write(socket: Arc<AsyncFd<OwnedFd>>, mut queue: mpsc::UnboundedReceiver<ToInit<'static>>) {
    while let Some(message) = queue.recv().await {
        let Ok(frame) = Frame::new(&message, Vec::new()) else {
            continue;
        };
        let sent = socket
            .async_io(Interest::WRITABLE, |fd| frame.send(std::os::fd::AsFd::as_fd(fd)))
            .await;
        if sent.is_err() {
            return;
        }
    }
}

async fn beat(hub: Arc<Hub>) {
    let mut interval = tokio::time::interval(HEARTBEAT);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        interval.tick().await;
        hub.send(ToInit::Heartbeat);
    }
}
