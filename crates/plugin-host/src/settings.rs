//! The check of a plugin's settings before they are used.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::Plugin;
use crate::limits::MAX_SETTINGS;

/// Settings were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    #[error("settings of `{plugin}` have {len} bytes, the limit is {MAX_SETTINGS}")]
    TooLarge { plugin: String, len: usize },
    #[error("settings of `{plugin}` are not JSON: {problem}")]
    NotJson { plugin: String, problem: String },
    #[error("settings of `{plugin}` are not a JSON object")]
    NotAnObject { plugin: String },
    #[error("settings of `{plugin}`: there is no `{key}`; it knows {known}")]
    UnknownKey { plugin: String, key: String, known: String },
    #[error("settings of `{plugin}`: `{key}` is missing")]
    MissingKey { plugin: String, key: String },
    #[error("settings of `{plugin}`: `{key}` must be of type {expected}")]
    WrongType {
        plugin: String,
        key: String,
        expected: String,
    },
    #[error("settings of `{plugin}`: `{key}` must be one of {known}")]
    NotInEnum { plugin: String, key: String, known: String },
}

/// Checks size and form, then the first level against the plugin's schema: `type` and `enum` of `properties`,
/// `required`, and unknown keys where `additionalProperties` is false. What lies deeper is the plugin's own to check.
pub fn check_settings(plugin: &Plugin, settings: &str) -> Result<(), SettingsError> {
    check(&plugin.name, &plugin.settings_schema, settings)
}

fn check(name: &str, schema: &str, settings: &str) -> Result<(), SettingsError> {
    let plugin = || name.to_owned();
    if settings.len() > MAX_SETTINGS {
        return Err(SettingsError::TooLarge {
            plugin: plugin(),
            len: settings.len(),
        });
    }
    let given: Value = serde_json::from_str(settings).map_err(|error| SettingsError::NotJson {
        plugin: plugin(),
        problem: error.to_string(),
    })?;
    let Value::Object(given) = given else {
        return Err(SettingsError::NotAnObject { plugin: plugin() });
    };
    let schema: Value = serde_json::from_str(schema).unwrap_or_default();
    let empty = serde_json::Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&empty);
    for (key, value) in &given {
        let Some(property) = properties.get(key) else {
            if schema["additionalProperties"] == Value::Bool(false) {
                let known: Vec<String> = properties.keys().map(|key| format!("`{key}`")).collect();
                let known = if known.is_empty() {
                    "none".into()
                } else {
                    known.join(", ")
                };
                return Err(SettingsError::UnknownKey {
                    plugin: plugin(),
                    key: format!("{key:.80}"),
                    known,
                });
            }
            continue;
        };
        if !fits(value, &property["type"]) {
            let expected = property["type"].to_string().replace('"', "");
            return Err(SettingsError::WrongType {
                plugin: plugin(),
                key: key.clone(),
                expected,
            });
        }
        if let Some(known) = property["enum"].as_array().filter(|known| !known.contains(value)) {
            let known: Vec<String> = known.iter().map(ToString::to_string).collect();
            return Err(SettingsError::NotInEnum {
                plugin: plugin(),
                key: key.clone(),
                known: known.join(", "),
            });
        }
    }
    let required = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    match required.into_iter().find(|key| !given.contains_key(*key)) {
        Some(key) => Err(SettingsError::MissingKey {
            plugin: plugin(),
            key: key.to_owned(),
        }),
        None => Ok(()),
    }
}

/// The secrets that settings name: every string whose schema has `"format": "secret-name"`, at any depth of
/// `properties`, `additionalProperties` and `items`. By naming one the operator grants it to the step.
pub fn secrets_named(plugin: &Plugin, settings: &str) -> Vec<String> {
    named(&plugin.settings_schema, settings)
}

fn named(schema: &str, settings: &str) -> Vec<String> {
    let (schema, settings): (Value, Value) = match (serde_json::from_str(schema), serde_json::from_str(settings)) {
        (Ok(schema), Ok(settings)) => (schema, settings),
        _ => return Vec::new(),
    };
    let mut found = BTreeSet::new();
    collect(&schema, &settings, &mut found);
    found.into_iter().collect()
}

fn collect(schema: &Value, value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::String(name) if schema["format"] == "secret-name" => {
            found.insert(name.clone());
        }
        Value::Array(items) => items.iter().for_each(|item| collect(&schema["items"], item, found)),
        Value::Object(fields) => {
            for (key, field) in fields {
                let property = &schema["properties"][key.as_str()];
                let schema = if property.is_null() {
                    &schema["additionalProperties"]
                } else {
                    property
                };
                collect(schema, field, found);
            }
        }
        _ => {}
    }
}

fn fits(value: &Value, types: &Value) -> bool {
    match types {
        Value::Array(types) => types.iter().any(|one| fits(value, one)),
        Value::String(name) => match name.as_str() {
            "string" => value.is_string(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "boolean" => value.is_boolean(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            "null" => value.is_null(),
            _ => true,
        },
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &str = r#"{"type":"object","additionalProperties":false,"required":["a"],
        "properties":{"a":{"type":"integer"},"b":{"type":["string","null"]},"d":{"enum":["x","y"]}}}"#;

    #[test]
    fn settings_are_checked_against_the_first_level_of_the_schema() {
        for good in [
            r#"{"a":1}"#,
            r#"{"a":1,"b":null}"#,
            r#"{"a":1,"b":"x"}"#,
            r#"{"a":1,"d":"y"}"#,
        ] {
            assert_eq!(check("p", SCHEMA, good), Ok(()), "{good}");
        }
        let large = format!(r#"{{"a":1}}{}"#, " ".repeat(MAX_SETTINGS));
        for (bad, says) in [
            ("", "not JSON"),
            ("[]", "not a JSON object"),
            ("{}", "`a` is missing"),
            (r#"{"a":"1"}"#, "`a` must be of type integer"),
            (r#"{"a":1,"b":2}"#, "`b` must be of type [string,null]"),
            (r#"{"a":1,"c":2}"#, "there is no `c`; it knows `a`, `b`, `d`"),
            (r#"{"a":1,"d":"z"}"#, "`d` must be one of \"x\", \"y\""),
            (&large, "the limit is 65536"),
        ] {
            let error = check("p", SCHEMA, bad).expect_err(says).to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn secrets_are_granted_by_being_named() {
        let schema = r#"{"properties":{"token":{"format":"secret-name"},"other":{"type":"string"},
            "list":{"items":{"properties":{"secret":{"format":"secret-name"}}}},
            "map":{"additionalProperties":{"format":"secret-name"}}}}"#;
        let settings =
            r#"{"token":"A","other":"NOT","list":[{"secret":"B"},{"secret":"A"},{}],"map":{"x":"C"},"z":"NOT"}"#;
        assert_eq!(named(schema, settings), ["A", "B", "C"]);
        assert_eq!(named("{}", settings), [""; 0]);
    }

    #[test]
    fn a_schema_without_rules_takes_any_object() {
        assert_eq!(check("p", "{}", r#"{"anything":1}"#), Ok(()));
    }
}
