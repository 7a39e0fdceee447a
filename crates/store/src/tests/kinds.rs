//! Every kind of event has a meaning for the projection, or has been found to have none.

use clawker_model::Event;

/// Kinds that say something about no table of ours. A test holds that this and `apply` name every kind.
const NOT_PROJECTED: &[&str] = &[
    "ControlPlaneStarted",
    "ControlPlaneStopping",
    "SessionConnecting",
    "SessionFailed",
    "SessionBroken",
    "AgentRegistered",
    "AgentUntrusted",
    "AgentTrusted",
    "ReapDegraded",
    "ContainerStarted",
    "ContainerDied",
    "ContainerPaused",
    "ContainerUnpaused",
    "ContainerOom",
    "ContainerDestroyed",
    "ContainerHealth",
    "ContainerNetworkConnected",
    "NetnsShared",
    "ExecStarted",
    "ExecExited",
    "EgressDenied",
    "ThresholdCrossed",
    "LeaseLost",
    "SessionHalfStopped",
    "SessionHalfUpgrading",
    "SessionHalfUpgraded",
    "ActionIntended",
    "ActionApplied",
    "ActionFailed",
    "PluginInstalled",
    "PluginRemoved",
    "PluginPromoted",
    "PluginQuarantined",
    "PolicyLoaded",
    "PolicyUnloaded",
    "SubsystemDegraded",
    "SubsystemRecovered",
    "OperatorCommand",
    "AuthorityRotated",
    "AdoptionRefused",
];

/// Every event with a defined meaning for the projection, by its kind.
const PROJECTED: &[&str] = &[
    "AgentCreating",
    "AgentCreated",
    "AgentCreateFailed",
    "AgentRemoved",
    "StartBegan",
    "BundleIssued",
    "RegistryRowWritten",
    "RegistryRowEvicted",
    "InitStarted",
    "InitStepStarted",
    "InitEffectIntended",
    "SessionConnected",
    "InitEffectDone",
    "InitStepCompleted",
    "InitStepFailed",
    "InitCompleted",
    "InitFailed",
    "AgentReadyIntended",
    "AgentReadySent",
    "RestartPlanned",
    "RestartsEnded",
    "RestartsBegun",
    "MainExited",
    "PolicyDecided",
    "ContainmentAsked",
    "Released",
    "IdentityRotated",
    "IdentityRevoked",
    "IdentityConfirmed",
    "IdentityRecovered",
    "IdentityLeaked",
    "RebuildBegun",
    "AgentAdopted",
    "AgentReadyFound",
    "StoreRebuilt",
];

#[test]
fn somebody_has_thought_about_every_kind() {
    for kind in Event::KINDS {
        let here = PROJECTED.contains(kind);
        let not = NOT_PROJECTED.contains(kind);
        assert!(
            here != not,
            "say in projection.rs whether `{kind}` changes the projection"
        );
    }
    assert_eq!(PROJECTED.len() + NOT_PROJECTED.len(), Event::KINDS.len());
}
