//! Another session half than PID 1's own program: announced over the session, brought by the next preamble, started
//! only if its SHA-256 is the announced one.
//!
//! ```text
//!  own --Upgrade{digest}--> announced --preamble brings it, digest holds--> upgraded
//!   ^                           | anything else comes: said, kept as it was      |
//!   +--------- three of them in a row never got as far as a session ----<--------+
//! ```
//! PID 1 itself never changes, so it keeps to one version of the internal wire, which a half must speak.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use clawker_identity::digest;
use clawker_proc::memfd;

/// Most bytes of a session half.
pub const MAX_IMAGE: usize = 64 * 1024 * 1024;
/// So many lives without a session, and an upgraded half is given up.
const FAILURES: u32 = 3;

#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    #[error("another session half came, and none was announced")]
    Unannounced,
    #[error("the session half that came is not the announced one")]
    Another,
    #[error("the session half that came: {0}")]
    Unreadable(#[from] io::Error),
}

/// A program in a sealed memfd.
#[derive(Debug)]
pub struct Image(OwnedFd);

impl AsFd for Image {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Which program the session half is.
#[derive(Debug, Default)]
pub struct Upgrade {
    announced: Option<[u8; 32]>,
    image: Option<Image>,
    failures: u32,
}

impl Upgrade {
    pub fn announce(&mut self, digest: [u8; 32]) {
        self.announced = Some(digest);
    }

    /// Takes what the preamble brought; from here on it is the half to be started.
    pub fn take(&mut self, memfd: OwnedFd) -> Result<(), UpgradeError> {
        let announced = self.announced.take().ok_or(UpgradeError::Unannounced)?;
        // Sealed: what was looked at is what will run.
        let bytes = memfd::read_sealed(memfd.as_fd(), MAX_IMAGE)?;
        if digest(&bytes) != announced {
            return Err(UpgradeError::Another);
        }
        self.image = Some(Image(memfd));
        self.failures = 0;
        Ok(())
    }

    /// `None` for PID 1's own program.
    pub fn image(&self) -> Option<&Image> {
        self.image.as_ref()
    }

    /// A half was lost. Whether the upgraded one is given up for it.
    pub fn failed(&mut self) -> bool {
        if self.image.is_none() {
            return false;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures < FAILURES {
            return false;
        }
        self.image = None;
        true
    }

    /// A half got as far as a session.
    pub fn serves(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(bytes: &[u8]) -> OwnedFd {
        memfd::sealed("half", bytes).expect("memfd")
    }

    #[test]
    fn only_what_was_announced_is_taken_and_only_once() {
        let mut upgrade = Upgrade::default();
        assert!(matches!(upgrade.take(sealed(b"a")), Err(UpgradeError::Unannounced)));
        upgrade.announce(digest(b"a"));
        assert!(matches!(upgrade.take(sealed(b"b")), Err(UpgradeError::Another)));
        assert!(matches!(upgrade.take(sealed(b"a")), Err(UpgradeError::Unannounced)));
        upgrade.announce(digest(b"a"));
        let unsealed = memfd::sized("half", 1).expect("memfd");
        assert!(matches!(upgrade.take(unsealed), Err(UpgradeError::Unreadable(_))));
        assert!(upgrade.image().is_none());
        upgrade.announce(digest(b"a"));
        upgrade.take(sealed(b"a")).expect("as announced");
        assert!(upgrade.image().is_some());
    }

    #[test]
    fn one_that_never_serves_is_given_up() {
        let mut upgrade = Upgrade::default();
        assert!(!upgrade.failed(), "PID 1's own is all there is");
        upgrade.announce(digest(b"a"));
        upgrade.take(sealed(b"a")).expect("as announced");
        assert!(!upgrade.failed() && !upgrade.failed());
        upgrade.serves();
        assert!(!upgrade.failed() && !upgrade.failed() && upgrade.failed());
        assert!(upgrade.image().is_none());
    }
}
