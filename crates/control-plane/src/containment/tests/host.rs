//! A stand-in for an agent: an init, a process in its `agent` cgroup, a network namespace.

use std::fs;
use std::os::fd::OwnedFd;
use std::process::Child;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc as std_mpsc};
use std::time::{Duration, Instant};

use clawker_model::event::{AgentCreated, AgentCreating, Cause};
use clawker_model::{Action, ContainerId, Event, FullName, Row, RunId};
use clawker_netfilter::Netfilter;
use clawker_proc::cgroup::{AgentCgroup, ContainerCgroup, Version, version};
use clawker_proc::pidfd::PidFd;
use clawker_store::Store;
use rustix::process::{Pid, WaitOptions, waitpid};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::super::policies::Rule;
use super::super::task::Parts;
use super::super::{
    Command, ContainError, Handle, Kernel, Outcome, Promotion, Reach, Standing, Target, View, spawn_with,
};
use super::SOON;
use super::kernel::{ip, netns, processes, spec};
use super::script::{Script, scripted};
use crate::core::Board;

pub struct Host {
    pub handle: Handle,
    pub agent: FullName,
    pub container: ContainerId,
    store: Store,
    init: Child,
    user: Child,
    netns: std_mpsc::Sender<Box<dyn FnOnce() + Send>>,
    cgroup: String,
    shutdown: CancellationToken,
    pub promoted: tokio::sync::mpsc::UnboundedReceiver<Promotion>,
    reapers: Mutex<Vec<std::thread::JoinHandle<()>>>,
    _state: tempfile::TempDir,
}

fn number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::SeqCst)
}

fn root_with_freezer() -> bool {
    let root = rustix::process::geteuid().is_root() && matches!(version(), Ok(Version::V1));
    if !root {
        println!("skipped: this needs root and a v1 freezer");
    }
    root
}

impl Host {
    /// `None`, with a printed line, where this can't be.
    pub async fn new(rules: Vec<Rule>, script: Script) -> Option<Self> {
        Self::start(rules, script, false).await
    }

    /// With an event in the journal that the life before left unjudged.
    pub async fn unjudged(rules: Vec<Rule>, script: Script) -> Option<Self> {
        Self::start(rules, script, true).await
    }

    async fn start(rules: Vec<Rule>, script: Script, unjudged: bool) -> Option<Self> {
        if !root_with_freezer() {
            return None;
        }
        let state = tempfile::tempdir().expect("folder");
        let store = Store::open(state.path(), "life").expect("store");
        let agent = FullName::parse("clawker.test").expect("name");
        let container = ContainerId::parse(&"cd".repeat(32)).expect("id");
        if unjudged {
            let event = clawker_model::event::ContainerOom {
                container: container.clone(),
            };
            store.append(Some(&agent), event).await.expect("row");
        }
        let cgroup = format!("/clawker-cp-test-{}-{}", std::process::id(), number());
        fs::create_dir(format!("/sys/fs/cgroup/freezer{cgroup}")).expect("cgroup");
        let (shutdown, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (promotions, promoted) = tokio::sync::mpsc::unbounded_channel();
        let parts = Parts {
            store: store.clone(),
            netfilter: Netfilter::start().expect("this kernel can"),
            board: Arc::new(Board::new(store.clone())),
            rules: scripted(rules, &script),
            promotions,
            shutdown: shutdown.clone(),
        };
        let handle = spawn_with(parts, &tasks);
        let (init, user) = processes(&cgroup);
        let reapers = Mutex::default();
        let host = Self {
            handle,
            agent,
            container,
            store,
            init,
            user,
            netns: netns(),
            cgroup,
            shutdown,
            promoted,
            reapers,
            _state: state,
        };
        host.handle.adopt(&host.agent, Vec::new()).await;
        Some(host)
    }

    /// A container's restart: other processes in another namespace.
    pub fn restart(&mut self) {
        self.join_reapers();
        (self.init, self.user) = processes(&self.cgroup);
        self.netns = netns();
    }

    pub async fn attach(&self, start: u64) -> Result<View, ContainError> {
        self.attach_as(&self.agent, &self.container, start).await
    }

    /// As if the same processes and the same namespace were another agent's container.
    pub async fn attach_as(&self, agent: &FullName, container: &ContainerId, start: u64) -> Result<View, ContainError> {
        let init_pid = self.init.id().cast_signed();
        let netns: OwnedFd = self.inside(|| fs::File::open("/proc/thread-self/ns/net").expect("namespace").into());
        let target = Target {
            agent: agent.clone(),
            container: container.clone(),
            start,
            reach: Reach::Kernel(Kernel {
                init: Arc::new(PidFd::open(init_pid).expect("it lives")),
                init_pid,
                init_is_ours: true,
                netns,
                cgroup: self.cgroup.clone(),
            }),
        };
        self.handle.attach(target).await
    }

    pub async fn contain(&self, action: Action) -> Result<Outcome, ContainError> {
        self.handle
            .contain(&self.agent, action, "operator:uid:0", "a test")
            .await
    }

    pub fn cause(&self, by: &str, action: Action) -> Cause {
        Cause {
            by: by.into(),
            action,
            reason: "a test".into(),
            event: 0,
            at_ms: 1,
        }
    }

    /// Other policies, answered for by the script.
    pub async fn replace(&self, rules: Vec<Rule>, script: &Script) {
        let rules = scripted(rules, script);
        let replaced = self.handle.ask(|reply| Command::Replace { rules, reply }).await;
        replaced.expect("replaced");
    }

    pub async fn append(&self, event: impl Into<Event>) -> u64 {
        self.store.append(Some(&self.agent), event).await.expect("row").seq
    }

    /// Journals the agent's definition and its container.
    pub async fn define(&self) {
        let run = RunId::parse("0123456789abcdefghijkl").expect("run");
        self.append(AgentCreating {
            spec: Box::new(spec(&self.agent)),
            run: run.clone(),
        })
        .await;
        self.append(AgentCreated {
            container: self.container.clone(),
            run,
        })
        .await;
    }

    pub fn view(&self) -> View {
        self.handle.watch(&self.agent).expect("adopted").borrow().clone()
    }

    pub async fn until(&self, condition: impl Fn(&View) -> bool) {
        let mut view = self.handle.watch(&self.agent).expect("adopted");
        let waited = tokio::time::timeout(SOON, view.wait_for(|view| condition(view)))
            .await
            .map(drop);
        assert!(waited.is_ok(), "it stays {:?}", self.view());
    }

    pub async fn standings(&self) -> Vec<Standing> {
        self.handle.standings().await.expect("it lives")
    }

    pub async fn until_standing(&self, condition: impl Fn(&[Standing]) -> bool) {
        let end = Instant::now() + SOON;
        while !condition(&self.standings().await) {
            assert!(Instant::now() < end, "it stays {:?}", self.standings().await);
            tokio::task::yield_now().await;
        }
    }

    /// The first row of which `of` says something, waiting for it.
    pub async fn row<T>(&self, of: impl Fn(&Row) -> Option<T>) -> T {
        self.nth_row(0, of).await
    }

    /// The nth of them, counted from 0.
    pub async fn nth_row<T>(&self, n: usize, of: impl Fn(&Row) -> Option<T>) -> T {
        let end = Instant::now() + SOON;
        loop {
            let rows = self.store.rows(0, 1000, None, None).await.expect("rows");
            if let Some(found) = rows.iter().filter_map(&of).nth(n) {
                return found;
            }
            assert!(Instant::now() < end, "no such row in {:?}", self.kinds().await);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub async fn kinds(&self) -> Vec<&'static str> {
        let rows = self.store.rows(0, 1000, None, None).await.expect("rows");
        rows.iter().map(|row| row.event.kind()).collect()
    }

    /// Whether the agent's namespace lets a datagram go, to itself and to its interface's network.
    pub fn can_send(&self) -> bool {
        self.inside(|| {
            let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("bind");
            socket.send_to(b"x", ("10.77.0.2", 9)).is_ok()
        })
    }

    pub fn plug(&self, interface: &'static str) {
        self.inside(move || ip(&format!("link add {interface} type veth peer name p{interface}")));
    }

    pub fn plug_many(&self, n: u32) {
        self.inside(move || (0..n).for_each(|i| ip(&format!("link add many{i} type veth peer name pmany{i}"))));
    }

    fn inside<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (answer, answered) = std_mpsc::channel();
        self.netns
            .send(Box::new(move || drop(answer.send(job()))))
            .expect("the namespace lives");
        answered.recv().expect("the job didn't panic")
    }

    pub fn stands_still(&self) -> bool {
        let ticks = || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", self.user.id())).expect("it lives");
            let fields: Vec<_> = stat
                .rsplit(')')
                .next()
                .expect("fields")
                .split_whitespace()
                .map(str::to_owned)
                .collect();
            fields[11..13].join(" ")
        };
        let (before, end) = (ticks(), Instant::now() + Duration::from_millis(300));
        while Instant::now() < end {
            if ticks() != before {
                return false;
            }
            std::thread::yield_now();
        }
        true
    }

    pub async fn wait_still(&self) {
        let end = Instant::now() + SOON;
        while !self.stands_still() {
            assert!(Instant::now() < end, "it runs on");
            tokio::task::yield_now().await;
        }
    }

    /// Reaps both as soon as they die, as Docker's shim and PID 1 do.
    pub fn reap(&self) {
        self.reap_one(self.init.id());
        self.reap_agent();
    }

    pub fn reap_agent(&self) {
        self.reap_one(self.user.id());
    }

    fn reap_one(&self, pid: u32) {
        let pid = Pid::from_raw(pid.cast_signed()).expect("a pid");
        let reaper = std::thread::spawn(move || {
            // Reaped by nobody else, so an error means that it is gone.
            let _ = waitpid(Some(pid), WaitOptions::empty());
        });
        self.reapers.lock().expect("no panic").push(reaper);
    }

    fn join_reapers(&self) {
        self.reapers
            .lock()
            .expect("no panic")
            .drain(..)
            .for_each(|reaper| reaper.join().expect("reaper"));
    }

    pub fn is_alive(&self) -> bool {
        PidFd::open(self.init.id().cast_signed()).is_ok_and(|init| init.is_alive().expect("poll"))
    }

    pub fn agent_is_empty(&self) -> bool {
        AgentCgroup::open(&self.cgroup)
            .expect("look")
            .is_none_or(|agent| agent.pids().expect("read").is_empty())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.shutdown.cancel();
        if let Ok(Some(cgroup)) = ContainerCgroup::open(&self.cgroup) {
            self.reap();
            let _ = cgroup.kill_all();
        }
        let folder = format!("/sys/fs/cgroup/freezer{}", self.cgroup);
        let end = Instant::now() + SOON;
        while fs::remove_dir(format!("{folder}/agent")).is_err()
            && fs::exists(format!("{folder}/agent")).unwrap_or(false)
        {
            if Instant::now() > end {
                break;
            }
        }
        let _ = fs::remove_dir(folder);
    }
}
