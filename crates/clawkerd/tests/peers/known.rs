//! The documented differences, and the comparison of what was seen with them. A difference that isn't listed fails
//! the test, and so does a listed one that is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::inits::{Init, PEERS};
use crate::matrix;
use crate::table::TABLE;

/// One difference of clawkerd from these peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Known {
    pub area: Area,
    pub peers: &'static [Init],
    /// Where, and of what (signals, exit codes, words).
    pub seen_in: &'static str,
    pub of: &'static str,
    pub clawkerd: &'static str,
    pub theirs: &'static str,
    pub why: &'static str,
}

/// What one test looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Area {
    Received,
    Default,
    Ends,
    Conduct,
}

/// What was seen of one init: by place and subject.
pub type Facts = BTreeMap<(String, String), String>;

/// A difference as it was seen, to be compared with [`Known`].
type Row = (Init, String, String, String, String);

/// Panics with what differs from the table, and prints the whole.
pub fn compare(area: Area, facts: &BTreeMap<Init, Facts>) {
    let seen: BTreeSet<Row> = PEERS.into_iter().flat_map(|peer| differences(facts, peer)).collect();
    let listed: BTreeSet<Row> = TABLE.iter().filter(|known| known.area == area).flat_map(rows).collect();
    println!(
        "{} facts of each init\n{}",
        facts[&Init::Clawkerd].len(),
        printed(&seen)
    );
    let new: BTreeSet<Row> = seen.difference(&listed).cloned().collect();
    let gone: BTreeSet<Row> = listed.difference(&seen).cloned().collect();
    assert!(
        new.is_empty() && gone.is_empty(),
        "differences that aren't listed:\n{}\nlisted, and not seen:\n{}",
        printed(&new),
        printed(&gone)
    );
}

fn rows(known: &Known) -> impl Iterator<Item = Row> {
    let Known {
        seen_in,
        of,
        clawkerd,
        theirs,
        ..
    } = *known;
    let row = move |peer: &Init| {
        let [seen_in, of, clawkerd, theirs] = [seen_in, of, clawkerd, theirs].map(str::to_owned);
        (*peer, seen_in, of, clawkerd, theirs)
    };
    known.peers.iter().map(row)
}

/// Subjects with the same difference share a row, and so do places with the same subjects.
fn differences(facts: &BTreeMap<Init, Facts>, peer: Init) -> Vec<Row> {
    let (ours, theirs) = (&facts[&Init::Clawkerd], &facts[&peer]);
    assert!(ours.keys().eq(theirs.keys()), "the inits weren't asked the same");
    let mut subjects: BTreeMap<(&str, &str, &str), Vec<&str>> = BTreeMap::new();
    for (((place, subject), our), their) in ours.iter().zip(theirs.values()) {
        if our != their {
            subjects.entry((place, our, their)).or_default().push(subject);
        }
    }
    let mut places: BTreeMap<(String, &str, &str), Vec<&str>> = BTreeMap::new();
    for ((place, our, their), subjects) in subjects {
        let all = ours
            .keys()
            .filter(|(there, _)| there == place)
            .map(|(_, subject)| subject.as_str());
        places
            .entry((listed(&subjects, all.collect()), our, their))
            .or_default()
            .push(place);
    }
    places
        .into_iter()
        .map(|((of, our, their), places)| (peer, places.join("; "), of, our.to_owned(), their.to_owned()))
        .collect()
}

/// The subjects, or those of all that aren't among them, whichever are fewer.
fn listed(subjects: &[&str], mut all: Vec<&str>) -> String {
    all.sort_by_key(|subject| matrix::rank(subject));
    let (of, others): (Vec<&str>, Vec<&str>) = all.into_iter().partition(|subject| subjects.contains(subject));
    if others.is_empty() && of.len() > 3 {
        return "all".to_owned();
    }
    if others.len() < of.len() && of.len() > 3 {
        return format!("all but {}", others.join(", "));
    }
    of.join(", ")
}

fn printed(rows: &BTreeSet<Row>) -> String {
    let mut text = String::new();
    for (peer, seen_in, of, ours, theirs) in rows {
        let peer = peer.name();
        let _ = writeln!(
            text,
            "  {peer} | {seen_in} | {of} | clawkerd: {ours} | {peer}: {theirs}"
        );
    }
    text
}

/// As docs/pid1-peers.md shows it.
fn markdown(known: &Known) -> String {
    let peers: Vec<String> = known.peers.iter().map(|peer| format!("`{}`", peer.name())).collect();
    let Known {
        seen_in,
        of,
        clawkerd,
        theirs,
        why,
        ..
    } = *known;
    format!(
        "| {} | {seen_in} | {of} | {clawkerd} | {theirs} | {why} |",
        peers.join(", ")
    )
}

/// Panics unless the document has every row of the table and no other.
pub fn expect_documented(document: &str) {
    let rows: Vec<String> = TABLE.iter().map(markdown).collect();
    let marked = |line: &&str| line.starts_with("| `tini") || line.starts_with("| `dumb-init");
    let there: Vec<&str> = document.lines().filter(marked).collect();
    assert!(
        there == rows,
        "docs/pid1-peers.md should have these rows:\n{}",
        rows.join("\n")
    );
}
