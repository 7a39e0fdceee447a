//! What PID 1 reads: its session half's frames, the image's files, its own arguments.

use std::ffi::OsString;

use clawkerd::cli;
use clawkerd::halves::frame::{self, MAX_INLINE};
use clawkerd::halves::{
    End, ExecReport, ExecSpec, Goodbye, Reply, Request, RingInfo, Stage, State, Stray, Stream, ToHalf, ToInit, VERSION,
};
use clawkerd::user::{Files, UserError};
use serde::Serialize;

use super::{text, texts};
use crate::Target;

pub const HALVES: Target = Target {
    name: "halves",
    about: "frames between PID 1 and its session half; a half that was taken over, or another build's",
    check: halves,
    seeds: frames,
    factor: 128,
};

pub const USER: Target = Target {
    name: "user",
    about: "passwd, group and the user to look for, between zero bytes; the image and the agent",
    check: user,
    seeds: || {
        texts(&[
            "root:x:0:0:root:/root:/bin/sh\nagent:x:1000:1001:A:/home/a:/bin/sh\n#c:x:7:7::/:\n\0root:x:0:\nagent:x:1001:\n\
             wheel:x:10:root,agent\n\0agent:wheel",
            "a:x:2147483647:0::/:\nb:x:4294967295:0::/:\n\0g:x:5:a,b,\n\x001000",
            "\0\0:50",
        ])
    },
    factor: 64,
};

pub const OPTIONS: Target = Target {
    name: "options",
    about: "clawkerd's arguments, between zero bytes; whoever starts the container",
    check: options,
    seeds: || {
        texts(&[
            "init\0--on-absent=await:5\0--on-orphan=stop:30\0--join=/j\0--\0sh",
            "init\0--on-absent=defaults:7\0--defaults=CgQKAnNo\0--\0sh",
            "session\0--wire=1",
            "doctor\0--json",
        ])
    },
    factor: 256,
};

/// Whether all of the body is one message; it is then the same when it was written and read again, and no longer.
macro_rules! whole {
    ($message:ty, $body:expr) => {
        match postcard::take_from_bytes::<$message>($body) {
            Ok((read, [])) => {
                let written = postcard::to_stdvec(&read).expect("what was read can be written");
                assert!(
                    written.len() <= $body.len(),
                    "{} bytes became {}",
                    $body.len(),
                    written.len()
                );
                let again: $message = postcard::from_bytes(&written).expect("what was written can be read");
                assert!(again == read, "it came back as another message");
                true
            }
            _ => false,
        }
    };
}

fn halves(input: &[u8]) -> bool {
    let [VERSION, 0, body @ ..] = input else {
        assert_eq!(frame::probe(input), [false; 2], "a frame of another kind was read");
        return false;
    };
    let read = [whole!(ToHalf, body), whole!(ToInit<'_>, body)];
    assert_eq!(frame::probe(input), read, "the halves read it otherwise");
    read.contains(&true)
}

/// Highest id that is one.
const MAX_ID: u32 = i32::MAX as u32;

fn user(input: &[u8]) -> bool {
    let mut found = false;
    let mut parts = input.splitn(3, |byte| *byte == 0).map(text);
    let mut part = || parts.next().unwrap_or_default();
    let files = Files {
        passwd: part(),
        group: part(),
    };
    let given = part();
    for spec in [given.as_str(), "", "0", "7:7", "agent"] {
        let identity = match files.resolve(spec) {
            Ok(identity) => identity,
            Err(UserError::NoUser(name)) => {
                assert!(
                    !name.is_empty() && !name.bytes().all(|b| b.is_ascii_digit()),
                    "a number needs no file"
                );
                continue;
            }
            Err(_) => continue,
        };
        found |= !spec.is_empty() && spec == given;
        assert!(identity.uid <= MAX_ID && identity.gid <= MAX_ID && identity.groups.iter().all(|id| *id <= MAX_ID));
        assert!(identity.groups.len() <= files.group.lines().count());
        assert!(!identity.home.contains([':', '\n']), "a home out of two fields");
        // By its number it is at least the same user.
        let by_number = files.resolve(&identity.uid.to_string());
        assert_eq!(by_number.map(|found| found.uid), Ok(identity.uid));
    }
    found
}

fn options(input: &[u8]) -> bool {
    let args = input.split(|byte| *byte == 0).map(|arg| OsString::from(text(arg)));
    let invocation = cli::parse(args);
    if let Ok(cli::Invocation::Init(options)) = &invocation {
        let defaults = matches!(options.on_absent, clawker_model::OnAbsent::Defaults { .. });
        assert_eq!(
            options.defaults.is_some(),
            defaults,
            "defaults and --on-absent go together"
        );
        assert!(!(options.join.is_some() && defaults));
        assert!(
            options
                .defaults
                .as_ref()
                .is_none_or(|ready| !ready.main.argv.is_empty() && ready.secrets.is_empty())
        );
    }
    invocation.is_ok()
}

fn framed<T: Serialize>(message: &T) -> Vec<u8> {
    let mut frame = vec![VERSION, 0];
    frame.extend(postcard::to_stdvec(message).expect("it encodes"));
    assert!(frame.len() < MAX_INLINE);
    frame
}

fn frames() -> Vec<Vec<u8>> {
    let mut report = ExecReport::of(300);
    report.stages = 2;
    report.stage_ends[0] = Some(End { code: 3, signal: 0 });
    report.streams[0] = (1 << 40, true);
    let state = State {
        init_life: "ab".repeat(16),
        initialized: true,
        command_running: false,
        lease_frozen: false,
        lease_lost: true,
        session_lives: 2,
        half_stopped: false,
    };
    let spec = ExecSpec {
        exec_id: "step/1".to_owned(),
        stages: vec![Stage {
            argv: vec!["sh".to_owned(), "-c".to_owned()],
            user: "agent".to_owned(),
            env: vec!["A=1".to_owned()],
            cwd: "/".to_owned(),
        }],
        timeout: 60,
        lossy: true,
        stdin: true,
        tty: Some((24, 80)),
        on_disconnect: Some((Goodbye::Kill, 300)),
    };
    let strays = vec![Stray {
        pid: -7,
        name: "x".to_owned(),
    }];
    let request = |request| framed(&ToInit::Request { id: 300, request });
    vec![
        framed(&ToHalf::Report(report)),
        framed(&ToHalf::Reply {
            id: 300,
            reply: Reply::State(Box::new(state)),
        }),
        framed(&ToHalf::Reply {
            id: 1,
            reply: Reply::Signalled { processes: 2, strays },
        }),
        framed(&ToHalf::Began {
            exec: 7,
            exec_id: "main".to_owned(),
            rings: vec![RingInfo {
                stream: Stream::Stderr,
                capacity: 1 << 18,
            }],
        }),
        request(Request::Exec(Box::new(spec))),
        request(Request::Rotate {
            leaf: vec![0x30; 9],
            roots: vec![vec![0x30; 9]],
        }),
        request(Request::Upgrade { digest: [7; 32] }),
        framed(&ToInit::Stdin {
            exec: 7,
            offset: 300,
            bytes: b"typed\n"[..].into(),
        }),
        framed(&ToInit::Hardened {
            dumpable: false,
            tracer_pid: -1,
        }),
    ]
}
