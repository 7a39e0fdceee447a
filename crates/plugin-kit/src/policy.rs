//! A policy in the place that it has in a control plane: windows counted, its state kept per agent, one event at a
//! time and in order.

use std::collections::HashMap;

use clawker_model::{Containment, FullName, Row};
use clawker_plugin_host::{
    Facts, Kind, PolicyCall, PolicyHost as _, PolicyReply, Unavailable, Windows, check_settings, is_offered,
};

use crate::{Error, Sandbox};

/// A policy that watches.
pub struct Watch<'a> {
    sandbox: &'a Sandbox,
    settings: String,
    windows: Windows,
    states: HashMap<FullName, String>,
}

impl<'a> Watch<'a> {
    /// `settings` is a JSON object, checked as a control plane checks it.
    pub fn new(sandbox: &'a Sandbox, settings: &str) -> Result<Self, Error> {
        let plugin = &sandbox.plugin;
        if plugin.kind != Kind::Policy {
            return Err(Error::Unusable(format!("`{}` is not a policy", plugin.name)));
        }
        check_settings(plugin, settings).map_err(|error| Error::Unusable(format!("settings: {error}")))?;
        Ok(Self {
            sandbox,
            settings: settings.to_owned(),
            windows: Windows::new(plugin.windows.iter()),
            states: HashMap::new(),
        })
    }

    /// Whether it is asked about such a row.
    pub fn wants(&self, row: &Row) -> bool {
        let kind = row.event.kind();
        row.agent.is_some() && is_offered(kind) && self.sandbox.plugin.events.iter().any(|wanted| wanted == kind)
    }

    /// Counts the row and asks about it; `None` if it isn't asked about such a row. An agent that is gone is forgotten.
    pub fn see(&mut self, row: &Row, containment: &Containment) -> Option<Result<PolicyReply, Unavailable>> {
        self.windows.note(row);
        let answer = self.wants(row).then(|| self.ask(row, containment));
        if let (clawker_model::Event::AgentRemoved(_), Some(agent)) = (&row.event, &row.agent) {
            self.windows.forget(agent);
            self.states.remove(agent);
        }
        answer
    }

    /// Asks, whether it wants such a row or not.
    pub(crate) fn ask(&mut self, row: &Row, containment: &Containment) -> Result<PolicyReply, Unavailable> {
        let agent = row.agent.clone().ok_or(Unavailable::Missing)?;
        let call = PolicyCall {
            plugin: self.sandbox.plugin.clone(),
            settings: self.settings.clone(),
            row,
            facts: Facts {
                counts: self.windows.at(row, &self.sandbox.plugin.windows),
                containment: containment.clone(),
            },
            state: self.states.get(&agent).cloned().unwrap_or_default(),
        };
        let reply = self.sandbox.host.evaluate(&call)?;
        self.states.insert(agent, reply.state.clone());
        Ok(reply)
    }

    /// What it left for this agent; empty at first.
    pub fn state(&self, agent: &FullName) -> &str {
        self.states.get(agent).map_or("", String::as_str)
    }
}
