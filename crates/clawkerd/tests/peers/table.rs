//! Every difference between clawkerd and its peers, with the reason. docs/pid1-peers.md shows it, a test compares.

use crate::inits::Init::{Dumb, DumbSingle, Tini, TiniGroup};
use crate::inits::PEERS;
use crate::known::Area::{Conduct, Default, Ends, Received};
use crate::known::Known;

const FORWARDS_ALL: &str = "clawkerd forwards whatever it is sent but CHLD; tini keeps what a fault raises";
const GROUP: &str = "clawkerd signals the command's group, as `tini -g` and dumb-init do: a shell's children hear of a \
                     stop too";
const STOP: &str = "clawkerd does as dumb-init: the command leads a session of its own, where the kernel would drop a \
                    TSTP, TTIN or TTOU that is left at its default, so STOP is sent instead; tini's command is in \
                    init's session, and of TTIN and TTOU tini takes no notice, to hand the terminal over";
const STOP_SINGLE: &str =
    "clawkerd does as dumb-init without that option, which sends STOP to the session that it has made";
const OWN_SESSION: &str = "clawkerd gives the command a session, as dumb-init does, and with it the terminal";

pub const TABLE: &[Known] = &[
    Known {
        area: Received,
        peers: &[Tini, TiniGroup],
        seen_in: "pipes, alone; terminal, alone",
        of: "ILL, TRAP, ABRT, BUS, FPE, SEGV, SYS",
        clawkerd: "received: command",
        theirs: "nobody",
        why: FORWARDS_ALL,
    },
    Known {
        area: Received,
        peers: &[Tini, TiniGroup],
        seen_in: "pipes, tree; terminal, tree",
        of: "ILL, TRAP, ABRT, BUS, FPE, SEGV, SYS",
        clawkerd: "received: command, child, grandchild",
        theirs: "nobody",
        why: FORWARDS_ALL,
    },
    Known {
        area: Received,
        peers: &[Tini],
        seen_in: "pipes, tree; terminal, tree",
        of: "all but ILL, TRAP, ABRT, BUS, FPE, SEGV, CHLD, TSTP, TTIN, TTOU, SYS",
        clawkerd: "received: command, child, grandchild",
        theirs: "received: command",
        why: GROUP,
    },
    Known {
        area: Received,
        peers: &[DumbSingle],
        seen_in: "pipes, tree; terminal, tree",
        of: "all but CHLD, TSTP, TTIN, TTOU",
        clawkerd: "received: command, child, grandchild",
        theirs: "received: command",
        why: GROUP,
    },
    Known {
        area: Received,
        peers: &[Tini, TiniGroup],
        seen_in: "pipes, alone; terminal, alone",
        of: "TSTP",
        clawkerd: "stopped: command",
        theirs: "received: command",
        why: STOP,
    },
    Known {
        area: Received,
        peers: &[Tini],
        seen_in: "pipes, tree; terminal, tree",
        of: "TSTP",
        clawkerd: "stopped: command, child, grandchild",
        theirs: "received: command",
        why: STOP,
    },
    Known {
        area: Received,
        peers: &[TiniGroup],
        seen_in: "pipes, tree; terminal, tree",
        of: "TSTP",
        clawkerd: "stopped: command, child, grandchild",
        theirs: "received: command, child, grandchild",
        why: STOP,
    },
    Known {
        area: Received,
        peers: &[Tini, TiniGroup],
        seen_in: "pipes, alone; terminal, alone",
        of: "TTIN, TTOU",
        clawkerd: "stopped: command",
        theirs: "nobody",
        why: STOP,
    },
    Known {
        area: Received,
        peers: &[Tini, TiniGroup],
        seen_in: "pipes, tree; terminal, tree",
        of: "TTIN, TTOU",
        clawkerd: "stopped: command, child, grandchild",
        theirs: "nobody",
        why: STOP,
    },
    Known {
        area: Received,
        peers: &[DumbSingle],
        seen_in: "pipes, alone; terminal, alone",
        of: "TSTP, TTIN, TTOU",
        clawkerd: "stopped: command",
        theirs: "received: command",
        why: STOP_SINGLE,
    },
    Known {
        area: Received,
        peers: &[DumbSingle],
        seen_in: "pipes, tree; terminal, tree",
        of: "TSTP, TTIN, TTOU",
        clawkerd: "stopped: command, child, grandchild",
        theirs: "received: command",
        why: STOP_SINGLE,
    },
    Known {
        area: Default,
        peers: &[Tini, TiniGroup],
        seen_in: "pipes; terminal",
        of: "ILL, TRAP, ABRT, BUS, FPE, SEGV, SYS",
        clawkerd: "init exits 128 + it",
        theirs: "runs on",
        why: FORWARDS_ALL,
    },
    Known {
        area: Default,
        peers: &[Tini, TiniGroup],
        seen_in: "pipes; terminal",
        of: "TTIN, TTOU",
        clawkerd: "stopped, goes on after CONT to init",
        theirs: "runs on",
        why: STOP,
    },
    Known {
        area: Default,
        peers: &[DumbSingle],
        seen_in: "pipes; terminal",
        of: "TSTP, TTIN, TTOU",
        clawkerd: "stopped, goes on after CONT to init",
        theirs: "runs on",
        why: STOP_SINGLE,
    },
    Known {
        area: Default,
        peers: &[Tini, TiniGroup],
        seen_in: "typed",
        of: "^Z",
        clawkerd: "runs on",
        theirs: "stopped, goes on after CONT to init",
        why: "under clawkerd, as under dumb-init, no shell is left in the command's session that could let it go on again, so \
              the kernel drops it",
    },
    Known {
        area: Ends,
        peers: &[Dumb, DumbSingle],
        seen_in: "execution of",
        of: "a program that isn't there",
        clawkerd: "127",
        theirs: "2",
        why: "clawkerd exits as Docker, shells and tini do",
    },
    Known {
        area: Ends,
        peers: &[Dumb, DumbSingle],
        seen_in: "execution of",
        of: "a folder",
        clawkerd: "126",
        theirs: "2",
        why: "clawkerd exits as Docker, shells and tini do",
    },
    Known {
        area: Conduct,
        peers: &[Tini, TiniGroup],
        seen_in: "at its start, pipes; at its start, terminal",
        of: "leads its session",
        clawkerd: "yes",
        theirs: "no",
        why: OWN_SESSION,
    },
    Known {
        area: Conduct,
        peers: &[DumbSingle],
        seen_in: "at its start, pipes; at its start, terminal",
        of: "leads its group, leads its session",
        clawkerd: "yes",
        theirs: "no",
        why: OWN_SESSION,
    },
    Known {
        area: Conduct,
        peers: &PEERS,
        seen_in: "at its start, pipes; at its start, terminal",
        of: "descriptors",
        clawkerd: "0 1 2",
        theirs: "0 1 2 99",
        why: "clawkerd holds sockets, rings and identities, so it closes whatever isn't meant for the command, also what \
              it was itself given",
    },
    Known {
        area: Conduct,
        peers: &[Tini, TiniGroup],
        seen_in: "SIGCHLD ignored before init",
        of: "signals ignored",
        clawkerd: "none",
        theirs: "CHLD",
        why: "clawkerd gives the command every signal at its default, as to a fresh process",
    },
    Known {
        area: Conduct,
        peers: &[Tini, TiniGroup],
        seen_in: "SIGCHLD ignored before init",
        of: "a command that exits 0",
        clawkerd: "init exits 0",
        theirs: "init stays",
        why: "clawkerd undoes it, as dumb-init does; under tini the kernel reaps and the end isn't told",
    },
];
