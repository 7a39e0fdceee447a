//! The control plane's lives, its subsystems and plugins.

use clawker_model::event::{
    ControlPlaneStarted, ControlPlaneStopping, PluginInstalled, PluginPromoted, PluginQuarantined, PluginRemoved,
    PolicyLoaded, PolicyUnloaded, ReapDegraded, RebuildBegun, StoreRebuilt, SubsystemDegraded, SubsystemRecovered,
};

use super::super::host::{Degraded, Plugin};
use super::{About, Apply, Worldview};

impl Apply for ControlPlaneStarted {
    fn apply(&self, about: About<'_>, world: &mut Worldview) {
        let host = &mut world.host;
        host.cp_life = about.cp_life.to_owned();
        host.version.clone_from(&self.version);
        host.boot_id.clone_from(&self.boot_id);
        host.started_ms = about.at_ms;
        host.stopping = false;
        host.degraded.clear();
        host.reap_degraded = None;
        host.plugins.clear();
        for agent in world.agents.values_mut() {
            agent.unsettle(about.at_ms);
        }
    }
}

impl Apply for ControlPlaneStopping {
    fn apply(&self, _: About<'_>, world: &mut Worldview) {
        world.host.stopping = true;
    }
}

impl Apply for RebuildBegun {
    fn apply(&self, _: About<'_>, world: &mut Worldview) {
        world.host.rebuilding = true;
    }
}

impl Apply for StoreRebuilt {
    fn apply(&self, _: About<'_>, world: &mut Worldview) {
        world.host.rebuilding = false;
    }
}

impl Apply for SubsystemDegraded {
    fn apply(&self, about: About<'_>, world: &mut Worldview) {
        let degraded = world.host.degraded.entry(self.subsystem.clone());
        let degraded = degraded.or_insert_with(|| Degraded {
            since_ms: about.at_ms,
            ..Degraded::default()
        });
        degraded.detail.clone_from(&self.detail);
    }
}

impl Apply for SubsystemRecovered {
    fn apply(&self, _: About<'_>, world: &mut Worldview) {
        world.host.degraded.remove(&self.subsystem);
        if self.subsystem == "engine" {
            world.host.reap_degraded = None;
        }
    }
}

impl Apply for ReapDegraded {
    fn apply(&self, about: About<'_>, world: &mut Worldview) {
        world.host.reap_degraded = Some(Degraded {
            detail: self.reason.clone(),
            since_ms: about.at_ms,
        });
    }
}

impl Apply for PluginInstalled {
    fn apply(&self, _: About<'_>, world: &mut Worldview) {
        let plugin = Plugin {
            digest: self.digest.clone(),
            kind: self.kind.clone(),
            quarantined: None,
        };
        world.host.plugins.insert(self.name.clone(), plugin);
    }
}

impl Apply for PluginRemoved {
    fn apply(&self, _: About<'_>, world: &mut Worldview) {
        world.host.plugins.remove(&self.name);
    }
}

impl Apply for PluginPromoted {
    fn apply(&self, _: About<'_>, world: &mut Worldview) {
        if let Some(plugin) = world.host.plugins.get_mut(&self.name) {
            plugin.digest.clone_from(&self.to);
        }
    }
}

impl Apply for PolicyLoaded {
    fn apply(&self, _: About<'_>, world: &mut Worldview) {
        let plugin = Plugin {
            digest: self.digest.clone(),
            kind: "policy".to_owned(),
            quarantined: None,
        };
        world.host.plugins.insert(self.policy.clone(), plugin);
    }
}

impl Apply for PolicyUnloaded {
    fn apply(&self, _: About<'_>, world: &mut Worldview) {
        world.host.plugins.remove(&self.policy);
    }
}

impl Apply for PluginQuarantined {
    fn apply(&self, _: About<'_>, world: &mut Worldview) {
        let plugin = world.host.plugins.entry(self.name.clone()).or_insert_with(|| Plugin {
            digest: self.digest.clone(),
            kind: String::new(),
            quarantined: None,
        });
        plugin.quarantined = Some(self.why.clone());
    }
}
