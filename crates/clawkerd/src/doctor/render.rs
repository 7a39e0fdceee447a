//! A report as a person reads it.

use std::fmt::Write;

use super::{Report, Verdict};

/// Longest text that is shown of anything that was found.
const LONGEST: usize = 200;

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Degraded => "degraded",
            Verdict::Missing => "missing",
        }
    }
}

/// A line for each row, and one below it where something follows.
pub(super) fn text(report: &Report) -> String {
    let width = report.rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    let mut out = String::new();
    for row in &report.rows {
        // Writing to a string doesn't fail.
        let _ = writeln!(out, "{:width$}  {:8}  {}", row.name, row.verdict.word(), row.found);
        if row.verdict != Verdict::Ok {
            let needed = if row.required { " (required)" } else { "" };
            let _ = writeln!(out, "{:width$}  {:8}  without it{needed}: {}", "", "", row.without);
        }
    }
    let lacking: Vec<&str> = report
        .rows
        .iter()
        .filter(|row| row.required && row.verdict == Verdict::Missing)
        .map(|row| row.name)
        .collect();
    if report.runs {
        out.push_str("All that clawkerd requires is here.");
    } else {
        let _ = write!(out, "clawkerd can't run here: {} missing.", lacking.join(", "));
    }
    out
}

/// On one line, without anything that a terminal would take for an order.
pub(super) fn plain(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .map(|c| if is_shown(c) { c } else { '\u{fffd}' })
        .take(LONGEST)
        .collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}

/// Neither a control character nor one that turns the direction of writing.
fn is_shown(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Row;

    fn row(name: &'static str, verdict: Verdict, required: bool) -> Row {
        Row {
            name,
            verdict,
            required,
            found: format!("found {name}"),
            without: "nothing works",
        }
    }

    #[test]
    fn a_person_reads_what_follows_only_where_something_does() {
        let report = Report::new(vec![
            row("pidfd", Verdict::Ok, true),
            row("pty", Verdict::Missing, false),
            row("a-long-name", Verdict::Degraded, true),
        ]);
        assert_eq!(
            text(&report),
            "pidfd        ok        found pidfd\n\
             pty          missing   found pty\n                       without it: nothing works\n\
             a-long-name  degraded  found a-long-name\n                       without it (required): nothing works\n\
             All that clawkerd requires is here."
        );
    }

    #[test]
    fn only_what_is_required_and_missing_keeps_clawkerd_from_running() {
        for (verdict, required, runs) in [
            (Verdict::Ok, true, true),
            (Verdict::Degraded, true, true),
            (Verdict::Missing, false, true),
            (Verdict::Missing, true, false),
        ] {
            let report = Report::new(vec![row("a", Verdict::Ok, true), row("b", verdict, required)]);
            assert_eq!(report.runs, runs, "{verdict:?}, required {required}");
            assert_eq!(report.text().ends_with("clawkerd can't run here: b missing."), !runs);
        }
    }

    #[test]
    fn a_program_reads_one_line() {
        let line = Report::new(vec![row("pty", Verdict::Missing, false)])
            .json()
            .expect("JSON");
        let read: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert!(!line.contains('\n'));
        assert_eq!(
            read,
            serde_json::json!({
                "build": crate::BUILD,
                "runs": true,
                "rows": [{
                    "name": "pty",
                    "verdict": "missing",
                    "required": false,
                    "found": "found pty",
                    "without": "nothing works",
                }],
            })
        );
    }

    #[test]
    fn what_was_found_gives_the_terminal_no_orders() {
        assert_eq!(plain("a\u{1b}[31m\nb\u{202e}c"), "a\u{fffd}[31m\u{fffd}b\u{fffd}c");
        assert_eq!(plain(&"x".repeat(LONGEST)), "x".repeat(LONGEST));
        assert_eq!(plain(&"é".repeat(LONGEST + 1)), format!("{}…", "é".repeat(LONGEST)));
    }
}
