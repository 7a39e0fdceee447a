//! The connection to the control plane's admin socket.

use std::error::Error;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clawker_wire::admin::admin_service_client::AdminServiceClient;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};

use crate::error::{CommandError, Kind};

pub type Rpc = AdminServiceClient<Channel>;

/// Most bytes of one answer: a listing of many agents is the largest.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// How long a question that needs no work may stay unanswered.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

pub struct Client {
    pub rpc: Rpc,
    pub socket: PathBuf,
}

impl Client {
    /// Fails with exit code 75 and the hint `clawker up` when nobody listens there.
    pub async fn connect(socket: &Path) -> Result<Self, CommandError> {
        Self::open(socket).await.map_err(|error| refused(socket, &error))
    }

    /// Connects, or says why not as the system does.
    pub async fn open(socket: &Path) -> Result<Self, io::Error> {
        let path = socket.to_owned();
        let connector = tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        // The authority is never looked up: the connector knows where to go.
        let channel = Endpoint::from_static("http://control-plane")
            .connect_timeout(Duration::from_secs(10))
            .connect_with_connector(connector)
            .await
            .map_err(root_io)?;
        let rpc = AdminServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER);
        Ok(Self {
            rpc,
            socket: socket.to_owned(),
        })
    }
}

/// The answer to a question that needs no work, within a deadline.
pub async fn answer<T>(asked: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, CommandError> {
    match tokio::time::timeout(ANSWER_WITHIN, asked).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => Err(CommandError::new(
            Kind::NoControlPlane,
            format!("the control plane has not answered in {} s", ANSWER_WITHIN.as_secs()),
        )
        .hint("its log is in the state directory: control-plane.log, or `journalctl -u clawker`")),
    }
}

/// Whether nobody is there at all, as opposed to somebody who can't be talked to.
pub fn nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

pub fn refused(socket: &Path, error: &io::Error) -> CommandError {
    let socket = socket.display();
    if nobody(error) {
        CommandError::new(Kind::NoControlPlane, format!("no control plane answers on {socket}")).hint("clawker up")
    } else if error.kind() == io::ErrorKind::PermissionDenied {
        CommandError::new(Kind::NotPermitted, format!("connecting to {socket}: {error}"))
            .hint("only root and the socket's group may: `sudo clawker …`")
    } else {
        CommandError::new(Kind::NoControlPlane, format!("connecting to {socket}: {error}"))
    }
}

/// The system's error at the bottom of tonic's.
fn root_io(error: tonic::transport::Error) -> io::Error {
    let mut next: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(this) = next {
        if let Some(io) = this.downcast_ref::<io::Error>()
            && let Some(code) = io.raw_os_error()
        {
            return io::Error::from_raw_os_error(code);
        }
        next = this.source();
    }
    io::Error::other(error)
}
