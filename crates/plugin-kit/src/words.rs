//! What a plugin is and may do, in words for a person who has to decide about it.

use clawker_plugin_host::{Kind, Plugin};

/// Lines about a plugin.
pub fn about(plugin: &Plugin) -> Vec<String> {
    let what = match plugin.kind {
        Kind::Policy => "a policy: it watches what happens to agents, and says what should be done",
        Kind::Step => "a step: it prepares an agent before the agent's command may run",
    };
    let mut lines = vec![
        format!("{} {}, {what}.", plugin.name, plugin.version),
        format!("sha256:{}", plugin.digest),
    ];
    lines.push("It may:".into());
    lines.extend(may(plugin).into_iter().map(|line| format!("  - {line}")));
    lines.push("It has no network, no files, no clock and no randomness of its own.".into());
    if !plugin.events.is_empty() {
        lines.push(format!("It is asked about: {}.", plugin.events.join(", ")));
    }
    if !plugin.windows.is_empty() {
        let window = |w: &clawker_plugin_host::Window| format!("{} within {}", w.kind, span(w.seconds));
        let windows: Vec<String> = plugin.windows.iter().map(window).collect();
        lines.push(format!("It is told how many there were of: {}.", windows.join(", ")));
    }
    let limits = plugin.limits;
    lines.push(format!(
        "A call gets {} MiB of memory and {} million units of fuel.",
        limits.memory >> 20,
        limits.fuel / 1_000_000
    ));
    let settings = settings(plugin);
    if !settings.is_empty() {
        lines.push("Its settings:".into());
        lines.extend(settings.into_iter().map(|line| format!("  - {line}")));
    }
    lines
}

/// What each interface lets a plugin do, the weightiest first.
const WORDS: [(&str, &str); 6] = [
    ("exec", "run any command in the agent's container"),
    ("write-file", "write any file in the agent's container"),
    ("read-file", "read any file in the agent's container"),
    (
        "secrets",
        "have secrets that its settings name put into files and commands, without seeing them",
    ),
    ("settings", "read its settings"),
    ("log", "write lines into the control plane's log"),
];

/// What its imports and its kind let it do, the weightiest first.
pub fn may(plugin: &Plugin) -> Vec<String> {
    let mut may = Vec::new();
    if plugin.kind == Kind::Policy {
        may.push(POLICY.to_owned());
    }
    may.extend(grants(&plugin.imports));
    if may.is_empty() {
        may.push("compute, and say how it went".into());
    }
    may
}

/// What every policy may do.
pub const POLICY: &str =
    "have an agent's network restricted or locked, its processes frozen or ended, its identity revoked";

/// What grants let a plugin do: `exec`, or `exec:git *`.
pub fn grants(grants: &[String]) -> Vec<String> {
    let parts = |grant: &str| match grant.split_once(':') {
        Some((interface, bound)) => (interface.to_owned(), Some(bound.to_owned())),
        None => (grant.to_owned(), None),
    };
    let parts: Vec<_> = grants.iter().map(|grant| parts(grant)).collect();
    let mut said = Vec::new();
    for (interface, any) in WORDS {
        let bounds = parts.iter().filter(|(granted, _)| granted == interface);
        said.extend(bounds.map(|(_, bound)| match bound {
            None => any.to_owned(),
            Some(bound) => match interface {
                "exec" => format!("run `{bound}` in the agent's container"),
                "write-file" => format!("write {bound} in the agent's container"),
                "read-file" => format!("read {bound} in the agent's container"),
                _ => format!("have the secret {bound} put into files and commands, without seeing it"),
            },
        }));
    }
    let unknown = parts
        .iter()
        .filter(|(interface, _)| !WORDS.iter().any(|(known, _)| known == interface));
    said.extend(unknown.map(|(interface, _)| format!("use `{interface}`, which this clawker has no words for")));
    said
}

fn span(seconds: u32) -> String {
    let (count, unit) = match seconds {
        s if s % 3_600 == 0 => (s / 3_600, "hour"),
        s if s % 60 == 0 => (s / 60, "minute"),
        s => (s, "second"),
    };
    match count {
        1 => format!("1 {unit}"),
        count => format!("{count} {unit}s"),
    }
}

/// `name (type, default): what it is`, of the first level of the schema.
fn settings(plugin: &Plugin) -> Vec<String> {
    let schema: serde_json::Value = serde_json::from_str(&plugin.settings_schema).unwrap_or_default();
    let properties = schema["properties"].as_object().cloned().unwrap_or_default();
    let required = |name: &str| {
        let mut names = schema["required"].as_array().into_iter().flatten();
        names.any(|required| required == name)
    };
    let line = |(name, of): (&String, &serde_json::Value)| {
        let kind = of["type"].as_str().unwrap_or("anything");
        let default = match &of["default"] {
            serde_json::Value::Null if required(name) => ", required".to_owned(),
            serde_json::Value::Null => String::new(),
            default => format!(", {default} unless set"),
        };
        let says = of["description"].as_str().map(|says| format!(": {says}"));
        format!("{name} ({kind}{default}){}", says.unwrap_or_default())
    };
    properties.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_said_with_their_bounds() {
        let grants = ["log", "exec:git *", "secrets:TOKEN", "read-file", "teleport"].map(String::from);
        assert_eq!(
            super::grants(&grants),
            [
                "run `git *` in the agent's container",
                "read any file in the agent's container",
                "have the secret TOKEN put into files and commands, without seeing it",
                "write lines into the control plane's log",
                "use `teleport`, which this clawker has no words for",
            ]
        );
    }

    #[test]
    fn spans_are_said_in_their_largest_whole_unit() {
        let said: Vec<String> = [1, 59, 60, 90, 3_600, 7_200, 86_400].into_iter().map(span).collect();
        assert_eq!(
            said,
            [
                "1 second",
                "59 seconds",
                "1 minute",
                "90 seconds",
                "1 hour",
                "2 hours",
                "24 hours"
            ]
        );
    }
}
