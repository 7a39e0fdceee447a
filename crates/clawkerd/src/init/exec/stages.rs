//! The processes of an exec, in the order of their pipeline: whether each was executed, and how it ended.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use clawker_proc::wait::Ended;

use crate::halves::{End, MAX_STAGES};
use crate::init::spawn::{Failure, Spawned};

/// [`MAX_STAGES`] at most.
#[derive(Default)]
pub struct Stages(Vec<Stage>);

struct Stage {
    pid: i32,
    /// Until it is known whether it was executed.
    outcome: Option<OwnedFd>,
    ended: Option<Ended>,
}

/// How it went to execute the stages.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Started,
    /// This one could not be.
    Failed(u8, Failure),
}

impl Stages {
    pub fn new(spawned: impl IntoIterator<Item = Spawned>) -> Self {
        let stage = |spawned: Spawned| Stage {
            pid: spawned.pid,
            outcome: Some(spawned.outcome),
            ended: None,
        };
        Self(spawned.into_iter().map(stage).collect())
    }

    /// Of the last: what it ends with is the exec's.
    pub fn pid(&self) -> i32 {
        self.0.last().map_or(0, |stage| stage.pid)
    }

    pub fn count(&self) -> u8 {
        u8::try_from(self.0.len()).unwrap_or(u8::MAX)
    }

    /// All of them, and whether each has been reaped.
    pub fn pids(&self) -> impl Iterator<Item = (i32, bool)> {
        self.0.iter().map(|stage| (stage.pid, stage.ended.is_some()))
    }

    pub fn has_living(&self, pid: i32) -> bool {
        self.pids().any(|(stage, ended)| stage == pid && !ended)
    }

    pub fn are_starting(&self) -> bool {
        self.0.iter().any(|stage| stage.outcome.is_some())
    }

    /// What to poll for, to know how it went.
    pub fn outcomes(&self) -> impl Iterator<Item = (u8, BorrowedFd<'_>)> {
        let numbered = (0..).zip(&self.0);
        numbered.filter_map(|(number, stage)| Some((number, stage.outcome.as_ref()?.as_fd())))
    }

    /// What is known by now of those that weren't; `None` while some are still on their way, or if all was known.
    pub fn settle(&mut self) -> Option<Outcome> {
        if !self.are_starting() {
            return None;
        }
        for (number, stage) in (0..).zip(&mut self.0) {
            let Some(outcome) = &stage.outcome else { continue };
            let mut bytes = [0; 16];
            let failure = match rustix::io::read(outcome, &mut bytes) {
                Ok(n) => Failure::decode(bytes.get(..n).unwrap_or_default()),
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => continue,
                Err(_) => None,
            };
            stage.outcome = None;
            if let Some(failure) = failure {
                return Some(Outcome::Failed(number, failure));
            }
        }
        (!self.are_starting()).then_some(Outcome::Started)
    }

    /// One of them was reaped. How the exec ended, if it was the last to.
    pub fn end(&mut self, pid: i32, ended: Ended) -> Option<Ended> {
        let stage = self
            .0
            .iter_mut()
            .find(|stage| stage.pid == pid && stage.ended.is_none())?;
        stage.ended = Some(ended);
        if self.0.iter().all(|stage| stage.ended.is_some()) {
            self.0.last().and_then(|stage| stage.ended)
        } else {
            None
        }
    }

    pub fn ends(&self) -> [Option<End>; MAX_STAGES] {
        let mut ends = [None; MAX_STAGES];
        for (end, stage) in ends.iter_mut().zip(&self.0) {
            *end = stage.ended.map(Into::into);
        }
        ends
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::spawn::FailureKind;
    use std::io::{PipeWriter, Write};

    fn stages(pids: &[i32]) -> (Vec<PipeWriter>, Stages) {
        let (writers, spawned): (Vec<_>, Vec<_>) = pids
            .iter()
            .map(|pid| {
                let (outcome, writer) = std::io::pipe().expect("pipe");
                rustix::io::ioctl_fionbio(&outcome, true).expect("set");
                let spawned = Spawned {
                    pid: *pid,
                    outcome: outcome.into(),
                };
                (writer, spawned)
            })
            .unzip();
        (writers, Stages::new(spawned))
    }

    #[test]
    fn all_are_executed_before_it_is_said_and_the_last_to_end_is_not_the_code() {
        let (mut writers, mut stages) = stages(&[10, 11]);
        assert_eq!(stages.settle(), None);
        drop(writers.remove(0));
        assert_eq!((stages.settle(), stages.are_starting()), (None, true));
        drop(writers);
        assert_eq!(stages.settle(), Some(Outcome::Started));
        assert_eq!(stages.settle(), None, "said once");
        assert_eq!((stages.pid(), stages.count()), (11, 2));
        assert_eq!(stages.end(11, Ended::Exited(3)), None, "the first goes on");
        assert_eq!(stages.end(12, Ended::Exited(4)), None, "nobody's");
        assert!(stages.has_living(10) && !stages.has_living(11));
        assert_eq!(stages.end(10, Ended::Signaled(13)), Some(Ended::Exited(3)));
        let ends = stages.ends().map(|end| end.map(|end| (end.code, end.signal)));
        assert_eq!(ends[..3], [Some((141, 13)), Some((3, 0)), None]);
    }

    #[test]
    fn the_stage_that_could_not_be_executed_is_named() {
        let (mut writers, mut stages) = stages(&[10, 11]);
        let failure = Failure {
            kind: FailureKind::NotFound,
            errno: 2,
        };
        writers[1].write_all(&failure.encode()).expect("room");
        assert_eq!(stages.settle(), Some(Outcome::Failed(1, failure)));
    }
}
