//! The agent's side of the preamble, on a socket that blocks.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use clawker_wire::preamble::{ClientPreamble, Descriptor, ServerPreamble, body_len, decode, encode_framed};

/// Where a container has its sockets.
pub const RUN: &str = "/.clawker-run";
pub const SESSION: &str = "/.clawker-run/session.sock";
pub const AGENT: &str = "/.clawker-run/agent.sock";

/// What came back.
pub struct Answered {
    pub stream: UnixStream,
    pub preamble: ServerPreamble,
    pub descriptors: Vec<(Descriptor, OwnedFd)>,
}

/// Connects and says `claim`.
pub fn exchange(path: &Path, claim: &ClientPreamble) -> Result<Answered> {
    let mut stream = UnixStream::connect(path).with_context(|| format!("connecting to {}", path.display()))?;
    stream.set_read_timeout(Some(Duration::from_secs(40)))?;
    stream
        .write_all(&encode_framed("preamble", claim)?)
        .context("sending the preamble")?;

    let mut prefix = [0; 4];
    let (read, fds) = clawker_proc::fdpass::recv(stream.as_fd(), &mut prefix, 8).context("receiving the preamble")?;
    anyhow::ensure!(read > 0, "closed");
    stream
        .read_exact(&mut prefix[read..])
        .context("receiving the preamble")?;
    let mut body = vec![0; body_len("preamble", prefix)?];
    stream.read_exact(&mut body).context("receiving the preamble")?;
    let preamble: ServerPreamble = decode("preamble", &body)?;
    let descriptors = preamble.descriptors.iter().copied().zip(fds).collect();
    Ok(Answered {
        stream,
        preamble,
        descriptors,
    })
}
