//! What runs under each init: a program of one thread that an observer can look at from outside.
//!
//! A witness that is told to `hold` blocks every signal and takes none, so whatever reaches it stays pending, where the
//! kernel shows it. Its name (`/proc/<pid>/comm`) says which place it has and that it is ready.
//!
//! Rust's own start is left out: it ignores SIGPIPE and handles SIGSEGV and SIGBUS.

#![no_main]

use std::ffi::CString;
use std::io::{Read, Write};
use std::mem::zeroed;

/// Orphans that are made by one parent.
const BATCH: u32 = 64;

/// Between the batches of a storm, so that others run too.
const LULL: std::time::Duration = std::time::Duration::from_millis(20);

#[unsafe(no_mangle)]
extern "C" fn main() -> i32 {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    run(&words)
}

fn run(words: &[&str]) -> ! {
    match words {
        ["hold", "alone"] => hold("command"),
        ["hold", "tree"] => tree(),
        ["wait"] => {
            name("command");
            wait()
        }
        ["deaf"] => {
            // SAFETY: SIG_IGN is a valid disposition.
            unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
            name("command");
            wait()
        }
        ["inherit"] => inherit(),
        ["exit", code] => exit(number(code)),
        ["die", signo] => die(number(signo)),
        ["leave", code] => leave(number(code)),
        ["burst", count, code] => {
            orphans(number(count).unsigned_abs());
            exit(number(code))
        }
        ["orphans", count, code] => {
            block_all();
            name("making");
            orphans(number(count).unsigned_abs());
            name("made");
            until(libc::SIGUSR1);
            exit(number(code))
        }
        ["bomb"] => bomb(),
        ["storm"] => {
            name("storm");
            loop {
                orphans(BATCH);
                std::thread::sleep(LULL);
            }
        }
        _ => {
            eprintln!("witness: what is {words:?}?");
            exit(99)
        }
    }
}

/// Forks for as long as there is a place, each child in a session of its own, and takes every place that comes free.
fn bomb() -> ! {
    name("bomb");
    // SAFETY: SIG_IGN is a valid disposition; fork has no arguments, and the process has one thread.
    unsafe {
        libc::signal(libc::SIGCHLD, libc::SIG_IGN);
        loop {
            match libc::fork() {
                0 => drop(libc::setsid()),
                -1 => drop(libc::sched_yield()),
                _ => {}
            }
        }
    }
}

/// The command with a child and a grandchild in its group, and one more in a group and one in a session of their own.
fn tree() -> ! {
    block_all();
    fork(|| {
        fork(|| hold("grandchild"));
        hold("child")
    });
    fork(|| {
        // SAFETY: no pointer is passed.
        unsafe { libc::setpgid(0, 0) };
        hold("other-group")
    });
    fork(|| {
        // SAFETY: no pointer is passed.
        unsafe { libc::setsid() };
        hold("other-session")
    });
    hold("command")
}

fn hold(place: &str) -> ! {
    block_all();
    // A child that stops is no signal that somebody sent.
    // SAFETY: a zeroed action is the default one; it lives over the call.
    unsafe {
        let mut quiet: libc::sigaction = zeroed();
        quiet.sa_flags = libc::SA_NOCLDSTOP;
        libc::sigaction(libc::SIGCHLD, &raw const quiet, std::ptr::null_mut());
    }
    name(place);
    wait()
}

/// What a command finds when it is started: a line for each thing.
fn inherit() -> ! {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = |field: &str| {
        let hex = status.lines().find_map(|line| line.strip_prefix(field)).map(str::trim);
        hex.and_then(|hex| u64::from_str_radix(hex, 16).ok())
            .map_or_else(|| "unreadable".to_owned(), signals)
    };
    // SAFETY: no pointer is passed.
    let (own, group, session, foreground, umask) = unsafe {
        let umask = libc::umask(0);
        (
            libc::getpid(),
            libc::getpgrp(),
            libc::getsid(0),
            libc::tcgetpgrp(0),
            umask,
        )
    };
    let whether = |it: bool| if it { "yes" } else { "no" };
    let mut fds: Vec<i32> = std::fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            // The listing itself is none that it was given.
            let target = std::fs::read_link(entry.path()).unwrap_or_default();
            !target.ends_with("fd")
        })
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    fds.sort_unstable();
    let fds: Vec<String> = fds.iter().map(i32::to_string).collect();
    println!("signals blocked = {}", mask("SigBlk:"));
    println!("signals ignored = {}", mask("SigIgn:"));
    println!("leads its group = {}", whether(own == group));
    println!("leads its session = {}", whether(own == session));
    println!("its group has the terminal = {}", whether(foreground == group));
    println!("descriptors = {}", fds.join(" "));
    println!("umask = {umask:03o}");
    exit(0)
}

fn signals(mask: u64) -> String {
    let found: Vec<String> = (1..=64)
        .filter(|signo| mask >> (signo - 1) & 1 == 1)
        .map(|signo: u32| signo.to_string())
        .collect();
    if found.is_empty() {
        "none".to_owned()
    } else {
        found.join(" ")
    }
}

/// Dies of this signal, by its default action.
fn die(signo: i32) -> ! {
    // SAFETY: SIG_DFL is a valid disposition, `set` is initialised by sigemptyset, `none` lives over the call.
    unsafe {
        let none: libc::rlimit = zeroed();
        libc::setrlimit(libc::RLIMIT_CORE, &raw const none);
        libc::signal(signo, libc::SIG_DFL);
        let mut set: libc::sigset_t = zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
        libc::kill(libc::getpid(), signo);
    }
    exit(98)
}

/// Ends and leaves two behind, one in its group and one in a session of its own.
fn leave(code: i32) -> ! {
    let (mut ready, tell) = pipe();
    for apart in [false, true] {
        let mut tell = tell.try_clone().unwrap_or_else(|_| exit(97));
        fork(move || {
            if apart {
                // SAFETY: no pointer is passed.
                unsafe { libc::setsid() };
            }
            block_all();
            name("left");
            let _ = tell.write_all(b"x");
            wait()
        });
    }
    let mut both = [0; 2];
    let _ = ready.read_exact(&mut both);
    name("leaving");
    until(libc::SIGUSR1);
    exit(code)
}

/// Until this signal, which may have come already.
fn until(signo: i32) {
    // SAFETY: `set` is initialised by sigemptyset and lives over the calls.
    unsafe {
        let mut set: libc::sigset_t = zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signo);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        let mut came = 0;
        libc::sigwait(&raw const set, &raw mut came);
    }
}

/// Makes orphans, each of which ends when it has become one.
fn orphans(count: u32) {
    let mut left = count;
    while left > 0 {
        let batch = left.min(BATCH);
        let parent = fork(|| {
            name("orphan");
            let (mut parents_life, kept) = pipe();
            for _ in 0..batch {
                let kept = &kept;
                fork(|| {
                    // SAFETY: this process's own copy, which it uses for nothing else.
                    unsafe { libc::close(std::os::fd::AsRawFd::as_raw_fd(kept)) };
                    // At its end when the parent has gone.
                    let _ = parents_life.read(&mut [0]);
                    exit(0)
                });
            }
            exit(0)
        });
        let mut status = 0;
        // SAFETY: `status` lives over the call.
        unsafe { libc::waitpid(parent, &raw mut status, 0) };
        left -= batch;
    }
}

fn pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    std::io::pipe().unwrap_or_else(|_| exit(97))
}

/// Tries until there is room for another process: orphans that nobody reaps take numbers.
fn fork(body: impl FnOnce() -> i32) -> i32 {
    loop {
        // SAFETY: this program has one thread. The child never returns from here.
        match unsafe { libc::fork() } {
            -1 => std::thread::yield_now(),
            0 => exit(body()),
            pid => return pid,
        }
    }
}

fn block_all() {
    // SAFETY: `set` is initialised by sigfillset and lives over the call.
    unsafe {
        let mut set: libc::sigset_t = zeroed();
        libc::sigfillset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}

fn name(place: &str) {
    let place = CString::new(place).unwrap_or_default();
    // SAFETY: a C string that lives over the call.
    unsafe { libc::prctl(libc::PR_SET_NAME, place.as_ptr()) };
}

fn wait() -> ! {
    loop {
        // SAFETY: no argument.
        unsafe { libc::pause() };
    }
}

fn exit(code: i32) -> ! {
    // SAFETY: a child's end must run nothing of its parent's.
    unsafe { libc::_exit(code) }
}

fn number(word: &str) -> i32 {
    word.parse().unwrap_or_else(|_| exit(96))
}
