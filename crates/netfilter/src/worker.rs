//! The thread that owns every socket.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc;

use clawker_model::NetworkState;

use crate::{Error, NetnsKey, ReadBack};

pub(crate) type Job = Box<dyn FnOnce(&mut Worker) + Send>;

pub(crate) struct Worker {}

pub(crate) fn spawn() -> Result<mpsc::Sender<Job>, Error> {
    let (jobs, queue) = mpsc::channel::<Job>();
    let run = move || {
        let mut worker = Worker {};
        while let Ok(job) = queue.recv() {
            job(&mut worker);
        }
    };
    std::thread::Builder::new().name("netfilter".into()).spawn(run).map_err(Error::Thread)?;
    Ok(jobs)
}

impl Worker {
    pub(crate) fn probe(&mut self) -> Result<(), Error> {
        Err(Error::Gone)
    }
    pub(crate) fn attach(&mut self, netns: &OwnedFd, _start: u64) -> Result<NetnsKey, Error> {
        let _ = netns.as_fd();
        Err(Error::Gone)
    }
    pub(crate) fn apply(&mut self, _key: NetnsKey, _state: &NetworkState) -> Result<ReadBack, Error> {
        Err(Error::Gone)
    }
    pub(crate) fn verify(&mut self, _key: NetnsKey, _state: &NetworkState) -> Result<ReadBack, Error> {
        Err(Error::Gone)
    }
    pub(crate) fn read(&mut self, _key: NetnsKey) -> Result<ReadBack, Error> {
        Err(Error::Gone)
    }
    pub(crate) fn denied(&mut self, _key: NetnsKey) -> Result<u64, Error> {
        Err(Error::Gone)
    }
    pub(crate) fn detach(&mut self, _key: NetnsKey) {}
}
