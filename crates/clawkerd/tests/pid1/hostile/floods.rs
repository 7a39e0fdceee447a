//! Output that nobody reads, and pipes that nobody closes.

use clawker_wire::session::command::Body as Command;
use clawker_wire::session::io_frame::Body as Frame;
use clawker_wire::session::response::Body;
use clawker_wire::session::{self as pb};

use super::{acknowledge, memfd_bytes, still_serves};
use crate::host::{Container, can_run, eventually};
use crate::plane::Plane;
use crate::session::{Io, Session, exec};

/// What a pipe holds (pipe(7)), and one write that is under way.
const PIPE: u64 = 64 * 1024 + 8192;
/// Of all rings together, with a page each for counters.
const RINGS_MOST: u64 = 17 * 1024 * 1024;

/// The byte at an offset of what `yes 0123456` says.
fn byte(offset: u64) -> u8 {
    b"0123456\n"[usize::try_from(offset % 8).expect("small")]
}

/// The process of an exec's that this program runs in, as the host numbers it.
fn process(container: &Container, name: &str) -> i32 {
    let is_it = |pid: &i32| clawker_proc::procfs::stat(*pid).is_ok_and(|stat| stat.comm == name);
    eventually(name, || {
        container.processes().into_iter().map(|(pid, _)| pid).find(is_it)
    })
}

/// Bytes that a process has written by now.
fn written(pid: i32) -> u64 {
    let io = std::fs::read_to_string(format!("/proc/{pid}/io")).expect("it lives");
    let line = io.lines().find_map(|line| line.strip_prefix("wchar: "));
    line.and_then(|number| number.parse().ok()).expect("a number")
}

#[tokio::test]
async fn with_block_a_flood_that_nobody_reads_waits_and_comes_whole_when_somebody_does() {
    if !can_run() {
        return;
    }
    const LEN: u64 = 20_000_000;
    let plane = Plane::new();
    let container = Container::start(plane.dir(), &[]);
    let mut session = plane.session().await;
    session
        .exec("flood", &format!("yes 0123456 | head -c {LEN}; exit 3"))
        .await;
    let writer = process(&container, "head");
    let (io, opened) = session.attached("flood", 0, 0).await.expect("attached");
    drop(io);
    eventually("its ring is full", || (written(writer) >= opened.ring).then_some(()));
    // As much as that goes through another exec meanwhile, which is read.
    session.exec("other", &format!("head -c {LEN} /dev/zero")).await;
    let (zeros, _) = session.io("other", 0).await.all().await;
    assert_eq!(zeros.len() as u64, LEN);
    let ahead = written(writer);
    assert!(
        ahead <= opened.ring + PIPE,
        "{ahead} bytes with a ring of {}",
        opened.ring
    );
    let kept = memfd_bytes(container.init);
    assert!((1..=RINGS_MOST).contains(&kept), "{kept} bytes are kept");

    let (bytes, _) = session.io("flood", 0).await.all().await;
    assert_eq!(bytes.len() as u64, LEN, "lost or doubled");
    assert!(
        (0..).zip(&bytes).all(|(offset, seen)| *seen == byte(offset)),
        "other bytes"
    );
    session.exited("flood").await;
    session.drained("flood").await;
    for id in ["flood", "other"] {
        acknowledge(&mut session, id).await;
    }
    still_serves(&container, &mut session).await;
}

#[tokio::test]
async fn with_block_many_floods_that_nobody_reads_hold_nobody_up() {
    if !can_run() {
        return;
    }
    let plane = Plane::new();
    let container = Container::start(plane.dir(), &[]);
    let mut session = plane.session().await;
    for number in 0..16 {
        let both = exec(&format!("flood/{number}"), "yes >&2 & exec yes");
        assert!(matches!(session.ask(Command::Exec(both)).await, Body::Started(_)));
    }
    let kept = memfd_bytes(container.init);
    assert!((1..=RINGS_MOST).contains(&kept), "{kept} bytes are kept");
    still_serves(&container, &mut session).await;
    for number in 0..16 {
        let id = format!("flood/{number}");
        let signal = Command::Signal(pb::Signal {
            exec_id: id.clone(),
            signo: 9,
        });
        let answer = session.ask(signal).await;
        assert!(
            matches!(&answer, Body::Signalled(reached) if reached.processes == 2),
            "{answer:?}"
        );
        assert_eq!(session.exited(&id).await, (137, 9));
    }
    eventually("only PID 1 and its half are left", || {
        (container.processes().len() == 2).then_some(())
    });
    still_serves(&container, &mut session).await;
}

/// What came of a stream: where each piece of data or gap began and ended, in order and without a break.
#[derive(Default)]
struct Account {
    at: u64,
    data: u64,
    gaps: Vec<(u64, u64)>,
    ended: bool,
}

impl Account {
    /// One frame; acknowledgements free nothing in a ring that loses, so there are none.
    async fn hear(&mut self, io: &mut Io) {
        match io.next().await.expect("not the end of everything") {
            Frame::Data(data) if data.stream() == pb::Stream::Stdout => {
                assert_eq!(data.offset, self.at, "unaccounted for");
                let right = (data.offset..)
                    .zip(&data.bytes)
                    .all(|(offset, seen)| *seen == byte(offset));
                assert!(right, "other bytes at {}", data.offset);
                self.data += data.bytes.len() as u64;
                self.at += data.bytes.len() as u64;
            }
            Frame::Gap(gap) if gap.stream() == pb::Stream::Stdout => {
                assert!(gap.from == self.at && gap.to > gap.from, "{gap:?} at {}", self.at);
                self.gaps.push((gap.from, gap.to));
                self.at = gap.to;
            }
            Frame::StreamEof(eof) => self.ended |= eof.stream() == pb::Stream::Stdout,
            other => panic!("{other:?}"),
        }
    }

    async fn rest(mut self, io: &mut Io) -> Self {
        while !self.ended {
            self.hear(io).await;
        }
        self
    }
}

async fn lossy(session: &mut Session, id: &str, len: u64) {
    let mut spec = exec(id, &format!("yes 0123456 | head -c {len}; exit 3"));
    spec.on_full = pb::OnFull::Drop as i32;
    assert!(matches!(session.ask(Command::Exec(spec)).await, Body::Started(_)));
}

#[tokio::test]
async fn lossy_rings_account_for_every_byte() {
    if !can_run() {
        return;
    }
    const LEN: u64 = 20_000_003;
    let plane = Plane::new();
    let container = Container::start(plane.dir(), &[]);
    let mut session = plane.session().await;
    // Nobody reads until it is over.
    lossy(&mut session, "unread", LEN).await;
    assert_eq!(session.exited("unread").await, (3, 0));
    assert!(!session.drained("unread").await);
    let (mut io, opened) = session.attached("unread", 0, 0).await.expect("attached");
    let all = Account::default().rest(&mut io).await;
    assert_eq!(all.gaps, [(0, opened.stdout_first)], "one gap, before what is left");
    assert_eq!((all.at, all.data), (LEN, LEN - opened.stdout_first));
    assert!(all.data <= opened.ring, "{} bytes were kept", all.data);
    assert!(all.data >= opened.ring / 2, "only {} bytes were kept", all.data);

    // Somebody reads a little, and the rest when it is over. What the connection holds is between the gaps.
    lossy(&mut session, "slow", LEN).await;
    let mut io = session.io("slow", 0).await;
    let mut slow = Account::default();
    while slow.data == 0 {
        slow.hear(&mut io).await;
    }
    assert_eq!(session.exited("slow").await, (3, 0));
    session.drained("slow").await;
    let slow = slow.rest(&mut io).await;
    let lost: u64 = slow.gaps.iter().map(|(from, to)| to - from).sum();
    assert_eq!((slow.at, slow.data + lost), (LEN, LEN), "{:?}", slow.gaps);
    assert!(lost > 0, "it was read as fast as it was written");

    // One whose output just fits loses nothing of it.
    lossy(&mut session, "fits", opened.ring).await;
    session.drained("fits").await;
    let fits = Account::default().rest(&mut session.io("fits", 0).await).await;
    assert_eq!((fits.data, fits.gaps), (opened.ring, Vec::new()));

    let kept = memfd_bytes(container.init);
    assert!((1..=RINGS_MOST).contains(&kept), "{kept} bytes are kept");
    for id in ["unread", "slow", "fits"] {
        acknowledge(&mut session, id).await;
    }
    still_serves(&container, &mut session).await;
}

#[tokio::test]
async fn one_that_holds_the_pipe_for_ever_and_floods_it_is_drained_and_neither_waits_nor_dies() {
    if !can_run() {
        return;
    }
    let plane = Plane::new();
    let container = Container::start(plane.dir(), &[]);
    let mut session = plane.session().await;
    let mut spec = exec("holder", "setsid yes & exit 6");
    spec.on_full = pb::OnFull::Drop as i32;
    session.ask(Command::Exec(spec)).await;
    assert_eq!(session.exited("holder").await, (6, 0));
    assert!(session.drained("holder").await, "it is held");
    let flooder = process(&container, "yes");
    let flows = |what: &str| {
        let before = written(flooder);
        eventually(what, || (written(flooder) > before + 4 * PIPE).then_some(()));
    };
    flows("it writes on after the end");
    acknowledge(&mut session, "holder").await;
    flows("it writes on when it is forgotten");
    assert_eq!(memfd_bytes(container.init), 0, "something is still kept");
    still_serves(&container, &mut session).await;
}
