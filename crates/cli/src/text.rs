//! Text for a person's terminal: foreign text made harmless, ages, names.

use std::borrow::Cow;

use serde_json::Value;

/// `text` without anything that a terminal would obey: control characters (C0, DEL, C1), overrides of
/// writing direction, and characters that show nothing. A line break or tab becomes a space.
///
/// Names, reasons and event bodies come from agents and images, which may be hostile.
pub fn plain(text: &str) -> Cow<'_, str> {
    if text.chars().all(harmless) {
        return Cow::Borrowed(text);
    }
    let shown = text.chars().filter_map(|c| match c {
        '\n' | '\t' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}' => Some(' '),
        c => harmless(c).then_some(c),
    });
    Cow::Owned(shown.collect())
}

/// JSON with such characters escaped: inside its strings is the only place where they can be.
pub fn plain_json(json: &str) -> Cow<'_, str> {
    if json.chars().all(harmless) {
        return Cow::Borrowed(json);
    }
    let mut escaped = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if harmless(c) {
            escaped.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    Cow::Owned(escaped)
}

fn harmless(c: char) -> bool {
    !c.is_control()
        && !matches!(c,
            '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{feff}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{e0000}'..='\u{e007f}')
}

/// The name as a person types it: `web.scout` for `clawker.web.scout`.
pub fn short_name(name: &str) -> Cow<'_, str> {
    plain(name.strip_prefix("clawker.").unwrap_or(name))
}

/// `4 minutes`; the largest unit that counts at least one, two for the small ones.
pub fn age(ms: u64) -> String {
    let seconds = ms / 1000;
    let (count, unit) = match seconds {
        0 => return "less than a second".to_owned(),
        1..=119 => (seconds, "second"),
        120..=7199 => (seconds / 60, "minute"),
        7200..=172_799 => (seconds / 3600, "hour"),
        172_800..=1_209_599 => (seconds / 86_400, "day"),
        1_209_600..=63_071_999 => (seconds / 604_800, "week"),
        _ => (seconds / 31_536_000, "year"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

/// How long before `now_ms` it was; a clock that went back makes it `just now`.
pub fn ago(now_ms: u64, at_ms: u64) -> String {
    match now_ms.saturating_sub(at_ms) {
        0..=999 => "just now".to_owned(),
        ms => format!("{} ago", age(ms)),
    }
}

/// `5s`, `4m`, `3h`, `2d`: how long before `now_ms` it was. Empty for what never was.
pub fn brief(now_ms: u64, at_ms: u64) -> String {
    if at_ms == 0 {
        return String::new();
    }
    match now_ms.saturating_sub(at_ms) / 1000 {
        seconds @ 0..=99 => format!("{seconds}s"),
        seconds @ 100..=5_999 => format!("{}m", seconds / 60),
        seconds @ 6_000..=172_799 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// RFC 3339 in UTC with milliseconds.
pub fn rfc3339(at_ms: u64) -> String {
    let nanos = i128::from(at_ms) * 1_000_000;
    match time::OffsetDateTime::from_unix_timestamp_nanos(nanos) {
        Ok(at) => format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            at.year(),
            u8::from(at.month()),
            at.day(),
            at.hour(),
            at.minute(),
            at.second(),
            at.millisecond()
        ),
        Err(_) => format!("@{at_ms}ms"),
    }
}

/// `1 agent`, `2 agents`.
pub fn count(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// Fields that identify rather than tell; a line of a listing has them last.
const IDENTIFY: &[&str] = &[
    "at_ms",
    "boot_id",
    "cause",
    "container",
    "cp_life",
    "digest",
    "fuel",
    "init_life",
    "key",
    "key_hash",
    "micros",
    "run",
    "state",
    "state_after",
    "state_before",
    "thumbprint",
];
/// Items of an array that are shown.
const ITEMS: usize = 8;

/// A JSON value as `key value, key value`, for one line of a listing: what tells something first, ids shortened.
/// `null` and empty ones are left out.
pub fn outline(body: &Value) -> String {
    let Value::Object(fields) = body else {
        return word(body);
    };
    let (last, first): (Vec<_>, Vec<_>) = fields.iter().partition(|(key, _)| IDENTIFY.contains(&key.as_str()));
    let shown = first.into_iter().chain(last).filter(|(_, value)| says_something(value));
    let shown = shown.map(|(key, value)| format!("{} {}", plain(key).replace('_', " "), word(value)));
    shown.collect::<Vec<_>>().join(", ")
}

fn word(value: &Value) -> String {
    match value {
        Value::String(text) if is_digest(text) => text.chars().take(12).collect(),
        Value::String(text) => plain(text).into_owned(),
        Value::Array(items) if items.len() > ITEMS && items.iter().all(Value::is_number) => {
            format!("({} bytes)", items.len())
        }
        Value::Array(items) => items.iter().map(word).collect::<Vec<_>>().join(" "),
        // The name of an only field says no more than the field it stands in.
        Value::Object(fields) if fields.len() == 1 => fields.values().map(word).collect(),
        Value::Object(_) => format!("({})", outline(value)),
        other => other.to_string(),
    }
}

fn says_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => true,
    }
}

fn is_digest(text: &str) -> bool {
    text.len() >= 32 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// `line` as one line of a terminal; whole where it goes elsewhere.
pub fn cut(line: &str, width: Option<u16>) -> String {
    let width = usize::from(width.unwrap_or(u16::MAX));
    if line.chars().count() <= width {
        return line.to_owned();
    }
    let mut kept: String = line.chars().take(width.saturating_sub(1)).collect();
    kept.push('…');
    kept
}
