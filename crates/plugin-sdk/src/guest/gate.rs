//! The world `gate`.

use std::marker::PhantomData;

use super::policy::clawker::plugin::{settings, types};
use crate::gate::{Decision, Facts, Gate, Request};

#[expect(missing_docs, reason = "generated; the WIT files are the documentation")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "wit",
        world: "gate",
        pub_export_macro: true,
        default_bindings_module: "clawker_plugin_sdk::guest::gate::bindings",
        with: {
            "clawker:plugin/types@0.1.0": crate::guest::policy::clawker::plugin::types,
            "clawker:plugin/log@0.1.0": crate::guest::policy::clawker::plugin::log,
            "clawker:plugin/settings@0.1.0": crate::guest::policy::clawker::plugin::settings,
        },
    });
}

use bindings::clawker::plugin::gate_types;

/// Exports a [`Gate`].
pub struct GateGuest<G>(PhantomData<G>);

impl<G: Gate> bindings::Guest for GateGuest<G> {
    fn describe() -> types::Description {
        types::Description {
            name: G::NAME.into(),
            version: G::VERSION.into(),
            kind: types::Kind::Gate,
            settings_schema: G::settings_schema(),
            events: Vec::new(),
            windows: Vec::new(),
        }
    }

    fn decide(request: gate_types::DeployRequest, facts: gate_types::Facts) -> gate_types::Decision {
        super::explain_panics();
        let decided = G::read_settings(&settings::get())
            .and_then(|settings| G::decide(&asked(request), &known(facts), &settings));
        match decided.unwrap_or_else(|fault| super::trap(&fault.to_string())) {
            Decision::Allow => gate_types::Decision::Allow,
            Decision::Deny { reason } => gate_types::Decision::Deny(reason),
            Decision::Hold { reason, retry_after } => {
                gate_types::Decision::Hold(gate_types::Hold { reason, retry_after })
            }
        }
    }
}

fn asked(request: gate_types::DeployRequest) -> Request {
    let gate_types::DeployRequest {
        id,
        at,
        requested_at,
        holds,
        rollout,
        wave,
        waves,
        host,
        channel,
        tags,
        by,
        commit,
        running,
        plan,
        changes,
    } = request;
    Request {
        id,
        at,
        requested_at,
        holds,
        rollout,
        wave,
        waves,
        host,
        channel,
        tags,
        by,
        commit,
        running,
        plan,
        changes,
    }
}

fn known(facts: gate_types::Facts) -> Facts {
    let gate_types::Facts {
        hosts,
        done,
        running,
        failed,
        unreachable,
        agents,
        contained,
        last_deploy,
    } = facts;
    Facts {
        hosts,
        done,
        running,
        failed,
        unreachable,
        agents,
        contained,
        last_deploy,
    }
}
