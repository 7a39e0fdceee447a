//! What was expected and what was seen.

use std::io::{IsTerminal, Write};
use std::time::Instant;

use anyhow::Result;
use serde_json::json;

struct Check {
    check: String,
    expected: String,
    seen: String,
    pass: bool,
}

pub struct Report {
    json: bool,
    begun: Instant,
    checks: Vec<Check>,
}

impl Report {
    pub fn new(json: bool) -> Self {
        Self {
            json,
            begun: Instant::now(),
            checks: Vec::new(),
        }
    }

    /// A line for the person who waits.
    pub fn doing(&self, what: &str) {
        eprintln!("{:>7.1} s  {what}", self.begun.elapsed().as_secs_f64());
    }

    /// Looks, and notes what was seen. Whether it is what was expected comes back.
    pub fn check(&mut self, check: &str, expected: &str, look: impl FnOnce() -> Result<(String, bool)>) -> bool {
        let (seen, pass) = look().unwrap_or_else(|error| {
            let error = format!("{error:#}");
            // The rest is the end of a journal or a log; it is for stderr.
            eprintln!("{error}");
            (error.lines().next().unwrap_or_default().to_owned(), false)
        });
        self.doing(&format!("{} {check}: {seen}", if pass { "ok  " } else { "FAIL" }));
        let check = Check {
            check: check.to_owned(),
            expected: expected.to_owned(),
            seen,
            pass,
        };
        if self.json {
            let line = json!({
                "check": check.check, "expected": check.expected, "seen": check.seen, "pass": check.pass,
            });
            // Whoever closed our output doesn't want it.
            let _ = writeln!(std::io::stdout(), "{line}");
        }
        self.checks.push(check);
        pass
    }

    pub fn passed(&self) -> bool {
        !self.checks.is_empty() && self.checks.iter().all(|check| check.pass)
    }

    /// The table; with `--json` every line has been printed.
    pub fn print(&self) {
        if self.json || self.checks.is_empty() {
            return;
        }
        let mut out = std::io::stdout().lock();
        let colour = out.is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let paint = |code: &str, text: &str| match colour {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        };
        let width = |title: &str, of: fn(&Check) -> &str| {
            self.checks
                .iter()
                .map(|check| of(check).chars().count())
                .chain([title.len()])
                .max()
                .unwrap_or(0)
        };
        let first = width("CHECK", |check| &check.check);
        let second = width("EXPECTED", |check| &check.expected);
        let mut lines = vec![
            String::new(),
            paint(
                "1",
                &format!("      {:first$}   {:second$}   SEEN", "CHECK", "EXPECTED"),
            ),
        ];
        for check in &self.checks {
            let mark = if check.pass {
                paint("32", "pass")
            } else {
                paint("31", "FAIL")
            };
            lines.push(format!(
                "{mark}  {:first$}   {:second$}   {}",
                check.check, check.expected, check.seen
            ));
        }
        let held = self.checks.iter().filter(|check| check.pass).count();
        let summary = format!("{held} of {} checks hold", self.checks.len());
        lines.extend([
            String::new(),
            paint(if self.passed() { "1;32" } else { "1;31" }, &summary),
        ]);
        let _ = writeln!(out, "{}", lines.join("\n"));
    }
}
