//! A target over all near inputs and then random ones, for as long as it is given; what fails is kept in a file.
//!
//! The input that is being tried stands in a file too, [`RUNNING`]: one that kills the process, or hangs, is found there.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::attempt::{Failure, Meter, attempt, shrunk};
use crate::mutate::{Mutator, near};
use crate::{Target, corpus};

/// The file, below a target's folder, with the input that is being tried.
pub const RUNNING: &str = "running";

/// How a hunt is to be.
#[derive(Debug, Clone, Copy)]
pub struct Hunt<'h> {
    /// The same seed brings the same inputs, as far as the time goes.
    pub seed: u64,
    /// For the random inputs; the near ones are all tried.
    pub time: Duration,
    /// Where failing inputs are kept, in a folder for each target.
    pub keep: &'h Path,
    pub meter: Meter,
    /// Counts the inputs, for whoever watches for one that hangs.
    pub tried: &'h AtomicU64,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Hunted {
    pub runs: u64,
    /// In how many of them anything was read.
    pub read: u64,
    pub found: Option<Found>,
}

/// An input that failed.
#[derive(Debug)]
pub struct Found {
    pub failure: Failure,
    pub file: PathBuf,
}

/// What ends a hunt early.
enum End {
    Failed(Failure, Vec<u8>),
    Broken(io::Error),
}

impl Hunt<'_> {
    pub fn of(&self, target: &Target) -> io::Result<Hunted> {
        let folder = self.keep.join(target.name);
        std::fs::create_dir_all(&folder)?;
        let running = folder.join(RUNNING);
        let mut hunted = Hunted::default();
        let outcome = self.hunt(target, &File::create(&running)?, &mut hunted);
        match outcome {
            Ok(()) => {}
            Err(End::Broken(error)) => return Err(error),
            Err(End::Failed(failure, input)) => hunted.found = Some(self.keep(target, failure, &input, &folder)?),
        }
        std::fs::remove_file(&running)?;
        Ok(hunted)
    }

    fn hunt(&self, target: &Target, running: &File, hunted: &mut Hunted) -> Result<(), End> {
        let began = Instant::now();
        let pool = corpus::pool(target).map_err(End::Broken)?;
        let mut one = |input: &[u8]| -> Result<bool, End> {
            let written = running
                .write_all_at(input, 0)
                .and_then(|()| running.set_len(input.len() as u64));
            written.map_err(End::Broken)?;
            self.tried.fetch_add(1, Ordering::Relaxed);
            let read = attempt(target, input, self.meter).map_err(|failure| End::Failed(failure, input.to_vec()))?;
            hunted.runs += 1;
            hunted.read += u64::from(read);
            Ok(read)
        };
        for seed in &pool {
            near(seed, |input| one(input).map(drop))?;
        }
        let mut mutator = Mutator::new(self.seed, pool);
        while began.elapsed() < self.time {
            let input = mutator.make();
            if one(&input)? {
                mutator.learn(input);
            }
        }
        Ok(())
    }

    fn keep(&self, target: &Target, failure: Failure, input: &[u8], folder: &Path) -> io::Result<Found> {
        let short = shrunk(target, input, self.meter);
        // What fails only after others have been tried is kept as it was.
        let (input, failure) = match attempt(target, &short, self.meter) {
            Err(failure) => (short.as_slice(), failure),
            Ok(_) => (input, failure),
        };
        let file = folder.join(format!("fault-{:016x}", fastrand::u64(..)));
        std::fs::write(&file, input)?;
        Ok(Found { failure, file })
    }
}
