//! Session halves of another build than ours are replaced by ours, while the agents go on.
//!
//! ```text
//! HelloAck of another build, command running ─▶ SessionHalfUpgrading ─▶ Upgrade{digest} ─▶ the next preamble brings it
//!     ─▶ HelloAck ─▶ SessionHalfUpgraded{taken}        asked once a start and life of the control plane
//! ```
//! PID 1 stays what it is, for as long as the container runs. It starts the new half only if its SHA-256 is the one
//! announced over the session, and goes back to its own if the new one is of no use.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use clawker_identity::digest;
use clawker_model::event::{SessionHalfUpgraded, SessionHalfUpgrading};
use clawker_proc::memfd;
use clawker_wire::session::{HelloAck, command};
use clawker_wire::{CLAWKERD, session};

use super::AgentError;
use super::drive::Context;
use super::session::{Session, SessionError};

/// The generation of the protocol that knows of it.
const SINCE: u32 = 2;

/// How far an agent's upgrade is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Upgrade {
    #[default]
    None,
    /// Asked for in this start; the next preamble brings it.
    Announced(u64),
    /// It was brought in this start.
    Brought(u64),
    /// What came of it in this start is known.
    Over(u64),
}

/// The session half beside us, as agents get it.
#[derive(Debug)]
pub struct SessionHalf {
    memfd: OwnedFd,
    digest: [u8; 32],
}

impl SessionHalf {
    fn read(path: &Path) -> io::Result<Self> {
        let bytes = std::fs::read(path)?;
        Ok(Self {
            memfd: memfd::executable("clawker-session-half", &bytes)?,
            digest: digest(&bytes),
        })
    }
}

impl Context {
    async fn half(&self) -> io::Result<&SessionHalf> {
        let load = || async {
            let path = self.core.agent_dir.join("clawkerd");
            let reading = tokio::task::spawn_blocking(move || SessionHalf::read(&path));
            reading.await.map_err(io::Error::other)?
        };
        self.core.half.get_or_try_init(load).await
    }

    /// What an agent was told to expect with its next preamble.
    pub(super) async fn announced_half(&self) -> Option<OwnedFd> {
        let mut announced = false;
        self.status.send_if_modified(|status| {
            announced = status.upgrade == Upgrade::Announced(self.start);
            if announced {
                status.upgrade = Upgrade::Brought(self.start);
            }
            false
        });
        let half = if announced {
            self.half().await.ok()?
        } else {
            return None;
        };
        half.memfd.try_clone().ok()
    }

    /// Has a half of another build replaced, and says what came of it.
    pub(super) async fn upgrade(&self, session: &Session, ack: &HelloAck) -> Result<(), AgentError> {
        let taken = ack.build == CLAWKERD;
        let state = self.status.borrow().upgrade.clone();
        if state == Upgrade::Brought(self.start) {
            self.status
                .send_modify(|status| status.upgrade = Upgrade::Over(self.start));
            let upgraded = SessionHalfUpgraded {
                build: ack.build.clone(),
                taken,
            };
            self.core.store.append(Some(&self.name), upgraded).await?;
            return Ok(());
        }
        let known = [Upgrade::Announced(self.start), Upgrade::Over(self.start)].contains(&state);
        let able = ack.protocol >= SINCE && self.init.kernel.is_some();
        // Before the command runs the plan does, and it would have to begin its step again.
        if taken || known || !able || !ack.command_running {
            return Ok(());
        }
        let half = match self.half().await {
            Ok(half) => half,
            Err(error) => {
                let why = format!("reading clawkerd for an upgrade: {error}");
                self.core.board.degraded("clawkerd", why).await;
                return Ok(());
            }
        };
        let upgrading = SessionHalfUpgrading {
            from: ack.build.clone(),
            to: CLAWKERD.to_owned(),
        };
        self.core.store.append(Some(&self.name), upgrading).await?;
        self.status
            .send_modify(|status| status.upgrade = Upgrade::Announced(self.start));
        let upgrade = session::Upgrade {
            digest: half.digest.to_vec().into(),
        };
        match session.tell("Upgrade", command::Body::Upgrade(upgrade)).await {
            // The connection may end before its answer is read.
            Ok(()) | Err(SessionError::Lost(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
