//! Policies without code: a module in Rego, from the settings.
//!
//! ```text
//! event, facts, state ──► input ──► data.clawker.verdicts ──► verdicts
//!                                   data.clawker.state ─────► input.state of the agent's next event
//! ```
//! A call has a fresh instance, so the module is read at each call. Whatever can't be read or evaluated is a fault, and
//! the host applies the operator's fallback: a builtin that is given what it can't take isn't passed over as undefined.

#[path = "../../cel-rules/src/watched.rs"]
mod watched;

use clawker_plugin_sdk::policy::{Event, Facts, Fault, Policy, Verdict, Window};
use regorus::{Engine, Value};
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

/// Bytes of a module.
const MAX_POLICY: usize = 32 << 10;
/// Bytes of the state, as the host has it.
const MAX_STATE: usize = 16 << 10;

struct RegoRules;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    policy: String,
    #[serde(default)]
    data: Map<String, Json>,
}

/// What a module says should be done.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    action: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    allow: Vec<String>,
}

impl Policy for RegoRules {
    const NAME: &str = "rego-rules";
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    const SETTINGS_SCHEMA: &str = include_str!("settings.schema.json");
    const EVENTS: &[&str] = watched::EVENTS;
    const WINDOWS: &[Window] = watched::WINDOWS;
    type Settings = Settings;
    type State = Json;

    fn evaluate(event: &Event, facts: &Facts, settings: &Settings, state: &mut Json) -> Result<Vec<Verdict>, Fault> {
        let mut engine = engine(settings)?;
        engine.set_input(value(&input(event, facts, state)?)?);
        let asked = engine.eval_rule("data.clawker.verdicts".into());
        for line in engine.take_prints().unwrap_or_default() {
            clawker_plugin_sdk::log::debug(&line);
        }
        let asked = match asked.map_err(|error| missing(&error).unwrap_or_else(|| failed("verdicts", &error)))? {
            Value::Undefined => Vec::new(),
            asked => read("verdicts", &asked)?,
        };
        match engine.eval_rule("data.clawker.state".into()) {
            // A module without such a rule remembers nothing; one whose rule is undefined leaves things as they are.
            Ok(Value::Undefined) => {}
            Ok(next) => *state = read("state", &next)?,
            Err(error) if missing(&error).is_some() => *state = Json::Null,
            Err(error) => return Err(failed("state", &error).into()),
        }
        let bytes = state.to_string().len();
        if bytes > MAX_STATE {
            return Err(format!("`state` has {bytes} bytes, the limit is {MAX_STATE}").into());
        }
        verdicts(asked)
    }
}

clawker_plugin_sdk::export_policy!(RegoRules);

fn engine(settings: &Settings) -> Result<Engine, String> {
    let bytes = settings.policy.len();
    if bytes > MAX_POLICY {
        return Err(format!("`policy` has {bytes} bytes, the limit is {MAX_POLICY}"));
    }
    if settings.data.contains_key("clawker") {
        return Err("`data` can't have a `clawker`: that is the module".into());
    }
    let mut engine = Engine::new();
    engine.set_strict_builtin_errors(true);
    engine.set_gather_prints(true);
    let package = engine.add_policy("policy".into(), settings.policy.clone());
    let package = package.map_err(|error| failed("policy", &error))?;
    if package != "data.clawker" {
        return Err(format!(
            "`policy` is of the package `{package:.80}`; it must begin with `package clawker`"
        ));
    }
    let data = value(&Json::Object(settings.data.clone()))?;
    engine.add_data(data).map_err(|error| failed("data", &error))?;
    Ok(engine)
}

/// What the module sees as `input`.
fn input(event: &Event, facts: &Facts, state: &Json) -> Result<Json, String> {
    let body: Json = event.read().map_err(|error| format!("the event's body: {error}"))?;
    let mut counts = Map::new();
    for window in &facts.counts {
        let of_kind = counts.entry(window.kind.clone()).or_insert_with(|| json!({}));
        of_kind[window.seconds.to_string()] = window.count.into();
    }
    let state = if state.is_null() { json!({}) } else { state.clone() };
    let axes = watched::axes(&facts.containment).map(|(axis, state)| (axis.to_owned(), state.into()));
    Ok(json!({
        "event": { "kind": event.kind, "seq": event.seq, "at": event.at, "agent": event.agent },
        "body": body,
        "counts": counts,
        "containment": Map::from_iter(axes),
        "state": state,
    }))
}

fn verdicts(asked: Vec<Asked>) -> Result<Vec<Verdict>, Fault> {
    let mut verdicts = Vec::new();
    for Asked { action, reason, allow } in asked {
        let verdict = watched::verdict(&action, &allow, reason).map_err(|problem| format!("`verdicts`: {problem}"))?;
        watched::say(&mut verdicts, verdict)?;
    }
    Ok(verdicts)
}

fn value(json: &Json) -> Result<Value, String> {
    serde_json::from_value(json.clone()).map_err(|error| format!("as a value of Rego: {error}"))
}

fn read<T: serde::de::DeserializeOwned>(rule: &str, value: &Value) -> Result<T, String> {
    let json = serde_json::to_value(value).map_err(|error| failed(rule, &error))?;
    let shown = format!("{:.200}", json.to_string());
    serde_json::from_value(json).map_err(|error| format!("`{rule}` is {shown}: {error}"))
}

/// Says so if the module has no such rule.
fn missing(error: &impl std::fmt::Display) -> Option<String> {
    let absent = error.to_string().contains("not a valid rule path");
    absent.then(|| "`policy` has no rule `verdicts`".into())
}

/// The library's message is a picture of several lines: one names the place, another says what is wrong.
fn failed(what: &str, error: &impl std::fmt::Display) -> String {
    let said = error.to_string();
    let line = |begin: &str| said.lines().find_map(|line| line.trim().strip_prefix(begin));
    match (line("--> policy:"), line("error: ")) {
        (Some(place), Some(problem)) => format!("`{what}`, line {place}: {problem:.300}"),
        _ => format!("`{what}`: {:.300}", said.replace('\n', " ")),
    }
}

#[cfg(test)]
#[path = "../../cel-rules/src/page.rs"]
mod page;
#[cfg(test)]
mod tests;
