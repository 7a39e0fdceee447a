//! A connection that ends at any byte: of the preamble, of the handshake, of HTTP/2, of a command. The next one is
//! served as if there had been none.

use std::io::{self, Error};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use clawker_wire::PROTOCOL;
use clawker_wire::session::command::Body as Command;
use clawker_wire::session::response::Body;
use clawker_wire::session::session_service_client::SessionServiceClient;
use clawker_wire::session::{self as pb};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

use super::still_serves;
use crate::host::{Container, can_run, eventually};
use crate::plane::Plane;
use crate::session::{Session, exec, within};

/// How many bytes went each way.
#[derive(Default)]
struct Passed {
    sent: AtomicUsize,
    received: AtomicUsize,
}

/// So many bytes may go each way; with the last of either both ways are shut.
struct Cut {
    stream: UnixStream,
    socket: OwnedFd,
    send: usize,
    receive: usize,
    passed: Arc<Passed>,
}

impl Cut {
    fn new(stream: UnixStream, send: usize, receive: usize) -> (Self, Arc<Passed>) {
        let passed = Arc::<Passed>::default();
        let socket = stream.as_fd().try_clone_to_owned().expect("a copy");
        let cut = Self {
            stream,
            socket,
            send,
            receive,
            passed: Arc::clone(&passed),
        };
        (cut, passed)
    }

    fn left(&self) -> (usize, usize) {
        let sent = self.passed.sent.load(Ordering::Relaxed);
        let received = self.passed.received.load(Ordering::Relaxed);
        (self.send - sent, self.receive - received)
    }

    /// Whether it is over, which it is when either way is.
    fn shut(&self) -> bool {
        let (send, receive) = self.left();
        let over = send == 0 || receive == 0;
        if over {
            let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
        }
        over
    }
}

impl AsyncRead for Cut {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.shut() {
            return Poll::Ready(Err(Error::from(io::ErrorKind::ConnectionReset)));
        }
        let (_, left) = self.left();
        let mut part = buf.take(left);
        let polled = Pin::new(&mut self.stream).poll_read(cx, &mut part);
        let n = part.filled().len();
        // SAFETY: `part` is the beginning of what `buf` has left, and so much of it is filled.
        unsafe {
            buf.assume_init(n);
        }
        buf.advance(n);
        self.passed.received.fetch_add(n, Ordering::Relaxed);
        self.shut();
        polled
    }
}

impl AsyncWrite for Cut {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.shut() {
            return Poll::Ready(Err(Error::from(io::ErrorKind::BrokenPipe)));
        }
        let (left, _) = self.left();
        let part = bytes.get(..left).unwrap_or(bytes);
        let polled = Pin::new(&mut self.stream).poll_write(cx, part);
        if let Poll::Ready(Ok(n)) = &polled {
            self.passed.sent.fetch_add(*n, Ordering::Relaxed);
            self.shut();
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The same each time: a session, an exec with its end, its acknowledgement. `None` where it is cut.
async fn exchange(plane: &Plane, stream: Cut) -> Option<()> {
    let channel = plane.channel_over(stream).await.ok()?;
    let lease = Some(pb::Lease { seconds: 0 });
    let mut session = Session::begin(SessionServiceClient::new(channel), PROTOCOL, lease)
        .await
        .ok()?;
    // One that was begun before is attached to, one that was acknowledged is begun anew.
    session.try_send(Command::Exec(exec("cut", "exit 7"))).await;
    until(&mut session, |body| match body {
        Body::Exited(exited) => {
            assert_eq!(exited.code, 7);
            false
        }
        Body::Drained(_) => true,
        Body::Started(_) => false,
        other => panic!("{other:?}"),
    })
    .await?;
    let ack = pb::AckExit {
        exec_id: "cut".to_owned(),
    };
    session.try_send(Command::AckExit(ack)).await;
    until(&mut session, |body| matches!(body, Body::Done(_))).await
}

async fn until(session: &mut Session, over: impl Fn(Body) -> bool) -> Option<()> {
    loop {
        let response = within(session.try_next()).await.ok()?;
        if over(response.body.expect("a body")) {
            return Some(());
        }
    }
}

fn descriptors(pid: i32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it lives").count()
}

/// Cuts after so many bytes sent, then after so many received, until an exchange comes through. How many cuts.
async fn cut_at_each(plane: &Plane, container: &Container, next: impl Fn(usize) -> usize) -> usize {
    let mut cuts = 0;
    for receiving in [false, true] {
        let mut most = 0;
        loop {
            let limits = if receiving {
                (usize::MAX, most)
            } else {
                (most, usize::MAX)
            };
            let (cut, passed) = Cut::new(within(plane.greeted()).await, limits.0, limits.1);
            let through = exchange(plane, cut).await.is_some();
            let way = if receiving { &passed.received } else { &passed.sent };
            if through {
                break;
            }
            // It was not PID 1 or its half that ended it.
            assert_eq!(
                way.load(Ordering::Relaxed),
                most,
                "ended before it was cut, receiving: {receiving}"
            );
            cuts += 1;
            if cuts % 100 == 0 {
                still_serves(container, &mut plane.session().await).await;
            }
            most = next(most);
        }
        println!("all of it after {most} bytes, receiving: {receiving}");
    }
    cuts
}

#[tokio::test]
async fn a_preamble_that_is_cut_at_any_byte_is_followed_by_another() {
    if !can_run() {
        return;
    }
    let plane = Plane::new();
    let container = Container::start(plane.dir(), &[]);
    let mut cut = 0;
    loop {
        let stream = within(plane.heard()).await;
        let heard = plane.heard.lock().expect("lock").clone().expect("a preamble");
        assert_eq!(heard.held_generation, 0, "half an answer was believed");
        // Nothing at all, then a byte more each time.
        if plane.answer(&stream, cut) {
            break;
        }
        cut += 1;
    }
    assert!(cut > 8, "the answer has {cut} bytes");
    // The last was whole, and its connection is dropped here; what it brought is held.
    let mut session = plane.session().await;
    let heard = plane.heard.lock().expect("lock").clone().expect("a preamble");
    assert_eq!((heard.held_generation, session.ack.session_lives), (1, 1));
    still_serves(&container, &mut session).await;
}

#[tokio::test]
async fn a_connection_that_is_cut_at_any_byte_is_followed_by_another_that_is_served() {
    if !can_run() {
        return;
    }
    let plane = Plane::elsewhere();
    let container = Container::start(plane.dir(), &[&format!("--join={}", plane.join_file().display())]);
    let mut session = plane.session().await;
    still_serves(&container, &mut session).await;
    let half = container.half().expect("it lives");
    let before = (descriptors(container.init), descriptors(half));
    let all = std::env::var_os("CLAWKER_FULL").is_some();
    let step = |most: usize| if all || most < 400 { most + 1 } else { most + 7 };
    let cuts = cut_at_each(&plane, &container, step).await;
    assert!(cuts > 800, "only {cuts} cuts");
    let mut session = plane.session().await;
    assert_eq!(session.ack.session_lives, 1, "the half died of it");
    still_serves(&container, &mut session).await;
    eventually("nothing is left of them", || {
        let now = (descriptors(container.init), descriptors(half));
        (now.0 <= before.0 && now.1 <= before.1).then_some(())
    });
}

#[tokio::test]
async fn a_dialled_connection_that_is_cut_is_dialled_again() {
    if !can_run() {
        return;
    }
    let plane = Plane::new();
    let container = Container::start(plane.dir(), &[]);
    let cuts = cut_at_each(&plane, &container, |most| most + 311).await;
    assert!(cuts > 8, "only {cuts} cuts");
    let mut session = plane.session().await;
    assert_eq!(session.ack.session_lives, 1, "the half died of it");
    still_serves(&container, &mut session).await;
}
