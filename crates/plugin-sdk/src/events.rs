//! What happens to agents, as types. [`Event::typed`](crate::policy::Event::typed) reads one, [`Happened`] any of them.
//!
//! Bodies are additive: a field may come at any time and is ignored by an older SDK; none changes its meaning. A reason
//! is text, because a later release may give others. There are kinds beside these; a policy names them by text, and
//! reads them with [`Event::read`](crate::policy::Event::read).
//!
//! ```
//! use clawker_plugin_sdk::events::Happened;
//! use clawker_plugin_sdk::policy::{Event, Fault, Verdict};
//!
//! fn rule(event: &Event) -> Result<Option<Verdict>, Fault> {
//!     Ok(match Happened::of(event)? {
//!         Happened::ExecExited(exited) if exited.oom => Some(Verdict::alert(format!("{} was killed", exited.exec))),
//!         Happened::NetnsShared(shared) => Some(Verdict::lock_network(format!("{} is in its network", shared.foreign))),
//!         _ => None,
//!     })
//! }
//! # let body = r#"{"container": "a", "foreign": "b"}"#.into();
//! # let event = Event { kind: "NetnsShared".into(), seq: 1, at: 0, agent: None, body };
//! # assert_eq!(rule(&event)?, Some(Verdict::lock_network("b is in its network")));
//! # Ok::<(), Fault>(())
//! ```

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A type that is the body of one kind of events.
pub trait Kind: Serialize + DeserializeOwned {
    /// The kind's name.
    const KIND: &str;
}

/// Every reason that a control plane of this release gives in [`AgentUntrusted`] and [`AgentRegistered`].
pub const UNTRUSTED_REASONS: &[&str] = &[
    "chain_invalid",
    "cert_malformed",
    "cert_expired",
    "possession_unproven",
    "eku_invalid",
    "cn_mismatch",
    "san_mismatch",
    "label_mismatch",
    "peer_mismatch",
    "thumbprint_mismatch",
    "generation_replayed",
    "register_failed",
    "init_bypassed",
    "registry_unavailable",
];

/// From a table of kinds and their fields: the types, and [`Happened`].
macro_rules! events {
    ($($(#[$doc:meta])* $kind:ident {
        $($(#[$field_meta:meta])* $field:ident: $type:ty,)*
    })*) => {
        /// One event of any kind that this SDK knows.
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Happened {
            $($(#[$doc])* $kind($kind),)*
            /// A kind that it doesn't know.
            Other,
        }

        impl Happened {
            /// Every kind that this SDK knows.
            pub const KINDS: &'static [&'static str] = &[$(stringify!($kind)),*];

            /// Reads it; an error if a field is missing or of another type.
            pub fn of(event: &Event) -> Result<Self, Fault> {
                match event.kind.as_str() {
                    $(stringify!($kind) => Ok(event.typed()?.map_or(Self::Other, Self::$kind)),)*
                    _ => Ok(Self::Other),
                }
            }
        }

        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
            pub struct $kind {
                $($(#[$field_meta])* pub $field: $type,)*
            }

            impl Kind for $kind {
                const KIND: &str = stringify!($kind);
            }
        )*
    };
}

mod kinds;

pub use kinds::*;
