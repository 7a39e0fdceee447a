//! What is said before TLS, and what stands in a start's files and arguments.

use std::fmt::Debug;

use clawker_wire::defaults::{self, MAX_DEFAULTS};
use clawker_wire::join::{Join, MAX_JOIN};
use clawker_wire::preamble::{
    self, Bundle, ClientPreamble, Descriptor, MAX_BUNDLE, MAX_PREAMBLE, ServerPreamble, WIRE, encode_framed,
};
use clawker_wire::session::{AgentReady, HealthCheck, Main};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::text;
use crate::Target;

pub const PREAMBLE: Target = Target {
    name: "preamble",
    about: "both sides' preambles with their length; a process in the container, before anything is trusted",
    check: preamble,
    seeds: preambles,
    factor: 64,
};

pub const BUNDLE: Target = Target {
    name: "bundle",
    about: "an identity in its memfd; the control plane",
    check: bundle,
    seeds: || vec![whole().encode().expect("small")],
    factor: 64,
};

pub const JOIN: Target = Target {
    name: "join",
    about: "the join file of an engine elsewhere; whoever writes into the container before its start",
    check: join,
    seeds: || vec![Join::new(7, 1234, whole()).encode().expect("small")],
    factor: 64,
};

pub const DEFAULTS: Target = Target {
    name: "defaults",
    about: "clawkerd's --defaults, base64 of a protobuf; whoever starts the container",
    check: defaults,
    seeds: || vec![defaults::encode(&ready()).expect("small").into_bytes()],
    factor: 256,
};

fn preamble(input: &[u8]) -> bool {
    let Some((prefix, body)) = input.split_first_chunk::<4>() else {
        return false;
    };
    let announced = u32::from_be_bytes(*prefix) as usize;
    match preamble::body_len("preamble", *prefix) {
        Ok(len) => assert!(
            len == announced && len <= MAX_PREAMBLE,
            "a length of {len} was believed"
        ),
        Err(_) => assert!(announced > MAX_PREAMBLE, "a length of {announced} was refused"),
    }
    // Whoever reads a stream has either all that was announced or an error of its own.
    let body = &body[..announced.min(body.len())];
    let client = comes_back::<ClientPreamble>(body).is_some();
    comes_back::<ServerPreamble>(body).is_some() || client
}

fn bundle(input: &[u8]) -> bool {
    let Some(bundle) = comes_back::<Bundle>(input) else {
        return false;
    };
    assert!(input.len() <= MAX_BUNDLE, "a bundle over its limit was read");
    assert!(bundle.encode().is_ok(), "what was read can't be written");
    true
}

/// What can be read is the same when it was written and read again, and no longer than it was.
fn comes_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(body: &[u8]) -> Option<T> {
    let read: T = preamble::decode("fuzzed", body).ok()?;
    let written = postcard::to_stdvec(&read).expect("what was read can be written");
    assert!(
        written.len() <= body.len(),
        "{} bytes became {}",
        body.len(),
        written.len()
    );
    let again: T = preamble::decode("fuzzed", &written).expect("what was written can be read");
    assert!(again == read, "it came back as {again:?}, it was {read:?}");
    Some(read)
}

fn join(input: &[u8]) -> bool {
    let Ok(Some(join)) = Join::decode(input) else {
        return false;
    };
    assert!(input.len() >= 4);
    let written = join.encode().expect("what was read can be written");
    assert!(written.len() <= MAX_JOIN, "a join file over its limit was read");
    assert_eq!(Join::decode(&written).expect("whole"), Some(join));
    for end in [0, 3, written.len() - 1] {
        assert!(
            matches!(Join::decode(&written[..end]), Ok(None)),
            "half a file was read"
        );
    }
    true
}

fn defaults(input: &[u8]) -> bool {
    let text = text(input);
    let Ok(ready) = defaults::decode(&text) else {
        return false;
    };
    assert!(text.len() <= MAX_DEFAULTS, "defaults over their limit were read");
    assert!(ready.secrets.is_empty(), "a secret stood in an argument");
    assert!(ready.main.as_ref().is_some_and(|main| !main.argv.is_empty()));
    // What was read may be longer written out: an integer may have been cut.
    if let Ok(written) = defaults::encode(&ready) {
        assert_eq!(defaults::decode(&written).as_ref(), Ok(&ready));
    }
    true
}

fn whole() -> Bundle {
    Bundle {
        generation: 300,
        project: "web".to_owned(),
        agent: "scout".to_owned(),
        leaf: vec![0x30; 40],
        key: vec![2; 32],
        roots: vec![vec![3; 40], vec![4; 5]],
        join: Some("token".to_owned()),
    }
}

pub fn ready() -> AgentReady {
    AgentReady {
        main: Some(Main {
            argv: vec!["sh".to_owned(), "-c".to_owned(), "true".to_owned()],
            user: "agent:wheel".to_owned(),
            env: vec!["A=1".to_owned()],
            cwd: "/work".to_owned(),
            no_new_privs: true,
            stop_signal: "SIGINT".to_owned(),
            ..Main::default()
        }),
        health: Some(HealthCheck {
            argv: vec!["true".to_owned()],
            interval_ms: 30_000,
            ..HealthCheck::default()
        }),
        secrets: Vec::new(),
    }
}

fn preambles() -> Vec<Vec<u8>> {
    let client = ClientPreamble {
        wire: WIRE,
        held_generation: 3,
        root_ids: vec!["ab".repeat(32), "c".to_owned()],
    };
    let server = ServerPreamble {
        wire: WIRE,
        start: 300,
        generation: 3,
        descriptors: vec![
            Descriptor::Bundle,
            Descriptor::CgroupProcs,
            Descriptor::Freeze,
            Descriptor::SessionHalf,
        ],
    };
    vec![
        encode_framed("preamble", &client).expect("small"),
        encode_framed("preamble", &server).expect("small"),
    ]
}
