//! A loaded plugin: what it says of itself, checked, and its compiled code.

use std::fmt;

use clawker_model::{Event, PluginDigest};

use crate::bindings::policy::{PolicyPre, clawker::plugin::types};
use crate::bindings::step::StepPre;
use crate::inspect::Form;
use crate::limits::{MAX_SCHEMA, MAX_WINDOW_SECONDS, MAX_WINDOWS};
use crate::state::CallState;
use crate::worker::Remote;
use crate::{Limits, LoadError};

/// Which world a plugin implements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Step,
    Policy,
}

impl Kind {
    pub fn word(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::Policy => "policy",
        }
    }
}

/// Events of one kind that the host counts for a policy.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize)]
pub struct Window {
    pub kind: String,
    /// 1 to 86400.
    pub seconds: u32,
}

/// A component that was accepted, compiled and asked what it is. Belongs to the [`Host`](crate::Host) that loaded it.
pub struct Plugin {
    pub digest: PluginDigest,
    pub name: String,
    pub version: String,
    pub kind: Kind,
    /// A JSON Schema.
    pub settings_schema: String,
    /// Event kinds that a policy wants.
    pub events: Vec<String>,
    pub windows: Vec<Window>,
    /// The permissions that it asks for, e.g. `exec`, sorted.
    pub imports: Vec<String>,
    /// Of each of its calls.
    pub limits: Limits,
    pub(crate) code: Code,
}

/// Compiled, linked, ready to be instantiated; or somewhere else.
pub(crate) enum Code {
    Step(StepPre<CallState>),
    Policy(PolicyPre<CallState>),
    /// In a process of [`Workers`](crate::worker::Workers).
    Worker(Remote),
}

impl Plugin {
    /// Of a component's digest and form, and of what it said of itself.
    pub(crate) fn of(digest: PluginDigest, form: Form, said: Description, limits: Limits, code: Code) -> Self {
        Self {
            digest,
            name: said.name,
            version: said.version,
            kind: form.kind,
            settings_schema: said.settings_schema,
            events: said.events,
            windows: said.windows,
            imports: form.imports,
            limits,
            code,
        }
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Plugin({:?} {} {} {})",
            self.kind, self.name, self.version, self.digest
        )
    }
}

/// What `describe` answered, within bounds.
#[derive(Debug)]
pub(crate) struct Description {
    pub name: String,
    pub version: String,
    pub settings_schema: String,
    pub events: Vec<String>,
    pub windows: Vec<Window>,
}

impl Description {
    pub fn check(raw: types::Description, kind: Kind) -> Result<Self, LoadError> {
        let types::Description {
            name,
            version,
            kind: said,
            settings_schema,
            events,
            windows,
        } = raw;
        let bad = |field, problem: String| Err(LoadError::Description { field, problem });
        if !is_name(&name) {
            return bad(
                "name",
                format!("`{name:.80}` is not 1 to 64 of a-z, 0-9 and `-`, not at its ends"),
            );
        }
        let printable = version.bytes().all(|b| b.is_ascii_graphic());
        if version.is_empty() || version.len() > 32 || !printable {
            return bad(
                "version",
                format!("`{version:.80}` is not 1 to 32 printable ASCII characters"),
            );
        }
        if !matches!(
            (said, kind),
            (types::Kind::Step, Kind::Step) | (types::Kind::Policy, Kind::Policy)
        ) {
            return bad("kind", format!("says {said:?}, but exports the world of a {kind:?}"));
        }
        if settings_schema.len() > MAX_SCHEMA {
            return bad(
                "settings schema",
                format!("{} bytes, the limit is {MAX_SCHEMA}", settings_schema.len()),
            );
        }
        if !matches!(serde_json::from_str(&settings_schema), Ok(serde_json::Value::Object(_))) {
            return bad("settings schema", "not a JSON object".into());
        }
        if kind == Kind::Step && !(events.is_empty() && windows.is_empty()) {
            return bad("list of events", "a step gets none".into());
        }
        let unknown = |kind: &str| !Event::KINDS.contains(&kind);
        if let Some(event) = events.iter().find(|event| unknown(event)) {
            return bad("list of events", format!("there is no event kind `{event:.80}`"));
        }
        if events.len() > Event::KINDS.len() {
            return bad("list of events", "names a kind twice".into());
        }
        if windows.len() > MAX_WINDOWS {
            return bad(
                "list of windows",
                format!("{} windows, the limit is {MAX_WINDOWS}", windows.len()),
            );
        }
        if let Some(window) = windows.iter().find(|window| unknown(&window.kind)) {
            return bad("window", format!("there is no event kind `{:.80}`", window.kind));
        }
        if let Some(window) = windows
            .iter()
            .find(|window| !(1..=MAX_WINDOW_SECONDS).contains(&window.seconds))
        {
            return bad(
                "window",
                format!("{} seconds, allowed are 1 to {MAX_WINDOW_SECONDS}", window.seconds),
            );
        }
        let windows = windows
            .into_iter()
            .map(|w| Window {
                kind: w.kind,
                seconds: w.seconds,
            })
            .collect();
        Ok(Self {
            name,
            version,
            settings_schema,
            events,
            windows,
        })
    }
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        && !name.starts_with('-')
        && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> types::Description {
        types::Description {
            name: "a-1".into(),
            version: "0.1.0".into(),
            kind: types::Kind::Policy,
            settings_schema: "{}".into(),
            events: vec!["ContainerOom".into()],
            windows: vec![types::Window {
                kind: "ContainerOom".into(),
                seconds: 86_400,
            }],
        }
    }

    #[test]
    fn descriptions_out_of_bounds_are_refused_by_field() {
        assert!(Description::check(good(), Kind::Policy).is_ok());
        let window = |kind: &str, seconds| types::Window {
            kind: kind.into(),
            seconds,
        };
        type Spoil = Box<dyn Fn(&mut types::Description)>;
        let cases: Vec<(&str, Spoil)> = vec![
            ("name", Box::new(|d| d.name = "A".into())),
            ("name", Box::new(|d| d.name = "x".repeat(65))),
            ("name", Box::new(|d| d.name = String::new())),
            ("name", Box::new(|d| d.name = "a/b".into())),
            ("version", Box::new(|d| d.version = "1\n".into())),
            ("version", Box::new(|d| d.version = "1".repeat(33))),
            ("kind", Box::new(|d| d.kind = types::Kind::Step)),
            ("kind", Box::new(|d| d.kind = types::Kind::Gate)),
            ("settings schema", Box::new(|d| d.settings_schema = "{".into())),
            ("settings schema", Box::new(|d| d.settings_schema = "[]".into())),
            (
                "settings schema",
                Box::new(|d| d.settings_schema = format!("{{}}{}", " ".repeat(MAX_SCHEMA))),
            ),
            ("list of events", Box::new(|d| d.events = vec!["Nothing".into()])),
            (
                "list of events",
                Box::new(|d| d.events = vec!["ContainerOom".into(); 100]),
            ),
            ("window", Box::new(move |d| d.windows = vec![window("Nothing", 1)])),
            ("window", Box::new(move |d| d.windows = vec![window("ContainerOom", 0)])),
            (
                "window",
                Box::new(move |d| d.windows = vec![window("ContainerOom", 86_401)]),
            ),
            (
                "list of windows",
                Box::new(move |d| d.windows = vec![window("ContainerOom", 1); 17]),
            ),
        ];
        for (field, spoil) in cases {
            let mut raw = good();
            spoil(&mut raw);
            match Description::check(raw, Kind::Policy) {
                Err(LoadError::Description { field: named, .. }) => assert_eq!(named, field),
                other => panic!("{field}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_step_gets_no_events() {
        let raw = types::Description {
            kind: types::Kind::Step,
            ..good()
        };
        assert!(Description::check(raw, Kind::Step).is_err());
    }
}
