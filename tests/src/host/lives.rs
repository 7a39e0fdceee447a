//! Lives of a control plane that end badly, or begin without what the last one left.

use std::cell::RefCell;
use std::fs;
use std::process::ExitStatus;

use anyhow::{Result, ensure};

use super::Host;
use crate::bins;

impl Host {
    /// Brings up a control plane that dies at a fault point by itself, perhaps before it answers anybody.
    pub fn control_plane_dies_at(&mut self, point: &str) -> Result<()> {
        let program = bins::control_plane_with_faults()?;
        self.spawn_control_plane(&program, Some(point))?;
        let status = self.control_plane_ended()?;
        ensure!(status.code().is_none(), "{point} was not a SIGKILL: {status}");
        Ok(())
    }

    /// Brings up a control plane that ends by itself, because something it begins with is wrong.
    pub fn control_plane_refuses(&mut self) -> Result<ExitStatus> {
        let program = bins::control_plane()?;
        self.spawn_control_plane(&program, None)?;
        self.control_plane_ended()
    }

    /// Deletes the journal and its projection, of a control plane that has ended.
    pub fn lose_store(&mut self) -> Result<()> {
        ensure!(self.control_plane.is_none(), "this host's control plane runs");
        for name in ["journal.db", "state.db"] {
            for end in ["", "-wal", "-shm"] {
                match fs::remove_file(self.state.join(format!("{name}{end}"))) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                    _ => {}
                }
            }
        }
        // Rows of the next journal count from 1 again.
        self.events = RefCell::default();
        Ok(())
    }
}
