//! Bad input from an attested init: what a listener has to bear from whoever is let in so far.
//!
//! Each flood ends by itself, says how it went and leaves nothing open. Nobody else on the host may notice.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use serde::Deserialize;
use serde_json::json;

use crate::identity::Shown;
use crate::preamble::{AGENT, SESSION};
use crate::say;

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flood {
    /// 200 connections to each socket that say nothing.
    SilentConnections,
    /// A length of 4 GiB before the preamble, and as many bytes as are taken.
    HugePreamble,
    /// Half a preamble, on as many connections as are taken.
    HalfPreambles,
    /// Descriptors along with a preamble, which has none in this direction.
    Descriptors,
    /// A handshake of one byte a second.
    SlowHandshake,
    /// Bytes that aren't TLS.
    NoTls,
    /// Streams that are opened and reset at once (CVE-2023-44487).
    RapidReset,
    Settings,
    Pings,
    /// A thousand calls that are begun and never ended.
    Streams,
    /// A header block that never ends (CVE-2024-27316).
    Continuations,
    /// A message of 4 GiB by its own word, and 64 MiB of it.
    HugeMessage,
    /// Bytes that are no message.
    Malformed,
}

/// Plays it, and says that it is over.
pub fn play(flood: Flood, shown: &Shown) {
    let outcome = match flood {
        Flood::SilentConnections => silent(),
        Flood::HugePreamble => huge_preamble(),
        Flood::HalfPreambles => half_preambles(),
        Flood::Descriptors => descriptors(),
        Flood::SlowHandshake => slow(),
        Flood::NoTls => no_tls(),
        Flood::RapidReset => http(shown, |n| [headers(n, END_HEADERS), reset(n)].concat(), 100_000),
        Flood::Settings => http(shown, |_| frame(0x4, 0, 0, &[0, 3, 0, 0, 0, 1]), 200_000),
        Flood::Pings => http(shown, |_| frame(0x6, 0, 0, &[7; 8]), 200_000),
        Flood::Streams => http(shown, |n| headers(n, END_HEADERS), 1_000),
        Flood::Continuations => http(shown, continuation, 20_000),
        Flood::HugeMessage => http(shown, huge_message, 4_096),
        Flood::Malformed => http(shown, malformed, 200),
    };
    let (sent, why) = match outcome {
        Ok(sent) => (sent, None),
        Err(error) => (0, Some(format!("{error:#}"))),
    };
    say(&json!({"flooded": true, "sent": sent, "why": why}));
}

fn connect(path: &str) -> Result<UnixStream> {
    let stream = UnixStream::connect(path).with_context(|| format!("connecting to {path}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.set_write_timeout(Some(Duration::from_secs(20)))?;
    Ok(stream)
}

/// How many of these the other side has closed within the time.
fn closed(streams: Vec<UnixStream>) -> usize {
    let gone = |mut stream: UnixStream| matches!(stream.read(&mut [0; 64]), Ok(0)) || stream.take_error().is_err();
    streams.into_iter().map(gone).filter(|gone| *gone).count()
}

/// Opens 200 to each socket that say nothing, and waits until they are closed.
pub fn crowd() -> Result<()> {
    let mut streams = Vec::new();
    for _ in 0..200 {
        // A backlog that is full is the listener's defence too.
        streams.extend([SESSION, AGENT].iter().filter_map(|path| connect(path).ok()));
    }
    let open = streams.len();
    say(&json!({"open": open, "closed": closed(streams)}));
    Ok(())
}

fn silent() -> Result<usize> {
    crowd().map(|()| 400)
}

fn huge_preamble() -> Result<usize> {
    let mut sent = 0;
    for _ in 0..20 {
        let mut stream = connect(SESSION)?;
        // One connection too many is closed at once, and takes nothing.
        if stream.write_all(&u32::MAX.to_be_bytes()).is_err() {
            continue;
        }
        while stream.write_all(&[0x55; 4096]).is_ok() && sent < 64 << 20 {
            sent += 4096;
        }
    }
    Ok(sent)
}

fn half_preambles() -> Result<usize> {
    let mut streams = Vec::new();
    let mut refused = 0;
    for _ in 0..50 {
        let mut stream = connect(SESSION)?;
        // One connection too many is closed at once, and takes nothing.
        match stream.write_all(&[0, 0]) {
            Ok(()) => streams.push(stream),
            Err(_) => refused += 1,
        }
    }
    Ok(refused + closed(streams))
}

fn descriptors() -> Result<usize> {
    let file = std::fs::File::open("/proc/self/exe")?;
    let mut sent = 0;
    for _ in 0..50 {
        let stream = connect(SESSION)?;
        let fds = vec![file.as_fd(); 8];
        // Too many in flight is the kernel's defence.
        if clawker_proc::fdpass::send(stream.as_fd(), &[0, 0, 0, 1, 1], &fds).is_ok() {
            sent += fds.len();
        }
    }
    Ok(sent)
}

/// The first bytes of a handshake record of 16 KiB.
const HELLO: [u8; 16] = [0x16, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc, 3, 3, 0, 0, 0, 0, 0];

fn slow() -> Result<usize> {
    let mut streams: Vec<UnixStream> = (0..4).filter_map(|_| connect(AGENT).ok()).collect();
    let mut sent = 0;
    for byte in HELLO {
        std::thread::sleep(Duration::from_secs(1));
        let mut still = streams.iter_mut().filter_map(|stream| stream.write_all(&[byte]).ok());
        let taken = still.by_ref().count();
        sent += taken;
        if taken == 0 {
            break;
        }
    }
    Ok(sent)
}

fn no_tls() -> Result<usize> {
    let mut sent = 0;
    for _ in 0..50 {
        let mut stream = connect(AGENT)?;
        while stream.write_all(b"GET / HTTP/1.1\r\n\r\n").is_ok() && sent < 1 << 20 {
            sent += 18;
        }
    }
    Ok(sent)
}

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A frame (RFC 9113, 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u32).to_be_bytes();
    let mut bytes = vec![len[1], len[2], len[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// The client's `n`th stream.
fn stream(n: u32) -> u32 {
    2 * n + 1
}

/// A call of Register: POST (static 3), https (7), and literals without an index (RFC 7541).
fn headers(n: u32, flags: u8) -> Vec<u8> {
    let mut block = vec![0x83, 0x87];
    for (index, value) in [
        (4, "/clawker.agent.v1.AgentService/Register"),
        (1, "clawker-cp"),
        (31, "application/grpc"),
    ] {
        // A 4-bit index takes 15 and what is over in the next byte.
        block.extend_from_slice(&if index < 15 { vec![index] } else { vec![15, index - 15] });
        block.push(value.len() as u8);
        block.extend_from_slice(value.as_bytes());
    }
    frame(0x1, flags, stream(n), &block)
}

fn reset(n: u32) -> Vec<u8> {
    frame(0x3, 0, stream(n), &8u32.to_be_bytes())
}

fn continuation(n: u32) -> Vec<u8> {
    if n == 0 {
        return headers(0, 0);
    }
    // A header that nobody asked for, 1000 bytes long.
    let mut block = vec![0, 1, b'x', 0x7f, 0xe9, 0x06];
    block.extend_from_slice(&[b'x'; 1000]);
    frame(0x9, 0, stream(0), &block)
}

fn huge_message(n: u32) -> Vec<u8> {
    if n == 0 {
        return [
            headers(0, END_HEADERS),
            frame(0x0, 0, stream(0), &[0, 0xff, 0xff, 0xff, 0xff]),
        ]
        .concat();
    }
    frame(0x0, 0, stream(0), &[0x55; 16_384])
}

fn malformed(n: u32) -> Vec<u8> {
    // A length-prefixed message of 64 bytes of which none is a field.
    let message = [&[0, 0, 0, 0, 64][..], &[0xff; 64]].concat();
    [headers(n, END_HEADERS), frame(0x0, END_STREAM, stream(n), &message)].concat()
}

/// Speaks TLS as whoever it is, then writes `count` times what `make` gives, until nobody takes it any more.
fn http(shown: &Shown, make: impl Fn(u32) -> Vec<u8>, count: u32) -> Result<usize> {
    let connection = ClientConnection::new(Arc::new(shown.client()?), ServerName::try_from("clawker-cp")?)?;
    let mut tls = StreamOwned::new(connection, connect(AGENT)?);
    tls.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").context("TLS")?;
    tls.write_all(&frame(0x4, 0, 0, &[]))?;
    // Whoever has answers to write before it reads on isn't waited for long.
    tls.sock.set_write_timeout(Some(Duration::from_secs(2)))?;
    let mut sent = 0;
    for n in 0..count {
        let bytes = make(n);
        if tls.write_all(&bytes).is_err() {
            break;
        }
        sent += bytes.len();
    }
    // What it was answered, so that the other side can go on to its end; without waiting for more than comes.
    tls.sock.set_read_timeout(Some(Duration::from_millis(500)))?;
    let mut answer = [0; 16_384];
    while matches!(tls.sock.read(&mut answer), Ok(read) if read > 0) {}
    Ok(sent)
}
