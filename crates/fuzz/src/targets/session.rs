//! Messages of the gRPC services, as prost decodes them.

use clawker_wire::session::{self as pb, command, io_frame, response};
use clawker_wire::{MAX_DATA, admin, agent};
use prost::Message;

use super::wire::ready;
use crate::Target;

/// Two bytes may be an empty message of a list, which takes what its struct does, and the list grows by doubling.
const FACTOR: u64 = 512;

pub const COMMAND: Target = Target {
    name: "session-command",
    about: "a Command of the session; the control plane",
    check: comes_back::<pb::Command>,
    seeds: commands,
    factor: FACTOR,
};

pub const RESPONSE: Target = Target {
    name: "session-response",
    about: "a Response of the session; a session half, or what stands in its place",
    check: comes_back::<pb::Response>,
    seeds: responses,
    factor: FACTOR,
};

pub const IO: Target = Target {
    name: "session-io",
    about: "an IoFrame of either side",
    check: comes_back::<pb::IoFrame>,
    seeds: io_frames,
    factor: FACTOR,
};

pub const AGENT: Target = Target {
    name: "agent-request",
    about: "requests of AgentService; a process in the container",
    check: |input| {
        let asked = [comes_back::<agent::RegisterRequest>, comes_back::<agent::WhoAmIRequest>];
        asked.map(|one| one(input)).contains(&true)
    },
    seeds: || {
        vec![
            agent::RegisterRequest {
                project: "web".to_owned(),
                agent: "scout".to_owned(),
            }
            .encode_to_vec(),
        ]
    },
    factor: FACTOR,
};

pub const ADMIN: Target = Target {
    name: "admin-request",
    about: "requests of AdminService; whoever may use its socket",
    check: |input| {
        let asked = [
            comes_back::<admin::CreateAgentRequest>,
            comes_back::<admin::WatchEventsRequest>,
        ];
        asked.map(|one| one(input)).contains(&true)
    },
    seeds: || {
        vec![
            admin::CreateAgentRequest {
                project: "web".to_owned(),
                agent: "scout".to_owned(),
                image: "busybox".to_owned(),
                command: vec!["sh".to_owned(), "-c".to_owned(), "true".to_owned()],
                ..admin::CreateAgentRequest::default()
            }
            .encode_to_vec(),
        ]
    },
    factor: FACTOR,
};

/// What can be decoded is the same when it was encoded and decoded again.
fn comes_back<M: Message + Default + PartialEq>(input: &[u8]) -> bool {
    let Ok(read) = M::decode(input) else { return false };
    let written = read.encode_to_vec();
    assert_eq!(written.len(), read.encoded_len());
    let again = M::decode(written.as_slice()).expect("what was encoded can be decoded");
    assert!(again == read, "it came back as another message");
    true
}

fn commands() -> Vec<Vec<u8>> {
    let exec = pb::Exec {
        exec_id: "step/1".to_owned(),
        stages: vec![
            pb::Stage {
                argv: vec!["cat".to_owned(), "-".to_owned()],
                user: "agent".to_owned(),
                env: vec!["A=1".to_owned()],
                cwd: "/".to_owned(),
            },
            pb::Stage {
                argv: vec!["wc".to_owned()],
                ..pb::Stage::default()
            },
        ],
        timeout: 60,
        on_full: 1,
        stdin: true,
        tty: Some(pb::Tty { rows: 24, cols: 80 }),
        on_disconnect: Some(pb::OnDisconnect {
            goodbye: 1,
            after_seconds: 300,
        }),
    };
    let hello = pb::Hello {
        protocol: clawker_wire::PROTOCOL,
        cp_life: "ab".repeat(16),
        lease: Some(pb::Lease { seconds: 600 }),
    };
    let write = pb::WriteFile {
        path: "/etc/x".to_owned(),
        mode: 0o644,
        owner: "agent:wheel".to_owned(),
        when: 2,
        content: b"text".to_vec().into(),
    };
    let rotate = pb::RotateIdentity {
        leaf: vec![0x30; 9].into(),
        roots: vec![vec![0x30; 9].into()],
    };
    [
        command::Body::Hello(hello),
        command::Body::Exec(exec),
        command::Body::WriteFile(write),
        command::Body::RotateIdentity(rotate),
        command::Body::AgentReady(ready()),
        command::Body::AgentInitialized(pb::AgentInitialized {}),
    ]
    .into_iter()
    .zip(1..)
    .map(|(body, id)| pb::Command { id, body: Some(body) }.encode_to_vec())
    .collect()
}

fn responses() -> Vec<Vec<u8>> {
    let exited = pb::Exited {
        exec_id: "main".to_owned(),
        code: 137,
        signal: 9,
        timed_out: true,
        oom: true,
    };
    let ack = pb::HelloAck {
        protocol: clawker_wire::PROTOCOL,
        init_life: "cd".repeat(16),
        build: clawker_wire::CLAWKERD.to_owned(),
        initialized: true,
        execs: vec![
            pb::ExecState {
                exec_id: "main".to_owned(),
                pid: 42,
                exited: Some(exited.clone()),
                drained: true,
            },
            pb::ExecState::default(),
        ],
        session_lives: 3,
        ..pb::HelloAck::default()
    };
    let failed = pb::ExecFailed {
        exec_id: "step/1".to_owned(),
        kind: "not_found".to_owned(),
        errno: -2,
        stage: 1,
        message: "no such file".to_owned(),
    };
    let signalled = pb::Signalled {
        processes: 2,
        strays: vec![pb::Stray {
            pid: -7,
            name: "x".to_owned(),
        }],
    };
    [
        response::Body::HelloAck(ack),
        response::Body::Exited(exited),
        response::Body::ExecFailed(failed),
        response::Body::Signalled(signalled),
        response::Body::FileContent(pb::FileContent {
            content: b"text".to_vec().into(),
        }),
        response::Body::Done(pb::Done {}),
    ]
    .into_iter()
    .zip(1..)
    .map(|(body, id)| pb::Response { id, body: Some(body) }.encode_to_vec())
    .collect()
}

fn io_frames() -> Vec<Vec<u8>> {
    let data = pb::Data {
        stream: 1,
        offset: MAX_DATA as u64,
        bytes: b"output\n".to_vec().into(),
    };
    [
        io_frame::Body::Open(pb::Open {
            exec_id: "main".to_owned(),
            stdout_from: 300,
            stderr_from: u64::MAX,
        }),
        io_frame::Body::Data(data),
        io_frame::Body::Gap(pb::Gap {
            stream: 2,
            from: 1,
            to: 1 << 40,
        }),
        io_frame::Body::Resize(pb::Resize { rows: 24, cols: 80 }),
        io_frame::Body::StdinEof(pb::StdinEof {}),
    ]
    .into_iter()
    .map(|body| pb::IoFrame { body: Some(body) }.encode_to_vec())
    .collect()
}
