//! The examples of docs/plugins/rules.md, for the tests of `cel-rules` and `rego-rules`.

use std::collections::BTreeMap;
use std::time::Duration;

use clawker_plugin_sdk::policy::{Policy, Verdict};
use clawker_plugin_sdk::test::MockHost;
use serde_json::Value;

use crate::watched;

/// One event, how many seconds after the story's begin, and what the page says to it.
struct Line {
    second: u64,
    kind: String,
    body: Value,
    said: String,
}

/// Settings as the control plane hands them over, and a story.
struct Example {
    settings: Value,
    lines: Vec<Line>,
}

/// Plays a policy's examples, each to a host of its own. How many there are.
pub fn play<P: Policy>() -> usize {
    let examples = examples(P::NAME);
    for Example { settings, lines } in &examples {
        let (mut host, mut last) = (MockHost::<P>::new().settings(settings.clone()), 0);
        for line in lines {
            // A second passes by itself.
            host.after(Duration::from_secs((line.second - last).saturating_sub(1)));
            host.event(&line.kind, line.body.clone());
            let verdicts = host.verdicts().to_vec();
            assert_eq!(
                words(&verdicts),
                line.said,
                "{} {} {}",
                line.second,
                line.kind,
                line.body
            );
            host.expect(verdicts.iter().map(|verdict| verdict.action));
            last = line.second;
        }
    }
    examples.len()
}

/// Those of one plugin, in the page's order.
fn examples(plugin: &str) -> Vec<Example> {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/plugins/rules.md");
    let page = std::fs::read_to_string(page).expect("docs/plugins/rules.md");
    let mut examples = Vec::new();
    for rest in page.split("```toml\n").skip(1) {
        let (toml, rest) = rest.split_once("\n```\n").expect("the end of a block");
        let story = rest.split("```text\n").nth(1).and_then(|rest| rest.split("```").next());
        let config: toml::Table = toml.parse().expect("TOML");
        let policy = &config["policies"][0];
        if policy["plugin"].as_str() == Some(plugin) {
            examples.push(Example {
                settings: serde_json::to_value(&policy["settings"]).expect("JSON"),
                lines: lines(story.expect("a story")),
            });
        }
    }
    examples
}

/// What a policy said, in the page's words.
fn words(verdicts: &[Verdict]) -> String {
    let word = |verdict: &Verdict| format!("{}: {}", verdict.action, verdict.reason);
    match verdicts {
        [] => "nothing".into(),
        some => some.iter().map(word).collect::<Vec<_>>().join("; "),
    }
}

/// `70  EgressDenied {"count":1}    nothing`
fn lines(story: &str) -> Vec<Line> {
    let line = |line: &str| {
        let (second, rest) = line.trim_start().split_once("  ").expect("a second");
        let (event, said) = rest.trim_start().split_once("}  ").expect("an event and what is said");
        let (kind, body) = event.split_once(' ').expect("a kind and a body");
        Line {
            second: second.parse().expect("a number"),
            kind: kind.into(),
            body: serde_json::from_str(&format!("{body}}}")).expect("JSON"),
            said: said.trim_start().into(),
        }
    };
    story.lines().map(line).collect()
}

/// The page names every kind and every window, and no other.
pub fn check_lists() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/plugins/rules.md");
    let page = std::fs::read_to_string(page).expect("docs/plugins/rules.md");
    let (_, section) = page.split_once("## What they are asked about").expect("a section");
    let (kinds, rest) = section.split_once("and for counts").expect("a list of kinds");
    let kinds: Vec<&str> = kinds.split('`').skip(1).step_by(2).collect();
    assert_eq!(kinds, watched::EVENTS);
    let mut windows: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for window in watched::WINDOWS {
        windows.entry(window.kind).or_default().push(window.seconds.to_string());
    }
    let rows: Vec<String> = windows
        .iter()
        .map(|(kind, seconds)| format!("| `{kind}` | {} |", seconds.join(", ")))
        .collect();
    let table: Vec<&str> = rest
        .lines()
        .filter(|line| line.starts_with("| `"))
        .take(rows.len())
        .collect();
    assert_eq!(table, rows);
}
