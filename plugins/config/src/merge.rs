//! JSON into JSON: objects are merged key by key, anything else is one side's.

use serde_json::{Map, Value};

/// Who wins where both have a value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Prefer {
    #[default]
    Existing,
    Settings,
}

/// `there` with what it lacks of `ours`. Keys keep their places; new ones come last.
pub fn merge(mut there: Map<String, Value>, ours: Map<String, Value>, prefer: Prefer) -> Map<String, Value> {
    for (key, ours) in ours {
        let merged = match (there.get_mut(&key).map(Value::take), ours) {
            (None, ours) => ours,
            (Some(Value::Object(there)), Value::Object(ours)) => Value::Object(merge(there, ours, prefer)),
            (Some(there), _) if prefer == Prefer::Existing => there,
            (Some(_), ours) => ours,
        };
        there.insert(key, merged);
    }
    there
}
