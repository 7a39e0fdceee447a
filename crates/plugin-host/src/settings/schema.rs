//! A value against a schema.

use std::cmp::Ordering;

use serde_json::{Map, Number, Value};

use super::SettingsError;

/// What is wrong, and where: `credentials[0].host`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    at: String,
    what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    Unknown { known: String },
    Missing,
    WrongType { expected: String },
    NotInEnum { known: String },
    OutOfBounds { bound: String },
}

impl Problem {
    pub(super) fn of(self, plugin: String) -> SettingsError {
        // A key is the operator's own, and may be as long as all settings.
        let key = format!("{:.200}", self.at);
        match self.what {
            What::Unknown { known } => SettingsError::UnknownKey { plugin, key, known },
            What::Missing => SettingsError::MissingKey { plugin, key },
            What::WrongType { expected } => SettingsError::WrongType { plugin, key, expected },
            What::NotInEnum { known } => SettingsError::NotInEnum { plugin, key, known },
            What::OutOfBounds { bound } => SettingsError::OutOfBounds { plugin, key, bound },
        }
    }

    fn within(mut self, place: &str) -> Self {
        let dot = if self.at.is_empty() || self.at.starts_with('[') {
            ""
        } else {
            "."
        };
        self.at = format!("{place}{dot}{}", self.at);
        self
    }
}

impl From<What> for Problem {
    fn from(what: What) -> Self {
        Self {
            at: String::new(),
            what,
        }
    }
}

/// As deep as the value is, which its parser bounds.
pub(super) fn check(schema: &Value, value: &Value) -> Result<(), Problem> {
    if !fits(value, &schema["type"]) {
        let expected = schema["type"].to_string().replace('"', "");
        return Err(What::WrongType { expected }.into());
    }
    if let Some(known) = schema["enum"].as_array().filter(|known| !known.contains(value)) {
        let known = list(known.iter().map(ToString::to_string));
        return Err(What::NotInEnum { known }.into());
    }
    match value {
        Value::Number(number) => bounded(schema, ["minimum", "maximum"], "", |bound| {
            Some(compare(number, bound.as_number()?))
        }),
        Value::String(text) => {
            let count = text.chars().count();
            counted(schema, ["minLength", "maxLength"], " characters", count)
        }
        Value::Array(items) => {
            counted(schema, ["minItems", "maxItems"], " items", items.len())?;
            let each = |(number, item)| check(&schema["items"], item).map_err(|p| p.within(&format!("[{number}]")));
            items.iter().enumerate().try_for_each(each)
        }
        Value::Object(fields) => {
            counted(schema, ["minProperties", "maxProperties"], " keys", fields.len())?;
            object(schema, fields)
        }
        Value::Null | Value::Bool(_) => Ok(()),
    }
}

fn object(schema: &Value, fields: &Map<String, Value>) -> Result<(), Problem> {
    let empty = Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&empty);
    let others = &schema["additionalProperties"];
    for (key, value) in fields {
        let within = |problem: Problem| problem.within(key);
        match properties.get(key) {
            Some(property) => check(property, value).map_err(within)?,
            None if *others == Value::Bool(false) => {
                let known = list(properties.keys().map(|key| format!("`{key}`")));
                return Err(within(What::Unknown { known }.into()));
            }
            None => check(others, value).map_err(within)?,
        }
    }
    let required = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    match required.into_iter().find(|key| !fields.contains_key(*key)) {
        Some(key) => Err(Problem::from(What::Missing).within(key)),
        None => Ok(()),
    }
}

fn counted(schema: &Value, keywords: [&str; 2], of: &str, count: usize) -> Result<(), Problem> {
    bounded(schema, keywords, of, |bound| Some((count as u64).cmp(&bound.as_u64()?)))
}

/// `compare` says how the value stands to a bound; a bound that is none bounds nothing.
fn bounded(
    schema: &Value,
    [least, most]: [&str; 2],
    of: &str,
    compare: impl Fn(&Value) -> Option<Ordering>,
) -> Result<(), Problem> {
    for (keyword, wrong, word) in [
        (least, Ordering::Less, "at least"),
        (most, Ordering::Greater, "at most"),
    ] {
        let bound = &schema[keyword];
        if compare(bound) == Some(wrong) {
            let bound = format!("{word} {bound}{of}");
            return Err(What::OutOfBounds { bound }.into());
        }
    }
    Ok(())
}

/// Whole numbers exactly, others as far as a float goes.
fn compare(one: &Number, other: &Number) -> Ordering {
    let whole = |number: &Number| number.as_i64().map(i128::from).or(number.as_u64().map(i128::from));
    match (whole(one), whole(other)) {
        (Some(one), Some(other)) => one.cmp(&other),
        _ => {
            let float = |number: &Number| number.as_f64().unwrap_or(f64::NAN);
            float(one).partial_cmp(&float(other)).unwrap_or(Ordering::Equal)
        }
    }
}

fn list(words: impl Iterator<Item = String>) -> String {
    let words: Vec<String> = words.collect();
    if words.is_empty() {
        "none".into()
    } else {
        words.join(", ")
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
    use serde_json::json;

    use super::*;

    fn says(schema: Value, value: Value) -> String {
        check(&schema, &value).expect_err("wrong").of("p".into()).to_string()
    }

    #[test]
    fn every_keyword_is_enforced() {
        for (schema, good, bad, wrong) in [
            (json!({"minimum": 1}), json!(1), json!(0), "at least 1"),
            (json!({"maximum": 1.5}), json!(1), json!(2), "at most 1.5"),
            (
                json!({"maximum": u64::MAX - 1}),
                json!(u64::MAX - 1),
                json!(u64::MAX),
                "at most",
            ),
            (json!({"minLength": 1}), json!("ä"), json!(""), "at least 1 characters"),
            (json!({"maxLength": 1}), json!("ä"), json!("ab"), "at most 1 characters"),
            (json!({"minItems": 1}), json!([0]), json!([]), "at least 1 items"),
            (json!({"maxItems": 1}), json!([0]), json!([0, 0]), "at most 1 items"),
            (
                json!({"minProperties": 1}),
                json!({"a": 0}),
                json!({}),
                "at least 1 keys",
            ),
            (
                json!({"maxProperties": 1}),
                json!({"a": 0}),
                json!({"a": 0, "b": 0}),
                "at most 1 keys",
            ),
            (json!({"enum": ["a"]}), json!("a"), json!("b"), "one of"),
            (
                json!({"type": ["string", "null"]}),
                json!(null),
                json!(1),
                "of type [string,null]",
            ),
            (
                json!({"items": {"type": "string"}}),
                json!(["a"]),
                json!(["a", 1]),
                "`[1]` must be of type string",
            ),
            (json!({"required": ["a"]}), json!({"a": 0}), json!({}), "`a` is missing"),
            (
                json!({"additionalProperties": {"type": "integer"}}),
                json!({"a": 1}),
                json!({"a": "x"}),
                "`a` must be of type integer",
            ),
        ] {
            assert_eq!(check(&schema, &good), Ok(()), "{schema} {good}");
            let said = says(schema.clone(), bad.clone());
            assert!(said.contains(wrong), "{schema} {bad}: {said}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_where_it_is() {
        let schema = json!({"properties": {"credentials": {"items": {
            "additionalProperties": false, "required": ["host"], "properties": {"host": {"type": "string"}}}}}});
        assert_eq!(check(&schema, &json!({"credentials": [{"host": "h"}]})), Ok(()));
        for (bad, at) in [
            (
                json!({"credentials": [{"host": "h"}, {}]}),
                "`credentials[1].host` is missing",
            ),
            (
                json!({"credentials": [{"host": 1}]}),
                "`credentials[0].host` must be of type string",
            ),
            (
                json!({"credentials": [{"host": "h", "port": 1}]}),
                "there is no `credentials[0].port`; it knows `host`",
            ),
        ] {
            let said = says(schema.clone(), bad);
            assert!(said.contains(at), "{said}");
        }
    }

    #[test]
    fn a_schema_of_nonsense_bounds_nothing() {
        let schema = json!({"minimum": "x", "maxLength": -1, "items": 7, "properties": [], "required": {}, "enum": 1});
        for value in [json!(1), json!("abc"), json!([1]), json!({"a": 1}), json!(null)] {
            assert_eq!(check(&schema, &value), Ok(()), "{value}");
        }
    }
}
