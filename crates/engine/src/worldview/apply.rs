//! What each kind of event changes in the view.

mod container;
mod containment;
mod host;
mod plan;
mod session;

use clawker_model::Event;
use clawker_model::event::*;

use super::{About, Worldview};

/// An event that says what it changes.
pub trait Apply {
    fn apply(&self, about: About<'_>, world: &mut Worldview);
}

/// Every kind once, each with an `apply` of its own: a kind that is missing here doesn't compile.
macro_rules! every_kind {
    ($($kind:ident)*) => {
        impl Apply for Event {
            fn apply(&self, about: About<'_>, world: &mut Worldview) {
                match self {
                    $(Event::$kind(body) => body.apply(about, world),)*
                }
            }
        }
    };
}

every_kind! {
    ControlPlaneStarted ControlPlaneStopping AgentCreating AgentCreated AgentCreateFailed AgentRemoved StartBegan
    BundleIssued SessionConnecting SessionConnected SessionFailed SessionBroken AgentRegistered RegistryRowWritten
    RegistryRowEvicted AgentUntrusted AgentTrusted InitStarted InitStepStarted InitEffectIntended InitEffectDone
    InitStepCompleted InitStepFailed InitCompleted InitFailed AgentReadyIntended AgentReadySent MainExited ReapDegraded
    ContainerStarted ContainerDied ContainerPaused ContainerUnpaused ContainerOom ContainerDestroyed ContainerHealth
    ContainerNetworkConnected NetnsShared ExecStarted ExecExited EgressDenied ThresholdCrossed LeaseLost
    SessionHalfStopped SessionHalfUpgrading SessionHalfUpgraded PolicyDecided PolicyLoaded PolicyUnloaded ContainmentAsked
    ActionIntended ActionApplied ActionFailed Released PluginInstalled PluginRemoved PluginPromoted PluginQuarantined SubsystemDegraded SubsystemRecovered IdentityRotated IdentityConfirmed
    IdentityRecovered IdentityLeaked IdentityRevoked AuthorityRotated
    OperatorCommand RestartPlanned RestartsEnded RestartsBegun
    RebuildBegun AgentAdopted AdoptionRefused AgentReadyFound StoreRebuilt
}

/// Kinds that are history and no state: who did what, and what is about to be done.
macro_rules! changes_nothing {
    ($($kind:ident)*) => {
        $(impl Apply for $kind {
            fn apply(&self, _: About<'_>, _: &mut Worldview) {}
        })*
    };
}

changes_nothing! {
    ActionIntended AuthorityRotated BundleIssued ContainerNetworkConnected ContainerOom EgressDenied
    ExecStarted InitEffectIntended NetnsShared SessionHalfUpgrading OperatorCommand PolicyDecided RestartPlanned RestartsBegun RestartsEnded
    ThresholdCrossed
}

/// Kinds that say no more than that the agent's clawkerd is there.
macro_rules! shows_life {
    ($($kind:ident)*) => {
        $(impl Apply for $kind {
            fn apply(&self, about: About<'_>, world: &mut Worldview) {
                if let Some(agent) = world.agent(about) {
                    agent.seen(about.at_ms);
                }
            }
        })*
    };
}

shows_life! { IdentityConfirmed IdentityRecovered ExecExited InitEffectDone LeaseLost SessionHalfStopped SessionHalfUpgraded }
