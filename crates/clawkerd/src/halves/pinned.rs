//! Version 1 of the internal wire, byte by byte: what a PID 1 of that age sends and understands, for ever.

use std::borrow::Cow;

use super::{
    End, ExecReport, ExecSpec, Goodbye, MAX_STAGES, Reply, Request, RingInfo, Stage, State, Stray, Stream, ToHalf,
    ToInit, VERSION,
};

fn hex<T: serde::Serialize>(message: &T) -> String {
    let bytes = postcard::to_stdvec(message).expect("encodes");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn same<T: serde::Serialize>(messages: &[T], pinned: &[&str]) {
    let got: Vec<String> = messages.iter().map(hex).collect();
    assert_eq!(
        got, pinned,
        "this is another wire: raise VERSION and keep speaking {VERSION}"
    );
}

#[test]
fn what_pid_1_says() {
    let mut stage_ends = [None; MAX_STAGES];
    stage_ends[0] = Some(End { code: 3, signal: 0 });
    let report = ExecReport {
        exec: 7,
        pid: 42,
        stages: 1,
        stage_ends,
        ended: Some(End { code: 3, signal: 0 }),
        timed_out: false,
        oom: true,
        drained: Some(false),
        streams: [(300, true), (0, false)],
        stdin_taken: 5,
        stdin_written: 4,
    };
    let state = State {
        init_life: "ab".to_owned(),
        initialized: true,
        command_running: false,
        lease_frozen: false,
        lease_lost: true,
        session_lives: 2,
        half_stopped: false,
    };
    let rings = vec![RingInfo {
        stream: Stream::Stderr,
        capacity: 1024,
    }];
    let strays = vec![Stray {
        pid: 9,
        name: "x".to_owned(),
    }];
    let messages = [
        ToHalf::Session,
        ToHalf::AgentSocket { id: 1, error: None },
        ToHalf::Reply {
            id: 300,
            reply: Reply::State(Box::new(state)),
        },
        ToHalf::Reply {
            id: 1,
            reply: Reply::ExecFailed {
                exec_id: "e".to_owned(),
                kind: "k".to_owned(),
                errno: 2,
                stage: 1,
                message: "m".to_owned(),
            },
        },
        ToHalf::Reply {
            id: 1,
            reply: Reply::Signalled { processes: 2, strays },
        },
        ToHalf::Began {
            exec: 7,
            exec_id: "e".to_owned(),
            rings,
        },
        ToHalf::Report(report),
        ToHalf::Gone { exec: 7 },
        ToHalf::Health {
            healthy: true,
            detail: String::new(),
        },
    ];
    same(
        &messages,
        &[
            "00",
            "010100",
            "02ac0200026162010000010200",
            "0201040165016b0401016d",
            "0201050201120178",
            "0307016501018008",
            "0407540101060000000000000000000000000000000001060000010100ac020100000504",
            "0507",
            "060100",
        ],
    );
}

#[test]
fn what_a_half_says() {
    let spec = ExecSpec {
        exec_id: "e".to_owned(),
        stages: vec![Stage {
            argv: vec!["a".to_owned()],
            user: String::new(),
            env: Vec::new(),
            cwd: "/".to_owned(),
        }],
        timeout: 1,
        lossy: true,
        stdin: false,
        tty: Some((24, 80)),
        on_disconnect: Some((Goodbye::Kill, 60)),
    };
    let bytes = Cow::Borrowed(&b"hi"[..]);
    let messages = [
        ToInit::Hardened {
            dumpable: false,
            tracer_pid: 0,
        },
        ToInit::Heartbeat,
        ToInit::SessionLost,
        ToInit::NeedAgentSocket { id: 1 },
        ToInit::Request {
            id: 1,
            request: Request::Exec(Box::new(spec)),
        },
        ToInit::Request {
            id: 1,
            request: Request::Upgrade { digest: [1; 32] },
        },
        ToInit::Consumed {
            exec: 7,
            stream: Stream::Stdout,
            offset: 300,
        },
        ToInit::Stdin {
            exec: 7,
            offset: 0,
            bytes,
        },
        ToInit::StdinEof { exec: 7 },
        ToInit::Resize {
            exec: 7,
            rows: 24,
            cols: 80,
        },
        ToInit::Attached {
            exec: 7,
            attached: true,
        },
        ToInit::MainEndNoted { in_session: true },
    ];
    same(
        &messages,
        &[
            "000000",
            "01",
            "02",
            "0301",
            "0401010165010101610000012f01010001185001013c",
            "0401080101010101010101010101010101010101010101010101010101010101010101",
            "050700ac02",
            "060700026869",
            "0707",
            "08071850",
            "090701",
            "0a01",
        ],
    );
}
