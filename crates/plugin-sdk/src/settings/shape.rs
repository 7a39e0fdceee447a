//! JSON Schemas of the types that settings are made of.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::Serialize;
use serde_json::{Map, Value};

use super::Bounds;
use super::schema::Schema;

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
    /// let schema = <Vec<u8>>::shape().to_string();
    /// assert_eq!(schema, r#"{"type":"array","items":{"type":"integer","minimum":0,"maximum":255}}"#);
    /// ```
    fn shape() -> Schema;
}

macro_rules! shapes {
    ($($of:ty: $name:literal $([$min:literal] $([$max:literal])?)?,)*) => {
        $(impl Shape for $of {
            fn shape() -> Schema {
                Schema::of($name)$(.at_least($min)$(.at_most($max))?)?
            }
        })*
    };
}

shapes! {
    bool: "boolean",
    String: "string",
    f64: "number",
    u64: "integer" ["0"],
    i64: "integer",
    u8: "integer" ["0"] ["255"],
    u16: "integer" ["0"] ["65535"],
    u32: "integer" ["0"] ["4294967295"],
    i8: "integer" ["-128"] ["127"],
    i16: "integer" ["-32768"] ["32767"],
    i32: "integer" ["-2147483648"] ["2147483647"],
    // The host doesn't check that it is one; reading it does.
    SocketAddr: "string",
    IpAddr: "string",
    Map<String, Value>: "object",
}

impl Shape for Value {
    fn shape() -> Schema {
        Schema::default()
    }
}

impl<T: Shape> Shape for Option<T> {
    const OPTIONAL: bool = true;

    fn shape() -> Schema {
        T::shape()
    }
}

impl<T: Shape> Shape for Vec<T> {
    fn shape() -> Schema {
        Schema::of("array").of_each(T::shape())
    }
}

impl<T: Shape> Shape for BTreeMap<String, T> {
    fn shape() -> Schema {
        Schema::of("object").of_each(T::shape())
    }
}

/// The schema of one word of several; what the derive writes for an enum.
///
/// ```
/// let schema = clawker_plugin_sdk::settings::choice("", &["a", "b"]);
/// assert_eq!(schema.to_string(), r#"{"type":"string","enum":["a","b"]}"#);
/// ```
pub fn choice(about: &'static str, words: &'static [&'static str]) -> Schema {
    Schema::of("string").about(about).one_of(words)
}

/// Collects the schema of an object; what the derive writes for a struct.
///
/// ```
/// use clawker_plugin_sdk::settings::{Bounds, Object};
///
/// let mut object = Object::new("Where to look.");
/// object.key::<String>("path", "", None, Bounds::default(), false);
/// assert!(object.shape().to_string().contains(r#""required":["path"]"#));
/// ```
#[derive(Debug)]
pub struct Object {
    about: &'static str,
    properties: Vec<(&'static str, Schema)>,
    required: Vec<&'static str>,
}

impl Object {
    /// Without keys.
    pub fn new(about: &'static str) -> Self {
        Self {
            about,
            properties: Vec::new(),
            required: Vec::new(),
        }
    }

    /// Adds a key. `secret_name` makes its text, or each of its texts, the name of a secret.
    pub fn key<T: Shape + Serialize>(
        &mut self,
        name: &'static str,
        about: &'static str,
        default: Option<T>,
        bounds: Bounds,
        secret_name: bool,
    ) {
        let mut schema = T::shape().about(about).within(bounds);
        if secret_name {
            schema = schema.naming_secrets();
        }
        // A value that isn't JSON, such as NaN, has no place in a schema.
        match default.map(|default| serde_json::to_string(&default)) {
            Some(Ok(default)) => schema = schema.or(default),
            None if !T::OPTIONAL => self.required.push(name),
            _ => {}
        }
        self.properties.push((name, schema));
    }

    /// The schema, which allows no other keys.
    pub fn shape(self) -> Schema {
        Schema::of("object")
            .about(self.about)
            .with(self.properties, self.required)
    }
}
