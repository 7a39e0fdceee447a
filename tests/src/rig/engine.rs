//! What the double knows: containers by id, networks by name, and who listens to events.
//!
//! ```text
//! created ──start──▶ running (pid, pidfd) ──its end, by the pidfd──▶ exited ──start──▶ running …
//!    └──────────────────────────┴── remove (force: killed first) ───────┴──▶ gone, cgroups removed
//! ```

mod clock;
mod mark;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use serde_json::{Value, json};
use tokio::io::unix::AsyncFd;
use tokio::sync::{Semaphore, broadcast, watch};
use tokio_util::task::TaskTracker;

use clock::now;
use mark::{MARK, is_a_rig, maker};

use super::cgroups::Cgroups;
use super::container::{Bind, Recipe, Spawner};

/// Events that a slow listener may lag behind by; what is older is lost to it, as with Docker.
const EVENTS: usize = 65_536;
/// Containers that are being started at a time.
const STARTING: usize = 32;
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An answer that isn't success.
#[derive(Debug)]
pub struct Refusal {
    pub status: u16,
    pub message: String,
}

impl Refusal {
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    fn missing(id: &str) -> Self {
        Self::new(404, format!("No such container: {id}"))
    }
}

impl From<anyhow::Error> for Refusal {
    fn from(error: anyhow::Error) -> Self {
        Self::new(500, format!("{error:#}"))
    }
}

#[derive(Debug, Clone)]
pub enum State {
    Created,
    Running { pid: i32, pidfd: Arc<OwnedFd> },
    Exited { code: i32 },
}

/// A container, with the request that made it.
#[derive(Debug, Clone)]
pub struct Container {
    pub id: String,
    pub name: String,
    pub request: Arc<Value>,
    pub state: State,
    /// The state's changes, for those who wait.
    ended: watch::Sender<u64>,
    pub started_at: String,
}

impl Container {
    pub fn labels(&self) -> &Value {
        &self.request["Labels"]
    }

    pub fn runs(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }
}

/// One event, as Docker tells it.
#[derive(Debug, Clone)]
pub struct Told {
    pub kind: &'static str,
    pub action: String,
    pub labels: Value,
    pub line: String,
}

pub struct Engine {
    pub dir: PathBuf,
    cgroups: Cgroups,
    spawner: Spawner,
    starting: Semaphore,
    containers: Mutex<BTreeMap<String, Container>>,
    pub networks: Mutex<BTreeMap<String, Value>>,
    events: broadcast::Sender<Arc<Told>>,
    /// One of each container that runs.
    tasks: TaskTracker,
}

impl Engine {
    /// Keeps its things in `dir`.
    pub fn open(dir: PathBuf) -> Result<Arc<Self>> {
        let cgroups = Cgroups::find()?;
        cgroups
            .sweep(|id| maker(id).is_some_and(|pid| !is_a_rig(pid)))
            .context("removing what an earlier rig left")?;
        let (staging, bin) = (dir.join("root"), dir.join("bin"));
        for folder in [&staging, &bin] {
            std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        }
        std::fs::copy(crate::bins::busybox()?, bin.join("busybox")).context("copying busybox")?;
        for applet in ["sh", "sleep", "true", "cat", "chown", "mkdir"] {
            std::os::unix::fs::symlink("busybox", bin.join(applet)).with_context(|| format!("linking {applet}"))?;
        }
        Ok(Arc::new(Self {
            dir,
            cgroups,
            spawner: Spawner::start()?,
            starting: Semaphore::new(STARTING),
            containers: Mutex::default(),
            networks: Mutex::default(),
            events: broadcast::Sender::new(EVENTS),
            tasks: TaskTracker::new(),
        }))
    }

    pub fn listen(&self) -> broadcast::Receiver<Arc<Told>> {
        self.events.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Container>> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn all(&self) -> Vec<Container> {
        self.lock().values().cloned().collect()
    }

    /// By whole id or by name.
    pub fn find(&self, wanted: &str) -> Result<Container, Refusal> {
        let all = self.lock();
        let found = all.get(wanted).or_else(|| all.values().find(|one| one.name == wanted));
        found.cloned().ok_or_else(|| Refusal::missing(wanted))
    }

    pub fn create(&self, name: &str, request: Value) -> Result<String, Refusal> {
        let mut random = [0_u8; 32];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
            .map_err(|errno| Refusal::new(500, format!("randomness: {errno}")))?;
        let hex: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let id = format!("{}{MARK}{:08x}{}", &hex[..12], std::process::id(), &hex[28..]);
        let mut all = self.lock();
        if all.values().any(|one| one.name == name) {
            return Err(Refusal::new(409, format!("the name \"/{name}\" is in use")));
        }
        let container = Container {
            id: id.clone(),
            name: name.to_owned(),
            request: Arc::new(request),
            state: State::Created,
            ended: watch::Sender::new(0),
            started_at: "0001-01-01T00:00:00Z".into(),
        };
        self.tell(&container, "create", json!({}));
        all.insert(id.clone(), container);
        Ok(id)
    }

    pub async fn start(self: &Arc<Self>, id: &str) -> Result<(), Refusal> {
        let _slot = self.starting.acquire().await.map_err(|_| Refusal::new(500, "ending"))?;
        let container = self.find(id)?;
        if container.runs() {
            return Ok(());
        }
        let (cgroups, id) = (self.cgroups.clone(), container.id.clone());
        let made = tokio::task::spawn_blocking(move || cgroups.make(&id)).await;
        let recipe = self.recipe(&container, made.context("making cgroups")??)?;
        let spawned = self.spawner.spawn(recipe).await?;
        let pidfd = Arc::new(spawned.pidfd);
        let running = {
            let mut all = self.lock();
            let Some(one) = all.get_mut(&container.id) else {
                return Err(Refusal::missing(&container.id));
            };
            one.state = State::Running {
                pid: spawned.pid,
                pidfd: pidfd.clone(),
            };
            one.started_at = now();
            one.clone()
        };
        self.tell(&running, "start", json!({}));
        let engine = self.clone();
        self.tasks
            .spawn(async move { engine.follow(&running.id, &pidfd).await });
        Ok(())
    }

    fn recipe(&self, container: &Container, cgroups: Vec<OwnedFd>) -> Result<Recipe, Refusal> {
        let words = |key: &str| -> Vec<String> {
            let words = container.request[key].as_array().into_iter().flatten();
            words.filter_map(|word| word.as_str().map(str::to_owned)).collect()
        };
        let mut binds = vec![Bind {
            source: self.dir.join("bin"),
            target: "/bin".into(),
            read_only: true,
        }];
        let mounts = container.request["HostConfig"]["Mounts"]
            .as_array()
            .into_iter()
            .flatten();
        for mount in mounts {
            let text = |key: &str| mount[key].as_str().unwrap_or_default().to_owned();
            binds.push(Bind {
                source: text("Source").into(),
                target: text("Target"),
                read_only: mount["ReadOnly"].as_bool().unwrap_or(false),
            });
        }
        let log = File::options()
            .append(true)
            .create(true)
            .open(self.dir.join("containers.log"))
            .context("the containers' log")?;
        Ok(Recipe {
            hostname: container.name.clone(),
            staging: self.dir.join("root"),
            binds,
            cgroups,
            argv: [words("Entrypoint"), words("Cmd")].concat(),
            env: vec![PATH.to_owned()],
            log: log.into(),
        })
    }

    /// Waits for the end of a start, and says it.
    async fn follow(&self, id: &str, pidfd: &Arc<OwnedFd>) {
        let code = match ended(pidfd).await {
            Ok(code) => code,
            Err(error) => {
                eprintln!("{id}: {error:#}");
                255
            }
        };
        let exited = {
            let mut all = self.lock();
            let Some(one) = all.get_mut(id) else { return };
            one.state = State::Exited { code };
            one.ended.send_modify(|ends| *ends += 1);
            one.clone()
        };
        self.tell(&exited, "die", json!({"exitCode": code.to_string()}));
    }

    pub fn kill(&self, id: &str, signal: Signal) -> Result<(), Refusal> {
        let container = self.find(id)?;
        let State::Running { pidfd, .. } = &container.state else {
            return Err(Refusal::new(409, format!("Container {id} is not running")));
        };
        // One that has just ended is as good.
        let _ = pidfd_send_signal(pidfd.as_fd(), signal);
        self.tell(&container, "kill", json!({"signal": signal.as_raw().to_string()}));
        Ok(())
    }

    /// Whether it ended in time.
    pub async fn wait(&self, id: &str, time: Duration) -> Result<bool, Refusal> {
        let mut ended = self.find(id)?.ended.subscribe();
        if !self.find(id)?.runs() {
            return Ok(true);
        }
        Ok(tokio::time::timeout(time, ended.changed()).await.is_ok())
    }

    pub async fn stop(&self, id: &str, time: Duration) -> Result<(), Refusal> {
        if !self.find(id)?.runs() {
            return Ok(());
        }
        self.kill(id, Signal::TERM)?;
        if !self.wait(id, time).await? {
            self.kill(id, Signal::KILL)?;
            self.wait(id, Duration::from_secs(10)).await?;
        }
        self.tell(&self.find(id)?, "stop", json!({}));
        Ok(())
    }

    pub async fn remove(&self, id: &str, force: bool) -> Result<(), Refusal> {
        let container = self.find(id)?;
        if container.runs() {
            if !force {
                return Err(Refusal::new(409, format!("container {id} is running")));
            }
            self.kill(&container.id, Signal::KILL)?;
            if !self.wait(&container.id, Duration::from_secs(10)).await? {
                return Err(Refusal::new(500, format!("{id} doesn't end")));
            }
        }
        let Some(gone) = self.lock().remove(&container.id) else {
            return Err(Refusal::missing(id));
        };
        self.tell(&gone, "destroy", json!({}));
        let cgroups = self.cgroups.clone();
        let removed = tokio::task::spawn_blocking(move || cgroups.remove(&gone.id)).await;
        removed.context("removing cgroups")?.context("removing cgroups")?;
        Ok(())
    }

    /// An event of an existing container that says nothing new, as many of Docker's don't.
    pub fn tell(&self, container: &Container, action: &str, more: Value) {
        let mut attributes = container.labels().clone();
        if !attributes.is_object() {
            attributes = json!({});
        }
        attributes["name"] = container.name.as_str().into();
        attributes["image"] = super::IMAGE.into();
        for (key, value) in more.as_object().into_iter().flatten() {
            attributes[key] = value.clone();
        }
        let nanos = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
        let line = json!({
            "Type": "container", "Action": action, "status": action, "id": container.id, "scope": "local",
            "Actor": {"ID": container.id, "Attributes": attributes},
            "time": nanos / 1_000_000_000, "timeNano": nanos,
        });
        // Nobody may be listening.
        let _ = self.events.send(Arc::new(Told {
            kind: "container",
            action: action.to_owned(),
            labels: container.labels().clone(),
            line: format!("{line}\n"),
        }));
    }

    /// Ends and removes everything.
    pub async fn end(&self) {
        let all = self.all();
        for container in all.iter().filter(|one| one.runs()) {
            let frozen = clawker_proc::cgroup::ContainerCgroup::open(&format!("/docker/{}", container.id));
            if let Ok(Some(cgroup)) = frozen {
                // On cgroup v1 what is frozen would outlive SIGKILL; the one below is for what isn't.
                let _ = cgroup.kill_all();
            }
            let _ = self.kill(&container.id, Signal::KILL);
        }
        for container in all {
            if let Err(refusal) = self.remove(&container.id, true).await {
                eprintln!("{}: {}", container.id, refusal.message);
            }
        }
    }
}

/// Its exit code, as Docker has it.
async fn ended(pidfd: &Arc<OwnedFd>) -> Result<i32> {
    // SAFETY: an OwnedFd names the same open descriptor for as long as it lives.
    let watched = unsafe { AsyncFd::register(pidfd.try_clone()?) }.map_err(std::io::Error::from)?;
    loop {
        let mut ready = watched.readable().await?;
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        match waitid(WaitId::PidFd(pidfd.as_fd()), options)? {
            Some(status) if status.exited() => return Ok(status.exit_status().unwrap_or(255)),
            Some(status) => return Ok(128 + status.terminating_signal().unwrap_or(127)),
            None => ready.clear_ready(),
        }
    }
}
