//! One rule against one event.

use std::sync::Arc;

use cel::{Context, ExecutionError, ParseErrors, Program, Value};
use clawker_plugin_sdk::policy::{Event, Facts};

use crate::settings::Rule;
use crate::{values, watched};

/// A rule whose expression was read.
pub struct Read {
    when: Program,
}

impl Read {
    pub fn new(rule: &Rule) -> Result<Self, String> {
        let when = Program::compile(&rule.when).map_err(|errors| not_cel(&errors))?;
        Ok(Self { when })
    }

    /// Whether it is true of this event.
    pub fn holds(&self, context: &Context<'_>) -> Result<bool, String> {
        match self.when.execute(context) {
            Ok(Value::Bool(holds)) => Ok(holds),
            Ok(other) => Err(format!("`when` is a {}, not true or false", other.type_of())),
            Err(error) => Err(format!("`when`: {}", short(&error.to_string()))),
        }
    }
}

/// What expressions may name: `event`, `body`, `containment` and `count(kind, seconds)`.
pub fn context(event: &Event, facts: &Facts) -> Result<Context<'static>, String> {
    let body: serde_json::Value = event.read().map_err(|error| format!("the event's body: {error}"))?;
    let mut context = Context::default();
    let number = |number: u64| i64::try_from(number).map_or(Value::UInt(number), Value::Int);
    let fields = [
        ("kind", values::string(&event.kind)),
        ("seq", number(event.seq)),
        ("at", number(event.at)),
        ("agent", event.agent.as_deref().map_or(Value::Null, values::string)),
    ];
    context.add_variable_from_value("event", values::map(fields.into_iter()));
    context.add_variable_from_value("body", values::from_json(&body));
    let axes = watched::axes(&facts.containment).map(|(axis, state)| (axis, values::string(state)));
    context.add_variable_from_value("containment", values::map(axes.into_iter()));
    let facts = facts.clone();
    let count = move |kind: Arc<String>, seconds: i64| -> Result<i64, ExecutionError> {
        let counted = watched::count(&facts, &kind, seconds);
        let counted = counted.ok_or_else(|| ExecutionError::function_error("count", windows(&kind)))?;
        Ok(i64::try_from(counted).unwrap_or(i64::MAX))
    };
    context.add_function("count", count);
    Ok(context)
}

fn windows(kind: &str) -> String {
    let of_kind = watched::WINDOWS.iter().filter(|window| window.kind == kind);
    let seconds: Vec<String> = of_kind.map(|window| window.seconds.to_string()).collect();
    if seconds.is_empty() {
        return format!("`{kind:.80}` isn't counted; `times` and `within` count whatever a rule says");
    }
    format!("`{kind:.80}` is counted over {} seconds", seconds.join(", "))
}

fn not_cel(errors: &ParseErrors) -> String {
    let said = match errors.errors.first() {
        Some(error) => format!("line {}, column {}: {}", error.pos.0, error.pos.1, short(&error.msg)),
        None => "it can't be read".into(),
    };
    format!("`when` is not CEL: {said}")
}

/// The library's messages print whole values.
fn short(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    format!("{line:.200}")
}

/// The library panics on the little that it doesn't implement (messages; macros over what is no list). That ends the
/// call; this makes the host's line say whose fault it was.
#[cfg(target_arch = "wasm32")]
pub fn name_in_panics(rule: &Rule) {
    let name = rule.name.clone();
    std::panic::set_hook(Box::new(move |panic| {
        clawker_plugin_sdk::log::error(&format!(
            "rule `{name}`: `when`: {}",
            short(&panic.to_string().replace('\n', " "))
        ));
    }));
}

#[cfg(not(target_arch = "wasm32"))]
pub fn name_in_panics(_: &Rule) {}
