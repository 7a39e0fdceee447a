//! The parsers, each with what real peers say to it.

use std::fmt::Debug;

use clawker_proc::procfs;
use clawker_wire::join::Join;
use clawker_wire::preamble::{
    Bundle, ClientPreamble, Descriptor, MAX_PREAMBLE, ServerPreamble, WIRE, body_len, decode,
};
use clawker_wire::{admin, agent, defaults, session};
use clawkerd::halves::{self, frame};
use clawkerd::user::Files;
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub struct Target {
    pub name: &'static str,
    /// Well-formed inputs.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Whether it is well-formed. Panics if the parser does, or if what it read isn't what it reads again.
    pub reads: fn(&[u8]) -> bool,
}

const fn target(name: &'static str, seeds: fn() -> Vec<Vec<u8>>, reads: fn(&[u8]) -> bool) -> Target {
    Target { name, seeds, reads }
}

pub const ALL: &[Target] = &[
    target("halves", halves_seeds, |input| frame::probe(input) != [false; 2]),
    target("preamble", preambles, preamble),
    target("bundle", bundles, postcard::<Bundle>),
    target("join", joins, join),
    target("defaults", defaults_seeds, defaults_text),
    target("command", commands, protobuf::<session::Command>),
    target("response", responses, protobuf::<session::Response>),
    target("io", io_frames, protobuf::<session::IoFrame>),
    target("register", registers, protobuf::<agent::RegisterRequest>),
    target("exec", exec_inputs, protobuf::<admin::ExecInput>),
    target("users", users, user),
    target("docker", streams, docker),
    target("netlink", netlinks, netlink),
    target("procfs", procs, proc_files),
];

/// Whether it is read; what is read is read again from its own encoding.
fn postcard<T: Serialize + DeserializeOwned + PartialEq + Debug>(input: &[u8]) -> bool {
    let Ok(read) = decode::<T>("input", input) else {
        return false;
    };
    let again = ::postcard::to_stdvec(&read).expect("what was read can be written");
    assert_eq!(decode::<T>("input", &again).expect("and read again"), read);
    true
}

fn protobuf<T: Message + Default + PartialEq + Debug>(input: &[u8]) -> bool {
    let Ok(read) = T::decode(input) else { return false };
    let again = read.encode_to_vec();
    assert_eq!(T::decode(again.as_slice()).expect("it is read again"), read);
    true
}

/// Length and body, as either side reads it.
fn preamble(input: &[u8]) -> bool {
    let Some((prefix, body)) = input.split_first_chunk::<4>() else {
        return false;
    };
    let Ok(len) = body_len("input", *prefix) else {
        return false;
    };
    assert!(len <= MAX_PREAMBLE);
    let Some(body) = body.get(..len) else { return false };
    postcard::<ClientPreamble>(body) | postcard::<ServerPreamble>(body)
}

fn join(input: &[u8]) -> bool {
    let Ok(Some(join)) = Join::decode(input) else {
        return false;
    };
    let again = join.encode().expect("what was read can be written");
    assert_eq!(Join::decode(&again).expect("and read again"), Some(join));
    true
}

fn defaults_text(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else {
        return false;
    };
    let Ok(ready) = defaults::decode(text) else {
        return false;
    };
    let again = defaults::encode(&ready).expect("what was read can be written");
    assert_eq!(defaults::decode(&again).expect("and read again"), ready);
    true
}

/// passwd, a zero byte, group, a zero byte, the user that is asked for.
fn user(input: &[u8]) -> bool {
    let mut parts = input
        .split(|byte| *byte == 0)
        .map(|part| String::from_utf8_lossy(part).into_owned());
    let mut next = || parts.next().unwrap_or_default();
    let files = Files {
        passwd: next(),
        group: next(),
    };
    for spec in [
        next().as_str(),
        "",
        "agent",
        "agent:wheel",
        "1000",
        "1000:0",
        ":",
        "0:wheel",
    ] {
        if let Ok(identity) = files.resolve(spec) {
            let most = i32::MAX as u32;
            let ids = [identity.uid, identity.gid].into_iter().chain(identity.groups);
            assert!(
                ids.into_iter().all(|id| id <= most),
                "{spec}: an id that the kernel takes for none"
            );
        }
    }
    true
}

/// Docker's multiplexed stream.
fn docker(input: &[u8]) -> bool {
    let Some((out, err)) = clawker_docker::probe(input) else {
        return false;
    };
    assert!(out + err <= input.len(), "more came out than went in");
    true
}

fn netlink(input: &[u8]) -> bool {
    let Some(bytes) = clawker_netfilter::probe(input) else {
        return false;
    };
    assert!(bytes <= input.len(), "more was read than was there");
    true
}

fn proc_files(input: &[u8]) -> bool {
    let text = String::from_utf8_lossy(input);
    let _ = procfs::parse_stat(&text);
    let _ = procfs::parse_ns_pids(&text);
    let _ = procfs::parse_tracer_pid(&text);
    if let Ok(lines) = procfs::parse_cgroups(&text) {
        assert!(lines.len() <= text.lines().count());
    }
    if let Ok(mounts) = procfs::parse_mounts(&text) {
        assert!(mounts.len() <= text.lines().count());
    }
    true
}

fn bundle() -> Bundle {
    Bundle {
        generation: 3,
        project: "web".into(),
        agent: "scout".into(),
        leaf: vec![0x30; 40],
        key: vec![7; 32],
        roots: vec![vec![0x30; 20], vec![]],
        join: Some("token".into()),
    }
}

fn encoded<T: Serialize>(message: &T) -> Vec<u8> {
    ::postcard::to_stdvec(message).expect("small")
}

fn halves_seeds() -> Vec<Vec<u8>> {
    let exec = halves::ExecSpec {
        exec_id: "operator/x".into(),
        stages: vec![halves::Stage {
            argv: vec!["sh".into(), "-c".into(), "true".into()],
            user: "agent:wheel".into(),
            env: vec!["A=1".into()],
            cwd: "/work".into(),
        }],
        timeout: 9,
        lossy: true,
        stdin: true,
        tty: Some((24, 80)),
        on_disconnect: Some((halves::Goodbye::Kill, 60)),
    };
    let request = halves::ToInit::Request {
        id: 7,
        request: halves::Request::Exec(Box::new(exec)),
    };
    let stdin = halves::ToInit::Stdin {
        exec: 1,
        offset: 2,
        bytes: b"input".as_slice().into(),
    };
    let attached = halves::ToInit::Attached {
        exec: 1,
        attached: true,
    };
    let reply = halves::ToHalf::Reply {
        id: 7,
        reply: halves::Reply::ExecFailed {
            exec_id: "x".into(),
            kind: "spawn".into(),
            errno: 11,
            stage: 1,
            message: "no".into(),
        },
    };
    let report = halves::ToHalf::Report(halves::ExecReport::of(4));
    let frames = [
        frame::Frame::new(&request, vec![]),
        frame::Frame::new(&stdin, vec![]),
        frame::Frame::new(&attached, vec![]),
        frame::Frame::new(&reply, vec![]),
        frame::Frame::new(&report, vec![]),
    ];
    frames
        .into_iter()
        .map(|frame| frame.expect("small").bytes().to_vec())
        .collect()
}

fn preambles() -> Vec<Vec<u8>> {
    let framed = |body: Vec<u8>| [&(body.len() as u32).to_be_bytes()[..], &body].concat();
    let client = ClientPreamble {
        wire: WIRE,
        held_generation: 3,
        root_ids: vec!["ab".repeat(32)],
    };
    let server = ServerPreamble {
        wire: WIRE,
        start: 2,
        generation: 4,
        descriptors: vec![
            Descriptor::Bundle,
            Descriptor::CgroupProcs,
            Descriptor::Freeze,
            Descriptor::SessionHalf,
        ],
    };
    vec![framed(encoded(&client)), framed(encoded(&server))]
}

fn bundles() -> Vec<Vec<u8>> {
    vec![encoded(&bundle())]
}

fn joins() -> Vec<Vec<u8>> {
    vec![Join::new(2, 7000, bundle()).encode().expect("small")]
}

fn ready() -> session::AgentReady {
    session::AgentReady {
        main: Some(session::Main {
            argv: vec!["sh".into()],
            env: vec!["A=1".into()],
            no_new_privs: true,
            ..Default::default()
        }),
        health: Some(session::HealthCheck {
            argv: vec!["true".into()],
            interval_ms: 5,
            ..Default::default()
        }),
        secrets: vec![session::Secret {
            name: "TOKEN".into(),
            as_file: true,
            content: b"secret".as_slice().into(),
        }],
    }
}

fn defaults_seeds() -> Vec<Vec<u8>> {
    let mut ready = ready();
    ready.secrets.clear();
    vec![defaults::encode(&ready).expect("small").into_bytes()]
}

fn commands() -> Vec<Vec<u8>> {
    use session::command::Body;
    let exec = session::Exec {
        exec_id: "x".into(),
        stages: vec![
            session::Stage {
                argv: vec!["cat".into()],
                ..Default::default()
            };
            2
        ],
        tty: Some(session::Tty { rows: 24, cols: 80 }),
        on_disconnect: Some(session::OnDisconnect {
            goodbye: 1,
            after_seconds: 60,
        }),
        ..Default::default()
    };
    let write = session::WriteFile {
        path: "~/x/".into(),
        mode: 0o600,
        owner: "agent".into(),
        when: 2,
        content: b"text".as_slice().into(),
    };
    [Body::Exec(exec), Body::WriteFile(write), Body::AgentReady(ready())]
        .into_iter()
        .map(|body| {
            session::Command {
                id: 9,
                body: Some(body),
            }
            .encode_to_vec()
        })
        .collect()
}

fn responses() -> Vec<Vec<u8>> {
    use session::response::Body;
    let ack = session::HelloAck {
        protocol: 2,
        init_life: "life".into(),
        execs: vec![session::ExecState {
            exec_id: "x".into(),
            pid: 3,
            exited: Some(session::Exited {
                exec_id: "x".into(),
                code: 1,
                ..Default::default()
            }),
            drained: true,
        }],
        ..Default::default()
    };
    let signalled = session::Signalled {
        processes: 2,
        strays: vec![session::Stray {
            pid: 4,
            name: "x".into(),
        }],
    };
    [Body::HelloAck(ack), Body::Signalled(signalled)]
        .into_iter()
        .map(|body| {
            session::Response {
                id: 9,
                body: Some(body),
            }
            .encode_to_vec()
        })
        .collect()
}

fn io_frames() -> Vec<Vec<u8>> {
    use session::io_frame::Body;
    let data = session::Data {
        stream: 1,
        offset: 1 << 40,
        bytes: vec![b'x'; 300].into(),
    };
    let open = session::Open {
        exec_id: "x".into(),
        stdout_from: 1,
        stderr_from: u64::MAX,
    };
    [
        Body::Data(data),
        Body::Open(open),
        Body::Gap(session::Gap {
            stream: 2,
            from: 1,
            to: 9,
        }),
    ]
    .into_iter()
    .map(|body| session::IoFrame { body: Some(body) }.encode_to_vec())
    .collect()
}

fn registers() -> Vec<Vec<u8>> {
    let request = agent::RegisterRequest {
        project: "web".into(),
        agent: "scout".into(),
    };
    vec![request.encode_to_vec()]
}

fn exec_inputs() -> Vec<Vec<u8>> {
    use admin::exec_input::Body;
    let start = admin::ExecStart {
        agent: "web.scout".into(),
        argv: vec!["ls".into()],
        user: Some("0".into()),
        exec_id: "operator/x".into(),
        size: Some(admin::Resize { rows: 1, cols: 2 }),
        ..Default::default()
    };
    [Body::Start(start), Body::Ack(admin::ExecAck { stdout: 1, stderr: 2 })]
        .into_iter()
        .map(|body| admin::ExecInput { body: Some(body) }.encode_to_vec())
        .collect()
}

fn users() -> Vec<Vec<u8>> {
    let passwd =
        "root:x:0:0:root:/root:/bin/sh\nagent:x:1000:1000::/home/agent:\n# no\nbroken:x\nbig:x:4294967295:1::/:\n";
    let group = "wheel:x:10:agent,root\nagent:x:1000:\nmore:x:99999999999:agent\n";
    vec![
        format!("{passwd}\0{group}\0agent:wheel").into_bytes(),
        b"\x00\x001000:4294967295".to_vec(),
    ]
}

fn streams() -> Vec<Vec<u8>> {
    vec![b"\x01\0\0\0\0\0\0\x03out\x02\0\0\0\0\0\0\x03err\0\0\0\0\0\0\0\0".to_vec()]
}

fn netlinks() -> Vec<Vec<u8>> {
    // struct nlmsghdr (length, type, flags, seq, pid), a payload of 4 bytes, an attribute of 4 bytes; NLMSG_DONE.
    let mut message = Vec::new();
    for (kind, body) in [
        (0x0a03_u16, &[1, 0, 0, 0, 8, 0, 1, 0, b'a', b'b', b'c', 0][..]),
        (3, &[0, 0, 0, 0]),
    ] {
        message.extend(((16 + body.len()) as u32).to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(2_u16.to_ne_bytes());
        message.extend(7_u32.to_ne_bytes());
        message.extend(0_u32.to_ne_bytes());
        message.extend(body);
    }
    vec![message]
}

fn procs() -> Vec<Vec<u8>> {
    let stat = "12 (a) b) S 1 12 12 0 -1 4194560 1 0 0 0 1 2 3 4 20 0 1 0 12345 1000 100 18446744073709551615";
    let status = "Name:\tx\nTracerPid:\t0\nNSpid:\t12\t1\n";
    let cgroup = "4:memory:/docker/ab\n0::/\n";
    let mounts = "36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n";
    [stat, status, cgroup, mounts]
        .iter()
        .map(|text| text.as_bytes().to_vec())
        .collect()
}
