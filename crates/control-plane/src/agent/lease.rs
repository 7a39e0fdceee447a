//! Leases: how long each agent goes on without a word from us.
//!
//! ```text
//! Hello carries the first ─▶ the same again each quarter of it ─▶ … ─▶ the session is lost
//!                                  └─ promised: another one for all, at once and from then on ─┘
//! ```
//! A promise is made before the control plane ends, and holds for what is sent by then: otherwise the next quarter
//! would take back what an agent was just told. It is withdrawn if the control plane goes on after all.

use std::convert::Infallible;

use clawker_model::FullName;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Duration, Instant};

use super::AgentError;
use super::session::{Session, SessionError};
use super::status::AgentHandle;

/// For ever, as Lease has it.
pub const FOR_EVER: u32 = 0;
/// How long agents may go on alone over a planned restart.
pub const PLANNED: u32 = 600;

/// What holds for all agents of this control plane.
#[derive(Debug, Default)]
pub struct Leases {
    promised: watch::Sender<Option<u32>>,
}

impl Leases {
    /// From now on every lease is this long.
    pub fn promise(&self, seconds: u32) {
        self.promised.send_replace(Some(seconds));
    }

    /// Every agent has its own again.
    pub fn withdraw(&self) {
        self.promised.send_replace(None);
    }

    /// The lease of an agent whose own is `own`.
    pub fn of(&self, own: u32) -> u32 {
        self.promised.borrow().unwrap_or(own)
    }

    /// Sends leases for as long as the session lives, and says each time that one was answered; resolves only if clawkerd
    /// doesn't take one.
    pub fn renew<F: Fn() + Send>(
        &self,
        session: Session,
        own: u32,
        answered: F,
    ) -> impl Future<Output = Result<Infallible, SessionError>> + Send + use<F> {
        let mut promised = self.promised.subscribe();
        async move {
            loop {
                let sent = Instant::now();
                let lease = promised.borrow_and_update().unwrap_or(own);
                let next = async {
                    match quarter(lease) {
                        Some(quarter) => tokio::time::sleep_until(sent + quarter).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = next => {}
                    changed = promised.changed() => if changed.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
                let lease = promised.borrow().unwrap_or(own);
                match session.lease(lease).await {
                    Ok(()) => answered(),
                    // The session's reader says so to whoever drives it.
                    Err(SessionError::Lost(_)) => std::future::pending().await,
                    Err(error) => return Err(error),
                }
            }
        }
    }
}

/// What [`Leases::renew`] came to.
pub fn refused(ended: Result<Result<Infallible, SessionError>, JoinError>) -> AgentError {
    match ended {
        Ok(Ok(never)) => match never {},
        Ok(Err(error)) => error.into(),
        Err(error) => AgentError::Preparing(error.to_string()),
    }
}

/// Tells each of these, all at once; whom it couldn't be told, and why.
pub async fn tell(agents: Vec<AgentHandle>, seconds: u32) -> Vec<(FullName, String)> {
    let mut telling = JoinSet::new();
    for agent in agents {
        telling.spawn(async move {
            let told = match agent.session() {
                Some(session) => session.lease(seconds).await.map_err(|error| error.to_string()),
                None => Err("it has no session".to_owned()),
            };
            told.map_err(|why| (agent.name, why))
        });
    }
    telling.join_all().await.into_iter().filter_map(Result::err).collect()
}

/// How long after one lease the next is sent; never after one for ever.
fn quarter(lease: u32) -> Option<Duration> {
    (lease != FOR_EVER).then(|| Duration::from_millis(u64::from(lease) * 250))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_sent_again_each_quarter_of_it_and_one_for_ever_is_not() {
        assert_eq!(quarter(120), Some(Duration::from_secs(30)));
        assert_eq!(quarter(4), Some(Duration::from_secs(1)));
        assert_eq!(quarter(FOR_EVER), None);
    }

    #[test]
    fn a_promise_holds_for_all_until_it_is_withdrawn() {
        let leases = Leases::default();
        assert_eq!(leases.of(120), 120);
        leases.promise(PLANNED);
        assert_eq!((leases.of(120), leases.of(4)), (600, 600));
        leases.promise(FOR_EVER);
        assert_eq!(leases.of(120), FOR_EVER);
        leases.withdraw();
        assert_eq!(leases.of(4), 4);
    }
}
