//! The rotation of the host's root, each step of it cut once by a control plane that is killed.

use std::fs;
use std::path::Path;

use clawker_engine::rotation::{Step, next};
use clawker_identity::authority::{Authority, ROOT_LIFE, Validity};
use clawker_model::identity::RotationPhase;

use super::seat::Seat;
use super::{RESTART, Sim, SimError};

/// Where a step is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// Nothing of it is on disk.
    Before,
    /// Some of it is.
    Within,
    /// All of it is, and nobody has heard of it.
    After,
}

const CUTS: [Cut; 3] = [Cut::Before, Cut::Within, Cut::After];

/// Each step of each rotation is cut at its first attempt.
#[derive(Debug, Default)]
pub(super) struct Cuts {
    steps: usize,
    cut: Option<Step>,
}

impl Cuts {
    /// The cut of this attempt, if it is one. Neighbouring steps, and the same step of neighbouring rotations, differ.
    fn take(&mut self, step: Step) -> Option<Cut> {
        if self.cut == Some(step) {
            self.cut = None;
            return None;
        }
        self.cut = Some(step);
        self.steps += 1;
        CUTS.get((self.steps + self.steps / CUTS.len()) % CUTS.len()).copied()
    }
}

impl Sim {
    /// Goes on with a rotation, if it is time.
    pub(super) fn rotate(&mut self, seats: &mut [Seat]) -> Result<(), SimError> {
        if self.clock.now_ms() < self.settle_ms {
            return Ok(());
        }
        let connected = seats.iter().filter_map(Seat::holder);
        let Some(step) = next(&self.roots(), self.asked, self.clock.now_s(), connected) else {
            return Ok(());
        };
        match self.cuts.take(step) {
            None => self.step(step)?,
            Some(cut) => {
                self.cut(step, cut)?;
                self.crash(seats, RESTART);
            }
        }
        if self.authority.phase() != RotationPhase::Standby {
            self.asked = false;
        } else if step == Step::Retire {
            self.outcome.rotations += 1;
            seats.iter_mut().for_each(Seat::come_back);
        }
        Ok(())
    }

    fn step(&mut self, step: Step) -> Result<(), SimError> {
        let validity = Validity::at(self.clock.now_s(), ROOT_LIFE);
        match step {
            Step::Introduce => self.authority.introduce(validity)?,
            Step::Switch => self.authority.switch()?,
            Step::Retire => self.authority.retire()?,
        }
        Ok(())
    }

    /// A control plane that is killed at it, and what the next one finds.
    fn cut(&mut self, step: Step, cut: Cut) -> Result<(), SimError> {
        let before = files(&self.dir)?;
        if cut != Cut::Before {
            self.step(step)?;
        }
        if cut == Cut::Within {
            // What introduce writes first and the manifest last; what retire deletes last.
            for (name, content) in before {
                let is_manifest = name.ends_with(".json");
                if is_manifest == (step != Step::Retire) {
                    write(&self.dir.join(name), &content)?;
                }
            }
        }
        self.authority = Authority::open(&self.dir)?;
        Ok(())
    }
}

fn files(dir: &Path) -> Result<Vec<(String, Vec<u8>)>, SimError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        files.push((name, fs::read(entry.path())?));
    }
    Ok(files)
}

/// Readable to its owner alone, as the authority insists.
fn write(path: &Path, content: &[u8]) -> Result<(), SimError> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    Ok(file.write_all(content)?)
}
