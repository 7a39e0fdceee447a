//! What every part of the control plane shares: handles to the adapters and to the tasks that own state.
//!
//! Holds no mutable state itself. Built once in `run`, handed out as `Arc<Core>`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use clawker_docker::{Docker, EngineInfo};
use clawker_model::agent::Labels;
use clawker_model::event::{SubsystemDegraded, SubsystemRecovered};
use clawker_netfilter::Netfilter;
use clawker_store::Store;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::agent::lease::Leases;
use crate::agent::{Agents, Turns};
use crate::config::Config;
use crate::containment;
use crate::plugins::Plugins;
use crate::rotation::Holders;
use crate::signer::Signer;
use crate::world::World;

/// Shared handles.
pub struct Core {
    pub config: Config,
    /// Which life of the control plane this is.
    pub life: String,
    pub started_ms: u64,
    /// The folder with `clawkerd` that every container gets at `/.clawker`.
    pub agent_dir: PathBuf,
    /// The session half in it, once an agent has needed it.
    pub half: tokio::sync::OnceCell<crate::agent::SessionHalf>,
    pub store: Store,
    pub docker: Docker,
    pub engine: EngineInfo,
    pub signer: Signer,
    /// What connected agents know of the host's roots.
    pub holders: std::sync::Arc<Holders>,
    pub netfilter: Netfilter,
    pub plugins: std::sync::Arc<Plugins>,
    pub containment: containment::Handle,
    pub agents: Agents,
    /// Turns of handshakes, for all agents together.
    pub turns: Turns,
    pub leases: Leases,
    /// Who attends to which operator's exec.
    pub execs: std::sync::Arc<crate::execs::Desk>,
    pub board: std::sync::Arc<Board>,
    pub world: World,
    /// Ends everything that this process does.
    pub shutdown: CancellationToken,
    /// Owns every long-lived task.
    pub tasks: TaskTracker,
}

impl Core {
    pub fn labels(&self) -> Labels {
        Labels {
            prefix: self.config.label_prefix.clone(),
        }
    }

    /// Folder of all run folders.
    pub fn run_root(&self) -> PathBuf {
        self.config.state_dir.join("run")
    }

    /// Folder of a container's secrets.
    pub fn secrets_dir(&self, container: &clawker_model::ContainerId) -> PathBuf {
        self.config.state_dir.join("secrets").join(container.as_str())
    }

    /// The cgroup path that a container of this engine has.
    pub fn cgroup_path(&self, container: &clawker_model::ContainerId) -> String {
        let driver = match self.engine.cgroup_driver.as_str() {
            "systemd" => clawker_proc::cgroup::Driver::Systemd,
            _ => clawker_proc::cgroup::Driver::Cgroupfs,
        };
        clawker_proc::cgroup::expected_path(driver, None, container.as_str())
    }
}

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis().try_into().unwrap_or(u64::MAX))
}

/// `len` random letters and digits.
pub fn random_word(len: usize) -> Result<String, getrandom::Error> {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut word = String::with_capacity(len);
    let mut byte = [0u8; 1];
    while word.len() < len {
        getrandom::fill(&mut byte)?;
        // Bytes beyond the last multiple of 62 are thrown away, so that each letter is equally likely.
        if byte[0] < 248 {
            word.push(char::from(ALPHABET[usize::from(byte[0] % 62)]));
        }
    }
    Ok(word)
}

/// What works less than it should, for `clawker status`.
pub struct Board {
    store: Store,
    degraded: Mutex<BTreeMap<&'static str, Degraded>>,
}

/// A subsystem that works less than it should. The board says so even when the journal can't.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Degraded {
    pub subsystem: &'static str,
    pub detail: String,
    /// When it began, whatever was said of it since.
    pub since_ms: u64,
}

impl Board {
    pub fn new(store: Store) -> Self {
        Self {
            store,
            degraded: Mutex::default(),
        }
    }

    /// Notes a fault; journaled when it is new or says something else.
    pub async fn degraded(&self, subsystem: &'static str, detail: String) {
        let news = {
            let mut degraded = self.lock();
            let entry = degraded.entry(subsystem).or_insert_with(|| Degraded {
                subsystem,
                detail: String::new(),
                since_ms: now_ms(),
            });
            let news = entry.detail != detail;
            entry.detail.clone_from(&detail);
            news
        };
        if news {
            tracing::warn!(subsystem, detail, "degraded");
            self.append(SubsystemDegraded {
                subsystem: subsystem.to_owned(),
                detail,
            })
            .await;
        }
    }

    /// Notes that a fault is over.
    pub async fn recovered(&self, subsystem: &'static str) {
        if self.lock().remove(subsystem).is_some() {
            tracing::info!(subsystem, "recovered");
            self.append(SubsystemRecovered {
                subsystem: subsystem.to_owned(),
            })
            .await;
        }
    }

    /// Every subsystem that is degraded now, and why.
    pub fn snapshot(&self) -> Vec<Degraded> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, Degraded>> {
        self.degraded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn append(&self, event: impl Into<clawker_model::Event>) {
        // The journal itself may be what is degraded: then the board is the only place that says so.
        if let Err(error) = self.store.append(None, event.into()).await {
            tracing::error!(%error, "journal");
        }
    }
}
