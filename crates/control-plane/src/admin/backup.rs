//! A backup, sent to the operator in pieces while it is read.

use std::io::{self, Write};
use std::sync::Arc;

use clawker_wire::admin::BackupPiece;
use tokio::sync::mpsc;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::error::Fault;
use crate::backup::{self, Files, MakeError};
use crate::core::{Core, now_ms};

pub type Pieces = ReceiverStream<Result<BackupPiece, Status>>;

const PIECE: usize = 256 * 1024;

/// One backup at a time.
#[derive(Default)]
pub struct Turn(Arc<Mutex<()>>);

impl Turn {
    pub fn take(&self) -> Result<OwnedMutexGuard<()>, Fault> {
        let busy = || Fault::state("another backup is being made", "try again when it is done");
        self.0.clone().try_lock_owned().map_err(|_| busy())
    }
}

pub async fn make(core: Arc<Core>, turn: OwnedMutexGuard<()>) -> Result<Pieces, Fault> {
    let mut files = Files::collect(&core.store, &core.config.state_dir, now_ms()).await?;
    let (out, pieces) = mpsc::channel(8);
    core.tasks.spawn_blocking(move || {
        let _turn = turn;
        let mut sending = Sending {
            out: out.clone(),
            piece: Vec::with_capacity(PIECE),
        };
        let written = backup::write(&mut files, &mut sending).and_then(|()| sending.flush());
        match written {
            Ok(()) => {}
            // Nobody is there to be told.
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {}
            Err(e) => drop(out.blocking_send(Err(Fault::internal(format!("making a backup: {e}")).into()))),
        }
    });
    Ok(ReceiverStream::new(pieces))
}

/// Bytes into messages. A stream that ends without the archive's own end is a backup that was cut.
struct Sending {
    out: mpsc::Sender<Result<BackupPiece, Status>>,
    piece: Vec<u8>,
}

impl Write for Sending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let some = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..some]);
        if self.piece.len() == PIECE {
            self.flush()?;
        }
        Ok(some)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let bytes = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        let sent = self.out.blocking_send(Ok(BackupPiece { bytes: bytes.into() }));
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl From<MakeError> for Fault {
    fn from(error: MakeError) -> Self {
        Fault::internal(error.to_string())
    }
}
