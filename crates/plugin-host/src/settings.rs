//! The check of a plugin's settings before they are used.
//!
//! Owns the subset of JSON Schema that settings are checked by, the same that the SDK's derive writes: `type`, `enum`,
//! `properties`, `required`, `additionalProperties`, `items`, `minimum`, `maximum`, and the least and most `Length`,
//! `Items` and `Properties`, at any depth. What else a schema says is the plugin's own to check. The schema is as
//! untrusted as its plugin, so there are no patterns and no references in it: a check takes time in proportion to the
//! settings, and fetches nothing.

mod schema;

use std::collections::BTreeSet;

use serde_json::Value;

use crate::Plugin;
use crate::limits::MAX_SETTINGS;

/// The key of settings that says of which version they are.
const VERSION_KEY: &str = "$version";

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
    #[error("settings of `{plugin}`: `{key}` must be {bound}")]
    OutOfBounds { plugin: String, key: String, bound: String },
    #[error("settings of `{plugin}`: `$version` is a whole number from 1 to {known}, the plugin's own")]
    UnknownVersion { plugin: String, known: u64 },
}

/// Checks size and form, then everything against the plugin's schema.
///
/// Where the schema has an `x-version`, settings may say `"$version"`: of which version they are, by default the
/// plugin's own. Older ones have another schema, which nobody has: they are the plugin's own to migrate and to check.
pub fn check_settings(plugin: &Plugin, settings: &str) -> Result<(), SettingsError> {
    check_settings_against(&plugin.name, &plugin.settings_schema, settings)
}

/// The same by a schema alone, for `name`, a plugin that isn't loaded.
pub fn check_settings_against(name: &str, schema: &str, settings: &str) -> Result<(), SettingsError> {
    let plugin = || name.to_owned();
    if settings.len() > MAX_SETTINGS {
        return Err(SettingsError::TooLarge {
            plugin: plugin(),
            len: settings.len(),
        });
    }
    let mut given: Value = serde_json::from_str(settings).map_err(|error| SettingsError::NotJson {
        plugin: plugin(),
        problem: error.to_string(),
    })?;
    let Value::Object(fields) = &mut given else {
        return Err(SettingsError::NotAnObject { plugin: plugin() });
    };
    let schema: Value = serde_json::from_str(schema).unwrap_or_default();
    if let Some(known) = schema["x-version"].as_u64() {
        match fields.remove(VERSION_KEY).map(|version| version.as_u64().unwrap_or(0)) {
            Some(older) if (1..known).contains(&older) => return Ok(()),
            Some(version) if version != known => {
                return Err(SettingsError::UnknownVersion {
                    plugin: plugin(),
                    known,
                });
            }
            _ => {}
        }
    }
    schema::check(&schema, &given).map_err(|problem| problem.of(plugin()))
}

/// Settings as they are kept: with the version that the plugin has now, so that a later one knows what it migrates.
/// Without keys, or for a plugin that doesn't count versions, they are as given.
pub fn with_version(plugin: &Plugin, settings: &str) -> String {
    versioned(&plugin.settings_schema, settings)
}

fn versioned(schema: &str, settings: &str) -> String {
    let schema: Value = serde_json::from_str(schema).unwrap_or_default();
    match (schema["x-version"].as_u64(), serde_json::from_str(settings)) {
        (Some(version), Ok(Value::Object(mut fields))) if !fields.is_empty() && !fields.contains_key(VERSION_KEY) => {
            fields.insert(VERSION_KEY.into(), version.into());
            Value::Object(fields).to_string()
        }
        _ => settings.to_owned(),
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

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &str = r#"{"type":"object","additionalProperties":false,"required":["a"],
        "properties":{"a":{"type":"integer"},"b":{"type":["string","null"]},"d":{"enum":["x","y"]}}}"#;

    #[test]
    fn settings_are_checked_against_the_schema() {
        for good in [
            r#"{"a":1}"#,
            r#"{"a":1,"b":null}"#,
            r#"{"a":1,"b":"x"}"#,
            r#"{"a":1,"d":"y"}"#,
        ] {
            assert_eq!(check_settings_against("p", SCHEMA, good), Ok(()), "{good}");
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
            let error = check_settings_against("p", SCHEMA, bad).expect_err(says).to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn settings_of_an_older_version_are_the_plugins_to_check() {
        let schema =
            r#"{"x-version":2,"type":"object","additionalProperties":false,"properties":{"a":{"type":"integer"}}}"#;
        for good in [r#"{"a":1}"#, r#"{"$version":2,"a":1}"#, r#"{"$version":1,"old":[]}"#] {
            assert_eq!(check_settings_against("p", schema, good), Ok(()), "{good}");
        }
        for (bad, says) in [
            (r#"{"$version":2,"old":[]}"#, "there is no `old`"),
            (r#"{"$version":3}"#, "from 1 to 2"),
            (r#"{"$version":0}"#, "from 1 to 2"),
            (r#"{"$version":"1"}"#, "from 1 to 2"),
        ] {
            let error = check_settings_against("p", schema, bad).expect_err(says).to_string();
            assert!(error.contains(says), "{error}");
        }
        let unversioned = r#"{"type":"object","additionalProperties":false}"#;
        assert!(check_settings_against("p", unversioned, r#"{"$version":1}"#).is_err());
    }

    #[test]
    fn settings_are_kept_with_the_version_that_they_are_of() {
        let schema = r#"{"x-version":2}"#;
        assert_eq!(versioned(schema, r#"{"a":1}"#), r#"{"$version":2,"a":1}"#);
        for kept in [r#"{"$version":1,"a":1}"#, "{}", "[]", "x"] {
            assert_eq!(versioned(schema, kept), kept);
        }
        assert_eq!(versioned("{}", r#"{"a":1}"#), r#"{"a":1}"#);
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
        assert_eq!(check_settings_against("p", "{}", r#"{"anything":1}"#), Ok(()));
    }
}
