//! What isn't a signal's way or an exit code: what a command finds at its start, orphans that stay, a command that
//! is deaf or stopped, a parent that ignored SIGCHLD.

use std::time::Duration;

use clawker_proc::signal::kill;

use crate::bed::Bed;
use crate::inits::{Init, Start, Streams};
use crate::known::Facts;
use crate::look::{Seen, soon};
use crate::matrix;

/// An init that hasn't noticed the end of its command by then won't: tini looks each second, clawkerd too.
const LONG: Duration = Duration::from_secs(3);

pub fn conduct(init: Init) -> Facts {
    let mut facts = Facts::new();
    let mut note = |place: &str, subject: &str, what: String| {
        facts.insert((place.to_owned(), subject.to_owned()), what);
    };
    for streams in [Streams::Pipes, Streams::Terminal] {
        let place = format!("at its start, {}", streams.name());
        let ended = Bed::witness(Start::of(init, streams), &["inherit"]).ended();
        for (subject, what) in found(&ended.stdout) {
            let what = if subject.starts_with("signals") {
                names(&what)
            } else {
                what
            };
            note(&place, &subject, what);
        }
        note(streams.name(), "TERM to a command that ignores it", deaf(init, streams));
        note(streams.name(), "TERM to a stopped command", stopped(init, streams));
    }
    let start = Start {
        sigchld_ignored: true,
        ..Start::of(init, Streams::Pipes)
    };
    let place = "SIGCHLD ignored before init";
    let (code, said) = Bed::witness(start, &["inherit"]).ended_within(LONG);
    let code = code.map_or_else(|| "init stays".to_owned(), |code| format!("init exits {code}"));
    note(place, "a command that exits 0", code);
    for (subject, what) in found(&said)
        .into_iter()
        .filter(|(subject, _)| subject.contains("ignored"))
    {
        note(place, &subject, names(&what));
    }
    note("pipes", "a command that leaves two orphans and exits 5", left(init));
    facts
}

/// The lines of `witness inherit`.
fn found(said: &str) -> Vec<(String, String)> {
    let found: Vec<(String, String)> = said
        .lines()
        .filter_map(|line| line.split_once(" = "))
        .map(|(subject, what)| (subject.to_owned(), what.to_owned()))
        .collect();
    assert_eq!(found.len(), 7, "{said}");
    found
}

/// Numbers of signals by name.
fn names(numbers: &str) -> String {
    let name = |word: &str| word.parse().map_or_else(|_| word.to_owned(), matrix::name);
    numbers.split(' ').map(name).collect::<Vec<_>>().join(" ")
}

fn deaf(init: Init, streams: Streams) -> String {
    let bed = Bed::witness(Start::of(init, streams), &["deaf"]);
    let command = bed.place("command");
    bed.signal(libc::SIGTERM);
    if !bed.settles() || bed.fate(command).is_none() {
        return format!("init exits {}", bed.ended().code);
    }
    bed.signal(libc::SIGINT);
    format!("both run on; INT after it: init exits {}", bed.ended().code)
}

fn stopped(init: Init, streams: Streams) -> String {
    let bed = Bed::witness(Start::of(init, streams), &["wait"]);
    let command = bed.place("command");
    let state = || Seen::at(command).map(|seen| seen.state);
    kill(command, libc::SIGSTOP).expect("ours");
    soon("it is stopped", || (state() == Some('T')).then_some(()));
    bed.signal(libc::SIGTERM);
    let lives = bed.settles() && state() == Some('T');
    if !lives {
        return format!("init exits {}", bed.ended().code);
    }
    bed.signal(libc::SIGCONT);
    format!("both stay; CONT to init: init exits {}", bed.ended().code)
}

/// The command ends while two that it left run on.
fn left(init: Init) -> String {
    let bed = Bed::witness(Start::of(init, Streams::Pipes), &["leave", "5"]);
    let command = bed.place("leaving");
    let left: Vec<i32> = bed
        .below()
        .iter()
        .filter(|stat| stat.comm == "left")
        .map(|stat| stat.pid)
        .collect();
    assert_eq!(left.len(), 2, "the witness left others");
    kill(command, libc::SIGUSR1).expect("ours");
    let code = bed.ended().code;
    let lives = left.iter().filter(|pid| Seen::at(**pid).is_some()).count();
    format!("init exits {code}, {lives} of them live")
}
