//! The journal as it grows, followed by the real `clawker events --follow --json`.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{bins, wait};

/// How often a wait looks whether it was interrupted.
const SLICE: Duration = Duration::from_millis(200);

/// A row of the journal.
#[derive(Debug, Clone)]
pub struct Row {
    pub seq: u64,
    pub at_ms: u64,
    pub kind: String,
    /// Full name, or empty.
    pub agent: String,
    pub body: Value,
}

/// All rows that were seen, in order; a new follower goes on where the last one ended.
#[derive(Debug, Default)]
pub struct Events {
    seen: Arc<Seen>,
    follower: Option<Child>,
}

#[derive(Debug, Default)]
struct Seen {
    rows: Mutex<Vec<Row>>,
    more: Condvar,
}

impl Events {
    /// Follows the control plane on `socket`, after what was seen before.
    pub fn follow(&mut self, socket: &Path) -> Result<()> {
        self.stop();
        let since = self.last();
        let mut child = Command::new(bins::clawker()?)
            .arg("--socket")
            .arg(socket)
            .args(["events", "--follow", "--json", "--since", &since.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("starting `clawker events --follow`")?;
        let stdout = child.stdout.take().context("its output")?;
        self.follower = Some(child);
        let seen = self.seen.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(row) = parse(&line) {
                    let mut rows = seen.rows.lock().unwrap_or_else(PoisonError::into_inner);
                    // A follower that is about to end may still print what its successor prints too.
                    if rows.last().is_none_or(|last| last.seq < row.seq) {
                        rows.push(row);
                    }
                    seen.more.notify_all();
                }
            }
        });
        Ok(())
    }

    pub fn stop(&mut self) {
        if let Some(mut child) = self.follower.take() {
            // Killing what has ended is no error that matters.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Number of the last row; 0 without one.
    pub fn last(&self) -> u64 {
        self.rows().last().map_or(0, |row| row.seq)
    }

    pub fn rows(&self) -> Vec<Row> {
        self.seen.rows.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The first row after `after` of this kind for which `wanted` holds, waited for.
    pub fn expect(&self, after: u64, kind: &str, patience: Duration, wanted: impl Fn(&Row) -> bool) -> Result<Row> {
        let deadline = Instant::now() + patience;
        let mut rows = self.seen.rows.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(row) = rows
                .iter()
                .find(|row| row.seq > after && row.kind == kind && wanted(row))
            {
                return Ok(row.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || wait::interrupted() {
                let tail: Vec<String> = rows.iter().rev().take(40).rev().map(Row::line).collect();
                bail!(
                    "no {kind} as expected within {} s; the journal ends with\n{}",
                    patience.as_secs(),
                    tail.join("\n")
                );
            }
            rows = self
                .seen
                .more
                .wait_timeout(rows, left.min(SLICE))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Row {
    fn line(&self) -> String {
        let mut body = self.body.to_string();
        body.truncate(body.char_indices().nth(300).map_or(body.len(), |(at, _)| at));
        format!("  {} {} {} {body}", self.seq, self.agent, self.kind)
    }
}

fn parse(line: &str) -> Option<Row> {
    let row: Value = serde_json::from_str(line).ok()?;
    Some(Row {
        seq: row["seq"].as_u64()?,
        at_ms: row["at_ms"].as_u64()?,
        kind: row["kind"].as_str()?.to_owned(),
        agent: row["agent"].as_str().unwrap_or_default().to_owned(),
        body: row["body"].clone(),
    })
}
