//! The reader thread: read-only connections of its own, so that a long answer never delays an append.

use tokio::sync::{mpsc, oneshot};

use crate::Error;
use crate::db::Db;

pub(crate) type Job = Box<dyn FnOnce(&Reader) + Send>;

pub(crate) enum Request {
    Job(Job),
    Close(oneshot::Sender<()>),
}

pub(crate) struct Reader {
    pub journal: Db,
    pub state: Db,
}

impl Reader {
    pub fn run(self, mut queue: mpsc::Receiver<Request>) {
        let mut closers = Vec::new();
        while let Some(request) = queue.blocking_recv() {
            match request {
                Request::Job(job) => job(&self),
                Request::Close(reply) => {
                    queue.close();
                    closers.push(reply);
                }
            }
        }
        drop(self);
        for closer in closers {
            let _ = closer.send(());
        }
    }
}

/// Runs a question on the reader's thread.
pub(crate) async fn ask<T, F>(queue: &mpsc::Sender<Request>, question: F) -> Result<T, Error>
where
    T: Send + 'static,
    F: FnOnce(&Reader) -> Result<T, Error> + Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    let job: Job = Box::new(move |reader| {
        let _ = reply.send(question(reader));
    });
    queue.send(Request::Job(job)).await.map_err(|_| Error::Closed)?;
    answer.await.map_err(|_| Error::Closed)?
}
