//! The oldest supported generation of the protocol, kept by a client that was recorded when it was the newest.
//!
//! `generations/1.txt` is a conversation, message by message in hex: what a control plane of generation 1 sent, and what
//! it was answered. It is sent again byte by byte, by a client that knows no message types, and the answers have to be
//! the same but for what differs from run to run. A recording is never made again: `CLAWKER_RECORD=N` makes one of a
//! generation that has none yet, by sending what is listed here.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clawker_wire::session::command::Body as Command;
use clawker_wire::session::io_frame::Body as Frame;
use clawker_wire::session::response::Body;
use clawker_wire::session::{self as pb};
use prost::Message;
use prost::bytes::{Buf, BufMut, Bytes};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::host::{Container, can_run};
use crate::plane::Plane;
use crate::session::{exec, main, within};

/// Messages as the bytes that they are.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;
    fn encoder(&mut self) -> Self {
        *self
    }
    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let len = from.remaining();
        Ok(Some(from.copy_to_bytes(len)))
    }
}

/// One stream of either method.
struct Line {
    to: mpsc::Sender<Bytes>,
    from: Streaming<Bytes>,
}

impl Line {
    async fn open(channel: &Channel, method: &'static str, first: Bytes) -> Self {
        let (to, queue) = mpsc::channel(64);
        to.send(first).await.expect("queued");
        let mut client = tonic::client::Grpc::new(channel.clone());
        client.ready().await.expect("connected");
        let path = tonic::codegen::http::uri::PathAndQuery::from_static(method);
        let request = tonic::Request::new(ReceiverStream::new(queue));
        let answered = client.streaming(request, path, Raw).await.expect("answered");
        Self {
            to,
            from: answered.into_inner(),
        }
    }

    async fn next(&mut self) -> Bytes {
        within(self.from.message())
            .await
            .expect("a message")
            .expect("not the end")
    }
}

/// A response without what differs from run to run.
fn plain(bytes: &Bytes) -> Bytes {
    let mut response = pb::Response::decode(bytes.clone()).expect("a response");
    match &mut response.body {
        Some(Body::HelloAck(ack)) => {
            ack.init_life = "life".to_owned();
            ack.build = "build".to_owned();
        }
        Some(Body::Started(started)) => started.pid = 1,
        _ => {}
    }
    response.encode_to_vec().into()
}

/// Both streams of an exec: all bytes, then the ends; how they were cut into frames is nobody's business.
fn joined(frames: &[Bytes]) -> Vec<String> {
    let mut streams: BTreeMap<i32, Vec<u8>> = BTreeMap::new();
    let mut others = Vec::new();
    for bytes in frames {
        match pb::IoFrame::decode(bytes.clone()).expect("a frame").body {
            Some(Frame::Data(data)) => streams.entry(data.stream).or_default().extend(&data.bytes),
            // How often is a matter of time.
            Some(Frame::Ack(_)) => {}
            _ => others.push(hex(bytes)),
        }
    }
    others.sort();
    let streams = streams.iter().map(|(stream, bytes)| format!("{stream} {}", hex(bytes)));
    streams.chain(others).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Bytes {
    let digits = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("text"), 16).expect("hex");
    digits.map(byte).collect()
}

fn recording(generation: u32) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/pid1/generations");
    folder.join(format!("{generation}.txt"))
}

/// What a control plane of generation 1 says, in order: commands; and the frames to the exec of this id.
fn conversation(protocol: u32) -> Vec<(&'static str, Vec<u8>)> {
    let mut id = 0;
    let mut command = |body: Command| {
        id += 1;
        let command = pb::Command { id, body: Some(body) };
        ("session", command.encode_to_vec())
    };
    let frame = |body: Frame| ("io", pb::IoFrame { body: Some(body) }.encode_to_vec());
    let stdin = |offset: u64, text: &'static str| {
        Frame::Data(pb::Data {
            stream: pb::Stream::Stdin as i32,
            offset,
            bytes: text.as_bytes().into(),
        })
    };
    let mut echo = exec("plan/0", "cat; echo said >&2; exit 3");
    echo.stdin = true;
    let mut on_terminal = exec("operator/1", "stty size; exec sleep 300");
    on_terminal.tty = Some(pb::Tty { rows: 33, cols: 99 });
    on_terminal.stdin = true;
    vec![
        command(Command::Hello(pb::Hello {
            protocol,
            cp_life: "recorded".to_owned(),
            lease: Some(pb::Lease { seconds: 0 }),
        })),
        command(Command::Exec(echo)),
        frame(Frame::Open(pb::Open {
            exec_id: "plan/0".to_owned(),
            ..pb::Open::default()
        })),
        frame(stdin(0, "typed ")),
        frame(stdin(3, "ed once\n")),
        frame(Frame::StdinEof(pb::StdinEof {})),
        command(Command::AckExit(pb::AckExit {
            exec_id: "plan/0".to_owned(),
        })),
        command(Command::Exec(on_terminal)),
        command(Command::Exec(exec("operator/2", "exit 200"))),
        command(Command::Exec(pb::Exec {
            exec_id: "operator/3".to_owned(),
            stages: vec![pb::Stage {
                argv: vec!["no-such-command".to_owned()],
                ..pb::Stage::default()
            }],
            ..pb::Exec::default()
        })),
        command(Command::Signal(pb::Signal {
            exec_id: "operator/1".to_owned(),
            signo: 9,
        })),
        command(Command::WriteFile(pb::WriteFile {
            path: "/run/recorded/file".to_owned(),
            mode: 0o640,
            owner: "12:34".to_owned(),
            when: pb::WriteWhen::Always as i32,
            content: b"content"[..].into(),
        })),
        command(Command::ReadFile(pb::ReadFile {
            path: "/run/recorded/file".to_owned(),
            max: 100,
            user: String::new(),
        })),
        command(Command::ReadFile(pb::ReadFile {
            path: "/run/recorded/none".to_owned(),
            ..pb::ReadFile::default()
        })),
        command(Command::Lease(pb::Lease { seconds: 60 })),
        command(Command::AgentInitialized(pb::AgentInitialized {})),
        command(Command::AgentReady(pb::AgentReady {
            main: Some(main("exit 7")),
            ..pb::AgentReady::default()
        })),
    ]
}

/// Sends the messages and writes down what was answered. After each command come its answer and, of an exec that ends
/// by itself or was killed, what is said of its end.
async fn held(sent: &[(String, Bytes)]) -> Vec<String> {
    let plane = Plane::new();
    let _container = Container::start(plane.dir(), &[]);
    let channel = plane.channel().await.expect("connected");
    let mut lines = Vec::new();
    let mut session: Option<Line> = None;
    let mut io: Option<Line> = None;
    for (number, (to, bytes)) in sent.iter().enumerate() {
        lines.push(format!("{to} > {}", hex(bytes)));
        let last_frame = sent.get(number + 1).is_none_or(|(next, _)| next != "io");
        match (to.as_str(), &mut session, &mut io) {
            ("session", None, _) => {
                session = Some(Line::open(&channel, "/clawker.session.v1.SessionService/Session", bytes.clone()).await);
            }
            ("session", Some(line), _) => line.to.send(bytes.clone()).await.expect("queued"),
            ("io", _, None) => {
                io = Some(Line::open(&channel, "/clawker.session.v1.SessionService/Io", bytes.clone()).await);
            }
            (_, _, Some(line)) => line.to.send(bytes.clone()).await.expect("queued"),
            other => panic!("{:?} is no stream", other.0),
        }
        if to == "session" {
            let command = pb::Command::decode(bytes.clone()).expect("a command");
            let line = session.as_mut().expect("open");
            lines.extend(answers(line, &command).await);
        } else if last_frame {
            let mut line = io.take().expect("open");
            lines.extend(streams(&mut line).await.into_iter().map(|line| format!("io < {line}")));
            // Its end is told on the session.
            lines.extend(ends(session.as_mut().expect("open"), "plan/0").await);
        }
    }
    lines
}

async fn answers(line: &mut Line, command: &pb::Command) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        let bytes = line.next().await;
        let response = pb::Response::decode(bytes.clone()).expect("a response");
        lines.push(format!("session < {}", hex(&plain(&bytes))));
        if response.id == command.id {
            break;
        }
    }
    let ending = match &command.body {
        Some(Command::Exec(exec)) if exec.exec_id == "operator/2" => "operator/2",
        Some(Command::Signal(signal)) => &signal.exec_id,
        _ => return lines,
    };
    lines.extend(ends(line, ending).await);
    lines
}

async fn ends(line: &mut Line, id: &str) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        let bytes = line.next().await;
        lines.push(format!("session < {}", hex(&plain(&bytes))));
        match pb::Response::decode(bytes).expect("a response").body {
            Some(Body::Drained(drained)) if drained.exec_id == id => return lines,
            _ => {}
        }
    }
}

async fn streams(line: &mut Line) -> Vec<String> {
    let mut frames = Vec::new();
    let mut open = 2;
    while open > 0 {
        let mut bytes = line.next().await;
        let mut frame = pb::IoFrame::decode(bytes.clone()).expect("a frame");
        match &mut frame.body {
            Some(Frame::StreamEof(_)) => open -= 1,
            // A word that a client of generation 1 doesn't know.
            Some(Frame::Opened(opened)) => {
                opened.ring = 0;
                bytes = frame.encode_to_vec().into();
            }
            _ => {}
        }
        frames.push(bytes);
    }
    joined(&frames)
}

#[tokio::test]
async fn a_recorded_client_of_the_oldest_generation_is_answered_as_it_was() {
    if !can_run() {
        return;
    }
    if let Some(generation) = std::env::var("CLAWKER_RECORD").ok().and_then(|text| text.parse().ok()) {
        let path = recording(generation);
        assert!(!path.exists(), "{} is what that generation said", path.display());
        let conversation = conversation(generation);
        let sent: Vec<(String, Bytes)> = conversation
            .into_iter()
            .map(|(to, bytes)| (to.to_owned(), bytes.into()))
            .collect();
        let lines = held(&sent).await;
        std::fs::write(path, lines.join("\n") + "\n").expect("written");
    }
    let recorded = std::fs::read_to_string(recording(clawker_wire::OLDEST_PROTOCOL)).expect("it was recorded");
    let recorded: Vec<&str> = recorded.lines().collect();
    let sent: Vec<(String, Bytes)> = recorded
        .iter()
        .filter_map(|line| line.split_once(" > "))
        .map(|(to, bytes)| (to.to_owned(), unhex(bytes)))
        .collect();
    assert!(sent.len() > 10, "most of the recording is missing");
    let held = held(&sent).await;
    for (number, (now, then)) in held.iter().zip(&recorded).enumerate() {
        assert_eq!(now, then, "line {}", number + 1);
    }
    assert_eq!(held.len(), recorded.len());
}
