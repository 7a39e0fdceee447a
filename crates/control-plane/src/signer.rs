//! The signer: the one task that holds the host's keys.
//!
//! Takes six kinds of request and no other: a leaf for an agent, another leaf for an agent's key, a leaf for the control
//! plane, the next phase of a rotation, a request to the fleet's root, and that one's certificate. Names come in as parsed
//! types, never as a request that somebody else composed. Which roots are in force goes out through a `watch`.
//!
//! ```text
//!  AgentLeaf, Renewal, ControlPlane ──▶ signed, 35 µs each ──▶ answer
//!  Step, Install ──▶ on disk in one rename ──▶ roots in force are published ──▶ answer
//! ```

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clawker_engine::rotation::{Roots, Step};
use clawker_identity::Credentials;
use clawker_identity::authority::fleet::Cross;
use clawker_identity::authority::{Authority, AuthorityError, CONTROL_PLANE_LIFE, Validity};
use clawker_model::{ContainerId, FullName};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Requests that may wait.
const QUEUE: usize = 256;
/// The control plane's own leaf, made once for many connections, is replaced long before it ends.
const REUSE: Duration = Duration::from_secs(CONTROL_PLANE_LIFE.whole_seconds().unsigned_abs() / 4);

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error("the signer has ended")]
    Gone,
}

type Answer<T> = oneshot::Sender<Result<T, AuthorityError>>;

enum Request {
    AgentLeaf {
        name: FullName,
        container: ContainerId,
        answer: Answer<Credentials>,
    },
    Renewal {
        name: FullName,
        container: ContainerId,
        spki: Vec<u8>,
        answer: Answer<Vec<u8>>,
    },
    ControlPlane {
        root_id: String,
        answer: Answer<Credentials>,
    },
    Step {
        step: Step,
        answer: Answer<()>,
    },
    AskFleet {
        answer: Answer<String>,
    },
    Install {
        certificate: Vec<u8>,
        answer: Answer<()>,
    },
}

/// The roots in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InForce {
    pub roots: Roots,
    /// DER, the signing one first.
    pub ders: Vec<Vec<u8>>,
    /// The fleet's certificates of them, by the root's id: for surfaces whose peers know the fleet. Agents get none.
    pub crosses: Vec<(String, Cross)>,
}

/// Asks the signer.
#[derive(Debug, Clone)]
pub struct Signer {
    requests: mpsc::Sender<Request>,
    in_force: watch::Receiver<Arc<InForce>>,
}

/// Starts the signer; agents' leaves are valid for `leaf_seconds`.
pub fn spawn(authority: Authority, leaf_seconds: u32, tasks: &TaskTracker, shutdown: CancellationToken) -> Signer {
    let (requests, queue) = mpsc::channel(QUEUE);
    let (publish, in_force) = watch::channel(Arc::new(read(&authority)));
    let task = Task {
        authority,
        life: clawker_identity::authority::Duration::seconds(i64::from(leaf_seconds)),
        own: HashMap::new(),
        publish,
    };
    tasks.spawn(task.run(queue, shutdown));
    Signer { requests, in_force }
}

fn read(authority: &Authority) -> InForce {
    let mut ids = authority.root_ids().into_iter();
    InForce {
        roots: Roots {
            phase: authority.phase(),
            signer: ids.next().unwrap_or_default(),
            other: ids.next(),
            signer_not_after: authority.not_after(),
        },
        ders: authority.roots(),
        crosses: authority.crosses(),
    }
}

impl Signer {
    /// The roots in force now.
    pub fn in_force(&self) -> Arc<InForce> {
        self.in_force.borrow().clone()
    }

    /// The same, and each change of them.
    pub fn watch(&self) -> watch::Receiver<Arc<InForce>> {
        self.in_force.clone()
    }

    /// A new key and leaf for an agent.
    pub async fn agent_leaf(&self, name: &FullName, container: &ContainerId) -> Result<Credentials, SignerError> {
        let (name, container) = (name.clone(), container.clone());
        self.ask(|answer| Request::AgentLeaf {
            name,
            container,
            answer,
        })
        .await
    }

    /// A new leaf for an agent's key, given as its DER SubjectPublicKeyInfo.
    pub async fn renewed_leaf(
        &self,
        name: &FullName,
        container: &ContainerId,
        spki: Vec<u8>,
    ) -> Result<Vec<u8>, SignerError> {
        let (name, container) = (name.clone(), container.clone());
        self.ask(|answer| Request::Renewal {
            name,
            container,
            spki,
            answer,
        })
        .await
    }

    /// The control plane's own leaf under a root in force.
    pub async fn control_plane_leaf(&self, root_id: &str) -> Result<Credentials, SignerError> {
        let root_id = root_id.to_owned();
        self.ask(|answer| Request::ControlPlane { root_id, answer }).await
    }

    /// Takes the rotation one phase further; durable when this returns.
    pub async fn step(&self, step: Step) -> Result<(), SignerError> {
        self.ask(|answer| Request::Step { step, answer }).await
    }

    /// A request to the fleet's root, for the root that signs: PKCS#10, as PEM.
    pub async fn fleet_request(&self) -> Result<String, SignerError> {
        self.ask(|answer| Request::AskFleet { answer }).await
    }

    /// Takes the fleet's certificate (PEM) of a root in force; durable when this returns.
    pub async fn install(&self, certificate: Vec<u8>) -> Result<(), SignerError> {
        self.ask(|answer| Request::Install { certificate, answer }).await
    }

    async fn ask<T>(&self, request: impl FnOnce(Answer<T>) -> Request) -> Result<T, SignerError> {
        let (answer, answered) = oneshot::channel();
        self.requests
            .send(request(answer))
            .await
            .map_err(|_| SignerError::Gone)?;
        Ok(answered.await.map_err(|_| SignerError::Gone)??)
    }
}

struct Task {
    authority: Authority,
    life: clawker_identity::authority::Duration,
    /// The control plane's own leaf by the root that signed it, and when it was made.
    own: HashMap<String, (Credentials, Instant)>,
    publish: watch::Sender<Arc<InForce>>,
}

impl Task {
    async fn run(mut self, mut queue: mpsc::Receiver<Request>, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                request = queue.recv() => match request {
                    Some(request) => self.answer(request),
                    None => return,
                },
            }
        }
    }

    // Whoever asked may have gone; then the answer is nobody's.
    fn answer(&mut self, request: Request) {
        let validity = Validity::from_now(self.life);
        match request {
            Request::AgentLeaf {
                name,
                container,
                answer,
            } => drop(answer.send(self.authority.agent_leaf_for(&name, &container, validity))),
            Request::Renewal {
                name,
                container,
                spki,
                answer,
            } => drop(answer.send(self.authority.renewed_leaf(&name, &container, &spki, validity))),
            Request::ControlPlane { root_id, answer } => drop(answer.send(self.own(root_id))),
            Request::Step { step, answer } => drop(answer.send(self.step(step))),
            Request::AskFleet { answer } => drop(answer.send(self.authority.request())),
            Request::Install { certificate, answer } => drop(answer.send(self.install(&certificate))),
        }
    }

    fn own(&mut self, root_id: String) -> Result<Credentials, AuthorityError> {
        if let Some((credentials, made)) = self.own.get(&root_id)
            && made.elapsed() < REUSE
        {
            return Ok(credentials.clone());
        }
        let validity = Validity::from_now(CONTROL_PLANE_LIFE);
        let credentials = self.authority.control_plane_leaf_under(&root_id, validity)?;
        self.own.insert(root_id, (credentials.clone(), Instant::now()));
        Ok(credentials)
    }

    fn install(&mut self, certificate: &[u8]) -> Result<(), AuthorityError> {
        self.authority.install(certificate)?;
        self.publish.send_replace(Arc::new(read(&self.authority)));
        Ok(())
    }

    fn step(&mut self, step: Step) -> Result<(), AuthorityError> {
        match step {
            Step::Introduce => self.authority.introduce_now(),
            Step::Switch => self.authority.switch(),
            Step::Retire => self.authority.retire(),
        }?;
        // A root that is gone signs nothing of ours any more.
        self.own.clear();
        self.publish.send_replace(Arc::new(read(&self.authority)));
        Ok(())
    }
}
