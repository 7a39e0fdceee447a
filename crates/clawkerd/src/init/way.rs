//! How PID 1 and its control plane come together: PID 1 dials, or it is dialled.

use std::os::fd::BorrowedFd;
use std::time::Instant;

use rustix::event::PollFlags;

use super::Options;
use super::agent::Gifts;
use super::door::{Door, DoorError};
use super::link::{Established, Link, LinkError};

#[derive(Debug, thiserror::Error)]
pub enum WayError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Door(#[from] DoorError),
}

impl WayError {
    /// Nobody is there, which is said in its own time.
    pub fn is_absence(&self) -> bool {
        matches!(self, WayError::Link(LinkError::Connect { .. } | LinkError::Closed))
    }
}

#[derive(Debug)]
pub enum Way {
    Dials(Link),
    Listens(Door),
}

impl Way {
    pub fn new(options: &Options, now: Instant, gifts: &mut Gifts) -> Result<Self, DoorError> {
        Ok(match &options.join {
            None => Way::Dials(Link::new(options.run_dir.join("session.sock"), now)),
            Some(path) => Way::Listens(Door::new(path.clone(), now, gifts)?),
        })
    }

    pub fn is_handed_over(&self) -> bool {
        match self {
            Way::Dials(link) => link.is_handed_over(),
            Way::Listens(door) => door.is_handed_over(),
        }
    }

    /// The session is gone, or the connection was of no use.
    pub fn lost(&mut self, now: Instant) {
        match self {
            Way::Dials(link) => link.lost(now),
            Way::Listens(door) => door.lost(),
        }
    }

    /// Makes another connection while there is one. Where the control plane dials, that is its own affair.
    pub fn anew(&mut self, now: Instant) {
        match self {
            Way::Dials(link) => link.anew(now),
            Way::Listens(_) => {}
        }
    }

    /// What to poll for.
    pub fn poll(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        match self {
            Way::Dials(link) => link.poll(),
            Way::Listens(door) => door.poll(),
        }
    }

    /// When [`Self::advance`] has something to do without that.
    pub fn due(&self) -> Option<Instant> {
        match self {
            Way::Dials(link) => link.due(),
            Way::Listens(door) => door.due(),
        }
    }

    /// Goes on as far as it can without waiting.
    pub fn advance(&mut self, now: Instant, gifts: &mut Gifts) -> Result<Option<Established>, WayError> {
        Ok(match self {
            Way::Dials(link) => link.advance(now, &gifts.hello())?,
            Way::Listens(door) => door.advance(now, gifts)?,
        })
    }

    /// Before anything of the user's runs.
    pub fn clear(&self) {
        if let Way::Listens(door) = self {
            door.clear();
        }
    }
}
