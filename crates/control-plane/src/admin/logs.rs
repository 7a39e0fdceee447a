//! What an agent's command wrote, from Docker's log.

use std::sync::Arc;

use clawker_docker::{LogOptions, StdStream};
use clawker_wire::admin::{LogChunk, LogsRequest};
use futures::StreamExt as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::error::Fault;
use super::resolve::resolve;
use crate::core::Core;

pub type Chunks = ReceiverStream<Result<LogChunk, Status>>;

pub async fn logs(core: Arc<Core>, request: LogsRequest) -> Result<Chunks, Fault> {
    let found = resolve(&core, &request.agent).await?;
    let container = found.made()?;
    let Some(inspect) = core.docker.inspect(&container).await? else {
        return Err(Fault::missing(
            format!("`{}` has no container any more", found.name),
            "see `clawker ps --all`",
        ));
    };
    let LogsRequest {
        follow,
        tail,
        timestamps,
        ..
    } = request;
    let options = LogOptions {
        tty: inspect.tty,
        follow,
        tail,
        timestamps,
    };
    let mut log = Box::pin(core.docker.logs(&container, options));
    let (out, chunks) = mpsc::channel(16);
    let shutdown = core.shutdown.clone();
    core.tasks.spawn(async move {
        let relay = async {
            while let Some(piece) = log.next().await {
                let chunk = piece
                    .map(|(stream, bytes)| LogChunk {
                        stderr: stream == StdStream::Stderr,
                        bytes,
                    })
                    .map_err(|error| Fault::from(error).into());
                if out.send(chunk).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = relay => {}
            () = out.closed() => {}
            () = shutdown.cancelled() => {
                let _ = out.send(Err(Fault::stopping().into())).await;
            }
        }
    });
    Ok(ReceiverStream::new(chunks))
}
