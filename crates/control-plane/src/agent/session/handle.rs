//! One exec in an agent's container, on one session.

use clawker_wire::session::{self as proto, IoFrame, Open, command, io_frame};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use super::{ExecState, Session, SessionError};

/// An exec in an agent's container.
pub struct ExecHandle {
    pub id: String,
    pub(super) session: Session,
    pub(super) state: watch::Receiver<ExecState>,
}

impl ExecHandle {
    /// Attaches to its standard streams. The first answer, `Opened`, has been read when this returns.
    pub async fn io(
        &self,
        open: Open,
    ) -> Result<(mpsc::Sender<IoFrame>, tonic::Streaming<IoFrame>, proto::Opened), SessionError> {
        let lost = |status: tonic::Status| SessionError::Lost(status.message().to_owned());
        let (frames, outgoing) = mpsc::channel(16);
        let first = IoFrame {
            body: Some(io_frame::Body::Open(open)),
        };
        frames.send(first).await.map_err(|_| self.session.lost())?;
        let mut client = self.session.inner.client.clone();
        let mut incoming = client
            .io(ReceiverStream::new(outgoing))
            .await
            .map_err(lost)?
            .into_inner();
        match incoming.message().await.map_err(lost)?.and_then(|frame| frame.body) {
            Some(io_frame::Body::Opened(opened)) => Ok((frames, incoming, opened)),
            _ => Err(SessionError::Confused { what: "Open" }),
        }
    }

    /// Which PID 1 runs it.
    pub fn init_life(&self) -> String {
        self.session.init_life()
    }

    /// Waits for its exit.
    pub async fn exited(&self) -> Result<proto::Exited, SessionError> {
        self.when(|state| state.exited.clone()).await
    }

    /// Waits until its output is at its end.
    pub async fn drained(&self) -> Result<proto::Drained, SessionError> {
        self.when(|state| state.drained.clone()).await
    }

    /// Lets PID 1 forget it; to be called once its result is synced.
    pub async fn ack(&self) -> Result<(), SessionError> {
        let ack = proto::AckExit {
            exec_id: self.id.clone(),
        };
        self.session.tell("AckExit", command::Body::AckExit(ack)).await?;
        self.session.inner.lock().execs.remove(&self.id);
        Ok(())
    }

    async fn when<T>(&self, get: impl Fn(&ExecState) -> Option<T>) -> Result<T, SessionError> {
        let mut state = self.state.clone();
        loop {
            {
                let now = state.borrow_and_update();
                if let Some(value) = get(&now) {
                    return Ok(value);
                }
                if let Some(why) = &now.lost {
                    return Err(SessionError::Lost(why.clone()));
                }
            }
            state.changed().await.map_err(|_| self.session.lost())?;
        }
    }
}
