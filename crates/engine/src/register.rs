//! Trust in an agent: what Hello and Register come to, given what was attested, shown and stored.
//!
//! ```text
//! Hello ──classify──▶ Match ────────────────────────▶ trusted
//!                    ├ Miss ──RegisterRequired──▶ Register ──admit──▶ Welcome ▶ trusted
//!                    │                                        └────▶ Refused  ▶ untrusted
//!                    ├ Renewable ──RotateIdentity──▶ classified again with the new leaf
//!                    └ Untrusted(reason)
//! ```

use clawker_model::event::{RegistryRow, UntrustedReason};
use clawker_model::{AgentName, ContainerId, FullName, ProjectName, Thumbprint};

/// What the peer showed in its handshake, and whether chain, possession, usages and names held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    pub thumbprint: Thumbprint,
    pub key_hash: String,
    pub judged: Result<(), UntrustedReason>,
    /// Key, usages and names hold, whatever is wrong with validity or chain.
    pub sound_but_for_its_chain: bool,
}

/// What the kernel and the store say of the start that the peer belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attested {
    /// The agent whose listener it is.
    pub name: FullName,
    pub container: ContainerId,
    pub start: u64,
    /// Generation in force after the preamble, and the hash of the key issued with it.
    pub generation: u64,
    pub issued_key: Option<String>,
    /// Thumbprint of the leaf that was issued with it; a renewal's stands in the registry row.
    pub issued_leaf: Option<Thumbprint>,
    /// How often a leaf that had run out was renewed in this start.
    pub recovered: u32,
}

/// Most renewals of leaves that had run out, in one start. Each means that the control plane was away for longer than
/// a leaf lives; more of them than this is somebody who keeps it from renewing.
pub const MAX_RECOVERIES: u32 = 10;

/// What Hello comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Classified {
    /// The registry knows exactly this identity.
    Match,
    /// It has to register first.
    Miss,
    /// A leaf of ours that ran out, or whose root is gone, in the hands of the one whom it was given to: the key is the
    /// pinned one, and the attestation is fresh.
    Renewable(UntrustedReason),
    Untrusted(UntrustedReason),
}

/// Classifies Hello by the container's registry row.
pub fn classify(row: Option<&RegistryRow>, shown: Option<&Shown>, attested: &Attested) -> Classified {
    let Some(shown) = shown else {
        return Classified::Untrusted(UntrustedReason::CertMalformed);
    };
    if let Err(reason) = shown.judged {
        return if is_renewable(row, shown, attested, reason) {
            Classified::Renewable(reason)
        } else {
            Classified::Untrusted(reason)
        };
    }
    // A key that wasn't issued with the generation in force is somebody else's, however good its chain.
    if attested.issued_key.as_deref() != Some(shown.key_hash.as_str()) {
        return Classified::Untrusted(UntrustedReason::ThumbprintMismatch);
    }
    let Some(row) = row else { return Classified::Miss };
    let same = row.generation == attested.generation && row.key_hash == shown.key_hash && row.start == attested.start;
    if same && (row.thumbprint == shown.thumbprint || row.previous_thumbprint.as_ref() == Some(&shown.thumbprint)) {
        Classified::Match
    } else if same {
        // Of the right key, and replaced since.
        Classified::Untrusted(UntrustedReason::ThumbprintMismatch)
    } else if row.generation < attested.generation {
        Classified::Miss
    } else {
        Classified::Untrusted(UntrustedReason::GenerationReplayed)
    }
}

/// Whether a leaf that isn't valid any more is one that this very start was given.
fn is_renewable(row: Option<&RegistryRow>, shown: &Shown, attested: &Attested, reason: UntrustedReason) -> bool {
    let ran_out = matches!(reason, UntrustedReason::CertExpired | UntrustedReason::ChainInvalid);
    let row = row.filter(|row| row.generation == attested.generation && row.start == attested.start);
    let given = row
        .iter()
        .flat_map(|row| std::iter::once(&row.thumbprint).chain(&row.previous_thumbprint))
        .chain(&attested.issued_leaf)
        .any(|leaf| *leaf == shown.thumbprint);
    ran_out
        && shown.sound_but_for_its_chain
        && given
        && attested.issued_key.as_deref() == Some(shown.key_hash.as_str())
        && attested.recovered < MAX_RECOVERIES
}

/// A Register call as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim<'a> {
    pub project: &'a str,
    pub agent: &'a str,
    pub token: Token,
}

/// What became of the single-use token in the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    Valid,
    /// Of an earlier session, expired or already used: the session will send a new one.
    Stale,
    Missing,
}

/// What Register is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// The row is already there: Welcome, whatever the token.
    Known,
    /// Write this row, then Welcome.
    Admit(RegistryRow),
    /// `Unavailable`: come again with the next token.
    Again,
    /// `PermissionDenied`, one generic text; the reason is for the journal.
    Refused(UntrustedReason, String),
}

/// Judges a Register call. `labels` is the name that Docker's labels of this container claim.
pub fn admit(
    claim: &Claim<'_>,
    shown: Option<&Shown>,
    attested: &Attested,
    labels: Option<&FullName>,
    row: Option<&RegistryRow>,
    now_ms: u64,
) -> Admission {
    let refuse = |reason, detail: &str| Admission::Refused(reason, detail.to_owned());
    let Some(shown) = shown else {
        return refuse(UntrustedReason::CertMalformed, "no leaf was shown");
    };
    if let Err(reason) = shown.judged {
        return refuse(reason, "the leaf isn't believed");
    }
    let name = match parse(claim) {
        Ok(name) => name,
        Err(detail) => return Admission::Refused(UntrustedReason::RegisterFailed, detail),
    };
    if labels != Some(&name) {
        return refuse(
            UntrustedReason::LabelMismatch,
            "the container's labels name another agent",
        );
    }
    // The leaf's CN was judged against this name; so it is the one that the request says, too.
    if attested.name != name {
        return refuse(
            UntrustedReason::CnMismatch,
            "the leaf's CN isn't the name in the request",
        );
    }
    match classify(row, Some(shown), attested) {
        Classified::Match => return Admission::Known,
        // A renewable one isn't believed, and was refused above; the session renews it first.
        Classified::Untrusted(reason) | Classified::Renewable(reason) => {
            return refuse(reason, "the identity isn't the one in force");
        }
        Classified::Miss => {}
    }
    match claim.token {
        Token::Valid => Admission::Admit(RegistryRow {
            container: attested.container.clone(),
            name,
            start: attested.start,
            generation: attested.generation,
            key_hash: shown.key_hash.clone(),
            thumbprint: shown.thumbprint.clone(),
            previous_thumbprint: None,
            registered_at_ms: now_ms,
        }),
        Token::Stale => Admission::Again,
        Token::Missing => refuse(UntrustedReason::RegisterFailed, "the call has no token"),
    }
}

fn parse(claim: &Claim<'_>) -> Result<FullName, String> {
    let project = match claim.project {
        "" => None,
        project => Some(ProjectName::parse(project).map_err(|error| error.to_string())?),
    };
    let agent = AgentName::parse(claim.agent).map_err(|error| error.to_string())?;
    Ok(FullName::new(project, agent))
}

#[cfg(test)]
mod tests;
