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
    if row.generation == attested.generation && row.key_hash == shown.key_hash && row.start == attested.start {
        Classified::Match
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
mod tests {
    use super::*;

    fn shown(key: &str) -> Shown {
        Shown {
            thumbprint: Thumbprint::parse(&"ab".repeat(32)).expect("hex"),
            key_hash: key.into(),
            judged: Ok(()),
            sound_but_for_its_chain: true,
        }
    }

    fn attested(start: u64, generation: u64) -> Attested {
        let container = ContainerId::parse(&"cd".repeat(32)).expect("hex");
        Attested {
            container,
            start,
            generation,
            issued_key: Some("key".into()),
            issued_leaf: None,
            recovered: 0,
        }
    }

    fn row(start: u64, generation: u64) -> RegistryRow {
        RegistryRow {
            container: attested(1, 1).container,
            name: FullName::parse("clawker.p.a").expect("name"),
            start,
            generation,
            key_hash: "key".into(),
            thumbprint: shown("key").thumbprint,
            previous_thumbprint: None,
            registered_at_ms: 0,
        }
    }

    #[test]
    fn hello_is_classified_by_generation_key_and_start() {
        use Classified::{Match, Miss, Untrusted};
        let good = shown("key");
        let cases = [
            ("known", Some(row(1, 1)), attested(1, 1), Match),
            ("first", None, attested(1, 1), Miss),
            ("docker restart: a new bundle", Some(row(1, 1)), attested(2, 2), Miss),
            (
                "older than the row",
                Some(row(2, 2)),
                attested(1, 1),
                Untrusted(UntrustedReason::GenerationReplayed),
            ),
            (
                "same generation, another start",
                Some(row(1, 1)),
                attested(2, 1),
                Untrusted(UntrustedReason::GenerationReplayed),
            ),
        ];
        for (what, row, attested, expected) in cases {
            assert_eq!(classify(row.as_ref(), Some(&good), &attested), expected, "{what}");
        }
        let other_key = classify(Some(&row(1, 1)), Some(&shown("other")), &attested(1, 1));
        assert_eq!(other_key, Untrusted(UntrustedReason::ThumbprintMismatch));
        let expired = Shown {
            judged: Err(UntrustedReason::CertExpired),
            ..good
        };
        assert_eq!(
            classify(None, Some(&expired), &attested(1, 1)),
            Untrusted(UntrustedReason::CertExpired)
        );
        assert_eq!(
            classify(None, None, &attested(1, 1)),
            Untrusted(UntrustedReason::CertMalformed)
        );
    }

    #[test]
    fn a_leaf_that_ran_out_is_renewed_for_the_one_whom_it_was_given_to() {
        let expired = Shown {
            judged: Err(UntrustedReason::CertExpired),
            ..shown("key")
        };
        let reason = UntrustedReason::CertExpired;
        let known = attested(1, 1);
        let given = Attested {
            issued_leaf: Some(expired.thumbprint.clone()),
            ..attested(1, 1)
        };
        let renewed = RegistryRow {
            thumbprint: Thumbprint::parse(&"ff".repeat(32)).expect("hex"),
            previous_thumbprint: Some(expired.thumbprint.clone()),
            ..row(1, 1)
        };
        for (what, row, attested) in [
            ("registered", Some(row(1, 1)), &known),
            ("with a renewal that it never got", Some(renewed), &known),
            ("not registered yet", None, &given),
        ] {
            let seen = classify(row.as_ref(), Some(&expired), attested);
            assert_eq!(seen, Classified::Renewable(reason), "{what}");
        }
        let gone = Shown {
            judged: Err(UntrustedReason::ChainInvalid),
            ..expired.clone()
        };
        let seen = classify(Some(&row(1, 1)), Some(&gone), &known);
        assert_eq!(
            seen,
            Classified::Renewable(UntrustedReason::ChainInvalid),
            "its root was retired"
        );

        let other_key = Shown {
            key_hash: "other".into(),
            ..expired.clone()
        };
        let misnamed = Shown {
            sound_but_for_its_chain: false,
            ..expired.clone()
        };
        let often = Attested {
            recovered: MAX_RECOVERIES,
            ..known.clone()
        };
        for (what, row, shown, attested) in [
            ("never given", None, &expired, &known),
            ("another key", Some(row(1, 1)), &other_key, &known),
            ("another name", Some(row(1, 1)), &misnamed, &known),
            (
                "of an earlier start",
                Some(row(1, 1)),
                &expired,
                &super::tests::attested(2, 2),
            ),
            ("too often", Some(row(1, 1)), &expired, &often),
        ] {
            let seen = classify(row.as_ref(), Some(shown), attested);
            assert_eq!(seen, Classified::Untrusted(reason), "{what}");
        }
    }

    fn admission(project: &str, agent: &str, token: Token, row: Option<RegistryRow>) -> Admission {
        let labels = FullName::parse("clawker.p.a").expect("name");
        admit(
            &Claim { project, agent, token },
            Some(&shown("key")),
            &attested(1, 1),
            Some(&labels),
            row.as_ref(),
            5,
        )
    }

    #[test]
    fn register_admits_one_who_is_who_he_says() {
        let Admission::Admit(row) = admission("p", "a", Token::Valid, None) else {
            panic!("refused")
        };
        assert_eq!((row.start, row.generation, row.registered_at_ms), (1, 1, 5));
        assert_eq!(
            admission("p", "a", Token::Missing, Some(row)),
            Admission::Known,
            "a retry after the row was written"
        );
        assert_eq!(admission("p", "a", Token::Stale, None), Admission::Again);
    }

    #[test]
    fn register_refuses_everybody_else() {
        for (project, agent, token, reason) in [
            ("p", "b", Token::Valid, UntrustedReason::LabelMismatch),
            ("", "a", Token::Valid, UntrustedReason::LabelMismatch),
            ("P", "a", Token::Valid, UntrustedReason::RegisterFailed),
            ("p", "../a", Token::Valid, UntrustedReason::RegisterFailed),
            ("p", "a", Token::Missing, UntrustedReason::RegisterFailed),
        ] {
            let Admission::Refused(seen, _) = admission(project, agent, token, None) else {
                panic!("{agent} came in")
            };
            assert_eq!(seen, reason, "{project}.{agent}");
        }
    }
}
