//! Nothing is lost or doubled, whatever is cut: 32 execs at once, whose streams are compared byte by byte.
//!
//! Each exec writes a stream that only its number determines, or gives back what it reads, and ends with a code of its
//! own. In each life of the session every exec that isn't done is attached to from the offset where it was left, and
//! after a random moment the life is ended. `CLAWKER_FULL=1` makes the storm as long as the promise is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clawker_wire::session::command::Body as Command;
use clawker_wire::session::io_frame::Body as Frame;
use clawker_wire::session::response::Body;
use clawker_wire::session::{self as pb};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::host::{Container, can_run};
use crate::plane::Plane;
use crate::session::{Session, exec};

const EXECS: usize = 32;
const CHUNK: usize = 16 * 1024;
/// Input that is on its way and not yet written.
const WINDOW: u64 = 128 * 1024;

/// How a life of the session ends.
#[derive(Clone, Copy)]
enum Cut {
    /// SIGKILL to the session half.
    Half,
    /// The connection is dropped, in the middle of whatever it carries.
    Connection,
    /// The one or the other, or SIGSTOP, which PID 1 has to find out.
    Any,
}

fn full() -> bool {
    std::env::var_os("CLAWKER_FULL").is_some()
}

/// One exec, as its reader sees it.
struct Stream {
    id: String,
    number: usize,
    /// It gives back what it is sent.
    echoes: bool,
    len: u64,
    seen: u64,
    eof: [bool; 2],
}

impl Stream {
    fn new(number: usize, len: u64) -> Self {
        Self {
            id: format!("exec/{number}"),
            number,
            echoes: number % 2 == 1,
            len,
            seen: 0,
            eof: [false; 2],
        }
    }

    fn code(&self) -> i32 {
        i32::try_from(self.number).expect("small") + 1
    }

    fn spec(&self) -> pb::Exec {
        let (len, number, code) = (self.len, self.number, self.code());
        let script = match self.echoes {
            true => format!("cat; exit {code}"),
            // `yes` repeats a line of eight bytes.
            false => format!("yes {number:07} | head -c {len}; exit {code}"),
        };
        let mut spec = exec(&self.id, &script);
        spec.stdin = self.echoes;
        spec
    }

    /// The byte at an offset.
    fn byte(&self, offset: u64) -> u8 {
        if self.echoes {
            // Different in each exec, and without a short period.
            let mixed = (offset ^ (self.number as u64) << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            return (mixed >> 56) as u8;
        }
        let digits = [1_000_000, 100_000, 10_000, 1000, 100, 10, 1];
        match digits.get(usize::try_from(offset % 8).expect("small")) {
            Some(digit) => b'0' + (self.number / digit % 10) as u8,
            None => b'\n',
        }
    }

    fn is_done(&self) -> bool {
        self.eof == [true; 2]
    }

    /// Goes on until the end of both streams, of the session, or as far as `allowed`, where it waits, so that there is
    /// always something left to be cut.
    async fn follow(
        mut self,
        allowed: u64,
        attaching: impl Future<Output = Result<(crate::session::Io, pb::Opened), tonic::Status>>,
    ) -> Self {
        let Ok((mut io, opened)) = attaching.await else {
            return self;
        };
        assert!(opened.stdout_first <= self.seen, "{}: bytes are gone", self.id);
        let (mut sent, mut written) = (opened.stdin_taken, opened.stdin_taken);
        let mut ended = false;
        // The last word may have been lost with the connection, and a full ring waits for it.
        self.acknowledge(&io).await;
        while !self.is_done() {
            while self.echoes && sent < self.len && sent - written < WINDOW {
                let end = self.len.min(sent + CHUNK as u64);
                let bytes: Vec<u8> = (sent..end).map(|offset| self.byte(offset)).collect();
                let data = pb::Data {
                    stream: pb::Stream::Stdin as i32,
                    offset: sent,
                    bytes: bytes.into(),
                };
                if !say(&io, Frame::Data(data)).await {
                    return self;
                }
                sent = end;
            }
            if self.echoes && sent == self.len && !std::mem::replace(&mut ended, true) {
                say(&io, Frame::StdinEof(pb::StdinEof {})).await;
            }
            if self.seen >= allowed && allowed < self.len {
                io.frames.closed().await;
                return self;
            }
            let Ok(Some(frame)) = io.incoming.message().await else {
                return self;
            };
            match frame.body {
                Some(Frame::Data(data)) => {
                    assert_eq!(data.stream, pb::Stream::Stdout as i32, "{}: {data:?}", self.id);
                    assert_eq!(data.offset, self.seen, "{}: lost or doubled", self.id);
                    let end = self.seen + data.bytes.len() as u64;
                    let expected: Vec<u8> = (self.seen..end).map(|offset| self.byte(offset)).collect();
                    assert!(data.bytes == expected, "{}: other bytes from {} on", self.id, self.seen);
                    self.seen = end;
                    self.acknowledge(&io).await;
                }
                Some(Frame::Ack(ack)) => written = written.max(ack.offset),
                Some(Frame::StreamEof(eof)) => self.eof[usize::from(eof.stream == pb::Stream::Stderr as i32)] = true,
                other => panic!("{}: {other:?}", self.id),
            }
        }
        assert_eq!(self.seen, self.len, "{}: ended early", self.id);
        self
    }
}

impl Stream {
    async fn acknowledge(&self, io: &crate::session::Io) {
        let ack = pb::Ack {
            stream: pb::Stream::Stdout as i32,
            offset: self.seen,
        };
        say(io, Frame::Ack(ack)).await;
    }
}

async fn say(io: &crate::session::Io, body: Frame) -> bool {
    io.frames.send(pb::IoFrame { body: Some(body) }).await.is_ok()
}

/// What the session says of ends.
#[derive(Default)]
struct Ends {
    codes: BTreeMap<String, i32>,
    drained: BTreeMap<String, bool>,
    acknowledged: BTreeSet<String>,
}

impl Ends {
    fn exited(&mut self, exited: &pb::Exited) {
        let before = self.codes.insert(exited.exec_id.clone(), exited.code);
        assert!(
            before.is_none_or(|code| code == exited.code),
            "{exited:?} after {before:?}"
        );
    }

    fn hear(&mut self, body: Option<Body>) {
        match body {
            Some(Body::Exited(exited)) => self.exited(&exited),
            Some(Body::Drained(drained)) => {
                self.drained.insert(drained.exec_id, drained.held_by_descendants);
            }
            _ => {}
        }
    }
}

/// Pseudo-random, the same in each run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

async fn storm(cut: Cut, lives: u32, len: u64) {
    if !can_run() {
        return;
    }
    let plane = Plane::new();
    let container = Container::start(plane.dir(), &[]);
    let mut session = plane.session().await;
    let mut streams: Vec<Stream> = (0..EXECS).map(|number| Stream::new(number, len)).collect();
    let all: Vec<(String, i32)> = streams
        .iter()
        .map(|stream| (stream.id.clone(), stream.code()))
        .collect();
    let mut ends = Ends::default();
    let mut chance = Chance(0x5eed);
    let (mut life, mut stopped) = (0, 0);
    while ends.acknowledged.len() < EXECS {
        life += 1;
        let last = life > lives;
        for exec in &session.ack.execs {
            exec.exited.iter().for_each(|exited| ends.exited(exited));
            if exec.drained {
                ends.drained.entry(exec.exec_id.clone()).or_default();
            }
        }
        if life == 1 {
            for stream in &streams {
                let started = session.ask(Command::Exec(stream.spec())).await;
                assert!(matches!(started, Body::Started(_)), "{started:?}");
            }
        }
        let mut tasks = JoinSet::new();
        let mut done: Vec<Stream> = Vec::new();
        for stream in streams.drain(..) {
            if stream.is_done() {
                done.push(stream);
                continue;
            }
            let attaching = session.attached(&stream.id, stream.seen, 0);
            let allowed = len * u64::from(life.min(lives)) / u64::from(lives);
            tasks.spawn(stream.follow(allowed, attaching));
        }
        let moment = Duration::from_micros(500 + chance.below(20_000));
        let end = Instant::now() + if last { crate::host::PATIENCE } else { moment };
        serve(&mut session, &mut ends, &mut tasks, &mut done, end).await;
        if ends.acknowledged.len() == EXECS && tasks.is_empty() {
            streams = done;
            break;
        }
        assert!(
            !last,
            "not at its end without any cut: codes {:?}, drained {:?}, acknowledged {:?}",
            ends.codes, ends.drained, ends.acknowledged
        );
        let half = container.half();
        match (cut, chance.below(16)) {
            (Cut::Half, _) | (Cut::Any, 0..8) => kill(half, libc::SIGKILL),
            // Rarely: three heartbeats have to be missed.
            (Cut::Any, 8) if stopped < 2 => {
                stopped += 1;
                kill(half, libc::SIGSTOP);
            }
            _ => {}
        }
        drop(session);
        while let Some(stream) = tasks.join_next().await {
            done.push(stream.expect("no assertion of it failed"));
        }
        streams = done;
        session = plane.session().await;
    }
    assert!(streams.iter().all(Stream::is_done));
    for (id, code) in all {
        assert_eq!(ends.codes.get(&id), Some(&code), "{id}");
        assert_eq!(ends.drained.get(&id), Some(&false), "{id}");
    }
    println!(
        "{life} lives of the session for {EXECS} execs of {len} bytes; the half lived {} times",
        session.ack.session_lives
    );
    assert!(life >= lives, "over after {life} lives, before the storm was");
}

fn kill(half: Option<i32>, signo: i32) {
    if let Some(half) = half {
        let _ = clawker_proc::signal::kill(half, signo);
    }
}

/// Hears responses and acknowledges exits until the life is over, or all is done.
async fn serve(
    session: &mut Session,
    ends: &mut Ends,
    tasks: &mut JoinSet<Stream>,
    done: &mut Vec<Stream>,
    end: Instant,
) {
    loop {
        for stream in done.iter() {
            // Only what was read to its end and reported as such may be forgotten, once.
            let over = ends.codes.contains_key(&stream.id) && ends.drained.contains_key(&stream.id);
            if over && !ends.acknowledged.contains(&stream.id) {
                let ack = Command::AckExit(pb::AckExit {
                    exec_id: stream.id.clone(),
                });
                if !session.try_send(ack).await {
                    return;
                }
                ends.acknowledged.insert(stream.id.clone());
            }
        }
        if ends.acknowledged.len() == EXECS && tasks.is_empty() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep_until(end) => return,
            Some(stream) = tasks.join_next() => done.push(stream.expect("no assertion of it failed")),
            response = session.try_next() => match response {
                Ok(response) => ends.hear(response.body),
                Err(_) => return,
            },
        }
    }
}

#[tokio::test]
async fn killing_the_session_half_again_and_again_loses_no_byte_and_no_exit_code() {
    let (lives, len) = if full() { (1000, 1_000_000) } else { (40, 400_000) };
    storm(Cut::Half, lives, len).await;
}

#[tokio::test]
async fn cutting_the_connection_again_and_again_loses_no_byte_and_no_exit_code() {
    let (lives, len) = if full() { (200, 1_000_000) } else { (30, 400_000) };
    storm(Cut::Connection, lives, len).await;
}

#[tokio::test]
async fn whatever_is_cut_nothing_is_lost() {
    let (lives, len) = if full() { (200, 1_000_000) } else { (20, 400_000) };
    storm(Cut::Any, lives, len).await;
}
