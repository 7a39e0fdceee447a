//! A figure: what was measured, beside what, and whether the target is met. `pass` is computed and nothing else.

use std::io::Write;

use serde_json::json;

use crate::stats::{Samples, short};

/// A bound of a target, with how the target has it.
pub struct Bound {
    text: String,
    met: bool,
}

impl Bound {
    pub fn at_most(what: &str, value: f64, limit: f64, unit: &str) -> Self {
        Self {
            text: format!("{what} ≤ {limit} {unit}"),
            met: value <= limit,
        }
    }

    pub fn at_least(what: &str, value: f64, limit: f64, unit: &str) -> Self {
        Self {
            text: format!("{what} ≥ {limit} {unit}"),
            met: value >= limit,
        }
    }

    /// Times the peer.
    pub fn times(ratio: f64, limit: f64) -> Self {
        Self {
            text: format!("≥ {limit}×"),
            met: ratio >= limit,
        }
    }
}

pub struct Figure {
    pub id: &'static str,
    pub name: &'static str,
    pub value: f64,
    pub unit: &'static str,
    pub peer: &'static str,
    pub peer_value: f64,
    /// How many times better than the peer; below 1 it is worse.
    pub ratio: f64,
    /// All of them, or the target is missed. None: nobody asked for one.
    pub bounds: Vec<Bound>,
    pub own: Samples,
    pub beside: Samples,
    pub note: String,
}

impl Figure {
    /// Medians of a time against a peer's.
    pub fn times(
        id: &'static str,
        name: &'static str,
        unit: &'static str,
        own: Samples,
        peer: (&'static str, Samples),
    ) -> Self {
        let (value, peer_value) = (own.p50(), peer.1.p50());
        Self {
            id,
            name,
            value,
            unit,
            peer: peer.0,
            peer_value,
            ratio: peer_value / value,
            bounds: Vec::new(),
            own,
            beside: peer.1,
            note: String::new(),
        }
    }

    /// Medians of a rate against a peer's.
    pub fn rates(
        id: &'static str,
        name: &'static str,
        unit: &'static str,
        own: Samples,
        peer: (&'static str, Samples),
    ) -> Self {
        let mut figure = Self::times(id, name, unit, own, peer);
        figure.ratio = figure.value / figure.peer_value;
        figure
    }

    #[must_use]
    pub fn bounds(mut self, bounds: impl FnOnce(&Self) -> Vec<Bound>) -> Self {
        self.bounds = bounds(&self);
        self
    }

    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// None without a target.
    pub fn pass(&self) -> Option<bool> {
        let met = self.bounds.iter().all(|bound| bound.met);
        (!self.bounds.is_empty()).then_some(met)
    }

    fn target(&self) -> String {
        let texts: Vec<&str> = self.bounds.iter().map(|bound| bound.text.as_str()).collect();
        texts.join(", ")
    }

    /// One line of `--json`.
    pub fn line(&self) -> String {
        let number = |value: f64| if value.is_finite() { json!(value) } else { json!(null) };
        json!({
            "id": self.id, "name": self.name, "value": number(self.value), "unit": self.unit,
            "peer": self.peer, "peer_value": number(self.peer_value), "ratio": number(self.ratio),
            "target": self.target(), "pass": self.pass(),
            "samples": {"own": self.own.printed(), "peer": self.beside.printed()},
            "note": self.note,
        })
        .to_string()
    }

    /// For people.
    fn lines(&self) -> Vec<String> {
        let mark = match self.pass() {
            Some(true) => "met   ",
            Some(false) => "MISSED",
            None => "      ",
        };
        let mut lines = vec![
            format!(
                "{mark} {:<4} {}: {} {}; {}: {} ({}×)",
                self.id,
                self.name,
                short(self.value),
                self.unit,
                self.peer,
                short(self.peer_value),
                short(self.ratio)
            ),
            format!("            target  {}", self.target()),
            format!("            ours    {}", self.own.spread()),
        ];
        if self.beside.len() > 0 {
            lines.push(format!("            peer    {}", self.beside.spread()));
        }
        if !self.note.is_empty() {
            lines.push(format!("            note    {}", self.note));
        }
        lines
    }

    pub fn print(&self, json: bool) {
        let text = if json { self.line() } else { self.lines().join("\n") };
        // Whoever closed our output doesn't want it.
        let _ = writeln!(std::io::stdout(), "{text}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pass_follows_from_the_samples() {
        let figure = |own: f64| {
            let peer = ("peer", Samples::of(vec![60.0]));
            Figure::times("P0", "a figure", "ms", Samples::of(vec![own]), peer)
                .bounds(|f| vec![Bound::at_most("p50", f.value, 3.0, "ms"), Bound::times(f.ratio, 30.0)])
        };
        assert_eq!(figure(2.0).pass(), Some(true));
        assert_eq!(figure(2.5).pass(), Some(false), "24 times is too few");
        assert_eq!(figure(4.0).pass(), Some(false));
        let line: serde_json::Value = serde_json::from_str(&figure(2.0).line()).expect("JSON");
        assert_eq!(
            (line["ratio"].as_f64(), line["pass"].as_bool()),
            (Some(30.0), Some(true))
        );
        assert_eq!(line["target"], "p50 ≤ 3 ms, ≥ 30×");
        let peer = ("peer", Samples::of(vec![60.0]));
        let rate = Figure::rates("P0", "a rate", "1/s", Samples::of(vec![120.0]), peer);
        assert_eq!(rate.bounds(|f| vec![Bound::times(f.ratio, 2.0)]).pass(), Some(true));
    }
}
