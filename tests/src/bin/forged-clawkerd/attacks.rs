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

use clawker_wire::preamble::{ClientPreamble, WIRE};

use crate::identity::Shown;
use crate::{asks, preamble, say};

/// A process that isn't PID 1 asks for a session and for an identity.
pub fn connect(run: &Path) -> Result<()> {
    let held = ClientPreamble {
        wire: WIRE,
        held_generation: 7,
        root_ids: vec!["ab".repeat(32)],
    };
    let session = preamble::exchange(&run.join("session.sock"), &held);
    let got: Option<Vec<String>> = session.as_ref().ok().map(|answered| {
        let kinds = answered.descriptors.iter();
        kinds.map(|(kind, _)| format!("{kind:?}")).collect()
    });
    say(&json!({"session": got, "why": session.err().map(|error| format!("{error:#}"))}));

    let name = FullName::parse("clawker.somebody")?;
    let own = Authority::ephemeral()?.agent_leaf(&name, &ContainerId::parse(&"0".repeat(64))?)?;
    let shown = Shown {
        chain: vec![own.leaf.clone()],
        key: own.key.to_vec(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let agent = run.join("agent.sock");
    let registered = runtime.block_on(async {
        let channel = asks::connect(&agent, &shown)
            .await
            .map_err(|error| format!("{error:#}"))?;
        let token = Some("Bearer a-token-that-was-never-minted".to_owned());
        asks::register(&channel, asks::names(&name.to_string()), token).await
    });
    say(&json!({"registered": registered.is_ok(), "why": registered.err()}));
    Ok(())
}

/// Connects as PID 1 of a pid namespace that it makes inside of the container's.
pub fn nested() -> Result<()> {
    // SAFETY: no memory is touched; only children are in the new namespace.
    let made = unsafe { libc::unshare(libc::CLONE_NEWPID) };
    ensure!(made == 0, "a pid namespace: {}", io::Error::last_os_error());
    let child = std::process::Command::new(std::env::current_exe()?)
        .arg("connect")
        .status()?;
    ensure!(child.success(), "the child ended with {child}");
    Ok(())
}

/// Connects as the process `pid`, a number that must be free.
pub fn as_pid(pid: i32, run: &Path) -> Result<()> {
    let numbers = [pid];
    // SAFETY: all zeroes is a valid clone_args.
    let mut args: libc::clone_args = unsafe { zeroed() };
    args.exit_signal = libc::SIGCHLD as u64;
    args.set_tid = numbers.as_ptr() as u64;
    args.set_tid_size = 1;
    // SAFETY: `args` and `numbers` are alive and their sizes are given. Without CLONE_VM it is a fork, and this
    // program has one thread, so the child may do anything.
    let child = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
    ensure!(
        child >= 0,
        "a child with the number {pid}: {}",
        io::Error::last_os_error()
    );
    if child == 0 {
        let outcome = connect(run);
        std::process::exit(i32::from(outcome.is_err()));
    }
    let mut status = 0;
    // SAFETY: `status` is alive.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    ensure!(waited == pid && status == 0, "the child ended with {status}");
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
