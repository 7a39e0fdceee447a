//! From JSON to CEL.

use std::collections::HashMap;
use std::sync::Arc;

use cel::Value;
use cel::objects::Key;
use serde_json::Value as Json;

/// A whole number is an `int` if it can be one, as the literals of expressions are.
pub fn from_json(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(yes) => Value::Bool(*yes),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(int), _) => Value::Int(int),
            (None, Some(uint)) => Value::UInt(uint),
            (None, None) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => string(text),
        Json::Array(items) => Value::List(Arc::new(items.iter().map(from_json).collect())),
        Json::Object(fields) => map(fields.iter().map(|(key, value)| (key.as_str(), from_json(value)))),
    }
}

pub fn string(text: &str) -> Value {
    Value::String(Arc::new(text.to_owned()))
}

pub fn map<'a>(fields: impl Iterator<Item = (&'a str, Value)>) -> Value {
    let fields: HashMap<Key, Value> = fields.map(|(key, value)| (key.into(), value)).collect();
    Value::Map(fields.into())
}
