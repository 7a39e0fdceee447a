//! Orphans in number, and exit codes that stay exact meanwhile. How long a zombie stood is printed and never asserted.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use clawker_proc::procfs;
use clawker_proc::signal::kill;
use clawker_wire::session as pb;
use clawker_wire::session::command::Body as Ask;
use clawker_wire::session::response::Body;

use crate::bed::Bed;
use crate::inits::{Init, Start, Streams};
use crate::look::soon;
use crate::session::Session;

/// Execs in flight at once.
const WINDOW: u32 = 16;

/// Between two looks at zombies: oftener would only slow down what is looked at.
const PACE: Duration = Duration::from_millis(1);

/// How much of it: minutes by `CLAWKER_FULL=1`, else seconds.
pub struct Size {
    pub orphans: u32,
    /// Commands of one container each.
    pub commands: u32,
    pub execs: u32,
}

impl Size {
    pub fn asked_for() -> Self {
        if std::env::var_os("CLAWKER_FULL").is_some_and(|value| value == "1") {
            return Self {
                orphans: 1_000_000,
                commands: 2_000,
                execs: 100_000,
            };
        }
        Self {
            orphans: 10_000,
            commands: 50,
            execs: 1_000,
        }
    }
}

/// The children of an init that are zombies, each since it was first seen to be one.
#[derive(Default)]
struct Zombies {
    since: BTreeMap<(i32, u64), Instant>,
    longest: Duration,
    looks: u64,
}

impl Zombies {
    /// Looks once; how many children there are.
    fn look(&mut self, init: i32) -> usize {
        let children = std::fs::read_to_string(format!("/proc/{init}/task/{init}/children")).unwrap_or_default();
        let stats: Vec<procfs::Stat> = children
            .split_whitespace()
            .filter_map(|pid| procfs::stat(pid.parse().ok()?).ok())
            .collect();
        let now = Instant::now();
        let mut still = BTreeMap::new();
        for zombie in stats.iter().filter(|stat| stat.state == 'Z') {
            let key = (zombie.pid, zombie.start_time);
            let since = self.since.get(&key).copied().unwrap_or(now);
            self.longest = self.longest.max(now - since);
            still.insert(key, since);
        }
        self.since = still;
        self.looks += 1;
        stats.len()
    }
}

/// So many become init's children and end; then the command's code is still its own.
pub fn orphans(init: Init, count: u32) {
    let begun = Instant::now();
    let bed = Bed::witness(Start::of(init, Streams::Pipes), &["orphans", &count.to_string(), "7"]);
    let command = soon("the command is there", || {
        // A child has its parent's name at first.
        let is_it = |stat: &procfs::Stat| stat.ppid == bed.init && stat.comm == "making";
        bed.below().into_iter().find(is_it).map(|stat| stat.pid)
    });
    // The session half of clawkerd's is a child too.
    let own = if init == Init::Clawkerd { 2 } else { 1 };
    let mut zombies = Zombies::default();
    let mut most = 0;
    let deadline = begun + Duration::from_secs(60) + Duration::from_millis(2) * count;
    while procfs::stat(command).expect("it lives").comm != "made" {
        most = most.max(zombies.look(bed.init));
        assert!(Instant::now() < deadline, "{init:?}: {count} orphans took too long");
    }
    soon("every orphan is reaped", || {
        (zombies.look(bed.init) == own).then_some(())
    });
    let took = begun.elapsed();
    assert!(most > own, "{init:?}: nobody saw an orphan");
    kill(command, libc::SIGUSR1).expect("ours");
    assert_eq!(bed.ended().code, 7, "{init:?}");
    println!(
        "{}: {count} orphans in {took:.1?}; the longest zombie seen {:.1?}, in {} looks",
        init.name(),
        zombies.longest,
        zombies.looks
    );
}

/// Commands that end in the middle of their orphans, in a container each.
pub fn commands(init: Init, count: u32) {
    let begun = Instant::now();
    for number in 0..count {
        let code = i32::try_from(number * 7 % 256).expect("small");
        let words = ["burst", "30", &code.to_string()];
        let ended = Bed::witness(Start::of(init, Streams::Pipes), &words).ended();
        assert_eq!(ended.code, code, "{init:?}, command {number}: {ended:?}");
    }
    println!(
        "{}: {count} exact codes of commands in {:.1?}",
        init.name(),
        begun.elapsed()
    );
}

/// Execs of clawkerd's, while its command makes orphans without end.
pub fn execs(count: u32) {
    let begun = Instant::now();
    let longest = Bed::in_session(Start::of(Init::Clawkerd, Streams::Pipes), async |bed, mut session| {
        let storm = pb::Main {
            argv: witness(&["storm"]),
            ..pb::Main::default()
        };
        assert!(matches!(session.ready(storm).await, Body::Started(_)));
        bed.place("storm");
        let (over, until) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            let looking = scope.spawn(move || {
                let mut zombies = Zombies::default();
                while until.recv_timeout(PACE) == Err(RecvTimeoutError::Timeout) {
                    zombies.look(bed.init);
                }
                zombies.longest
            });
            let all = exact(&mut session, count);
            let result = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(all));
            drop(over);
            result.expect("every code is exact");
            looking.join().expect("it only looks")
        })
    });
    println!(
        "clawkerd: {count} exact codes of execs in {:.1?}, amid orphans; the longest zombie seen {longest:.1?}",
        begun.elapsed()
    );
}

/// How the exec of this number ends: most by a code, some by a signal.
fn end_of(number: u32) -> (Vec<String>, (i32, i32)) {
    let deadly = [libc::SIGTERM, libc::SIGKILL, libc::SIGSEGV, libc::SIGABRT, 34];
    if number % 5 == 4 {
        let signo = deadly[number as usize / 5 % deadly.len()];
        return (witness(&["die", &signo.to_string()]), (128 + signo, signo));
    }
    let code = i32::try_from(number % 256).expect("small");
    (witness(&["exit", &code.to_string()]), (code, 0))
}

async fn exact(session: &mut Session, count: u32) -> Result<(), String> {
    let mut ends: BTreeMap<String, (i32, i32)> = BTreeMap::new();
    let (mut next, mut done) = (0, 0);
    while done < count {
        while next < count && next - done < WINDOW {
            let (argv, end) = end_of(next);
            let stage = pb::Stage {
                argv,
                ..pb::Stage::default()
            };
            let exec_id = next.to_string();
            ends.insert(exec_id.clone(), end);
            let exec = pb::Exec {
                exec_id,
                stages: vec![stage],
                ..pb::Exec::default()
            };
            session.send(Ask::Exec(exec)).await;
            next += 1;
        }
        match session.next().await.1 {
            Body::Exited(exited) => {
                let expected = ends.remove(&exited.exec_id);
                let told = (exited.code, exited.signal);
                if expected != Some(told) {
                    return Err(format!("exec {}: {told:?} instead of {expected:?}", exited.exec_id));
                }
            }
            Body::Drained(drained) => {
                let exec_id = drained.exec_id;
                session.send(Ask::AckExit(pb::AckExit { exec_id })).await;
                done += 1;
            }
            Body::ExecFailed(failed) => return Err(format!("{failed:?}")),
            _ => {}
        }
    }
    if ends.is_empty() {
        Ok(())
    } else {
        Err(format!("never told: {ends:?}"))
    }
}

fn witness(words: &[&str]) -> Vec<String> {
    let program = env!("CARGO_BIN_EXE_clawkerd-witness");
    [program].iter().chain(words).map(|word| (*word).to_owned()).collect()
}
