//! `SessionService.Io`: the bytes of one exec.
//!
//! Output comes out of the rings that PID 1 fills, as fast as the stream takes it; an Ack frees what was read.
//! Standard input is given to PID 1 within its window and acknowledged as it is written. Up to 1 MiB is kept here
//! meanwhile, so that Acks behind it are still heard: whoever sends more without waiting for Acks waits.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clawker_wire::MAX_DATA;
use clawker_wire::session::io_frame::Body;
use clawker_wire::session::{self as pb, IoFrame};
use tokio::sync::{Notify, mpsc};
use tonic::{Status, Streaming};

use super::convert;
use super::hub::{Hub, Mirror};
use crate::halves::{STDIN_CHUNK, STDIN_WINDOW, Stream, ToInit};
use crate::ring;

const OPEN: Duration = Duration::from_secs(10);
/// Data frames that wait for the stream.
const FRAMES: usize = 8;
const STDIN_KEPT: usize = 1024 * 1024;

type Frames = mpsc::Sender<Result<IoFrame, Status>>;
type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Answers Open; the tasks that carry the bytes.
pub async fn attach(
    hub: Arc<Hub>,
    mut incoming: Streaming<IoFrame>,
) -> Result<(mpsc::Receiver<Result<IoFrame, Status>>, Vec<Task>), Status> {
    let first = tokio::time::timeout(OPEN, incoming.message());
    let first = first.await.map_err(|_| Status::deadline_exceeded("no Open came"))??;
    let Some(Body::Open(open)) = first.and_then(|frame| frame.body) else {
        return Err(Status::failed_precondition("the first frame is Open"));
    };
    let exec = hub
        .exec(&open.exec_id)
        .ok_or_else(|| Status::not_found(format!("no exec {}", open.exec_id)))?;
    let (to, frames) = mpsc::channel(FRAMES);
    let first = |stream: Stream| exec.rings[stream.index()].as_ref().map_or(0, |ring| ring.tail());
    let opened = pb::Opened {
        stdout_first: first(Stream::Stdout),
        stderr_first: first(Stream::Stderr),
        stdin_taken: exec.report.borrow().stdin_taken,
        ring: exec
            .rings
            .iter()
            .flatten()
            .map(ring::Reader::capacity)
            .min()
            .unwrap_or(0),
    };
    let taken = opened.stdin_taken;
    let _ = to.try_send(frame(Body::Opened(opened)));
    let stdin = Arc::new(Stdin::new(taken));
    let mut tasks: Vec<Task> = Vec::new();
    for (stream, from) in [(Stream::Stdout, open.stdout_from), (Stream::Stderr, open.stderr_from)] {
        tasks.push(Box::pin(output(Arc::clone(&exec), stream, from, to.clone())));
    }
    tasks.push(Box::pin(feed(
        Arc::clone(&hub),
        Arc::clone(&exec),
        Arc::clone(&stdin),
        to.clone(),
    )));
    let attachment = Attachment::new(hub, exec);
    tasks.push(Box::pin(async move {
        let Attachment { hub, exec } = &attachment;
        if let Err(status) = listen(hub, exec.exec, incoming, &stdin).await {
            let _ = to.send(Err(status)).await;
        }
        stdin.close();
    }));
    Ok((frames, tasks))
}

/// Somebody who is attached to an exec; PID 1 is told of the first and of the last.
struct Attachment {
    hub: Arc<Hub>,
    exec: Arc<Mirror>,
}

impl Attachment {
    fn new(hub: Arc<Hub>, exec: Arc<Mirror>) -> Self {
        let attachment = Self { hub, exec };
        if attachment.exec.attached.fetch_add(1, Ordering::Relaxed) == 0 {
            attachment.tell(true);
        }
        attachment
    }

    fn tell(&self, attached: bool) {
        self.hub.send(ToInit::Attached {
            exec: self.exec.exec,
            attached,
        });
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        if self.exec.attached.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.tell(false);
        }
    }
}

fn frame(body: Body) -> Result<IoFrame, Status> {
    Ok(IoFrame { body: Some(body) })
}

fn name(stream: Stream) -> i32 {
    match stream {
        Stream::Stdout => pb::Stream::Stdout as i32,
        Stream::Stderr => pb::Stream::Stderr as i32,
    }
}

/// One stream from its offset to its end.
async fn output(exec: Arc<Mirror>, stream: Stream, from: u64, to: Frames) {
    let mut report = exec.report.subscribe();
    let mut at = from;
    loop {
        let (head, eof) = report.borrow_and_update().streams[stream.index()];
        if let Some(ring) = &exec.rings[stream.index()] {
            let chunk = ring.read(at, MAX_DATA);
            if chunk.from > at {
                let gap = pb::Gap {
                    stream: name(stream),
                    from: at,
                    to: chunk.from,
                };
                at = chunk.from;
                if to.send(frame(Body::Gap(gap))).await.is_err() {
                    return;
                }
            }
            if !chunk.bytes.is_empty() {
                let data = pb::Data {
                    stream: name(stream),
                    offset: at,
                    bytes: chunk.bytes.into(),
                };
                at += data.bytes.len() as u64;
                if to.send(frame(Body::Data(data))).await.is_err() {
                    return;
                }
                continue;
            }
        }
        if eof && at >= head {
            let _ = to
                .send(frame(Body::StreamEof(pb::StreamEof { stream: name(stream) })))
                .await;
            return;
        }
        tokio::select! {
            changed = report.changed() => if changed.is_err() { return },
            () = to.closed() => return,
        }
    }
}

/// Acks, input and sizes, as they come.
async fn listen(hub: &Hub, exec: u32, mut incoming: Streaming<IoFrame>, stdin: &Stdin) -> Result<(), Status> {
    while let Some(frame) = incoming.message().await? {
        match frame.body {
            Some(Body::Ack(ack)) => {
                let stream = match ack.stream() {
                    pb::Stream::Stdout => Stream::Stdout,
                    pb::Stream::Stderr => Stream::Stderr,
                    pb::Stream::Stdin => continue,
                };
                hub.send(ToInit::Consumed {
                    exec,
                    stream,
                    offset: ack.offset,
                });
            }
            Some(Body::Data(data)) if data.stream() == pb::Stream::Stdin => {
                if data.bytes.len() > MAX_DATA {
                    return Err(Status::invalid_argument(format!(
                        "{} bytes in one frame, the limit is {MAX_DATA}",
                        data.bytes.len()
                    )));
                }
                stdin.push(data.offset, &data.bytes).await?;
            }
            Some(Body::StdinEof(_)) => stdin.eof(),
            Some(Body::Resize(size)) => hub.send(ToInit::Resize {
                exec,
                rows: convert::side(size.rows),
                cols: convert::side(size.cols),
            }),
            _ => {
                return Err(Status::invalid_argument(
                    "only Ack, Data of stdin, StdinEof and Resize go to an exec",
                ));
            }
        }
    }
    Ok(())
}

/// Standard input between its reader and its feeder.
struct Stdin {
    state: Mutex<Kept>,
    changed: Notify,
    room: Notify,
}

struct Kept {
    bytes: VecDeque<u8>,
    /// Offset of the first of `bytes`.
    from: u64,
    eof: bool,
    closed: bool,
}

enum Next {
    Bytes(u64, Vec<u8>),
    Eof,
    Closed,
    Wait,
}

impl Stdin {
    fn new(from: u64) -> Self {
        Self {
            state: Mutex::new(Kept {
                bytes: VecDeque::new(),
                from,
                eof: false,
                closed: false,
            }),
            changed: Notify::new(),
            room: Notify::new(),
        }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Skips what was taken before; a hole is an error.
    async fn push(&self, offset: u64, bytes: &[u8]) -> Result<(), Status> {
        loop {
            {
                let mut kept = self.kept();
                let end = kept.from + kept.bytes.len() as u64;
                if offset > end {
                    return Err(Status::out_of_range(format!(
                        "input at {offset}, expected at most {end}"
                    )));
                }
                if kept.bytes.len() < STDIN_KEPT {
                    let known = usize::try_from(end - offset).unwrap_or(usize::MAX);
                    kept.bytes.extend(bytes.get(known..).unwrap_or_default());
                    break;
                }
            }
            self.room.notified().await;
        }
        self.changed.notify_one();
        Ok(())
    }

    fn eof(&self) {
        self.kept().eof = true;
        self.changed.notify_one();
    }

    fn close(&self) {
        self.kept().closed = true;
        self.changed.notify_one();
    }

    /// At most `window` bytes.
    fn next(&self, window: u64) -> Next {
        let mut kept = self.kept();
        let n = usize::try_from(window)
            .unwrap_or(usize::MAX)
            .min(STDIN_CHUNK)
            .min(kept.bytes.len());
        if n > 0 {
            let from = kept.from;
            kept.from += n as u64;
            let bytes = kept.bytes.drain(..n).collect();
            drop(kept);
            self.room.notify_one();
            return Next::Bytes(from, bytes);
        }
        match (kept.bytes.is_empty(), kept.eof, kept.closed) {
            (true, true, _) => Next::Eof,
            (_, _, true) => Next::Closed,
            _ => Next::Wait,
        }
    }
}

/// Gives PID 1 what its window takes; tells the sender how far it was written.
async fn feed(hub: Arc<Hub>, exec: Arc<Mirror>, stdin: Arc<Stdin>, to: Frames) {
    let mut report = exec.report.subscribe();
    let mut sent = report.borrow().stdin_taken;
    let mut told = report.borrow().stdin_written;
    loop {
        let written = report.borrow_and_update().stdin_written;
        if written > told {
            told = written;
            let ack = pb::Ack {
                stream: pb::Stream::Stdin as i32,
                offset: written,
            };
            if to.send(frame(Body::Ack(ack))).await.is_err() {
                return;
            }
        }
        match stdin.next(STDIN_WINDOW.saturating_sub(sent.saturating_sub(written))) {
            Next::Bytes(offset, bytes) => {
                sent = sent.max(offset + bytes.len() as u64);
                hub.send(ToInit::Stdin {
                    exec: exec.exec,
                    offset,
                    bytes: bytes.into(),
                });
                continue;
            }
            Next::Eof => {
                hub.send(ToInit::StdinEof { exec: exec.exec });
                return;
            }
            Next::Closed => return,
            Next::Wait => {}
        }
        tokio::select! {
            changed = report.changed() => if changed.is_err() { return },
            () = stdin.changed.notified() => {}
            () = to.closed() => return,
        }
    }
}
