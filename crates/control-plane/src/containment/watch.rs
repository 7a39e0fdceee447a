//! What is looked at without being asked: denied packets each second, and now and then whether all is still in force.

use std::sync::Arc;

use clawker_engine::containment::Force;
use clawker_model::{Axis, FullName};
use clawker_netfilter::Netfilter;

use super::apply::{Attached, look};

/// Ticks between two looks at everything.
pub(super) const VERIFY_EVERY: u64 = 15;

/// One agent to look at.
pub(super) struct Subject {
    pub(super) agent: FullName,
    pub(super) epoch: u64,
    pub(super) attached: Arc<Attached>,
    /// Whether its counter is of interest.
    pub(super) restricted: bool,
    /// What ought to be in force, when that is to be looked at too.
    pub(super) verify: Vec<Force>,
}

pub(super) struct Finding {
    pub(super) agent: FullName,
    pub(super) epoch: u64,
    pub(super) denied: Option<u64>,
    /// Not as it ought to be.
    pub(super) disturbed: Vec<Axis>,
}

/// Blocks.
pub(super) fn look_at(netfilter: &Netfilter, subjects: Vec<Subject>) -> Vec<Finding> {
    let finding = |subject: Subject| {
        let key = subject.attached.netns.as_ref().ok().filter(|_| subject.restricted);
        let denied = key.and_then(|key| netfilter.denied(key).ok());
        let wrong = |force: &&Force| look(netfilter, &subject.attached, force).is_err();
        let disturbed = subject.verify.iter().filter(wrong).map(Force::axis).collect();
        Finding {
            agent: subject.agent,
            epoch: subject.epoch,
            denied,
            disturbed,
        }
    };
    subjects.into_iter().map(finding).collect()
}
