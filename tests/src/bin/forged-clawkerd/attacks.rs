//! What a process inside an agent's container may try against clawkerd and the host.

use std::collections::HashSet;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::mem::zeroed;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clawker_identity::authority::Authority;
use clawker_model::{ContainerId, FullName};
use serde_json::json;

use crate::preamble::{self, SESSION};
use crate::say;
use crate::serve::register;

/// A process that isn't PID 1 asks for a session and for an identity.
pub fn connect() -> Result<()> {
    let session = preamble::exchange(Path::new(SESSION), &"ab".repeat(32));
    let got: Option<Vec<String>> = session.as_ref().ok().map(|answered| {
        answered
            .descriptors
            .iter()
            .map(|(kind, _)| format!("{kind:?}"))
            .collect()
    });
    say(&json!({"session": got, "why": session.err().map(|error| format!("{error:#}"))}));

    let name = std::fs::read_to_string("/etc/hostname").context("our name")?;
    let name = FullName::parse(name.trim())?;
    let own = Authority::ephemeral()?.agent_leaf(&name, &ContainerId::parse(&"0".repeat(64))?)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let registered = runtime.block_on(register(&name.to_string(), "a-token-that-was-never-minted", &own));
    say(&json!({"registered": registered.is_ok(), "why": registered.err()}));
    Ok(())
}

/// Opens `/proc/<pid>/mem` of every other process as soon as it appears. Whoever has it open can read from it for ever,
/// whatever the process does to itself afterwards.
pub fn steal(seconds: u64) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(seconds);
    let own = std::process::id();
    let mut opened: Vec<File> = Vec::new();
    let mut tried = HashSet::new();
    say(&json!({"stealing": true}));
    while Instant::now() < end {
        let listed = pids()?;
        // Pids are given in turn: the next ones are the likely ones.
        let last = listed.iter().copied().max().unwrap_or(0);
        for pid in listed.into_iter().chain(last + 1..last + 4).filter(|pid| *pid != own) {
            if tried.contains(&pid) {
                continue;
            }
            let Ok(memory) = File::open(format!("/proc/{pid}/mem")) else {
                continue;
            };
            // Now, as long as it lives: its name can be read by anybody.
            let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            say(&json!({"stolen": pid, "command": command.replace('\0', " ").trim()}));
            tried.insert(pid);
            opened.push(memory);
        }
    }
    say(&json!({"opened": opened.len()}));
    Ok(())
}

fn pids() -> Result<Vec<u32>> {
    let entries = std::fs::read_dir("/proc").context("reading /proc")?.flatten();
    Ok(entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect())
}

/// The positive control of the hostile image: this is what clawkerd would do if it asked the C library.
pub fn lookup(user: &str) -> Result<()> {
    let user = CString::new(user)?;
    // SAFETY: a NUL-terminated string; the result is only compared with null.
    let found = unsafe { !libc::getpwnam(user.as_ptr()).is_null() };
    say(&json!({"found": found}));
    Ok(())
}

/// Sends an ARP-sized frame of zeros to everybody, past every rule about IP.
pub fn frame(interface: &str) -> Result<()> {
    // SAFETY: no pointer is passed.
    let socket = unsafe {
        libc::socket(
            libc::AF_PACKET,
            libc::SOCK_RAW,
            i32::from((libc::ETH_P_ALL as u16).to_be()),
        )
    };
    if socket < 0 {
        say(&json!({"socket": io::Error::last_os_error().to_string()}));
        return Ok(());
    }
    let name = CString::new(interface)?;
    // SAFETY: a NUL-terminated string.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    ensure!(index > 0, "there is no interface {interface}");
    let mut frame = [0_u8; 60];
    frame[..6].fill(0xff);
    frame[12] = 0x88;
    frame[13] = 0xb5;
    // SAFETY: an all-zero sockaddr_ll is a valid one.
    let mut to: libc::sockaddr_ll = unsafe { zeroed() };
    to.sll_family = libc::AF_PACKET as u16;
    to.sll_ifindex = i32::try_from(index)?;
    to.sll_halen = 6;
    to.sll_addr[..6].fill(0xff);
    // SAFETY: `frame` and `to` are alive and their lengths are given.
    let sent = unsafe {
        libc::sendto(
            socket,
            frame.as_ptr().cast(),
            frame.len(),
            0,
            (&raw const to).cast(),
            u32::try_from(size_of::<libc::sockaddr_ll>())?,
        )
    };
    say(&json!({"sent": sent == 60, "why": (sent < 0).then(|| io::Error::last_os_error().to_string())}));
    Ok(())
}
