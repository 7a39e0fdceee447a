//! Golden files: what a case came to, kept beside it and compared.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Golden, Report};
use crate::Error;
use crate::error::{place, read_text};

/// Bytes of a golden file.
const MAX_GOLDEN: u64 = 8 << 20;
/// How much more fuel than the golden file's is no difference, in hundredths: another compiler costs a little.
const SLACK: u64 = 10;

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    lines: Vec<KeptLine>,
    state: String,
    fuel: u64,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct KeptLine {
    what: String,
    said: Vec<String>,
}

/// Writes the golden file, or compares with the one that is there.
pub(super) fn compare(report: &mut Report, bless: bool) -> Result<(), Error> {
    let path: PathBuf = report.file.with_extension("golden");
    let seen = Kept {
        lines: report
            .lines
            .iter()
            .map(|line| KeptLine {
                what: line.what.clone(),
                said: line.said.clone(),
            })
            .collect(),
        state: report.state.clone(),
        fuel: report.fuel(),
    };
    if bless {
        let mut json = serde_json::to_vec_pretty(&seen).map_err(|error| Error::malformed(&path, error))?;
        json.push(b'\n');
        place(&path, &json)?;
        report.golden = Golden::Written;
        return Ok(());
    }
    if !path.exists() {
        return Ok(());
    }
    let kept = read_text(&path, MAX_GOLDEN)?;
    let kept: Kept = serde_json::from_str(&kept).map_err(|error| Error::malformed(&path, error))?;
    match difference(&kept, &seen) {
        None => report.golden = Golden::Same,
        Some(difference) => {
            report.golden = Golden::Differs;
            report
                .failures
                .push(format!("golden: {difference} (if that is right: `--bless`)"));
        }
    }
    Ok(())
}

fn difference(kept: &Kept, seen: &Kept) -> Option<String> {
    let pairs = kept.lines.iter().zip(&seen.lines).enumerate();
    for (number, (was, is)) in pairs {
        if was != is {
            let number = number + 1;
            let (was, is) = (say(was), say(is));
            return Some(format!("{number}: was {was}, is {is}"));
        }
    }
    if kept.lines.len() != seen.lines.len() {
        return Some(format!(
            "{} lines were there, now {}",
            kept.lines.len(),
            seen.lines.len()
        ));
    }
    if kept.state != seen.state {
        return Some(format!("the state was `{:.200}`, is `{:.200}`", kept.state, seen.state));
    }
    if seen.fuel > kept.fuel.saturating_add(kept.fuel / 100 * SLACK) {
        return Some(format!("it took {} fuel, now {}", kept.fuel, seen.fuel));
    }
    None
}

fn say(line: &KeptLine) -> String {
    let said = line.said.join("; ");
    let said = if said.is_empty() { "nothing" } else { &said };
    format!("`{said:.200}` to {:.80}", line.what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::Line;

    fn report(dir: &std::path::Path, said: &str, fuel: u64) -> Report {
        Report {
            file: dir.join("a.toml"),
            lines: vec![Line {
                what: "ContainerOom".into(),
                said: vec![said.to_owned()],
                fuel,
                ..Line::default()
            }],
            ..Report::default()
        }
    }

    #[test]
    fn what_was_blessed_is_compared_and_a_little_more_fuel_is_no_difference() {
        let dir = tempfile::tempdir().expect("folder");
        let dir = dir.path();
        let check = |said: &str, fuel, bless| {
            let mut report = report(dir, said, fuel);
            compare(&mut report, bless).expect("compares");
            (report.golden, report.failures.join(" "))
        };
        assert_eq!(check("alert: x", 1_000, false), (Golden::None, String::new()));
        assert_eq!(check("alert: x", 1_000, true), (Golden::Written, String::new()));
        assert_eq!(check("alert: x", 1_100, false), (Golden::Same, String::new()));
        let (golden, failure) = check("alert: x", 1_101, false);
        assert_eq!(golden, Golden::Differs);
        assert!(failure.contains("it took 1000 fuel, now 1101"), "{failure}");
        let (_, failure) = check("freeze: x", 1_000, false);
        assert!(
            failure.contains("was `alert: x` to ContainerOom, is `freeze: x`"),
            "{failure}"
        );
    }
}
