//! JSON Schemas of the types that settings are made of.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::Bounds;

/// A type that settings may have, with the JSON Schema of its values: `bool`, integers, `f64`, `String`, addresses,
/// `Option`, `Vec`, `BTreeMap<String, _>`, any JSON, and what derives [`Settings`](macro@crate::Settings).
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be a setting",
    note = "settings are bool, integers, f64, String, SocketAddr, IpAddr, Option, Vec, BTreeMap<String, _>, serde_json's \
            Value, and types that derive `Settings`"
)]
pub trait Shape {
    /// Whether a key of this type may be left out.
    const OPTIONAL: bool = false;

    /// The schema.
    ///
    /// ```
    /// use clawker_plugin_sdk::settings::Shape;
    ///
    /// assert_eq!(<Vec<u8>>::shape().to_string(), r#"{"items":{"maximum":255,"minimum":0,"type":"integer"},"type":"array"}"#);
    /// ```
    fn shape() -> Value;
}

macro_rules! shapes {
    ($($of:ty => $schema:tt)*) => {
        $(impl Shape for $of {
            fn shape() -> Value {
                json!($schema)
            }
        })*
    };
}

shapes! {
    bool => {"type": "boolean"}
    String => {"type": "string"}
    f64 => {"type": "number"}
    u64 => {"type": "integer", "minimum": 0}
    i64 => {"type": "integer"}
    u8 => {"type": "integer", "minimum": 0, "maximum": (u8::MAX)}
    u16 => {"type": "integer", "minimum": 0, "maximum": (u16::MAX)}
    u32 => {"type": "integer", "minimum": 0, "maximum": (u32::MAX)}
    i8 => {"type": "integer", "minimum": (i8::MIN), "maximum": (i8::MAX)}
    i16 => {"type": "integer", "minimum": (i16::MIN), "maximum": (i16::MAX)}
    i32 => {"type": "integer", "minimum": (i32::MIN), "maximum": (i32::MAX)}
    // The host doesn't check that it is one; reading it does.
    SocketAddr => {"type": "string"}
    IpAddr => {"type": "string"}
    Value => {}
    Map<String, Value> => {"type": "object"}
}

impl<T: Shape> Shape for Option<T> {
    const OPTIONAL: bool = true;

    fn shape() -> Value {
        T::shape()
    }
}

impl<T: Shape> Shape for Vec<T> {
    fn shape() -> Value {
        json!({"type": "array", "items": T::shape()})
    }
}

impl<T: Shape> Shape for BTreeMap<String, T> {
    fn shape() -> Value {
        json!({"type": "object", "additionalProperties": T::shape()})
    }
}

/// The schema of one word of several; what the derive writes for an enum.
///
/// ```
/// let schema = clawker_plugin_sdk::settings::choice("", &["a", "b"]);
/// assert_eq!(schema.to_string(), r#"{"enum":["a","b"],"type":"string"}"#);
/// ```
pub fn choice(about: &str, words: &[&str]) -> Value {
    let mut schema = json!({"type": "string", "enum": words});
    describe(&mut schema, about);
    schema
}

/// Collects the schema of an object; what the derive writes for a struct.
///
/// ```
/// use clawker_plugin_sdk::settings::{Bounds, Object};
///
/// let mut object = Object::new("Where to look.");
/// object.key::<String>("path", "Absolute.", None, &Bounds::default(), false);
/// assert_eq!(object.shape()["required"], serde_json::json!(["path"]));
/// ```
#[derive(Debug)]
pub struct Object {
    about: &'static str,
    properties: Map<String, Value>,
    required: Vec<&'static str>,
}

impl Object {
    /// Without keys.
    pub fn new(about: &'static str) -> Self {
        Self {
            about,
            properties: Map::new(),
            required: Vec::new(),
        }
    }

    /// Adds a key. `secret_name` makes its text, or each of its texts, the name of a secret.
    pub fn key<T: Shape + Serialize>(
        &mut self,
        name: &'static str,
        about: &str,
        default: Option<T>,
        bounds: &Bounds,
        secret_name: bool,
    ) {
        let mut schema = T::shape();
        describe(&mut schema, about);
        bounds.put(&mut schema);
        if secret_name {
            *text(&mut schema) = json!("secret-name");
        }
        match default {
            Some(default) => {
                // A value that isn't JSON, such as NaN, has no place in a schema.
                if let Ok(default) = serde_json::to_value(default) {
                    schema["default"] = default;
                }
            }
            None if !T::OPTIONAL => self.required.push(name),
            None => {}
        }
        self.properties.insert(name.into(), schema);
    }

    /// The schema, which allows no other keys.
    pub fn shape(self) -> Value {
        let mut schema = json!({
            "type": "object",
            "additionalProperties": false,
            "properties": self.properties,
        });
        if !self.required.is_empty() {
            schema["required"] = json!(self.required);
        }
        describe(&mut schema, self.about);
        schema
    }
}

fn describe(schema: &mut Value, about: &str) {
    if !about.is_empty() {
        schema["description"] = about.into();
    }
}

/// The `format` of the texts in a list, in a map, or of the text itself.
fn text(schema: &mut Value) -> &mut Value {
    let inside = match schema["type"].as_str() {
        Some("array") => "items",
        Some("object") => "additionalProperties",
        _ => return &mut schema["format"],
    };
    text(&mut schema[inside])
}
