//! How small and how large a setting may be.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Of one key, as `#[settings(min = …, max = …, min_len = …, max_len = …)]` says.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Bounds {
    /// The smallest number.
    pub min: Option<f64>,
    /// The largest number.
    pub max: Option<f64>,
    /// Characters of a text, items of a list, keys of a map, at least.
    pub min_len: Option<usize>,
    /// Characters of a text, items of a list, keys of a map, at most.
    pub max_len: Option<usize>,
}

impl Bounds {
    /// Puts them into a schema, as the keywords that its type has.
    pub(super) fn put(&self, schema: &mut Value) {
        let (shortest, longest) = match schema["type"].as_str() {
            Some("array") => ("minItems", "maxItems"),
            Some("object") => ("minProperties", "maxProperties"),
            _ => ("minLength", "maxLength"),
        };
        for (keyword, length) in [(shortest, self.min_len), (longest, self.max_len)] {
            if let Some(length) = length {
                schema[keyword] = length.into();
            }
        }
        for (keyword, number) in [("minimum", self.min), ("maximum", self.max)] {
            if let Some(number) = number {
                schema[keyword] = whole(number);
            }
        }
    }

    /// Whether the key's number is neither too small nor too large.
    ///
    /// ```
    /// use clawker_plugin_sdk::settings::Bounds;
    ///
    /// let bounds = Bounds { min: Some(1.0), ..Bounds::default() };
    /// assert_eq!(bounds.number("failures", &0_u32), Err("`failures` must be at least 1".into()));
    /// assert_eq!(bounds.number("failures", &None::<u32>), Ok(()));
    /// ```
    pub fn number(&self, key: &str, value: &impl Number) -> Result<(), String> {
        match (value.number(), self.min, self.max) {
            (Some(number), Some(min), _) if number < min => Err(format!("`{key}` must be at least {min}")),
            (Some(number), _, Some(max)) if number > max => Err(format!("`{key}` must be at most {max}")),
            _ => Ok(()),
        }
    }

    /// Whether the key's value is neither too short nor too long.
    ///
    /// ```
    /// use clawker_plugin_sdk::settings::Bounds;
    ///
    /// let bounds = Bounds { max_len: Some(1), ..Bounds::default() };
    /// assert_eq!(bounds.length("path", &"ab".to_owned()), Err("`path` must have at most 1 characters".into()));
    /// assert_eq!(bounds.length("argv", &vec![0]), Ok(()));
    /// ```
    pub fn length<T: Length>(&self, key: &str, value: &T) -> Result<(), String> {
        match (value.length(), self.min_len, self.max_len) {
            (Some(len), Some(min), _) if len < min => Err(format!("`{key}` must have at least {min} {}", T::OF)),
            (Some(len), _, Some(max)) if len > max => Err(format!("`{key}` must have at most {max} {}", T::OF)),
            _ => Ok(()),
        }
    }
}

/// Without a fraction where there is none.
fn whole(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < 9e15 {
        json!(number as i64)
    } else {
        json!(number)
    }
}

/// What `min` and `max` can be said of.
pub trait Number {
    /// `None` where there is none.
    fn number(&self) -> Option<f64>;
}

/// What `min_len` and `max_len` can be said of.
pub trait Length {
    /// What is counted.
    const OF: &str;
    /// `None` where there is none.
    fn length(&self) -> Option<usize>;
}

macro_rules! numbers {
    ($($number:ty),*) => {
        $(impl Number for $number {
            fn number(&self) -> Option<f64> {
                Some(*self as f64)
            }
        })*
    };
}

numbers!(u8, u16, u32, u64, i8, i16, i32, i64, f64);

impl<T: Number> Number for Option<T> {
    fn number(&self) -> Option<f64> {
        self.as_ref()?.number()
    }
}

impl Length for String {
    const OF: &str = "characters";

    fn length(&self) -> Option<usize> {
        Some(self.chars().count())
    }
}

impl<T> Length for Vec<T> {
    const OF: &str = "items";

    fn length(&self) -> Option<usize> {
        Some(self.len())
    }
}

impl<T> Length for BTreeMap<String, T> {
    const OF: &str = "keys";

    fn length(&self) -> Option<usize> {
        Some(self.len())
    }
}

impl<T: Length> Length for Option<T> {
    const OF: &str = T::OF;

    fn length(&self) -> Option<usize> {
        self.as_ref()?.length()
    }
}
