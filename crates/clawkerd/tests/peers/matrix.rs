//! Who gets a signal: each signal, on pipes and on a terminal, for a command alone and one with a tree below it; and
//! what becomes of a command that leaves every signal at its default.

use std::collections::BTreeMap;

use crate::bed::Bed;
use crate::inits::{Init, Start, Streams};
use crate::known::Facts;
use crate::look::{Seen, soon};

const TREE: [&str; 5] = ["command", "child", "grandchild", "other-group", "other-session"];

/// 1 to 31 without KILL and STOP, which nobody can forward, and the first realtime one that libc leaves alone.
pub fn signals() -> impl Iterator<Item = i32> {
    (1..=31)
        .filter(|signo| ![libc::SIGKILL, libc::SIGSTOP].contains(signo))
        .chain([34])
}

/// By number; the realtime one last.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];

pub fn name(signo: i32) -> String {
    let index = usize::try_from(signo - 1).expect("a signal");
    NAMES
        .get(index)
        .map_or_else(|| format!("RT{signo}"), |name| (*name).to_owned())
}

/// Where a fact about this signal, or this number, stands in a list.
pub fn rank(subject: &str) -> usize {
    let named = NAMES.iter().position(|name| *name == subject);
    named.or_else(|| subject.parse().ok()).unwrap_or(NAMES.len())
}

const TYPED: [(&str, &str); 3] = [("^C", "\x03"), ("^\\", "\x1c"), ("^Z", "\x1a")];

/// Sends every signal to init, and types what makes signals.
pub fn received(init: Init) -> Facts {
    let mut facts = Facts::new();
    for streams in [Streams::Pipes, Streams::Terminal] {
        for (layout, names) in [("alone", &TREE[..1]), ("tree", &TREE[..])] {
            let place = format!("{}, {layout}", streams.name());
            let mut bed = Bed::witness(Start::of(init, streams), &["hold", layout]);
            let members = bed.places(names);
            assert!(bed.settles(), "{init:?} ended");
            for signo in signals() {
                let what = received_by(&mut bed, &members, names, signo, |bed| bed.signal(signo));
                facts.insert((place.clone(), name(signo)), what);
            }
            let typed = TYPED.iter().filter(|_| streams == Streams::Terminal);
            // What was sent before is still pending, so the same signals need a new container.
            for (name, text) in typed {
                let mut bed = Bed::witness(Start::of(init, streams), &["hold", layout]);
                let members = bed.places(names);
                assert!(bed.settles(), "{init:?} ended");
                let what = received_by(&mut bed, &members, names, 0, |bed| bed.types(text));
                facts.insert((format!("typed, {layout}"), (*name).to_owned()), what);
            }
        }
    }
    facts
}

/// Whom it reached and as what, in words.
fn received_by(
    bed: &mut Bed,
    members: &BTreeMap<&'static str, i32>,
    names: &[&'static str],
    sent: i32,
    send: impl FnOnce(&mut Bed),
) -> String {
    let look = |pid: i32| Seen::at(pid).expect("a witness takes no signal, so it lives");
    let before: BTreeMap<i32, Seen> = members.values().map(|pid| (*pid, look(*pid))).collect();
    send(bed);
    assert!(bed.settles(), "init ended of signal {sent}");
    let mut words: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for name in names {
        let pid = members[name];
        // A stop is carried out by the process itself, once it runs.
        let after = soon("a witness sleeps or is stopped", || {
            Some(look(pid)).filter(|seen| matches!(seen.state, 'S' | 'T'))
        });
        let new = after.pending & !before[&pid].pending;
        let came: Vec<i32> = (1..=64).filter(|signo| new >> (signo - 1) & 1 == 1).collect();
        let mut how: Vec<String> = came
            .iter()
            .map(|signo| {
                if *signo == sent {
                    "received".to_owned()
                } else {
                    format!("received {}", self::name(*signo))
                }
            })
            .collect();
        if after.state == 'T' {
            how.push("stopped".to_owned());
            clawker_proc::signal::kill(pid, libc::SIGCONT).expect("ours");
            soon("a witness goes on", || (look(pid).state == 'S').then_some(()));
        }
        if !how.is_empty() {
            words.entry(how.join(" and ")).or_default().push(name);
        }
    }
    if words.is_empty() {
        return "nobody".to_owned();
    }
    let words: Vec<String> = words
        .into_iter()
        .map(|(how, who)| format!("{how}: {}", who.join(", ")))
        .collect();
    words.join("; ")
}

/// Sends each signal, or types it, to a container of its own, whose command does what the kernel does by default.
pub fn by_default(init: Init) -> Facts {
    let mut facts = Facts::new();
    for streams in [Streams::Pipes, Streams::Terminal] {
        let place = streams.name().to_owned();
        for signo in signals() {
            let bed = Bed::witness(Start::of(init, streams), &["wait"]);
            let fate = fate_of(bed, signo, |bed| bed.signal(signo));
            facts.insert((place.clone(), name(signo)), fate);
        }
        for (name, text) in TYPED.iter().filter(|_| streams == Streams::Terminal) {
            let bed = Bed::witness(Start::of(init, streams), &["wait"]);
            let fate = fate_of(bed, 0, |bed| bed.types(text));
            facts.insert(("typed".to_owned(), (*name).to_owned()), fate);
        }
    }
    facts
}

fn fate_of(mut bed: Bed, sent: i32, send: impl FnOnce(&mut Bed)) -> String {
    let command = bed.place("command");
    assert!(bed.settles(), "init ended before");
    send(&mut bed);
    bed.settles();
    match bed.fate(command) {
        None => match bed.ended().code {
            code if code == 128 + sent => "init exits 128 + it".to_owned(),
            code => format!("init exits {code}"),
        },
        Some('T') => {
            bed.signal(libc::SIGCONT);
            bed.settles();
            match bed.fate(command) {
                Some('S') => "stopped, goes on after CONT to init".to_owned(),
                Some(_) => "stopped for good".to_owned(),
                None => "ended after CONT to init".to_owned(),
            }
        }
        Some(_) => "runs on".to_owned(),
    }
}
