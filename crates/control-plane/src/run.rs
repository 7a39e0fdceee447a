//! From a checked configuration to a control plane that serves, and back.
//!
//! ```text
//! lock, store ─▶ engine ─▶ plugins, netfilter ─▶ containment ─▶ agents of the store ─▶ admin socket ─▶ ready
//!                                        SIGTERM, SIGINT, Shutdown ─▶ leases of 600 s ─▶ tasks end ─▶ store closed
//! ```
//! Containment stays in force: it is the kernel's, and nothing here undoes it.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clawker_docker::Docker;
use clawker_identity::authority::Authority;
use clawker_model::event::{ControlPlaneStarted, ControlPlaneStopping, RebuildBegun};
use clawker_model::exit;
use clawker_netfilter::Netfilter;
use clawker_store::Store;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::agent::lease::{self, Leases};
use crate::agent::{Agents, Turns};
use crate::config::{Config, ConfigError};
use crate::containment::{self, Deps};
use crate::core::{Board, Core, now_ms, random_word};
use crate::plugins::{self, Keys, Plugins, PluginsError};
use crate::world::World;
use crate::{admin, backup, engine_watch, journal, rotation, signer};

/// How long the control plane before this one may take to let go of the state.
const HANDOVER: Duration = Duration::from_secs(3);
/// How long tasks may take to end.
const GRACE: Duration = Duration::from_secs(10);

/// Why the control plane can't run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{0}")]
    Config(#[from] ConfigError),
    #[error("making {}: {source}", path.display())]
    Folder { path: PathBuf, source: std::io::Error },
    #[error("{0}")]
    Store(#[from] clawker_store::Error),
    #[error("{0}")]
    Docker(#[from] clawker_docker::Error),
    #[error("{0}")]
    Plugins(#[from] PluginsError),
    #[error("{0}")]
    Netfilter(#[from] clawker_netfilter::Error),
    #[error("{0}")]
    Authority(#[from] clawker_identity::authority::AuthorityError),
    #[error("{0}")]
    Admin(#[from] admin::AdminError),
    #[error("{0}")]
    Restore(#[from] backup::RestoreError),
    #[error("randomness: {0}")]
    Random(getrandom::Error),
    #[error("signals: {0}")]
    Signals(std::io::Error),
    #[error("loading the plugins: {0}")]
    Loading(tokio::task::JoinError),
}

impl StartError {
    /// The program's exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            StartError::Config(_) | StartError::Plugins(PluginsError::Trust(_)) => exit::MISCONFIGURED,
            StartError::Folder { .. } => exit::CANT_CREATE,
            StartError::Docker(_) | StartError::Netfilter(_) | StartError::Plugins(_) => exit::UNAVAILABLE,
            StartError::Store(clawker_store::Error::Locked { .. }) => exit::CANT_CREATE,
            StartError::Restore(error) => error.exit_code(),
            _ => exit::FAILED,
        }
    }
}

/// Runs until it is told to end.
pub async fn run(config: Config) -> Result<(), StartError> {
    let core = start(config).await?;
    core.tasks.spawn(engine_watch::run(core.clone()));
    core.tasks.spawn(rotation::run(core.clone()));
    core.tasks.spawn(journal::keep(core.clone()));
    if let Some(socket) = std::env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty()) {
        tracing::debug!(?socket, "telling the service manager");
        if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
            tracing::warn!(%error, "sd_notify");
        }
    }
    tracing::info!(socket = %core.config.admin_socket.display(), "ready");

    let mut term = signal(SignalKind::terminate()).map_err(StartError::Signals)?;
    let mut int = signal(SignalKind::interrupt()).map_err(StartError::Signals)?;
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
        () = core.shutdown.cancelled() => {}
    }
    drain(&core).await;
    Ok(())
}

async fn start(config: Config) -> Result<Arc<Core>, StartError> {
    config.check()?;
    folder(&config.state_dir, 0o711)?;
    folder(&config.state_dir.join("run"), 0o711)?;
    folder(&config.state_dir.join("secrets"), 0o700)?;
    backup::refuse_half_restored(&config.state_dir)?;
    let life = random_word(22).map_err(StartError::Random)?;
    // First of all, because it also says that no other control plane has this state.
    let store = open_store(&config.state_dir, &life).await?;
    if store.report().begun {
        // Before anything else is a row: from then on it ends only with what it is for.
        store.append_synced(None, RebuildBegun {}).await?;
    }
    let libexec = plugins::libexec(&config)?;
    // Compiling takes longer than all the rest, and needs nothing of it.
    let loading = {
        let (config, libexec) = (config.clone(), libexec.clone());
        let keys = Keys::of(&store);
        tokio::task::spawn_blocking(move || {
            let plugins = Plugins::load(&config, &libexec, keys)?;
            let policies = plugins.policies()?;
            Ok::<_, PluginsError>((plugins, policies))
        })
    };

    let docker = Docker::connect_to(&config.engine.endpoint(&config.docker_socket))?;
    let engine = docker.engine().await?;
    Docker::refuse_unsupported(&engine)?;
    docker
        .ensure_network(&config.network, &format!("{}.managed", config.label_prefix))
        .await?;

    let authority = Authority::open(&config.state_dir.join("ca"))?;
    let (shutdown, tasks) = (CancellationToken::new(), TaskTracker::new());
    let signer = signer::spawn(authority, config.identity.leaf_seconds, &tasks, shutdown.clone());
    let netfilter = Netfilter::start()?;
    let boot_id = clawker_proc::procfs::boot_id().unwrap_or_default();
    let world = World::begin(&store).await?;
    store
        .append(
            None,
            ControlPlaneStarted {
                version: env!("CARGO_PKG_VERSION").into(),
                boot_id,
            },
        )
        .await?;

    let (plugins, policies) = loading.await.map_err(StartError::Loading)??;
    let plugins = Arc::new(plugins);
    let board = Arc::new(Board::new(store.clone()));
    let (promotions, promoted) = tokio::sync::mpsc::unbounded_channel();
    let containment = containment::spawn(Deps {
        store: store.clone(),
        netfilter: netfilter.clone(),
        host: plugins.host.clone(),
        policies,
        promotions,
        board: board.clone(),
        tasks: tasks.clone(),
        shutdown: shutdown.clone(),
    });
    let core = Arc::new_cyclic(|weak| Core {
        life,
        started_ms: now_ms(),
        agent_dir: libexec.join("agent"),
        half: tokio::sync::OnceCell::new(),
        store,
        docker,
        engine,
        signer,
        holders: Arc::default(),
        netfilter,
        plugins,
        containment,
        agents: Agents::new(weak.clone()),
        turns: Turns::default(),
        leases: Leases::default(),
        execs: Arc::default(),
        board,
        world,
        shutdown,
        tasks,
        config,
    });
    core.world.attend(&core);
    if let Some(problems) = core.plugins.problems() {
        core.board.degraded("plugins", problems).await;
    }
    core.tasks.spawn(plugins::promote(core.clone(), promoted));
    for record in core.store.agents().await? {
        if record.container.is_none() {
            continue;
        }
        let name = record.spec.name.clone();
        if let Err(error) = core.agents.take_up(record).await {
            core.board.degraded("agents", format!("{name}: {error}")).await;
        }
    }
    admin::serve(core.clone())?;
    Ok(core)
}

/// Opens the store. One that is just being given up, by a control plane that ends or was killed, is waited for.
async fn open_store(state_dir: &Path, life: &str) -> Result<Store, StartError> {
    let deadline = Instant::now() + HANDOVER;
    loop {
        match Store::open(state_dir, life) {
            Err(clawker_store::Error::Locked { .. }) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            opened => return Ok(opened?),
        }
    }
}

fn folder(path: &Path, mode: u32) -> Result<(), StartError> {
    let fail = |source| StartError::Folder {
        path: path.to_owned(),
        source,
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(fail)
}

/// Ends everything but what contains the agents.
async fn drain(core: &Arc<Core>) {
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Stopping]) {
        tracing::debug!(%error, "sd_notify");
    }
    if !core.shutdown.is_cancelled() {
        core.leases.promise(lease::PLANNED);
        for (agent, why) in lease::tell(core.agents.list(), lease::PLANNED).await {
            tracing::debug!(%agent, why, "its lease stays as it is");
        }
        let stopping = ControlPlaneStopping {
            agents: "leased".into(),
        };
        if let Err(error) = core.store.append_synced(None, stopping).await {
            tracing::warn!(%error, "journal");
        }
    }
    core.shutdown.cancel();
    core.tasks.close();
    if tokio::time::timeout(GRACE, core.tasks.wait()).await.is_err() {
        tracing::warn!("some tasks did not end in 10 s");
    }
    core.store.clone().close().await;
}
