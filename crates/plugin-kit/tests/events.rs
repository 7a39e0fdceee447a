//! The SDK's typed events are what the control plane journals.
//!
//! Each is written as JSON, read as the model's event, written by the model and read as the SDK's again: a field that
//! the model needs and the SDK lacks fails the first, one that it has beyond fails the last.

use std::collections::BTreeSet;

use clawker_model::Event;
use clawker_model::event::UntrustedReason;
use clawker_plugin_host::is_offered;
use clawker_plugin_sdk::events::{self, Happened, Kind, UNTRUSTED_REASONS};
use clawker_plugin_sdk::policy;
use serde_json::{Value, json};

/// Kinds that the SDK has no type of: what the host writes for itself, and bodies that are its own records.
const WITHOUT_A_TYPE: &[&str] = &[
    "ControlPlaneStarted",
    "ControlPlaneStopping",
    "AgentCreating",
    "AgentCreateFailed",
    "RebuildBegun",
    "AgentAdopted",
    "AdoptionRefused",
    "AgentReadyFound",
    "StoreRebuilt",
    "StartBegan",
    "BundleIssued",
    "SessionConnecting",
    "RegistryRowWritten",
    "RegistryRowEvicted",
    "InitStepStarted",
    "InitEffectIntended",
    "InitEffectDone",
    "AgentReadyIntended",
    "RestartsBegun",
    "ReapDegraded",
    "SessionHalfUpgrading",
    "SessionHalfUpgraded",
    "PluginInstalled",
    "PluginRemoved",
    "PluginPromoted",
    "SubsystemDegraded",
    "SubsystemRecovered",
    "IdentityRotated",
    "IdentityConfirmed",
    "AuthorityRotated",
];

/// A value that the model takes for the SDK's text of that name.
fn text(kind: &str, field: &str) -> Value {
    match (kind, field) {
        (_, "container" | "foreign" | "shown_by" | "thumbprint") => json!("a".repeat(64)),
        (_, "run") => json!("a".repeat(22)),
        ("SessionFailed", "reason") => json!("fd_ceiling"),
        ("AgentUntrusted" | "AgentRegistered" | "IdentityRecovered", "reason") => json!("cn_mismatch"),
        ("InitStepFailed" | "InitFailed", "reason") => json!("timeout"),
        ("ContainerDestroyed", "seen") => json!("relist"),
        ("LeaseLost", "then") => json!("stop"),
        _ => json!(format!("some {field}")),
    }
}

/// No field has its default, so that one that gets lost is seen.
fn filled<K: Kind + Default>() -> Value {
    let mut body = serde_json::to_value(K::default()).expect("JSON");
    for (field, value) in body.as_object_mut().expect("an object") {
        *value = match value {
            Value::String(_) => text(K::KIND, field),
            Value::Number(_) => json!(7),
            Value::Bool(_) => json!(true),
            Value::Array(_) => json!(["x"]),
            // An Option.
            _ if field == "signal" => json!(9),
            _ => text(K::KIND, field),
        };
    }
    body
}

fn compared<K: Kind + Default + PartialEq + std::fmt::Debug>(kinds: &mut BTreeSet<&'static str>) {
    let body = filled::<K>();
    let ours: K = serde_json::from_value(body.clone()).expect("the SDK's");
    let row = json!({"kind": K::KIND, "body": body});
    let event: Event = serde_json::from_value(row).unwrap_or_else(|error| panic!("{}: {error}", K::KIND));
    let journaled = serde_json::to_value(&event).expect("JSON")["body"].clone();
    assert_eq!(journaled, body, "{}: the model has other fields", K::KIND);
    let handed = policy::Event {
        kind: event.kind().into(),
        seq: 1,
        at: 0,
        agent: None,
        body: journaled.to_string(),
    };
    assert_eq!(handed.typed::<K>().expect("reads"), Some(ours));
    assert_ne!(Happened::of(&handed).expect("reads"), Happened::Other);
    kinds.insert(K::KIND);
}

macro_rules! compare {
    ($($kind:ident)*) => {{
        let mut kinds = BTreeSet::new();
        $(compared::<events::$kind>(&mut kinds);)*
        kinds
    }};
}

#[test]
fn every_typed_event_is_the_models() {
    let compared = compare! {
        AgentCreated AgentRemoved SessionConnected SessionFailed SessionBroken AgentRegistered AgentUntrusted AgentTrusted
        InitStarted InitStepCompleted InitStepFailed InitCompleted InitFailed AgentReadySent MainExited RestartPlanned
        RestartsEnded ContainerStarted ContainerDied ContainerPaused ContainerUnpaused ContainerOom ContainerDestroyed
        ContainerHealth ContainerNetworkConnected NetnsShared ExecStarted ExecExited EgressDenied LeaseLost
        SessionHalfStopped IdentityRecovered IdentityLeaked OperatorCommand
    };
    let typed: BTreeSet<&str> = Happened::KINDS.iter().copied().collect();
    assert_eq!(compared, typed);
}

#[test]
fn every_kind_of_the_model_has_a_type_or_a_reason_to_have_none() {
    let known: BTreeSet<&str> = Happened::KINDS.iter().chain(WITHOUT_A_TYPE).copied().collect();
    let offered: BTreeSet<&str> = Event::KINDS.iter().copied().filter(|kind| is_offered(kind)).collect();
    assert_eq!(known, offered);
}

#[test]
fn a_body_of_an_earlier_release_is_read() {
    let event = |kind: &str, body: &str| policy::Event {
        kind: kind.into(),
        seq: 1,
        at: 0,
        agent: None,
        body: body.into(),
    };
    for (kind, body) in [
        ("ExecExited", r#"{"exec":"e","code":1,"signal":null}"#),
        ("ContainerDied", r#"{"container":"c","exit_code":0}"#),
        ("ContainerDestroyed", r#"{"container":"c"}"#),
        ("LeaseLost", r#"{"seconds":1}"#),
    ] {
        Happened::of(&event(kind, body)).unwrap_or_else(|error| panic!("{kind}: {error}"));
    }
}

#[test]
fn the_reasons_are_the_models() {
    let model: Vec<String> = UntrustedReason::ALL.iter().map(ToString::to_string).collect();
    assert_eq!(UNTRUSTED_REASONS, model);
}
