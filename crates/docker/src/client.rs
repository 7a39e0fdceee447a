//! The connection to the engine, and the deadline of every call.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bollard::API_DEFAULT_VERSION;
use bollard::errors::Error as Bollard;
use tokio::sync::OnceCell;

use crate::{Endpoint, EngineInfo, Error};

/// How long calls may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Questions: inspect, list, version, info.
    pub query: Duration,
    /// Changes: create, start, kill, remove, network create.
    pub change: Duration,
    /// Silence between two lines of a pull.
    pub pull_silence: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            query: Duration::from_secs(15),
            change: Duration::from_secs(120),
            pull_silence: Duration::from_secs(120),
        }
    }
}

/// A handle on one engine. Cheap to clone; holds no connection open between calls.
#[derive(Clone)]
pub struct Docker {
    inner: Arc<Inner>,
}

struct Inner {
    endpoint: Endpoint,
    limits: Limits,
    bollard: bollard::Docker,
    /// Set once the API version is agreed upon. A failure is tried again by the next call.
    negotiated: OnceCell<()>,
}

impl std::fmt::Debug for Docker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Docker")
            .field("endpoint", &self.inner.endpoint)
            .finish_non_exhaustive()
    }
}

impl Docker {
    /// Names the engine's socket. Only its absence shows here; the engine is first spoken to by the first call.
    pub fn connect(socket: &Path) -> Result<Self, Error> {
        Self::connect_with(&Endpoint::Unix(socket.to_owned()), Limits::default())
    }

    /// The same for an engine that may be elsewhere.
    pub fn connect_to(endpoint: &Endpoint) -> Result<Self, Error> {
        Self::connect_with(endpoint, Limits::default())
    }

    pub fn connect_with(endpoint: &Endpoint, limits: Limits) -> Result<Self, Error> {
        // bollard's own limit must not undercut ours: it doesn't say which call it was.
        let seconds = limits.change.max(limits.pull_silence).as_secs() + 60;
        let bollard = match endpoint {
            Endpoint::Unix(socket) => {
                if let Err(error) = std::fs::metadata(socket) {
                    return Err(Error::connecting(endpoint, "connect", &error));
                }
                bollard::Docker::connect_with_unix(&socket.to_string_lossy(), seconds, API_DEFAULT_VERSION)
            }
            Endpoint::Tcp(address) => {
                bollard::Docker::connect_with_http(&address.to_string(), seconds, API_DEFAULT_VERSION)
            }
        };
        let bollard = bollard.map_err(|error| Error::from_bollard(endpoint, "connect", error))?;
        Ok(Self {
            inner: Arc::new(Inner {
                endpoint: endpoint.clone(),
                limits,
                bollard,
                negotiated: OnceCell::new(),
            }),
        })
    }

    /// Who the engine is. Doesn't judge it: see [`Docker::refuse_unsupported`].
    pub async fn engine(&self) -> Result<EngineInfo, Error> {
        let version = self.query("version", async |docker| docker.version().await).await?;
        let info = self.query("info", async |docker| docker.info().await).await?;
        Ok(EngineInfo::from_answers(info, version))
    }

    /// Whose containers these are: [`EngineInfo::identity`] of whoever answers now.
    pub async fn identity(&self) -> Result<String, Error> {
        let info = self.query("info", async |docker| docker.info().await).await?;
        Ok(EngineInfo::from_answers(info, Default::default()).identity())
    }

    /// Refuses engines whose containers the control plane couldn't attest or contain.
    pub fn refuse_unsupported(engine: &EngineInfo) -> Result<(), Error> {
        match engine.unsupported() {
            Some(what) => Err(Error::Unsupported { what }),
            None => Ok(()),
        }
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.inner.endpoint
    }

    pub(crate) fn limits(&self) -> Limits {
        self.inner.limits
    }

    /// The agreed API version as it stands in a path: `v1.41`.
    pub(crate) async fn api(&self) -> Result<String, Error> {
        Ok(format!("v{}", self.negotiated().await?.client_version()))
    }

    pub(crate) async fn query<T>(
        &self,
        call: &str,
        ask: impl AsyncFnOnce(&bollard::Docker) -> Result<T, Bollard>,
    ) -> Result<T, Error> {
        self.within(call, self.inner.limits.query, async {
            let docker = self.negotiated().await?;
            ask(docker).await.map_err(|error| self.error(call, error))
        })
        .await
    }

    pub(crate) async fn change<T>(
        &self,
        call: &str,
        ask: impl AsyncFnOnce(&bollard::Docker) -> Result<T, Bollard>,
    ) -> Result<T, Error> {
        self.within(call, self.inner.limits.change, async {
            let docker = self.negotiated().await?;
            ask(docker).await.map_err(|error| self.error(call, error))
        })
        .await
    }

    pub(crate) async fn within<T>(
        &self,
        call: &str,
        limit: Duration,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        match tokio::time::timeout(limit, work).await {
            Ok(result) => result,
            Err(_) => Err(Error::Timeout {
                call: call.to_owned(),
                seconds: limit.as_secs(),
            }),
        }
    }

    pub(crate) fn error(&self, call: &str, error: Bollard) -> Error {
        Error::from_bollard(&self.inner.endpoint, call, error)
    }

    /// bollard's handle, once it speaks the engine's version. Its clones share the version.
    pub(crate) async fn negotiated(&self) -> Result<&bollard::Docker, Error> {
        self.inner
            .negotiated
            .get_or_try_init(|| async {
                let ask = self.inner.bollard.clone().negotiate_version();
                self.within("version", self.inner.limits.query, async {
                    ask.await.map_err(|error| self.error("version", error))
                })
                .await
                .map(|_| ())
            })
            .await?;
        Ok(&self.inner.bollard)
    }
}
