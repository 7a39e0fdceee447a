//! What a verdict says to people.
//!
//! A field is a path, not an expression: it costs next to nothing, and it can't fail when a rule comes true. What isn't
//! there is shown as `?`.

use clawker_plugin_sdk::policy::Event;
use serde_json::Value;

use crate::settings::Rule;

/// Characters of one field.
const MAX_FIELD: usize = 200;

/// A piece of a reason.
#[derive(Debug, PartialEq, Eq)]
enum Part<'a> {
    Text(&'a str),
    Field(&'a str),
}

/// Whether the reason is well formed.
pub fn check(reason: &str) -> Result<(), String> {
    for part in parts(reason)? {
        if let Part::Field(path) = part {
            let known = path.strip_prefix("body.").is_some_and(|rest| !rest.is_empty())
                || ["event.kind", "event.agent", "times", "within"].contains(&path);
            if !known {
                return Err(format!(
                    "`reason` can't show `{{{path:.80}}}`, but {{event.kind}}, {{event.agent}}, {{body.…}}, {{times}} \
                     and {{within}}"
                ));
            }
        }
    }
    Ok(())
}

/// The rule's name and the reason that it gives.
pub fn of(rule: &Rule, event: &Event) -> Result<String, String> {
    let mut why = rule.name.clone();
    let mut body = None;
    for (number, part) in parts(&rule.reason)?.into_iter().enumerate() {
        if number == 0 {
            why.push_str(": ");
        }
        match part {
            Part::Text(text) => why.push_str(text),
            Part::Field("event.kind") => why.push_str(&event.kind),
            Part::Field("event.agent") => why.push_str(event.agent.as_deref().unwrap_or("?")),
            Part::Field("times") => why.push_str(&rule.times.to_string()),
            Part::Field("within") => why.push_str(&rule.within.unwrap_or_default().to_string()),
            Part::Field(path) => {
                let body = body.get_or_insert_with(|| event.read().unwrap_or(Value::Null));
                let found = path.split('.').skip(1).try_fold(&*body, |value, key| value.get(key));
                let text = found.map_or_else(|| "?".into(), text);
                why.extend(text.chars().take(MAX_FIELD));
            }
        }
    }
    Ok(why)
}

/// A list is shown as its members, e.g. the words of a command line.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

/// `{{` and `}}` stand for braces.
fn parts(mut reason: &str) -> Result<Vec<Part<'_>>, String> {
    let mut parts = Vec::new();
    while let Some(at) = reason.find(['{', '}']) {
        let (text, rest) = reason.split_at(at);
        if rest.starts_with("{{") || rest.starts_with("}}") {
            parts.push(Part::Text(&reason[..=at]));
            reason = &rest[2..];
            continue;
        }
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        let Some((path, rest)) = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')) else {
            return Err("`reason`: a brace without its other; `{{` and `}}` stand for braces".into());
        };
        parts.push(Part::Field(path));
        reason = rest;
    }
    if !reason.is_empty() {
        parts.push(Part::Text(reason));
    }
    Ok(parts)
}
