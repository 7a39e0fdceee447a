//! clawkerd beside tini and dumb-init as PID 1 (docs/pid1-peers.md): signals, ends of commands, orphans. Everything is
//! seen from outside, in the kernel's own words; each difference is listed with its reason, or the test fails.
//!
//! `CLAWKER_FULL=1` makes the storms of orphans as long as the scorecard's R8 wants them.

mod bed;
mod conduct;
mod ends;
#[path = "../pid1/host.rs"]
#[expect(
    dead_code,
    reason = "its containers are clawkerd's alone; here only its waiting is used"
)]
mod host;
mod inits;
mod known;
mod look;
mod matrix;
#[path = "../pid1/plane.rs"]
#[expect(dead_code, reason = "one control plane serves two test programs")]
mod plane;
#[path = "../pid1/session.rs"]
#[expect(dead_code, reason = "the same")]
mod session;
mod storm;
mod table;

use std::collections::BTreeMap;

use bed::Bed;
use clawker_wire::session as pb;
use host::can_run;
use inits::{ALL, Init, Start, Streams};
use known::{Area, Facts};
use storm::Size;

/// Each init on a thread of its own.
fn of_each(look: fn(Init) -> Facts) -> BTreeMap<Init, Facts> {
    std::thread::scope(|scope| {
        let looks = ALL.map(|init| (init, scope.spawn(move || look(init))));
        looks
            .map(|(init, look)| (init, look.join().expect("it was seen")))
            .into()
    })
}

#[test]
fn a_signal_reaches_whom_it_reaches_under_the_peers() {
    if can_run() {
        known::compare(Area::Received, &of_each(matrix::received));
    }
}

#[test]
fn a_signal_does_to_a_command_what_it_does_under_the_peers() {
    if can_run() {
        known::compare(Area::Default, &of_each(matrix::by_default));
    }
}

#[test]
fn every_end_of_a_command_is_the_same_exit_code() {
    if can_run() {
        known::compare(Area::Ends, &of_each(ends::codes));
    }
}

#[test]
fn a_command_finds_and_leaves_what_it_does_under_the_peers() {
    if can_run() {
        known::compare(Area::Conduct, &of_each(conduct::conduct));
    }
}

#[test]
fn the_document_lists_the_differences() {
    known::expect_documented(include_str!("../../../../docs/pid1-peers.md"));
}

/// The peers have no such time: their command runs at once.
#[test]
fn before_there_is_a_command_only_what_ends_a_program_ends_clawkerd_and_nothing_is_kept_for_later() {
    if !can_run() {
        return;
    }
    let start = Start::of(Init::Clawkerd, Streams::Pipes);
    let deadly = [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT];
    for signo in deadly {
        let (bed, _plane) = Bed::clawkerd(start);
        look::soon("its signals are its own", || (!bed.below().is_empty()).then_some(()));
        bed.signal(signo);
        assert_eq!(bed.ended().code, 128 + signo);
    }
    Bed::in_session(start, async |bed, mut session| {
        for signo in matrix::signals().filter(|signo| !deadly.contains(signo)) {
            bed.signal(signo);
            assert!(bed.settles(), "signal {signo} ended it");
        }
        let main = pb::Main {
            argv: [env!("CARGO_BIN_EXE_clawkerd-witness"), "hold", "alone"]
                .map(str::to_owned)
                .into(),
            ..pb::Main::default()
        };
        session.ready(main).await;
        let command = bed.place("command");
        assert_eq!(look::Seen::at(command).expect("it lives").pending, 0);
    });
}

#[test]
fn orphans_in_number_are_reaped_and_the_code_is_still_the_commands() {
    if can_run() {
        ALL.into_iter()
            .for_each(|init| storm::orphans(init, Size::asked_for().orphans));
    }
}

#[test]
fn a_command_that_ends_amid_its_orphans_ends_with_its_own_code() {
    if can_run() {
        ALL.into_iter()
            .for_each(|init| storm::commands(init, Size::asked_for().commands));
    }
}

#[test]
fn execs_end_with_their_own_codes_while_orphans_are_reaped() {
    if can_run() {
        storm::execs(Size::asked_for().execs);
    }
}
