//! A control plane that went away is tried again, until a deadline or until the person has enough of it.

use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use crate::client::Client;
use crate::error::{CommandError, Kind};
use crate::session::interrupt;
use crate::term::Signals;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

pub struct Retries {
    deadline: Instant,
    pause: Duration,
}

/// What came of trying again.
pub enum Next {
    /// One answers.
    Client(Client),
    Signal(u8),
    Over,
}

impl Retries {
    pub fn until(deadline: Instant) -> Self {
        Self {
            deadline,
            pause: FIRST_PAUSE,
        }
    }

    pub async fn next(&mut self, socket: &Path, signals: &mut Signals) -> Next {
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.pause) => {}
                signal = interrupt(signals) => return Next::Signal(signal),
            }
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            if Instant::now() >= self.deadline {
                return Next::Over;
            }
            if let Ok(client) = Client::open(socket).await {
                return Next::Client(client);
            }
        }
    }
}

pub fn stayed_away() -> CommandError {
    CommandError::new(Kind::NoControlPlane, "the control plane has not come back").hint("clawker up")
}
