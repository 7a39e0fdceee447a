//! How small and how large a setting may be.

use std::collections::BTreeMap;

/// Bounds of one key, as `#[settings(min = …, max = …, min_len = …, max_len = …)]` says. Numbers are as they are
/// written, so that the schema says the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bounds {
    /// The smallest number.
    pub min: Option<&'static str>,
    /// The largest number.
    pub max: Option<&'static str>,
    /// Characters of a text, items of a list, keys of a map, at least.
    pub min_len: Option<usize>,
    /// Characters of a text, items of a list, keys of a map, at most.
    pub max_len: Option<usize>,
}

/// What `min` and `max` can be said of.
#[diagnostic::on_unimplemented(message = "`min` and `max` are of a number, `{Self}` is none")]
pub trait Number {
    /// `None` where there is none.
    fn number(&self) -> Option<f64>;

    /// Whether it is neither too small nor too large.
    ///
    /// ```
    /// use clawker_plugin_sdk::settings::Number;
    ///
    /// assert!(3_u32.is_within(1.0, 3.0) && !0_u32.is_within(1.0, 3.0) && None::<u8>.is_within(1.0, 3.0));
    /// ```
    fn is_within(&self, min: f64, max: f64) -> bool {
        self.number().is_none_or(|number| (min..=max).contains(&number))
    }
}

/// What `min_len` and `max_len` can be said of.
#[diagnostic::on_unimplemented(message = "`min_len` and `max_len` are of a text, a list or a map, `{Self}` is none")]
pub trait Length {
    /// `None` where there is none.
    fn length(&self) -> Option<usize>;

    /// Whether it is neither too short nor too long.
    ///
    /// ```
    /// use clawker_plugin_sdk::settings::Length;
    ///
    /// assert!("ä".to_owned().has_length(1, 1) && !vec![1, 2].has_length(0, 1));
    /// ```
    fn has_length(&self, min: usize, max: usize) -> bool {
        self.length().is_none_or(|length| (min..=max).contains(&length))
    }
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
    fn length(&self) -> Option<usize> {
        Some(self.chars().count())
    }
}

impl<T> Length for Vec<T> {
    fn length(&self) -> Option<usize> {
        Some(self.len())
    }
}

impl<T> Length for BTreeMap<String, T> {
    fn length(&self) -> Option<usize> {
        Some(self.len())
    }
}

impl<T: Length> Length for Option<T> {
    fn length(&self) -> Option<usize> {
        self.as_ref()?.length()
    }
}
