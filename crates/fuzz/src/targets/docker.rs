//! What comes from the engine: streams that containers write, and JSON with labels and settings of images in it.

use clawker_docker::fuzzing::{self, Streams};

use super::texts;
use crate::Target;

pub const STREAM: Target = Target {
    name: "docker-stream",
    about: "attach and logs, framed or a terminal's; the engine, with what a container writes. The first two bytes say \
            whether it is a terminal and how long the pieces are that it comes in",
    check: stream,
    seeds: streams,
    // A byte at a time, each copied into a buffer of its own.
    factor: 256,
};

pub const ANSWERS: Target = Target {
    name: "docker-answers",
    about: "inspect, a list, an image, an event, as JSON; the engine, an image, and who made the container",
    check: answers,
    seeds: jsons,
    // JSON is kept as a tree for a container's shape.
    factor: 1024,
};

fn stream(input: &[u8]) -> bool {
    let [tty, size, wire @ ..] = input else {
        return false;
    };
    let (tty, size) = (tty & 1 == 1, usize::from(*size) + 1);
    let whole = fuzzing::streams(tty, [wire]);
    assert_eq!(whole.empty, 0, "an empty piece reads as the end");
    assert_eq!(
        fuzzing::streams(tty, wire.chunks(size)),
        whole,
        "in pieces of {size} it is another"
    );
    assert_eq!(whole, expected(tty, wire));
    !whole.bad
}

/// The same, read in the plainest way.
fn expected(tty: bool, wire: &[u8]) -> Streams {
    let mut streams = Streams::default();
    if tty {
        streams.stdout = wire.to_vec();
        streams.whole = true;
        return streams;
    }
    let mut rest = wire;
    while let Some((&[kind, _, _, _, a, b, c, d], after)) = rest.split_first_chunk::<8>() {
        let to = match kind {
            0 | 1 => &mut streams.stdout,
            2 => &mut streams.stderr,
            _ => {
                streams.bad = true;
                return streams;
            }
        };
        let len = u32::from_be_bytes([a, b, c, d]) as usize;
        if len > after.len() {
            to.extend_from_slice(after);
            return streams;
        }
        to.extend_from_slice(&after[..len]);
        rest = &after[len..];
    }
    streams.whole = rest.is_empty();
    streams
}

fn answers(input: &[u8]) -> bool {
    let inspected = fuzzing::inspected(input);
    if let Some((Ok(inspect), shape)) = &inspected {
        assert!(inspect.pid >= 0, "a pid that is a group");
        assert!(
            inspect
                .published
                .values()
                .all(|place| place.port() != 0 && !place.ip().is_unspecified())
        );
        assert!(shape.is_ok(), "{shape:?}");
    }
    // All that is promised of it is a value or an error.
    let listed = fuzzing::listed(input);
    let image = fuzzing::image(input);
    if let Some(health) = image.as_ref().and_then(|image| image.health.as_ref()) {
        assert!(!health.argv.is_empty() && health.retries > 0 && health.interval_ms > 0 && health.timeout_ms > 0);
    }
    let event = fuzzing::event(input);
    assert!(event.as_ref().is_none_or(|event| event.id.as_str().len() == 64));
    inspected.is_some() || listed.is_some() || image.is_some() || event.is_some()
}

fn streams() -> Vec<Vec<u8>> {
    let frame = |kind: u8, payload: &[u8]| {
        let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        [&[kind, 0, 0, 0], &len.to_be_bytes()[..], payload].concat()
    };
    let both = [
        frame(1, b"one\n"),
        frame(2, b"two"),
        frame(1, b""),
        frame(0, b"\x01\x02"),
    ]
    .concat();
    let huge = [&[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff][..], b"abc"].concat();
    [(0, 0, &both), (0, 6, &both), (1, 2, &both), (0, 0, &huge)]
        .map(|(tty, size, wire)| [&[tty, size], wire.as_slice()].concat())
        .into()
}

fn jsons() -> Vec<Vec<u8>> {
    let id = "ab".repeat(32);
    let inspect = format!(
        r#"{{"Id":"{id}","Name":"/clawker.a","Image":"sha256:00","State":{{"Status":"running","Running":true,"Pid":42}},
        "Mounts":[{{"Type":"bind","Source":"/s","Destination":"/t","RW":false}}],"HostConfig":{{"NetworkMode":"n",
        "Memory":67108864,"MemorySwap":-1,"CapDrop":["CAP_NET_RAW"]}},"Config":{{"Env":["A=1"],"Labels":{{"l":"v"}}}},
        "NetworkSettings":{{"Networks":{{"n":{{"IPAddress":"10.0.0.2"}}}},
        "Ports":{{"80/tcp":[{{"HostIp":"10.0.0.2","HostPort":"49153"}}],"53/udp":null}}}}}}"#
    );
    let listed =
        format!(r#"{{"Id":"{id}","Names":["/clawker.a"],"State":"exited","HostConfig":{{"NetworkMode":"none"}}}}"#);
    let image = r#"{"Id":"sha256:00","Architecture":"amd64","Config":{"Shell":["/bin/ash","-ec"],"Entrypoint":["/e"],
        "Healthcheck":{"Test":["CMD-SHELL","curl x"],"Interval":5000000000,"Timeout":-1,"Retries":2}}}"#;
    let event = format!(
        r#"{{"Type":"container","Action":"exec_create: sh","Actor":{{"ID":"{id}","Attributes":{{"exitCode":"137"}}}},
        "timeNano":1500000}}"#
    );
    texts(&[&inspect, &listed, image, &event])
}
