//! A JSON Schema, as text in the end. Not `serde_json::Value`: it would be a good part of a small component.

use std::fmt;

use super::Bounds;

/// A JSON Schema of what settings are made of; its text by `to_string`.
#[derive(Debug, Clone, Default)]
pub struct Schema {
    of: Option<&'static str>,
    about: &'static str,
    words: &'static [&'static str],
    bounds: Bounds,
    secret_name: bool,
    /// Of a list's items, of a map's values.
    each: Option<Box<Schema>>,
    object: Option<Keys>,
    /// JSON.
    default: Option<String>,
    /// With the version, for the schema of all settings.
    version: Option<u32>,
}

/// Those that an object may have.
#[derive(Debug, Clone)]
struct Keys {
    properties: Vec<(&'static str, Schema)>,
    required: Vec<&'static str>,
}

impl Schema {
    pub(super) fn of(of: &'static str) -> Self {
        Self {
            of: Some(of),
            ..Self::default()
        }
    }

    /// Keeps what its type says of itself where the key says nothing.
    pub(super) fn about(mut self, about: &'static str) -> Self {
        if !about.is_empty() {
            self.about = about;
        }
        self
    }

    pub(super) fn one_of(mut self, words: &'static [&'static str]) -> Self {
        self.words = words;
        self
    }

    pub(super) fn of_each(mut self, each: Schema) -> Self {
        self.each = Some(Box::new(each));
        self
    }

    pub(super) fn at_least(mut self, min: &'static str) -> Self {
        self.bounds.min = Some(min);
        self
    }

    pub(super) fn at_most(mut self, max: &'static str) -> Self {
        self.bounds.max = Some(max);
        self
    }

    pub(super) fn within(mut self, bounds: Bounds) -> Self {
        self.bounds = Bounds {
            min: bounds.min.or(self.bounds.min),
            max: bounds.max.or(self.bounds.max),
            ..bounds
        };
        self
    }

    pub(super) fn naming_secrets(mut self) -> Self {
        match self.each.take() {
            Some(each) => self.each = Some(Box::new(each.naming_secrets())),
            None => self.secret_name = true,
        }
        self
    }

    pub(super) fn or(mut self, default: String) -> Self {
        self.default = Some(default);
        self
    }

    pub(super) fn with(mut self, properties: Vec<(&'static str, Schema)>, required: Vec<&'static str>) -> Self {
        self.object = Some(Keys { properties, required });
        self
    }

    pub(super) fn versioned(mut self, version: u32) -> Self {
        self.version = Some(version);
        self
    }
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut keywords = Keywords { f, any: false };
        keywords.begin()?;
        if let Some(version) = self.version {
            keywords.text("$schema", "https://json-schema.org/draft/2020-12/schema")?;
            keywords.raw("x-version", &version)?;
        }
        if let Some(of) = self.of {
            keywords.text("type", of)?;
        }
        if !self.about.is_empty() {
            keywords.text("description", self.about)?;
        }
        if !self.words.is_empty() {
            keywords.raw("enum", &Texts(self.words))?;
        }
        if self.secret_name {
            keywords.text("format", "secret-name")?;
        }
        let Bounds {
            min,
            max,
            min_len,
            max_len,
        } = self.bounds;
        let (shortest, longest) = match self.of {
            Some("array") => ("minItems", "maxItems"),
            Some("object") => ("minProperties", "maxProperties"),
            _ => ("minLength", "maxLength"),
        };
        for (keyword, number) in [("minimum", min), ("maximum", max)] {
            number.map_or(Ok(()), |number| keywords.raw(keyword, &number))?;
        }
        for (keyword, length) in [(shortest, min_len), (longest, max_len)] {
            length.map_or(Ok(()), |length| keywords.raw(keyword, &length))?;
        }
        if let Some(each) = &self.each {
            let keyword = if self.of == Some("array") {
                "items"
            } else {
                "additionalProperties"
            };
            keywords.raw(keyword, each)?;
        }
        if let Some(Keys { properties, required }) = &self.object {
            keywords.raw("additionalProperties", &false)?;
            keywords.raw("properties", &Properties(properties))?;
            if !required.is_empty() {
                keywords.raw("required", &Texts(required))?;
            }
        }
        if let Some(default) = &self.default {
            keywords.raw("default", default)?;
        }
        keywords.end()
    }
}

/// Writes an object.
struct Keywords<'a, 'f> {
    f: &'a mut fmt::Formatter<'f>,
    any: bool,
}

impl Keywords<'_, '_> {
    fn begin(&mut self) -> fmt::Result {
        self.f.write_str("{")
    }

    fn text(&mut self, keyword: &str, text: &str) -> fmt::Result {
        self.raw(keyword, &Text(text))
    }

    fn raw(&mut self, keyword: &str, json: &dyn fmt::Display) -> fmt::Result {
        let comma = if self.any { "," } else { "" };
        self.any = true;
        write!(self.f, "{comma}{}:{json}", Text(keyword))
    }

    fn end(&mut self) -> fmt::Result {
        self.f.write_str("}")
    }
}

/// A text as JSON.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self.0).map_err(|_| fmt::Error)?)
    }
}

struct Texts<'a>(&'a [&'a str]);

impl fmt::Display for Texts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self.0).map_err(|_| fmt::Error)?)
    }
}

struct Properties<'a>(&'a [(&'static str, Schema)]);

impl fmt::Display for Properties<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut keywords = Keywords { f, any: false };
        keywords.begin()?;
        for (name, schema) in self.0 {
            keywords.raw(name, schema)?;
        }
        keywords.end()
    }
}
