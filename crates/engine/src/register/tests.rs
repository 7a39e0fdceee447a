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
        name: FullName::parse("clawker.p.a").expect("name"),
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
        ("of an earlier start", Some(row(1, 1)), &expired, &attested(2, 2)),
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

/// The paths of `(*Handler).Register` in the paper that this design began with, one test each. Where the contract puts
/// something else in a check's place, the test says so.
mod rejection_paths {
    use super::*;

    struct Call {
        project: &'static str,
        agent: &'static str,
        token: Token,
        shown: Option<Shown>,
        attested: Attested,
        labels: Option<FullName>,
        row: Option<RegistryRow>,
    }

    /// One that is admitted.
    fn good() -> Call {
        Call {
            project: "p",
            agent: "a",
            token: Token::Valid,
            shown: Some(shown("key")),
            attested: attested(1, 1),
            labels: Some(FullName::parse("clawker.p.a").expect("name")),
            row: None,
        }
    }

    fn outcome(call: &Call) -> Result<Admission, UntrustedReason> {
        let claim = Claim {
            project: call.project,
            agent: call.agent,
            token: call.token,
        };
        match admit(
            &claim,
            call.shown.as_ref(),
            &call.attested,
            call.labels.as_ref(),
            call.row.as_ref(),
            5,
        ) {
            Admission::Refused(reason, detail) => {
                assert!(!detail.is_empty(), "the journal is told more than the caller");
                Err(reason)
            }
            other => Ok(other),
        }
    }

    fn refused(call: &Call, reason: UntrustedReason) {
        assert_eq!(outcome(call), Err(reason));
    }

    fn judged(reason: UntrustedReason) -> Call {
        Call {
            shown: Some(Shown {
                judged: Err(reason),
                sound_but_for_its_chain: false,
                ..shown("key")
            }),
            ..good()
        }
    }

    #[test]
    fn the_positive_control_is_admitted() {
        assert!(matches!(outcome(&good()), Ok(Admission::Admit(_))));
    }

    #[test]
    fn peer_yields_no_tls_auth_info_or_no_certs() {
        refused(&Call { shown: None, ..good() }, UntrustedReason::CertMalformed);
    }

    /// Judged with the handshake; Register only looks at the verdict.
    #[test]
    fn cert_uri_san_missing_or_malformed() {
        refused(&judged(UntrustedReason::SanMismatch), UntrustedReason::SanMismatch);
    }

    #[test]
    fn cert_cn_does_not_equal_canonical_cn_derived_from_request_fields() {
        refused(&judged(UntrustedReason::CnMismatch), UntrustedReason::CnMismatch);
        // A container that was relabelled, and asks for the name that it has now.
        let relabelled = Call {
            agent: "b",
            labels: Some(FullName::parse("clawker.p.b").expect("name")),
            ..good()
        };
        refused(&relabelled, UntrustedReason::CnMismatch);
    }

    #[test]
    fn request_agent_name_or_project_malformed() {
        for (project, agent) in [
            ("P", "a"),
            ("p", "A"),
            ("p", ""),
            ("p", "../a"),
            ("-p", "a"),
            ("p.q", "a"),
        ] {
            refused(
                &Call {
                    project,
                    agent,
                    ..good()
                },
                UntrustedReason::RegisterFailed,
            );
        }
        let long = "a".repeat(25).leak();
        refused(&Call { agent: long, ..good() }, UntrustedReason::RegisterFailed);
    }

    #[test]
    fn container_id_from_san_is_unknown_to_docker() {
        refused(&Call { labels: None, ..good() }, UntrustedReason::LabelMismatch);
    }

    #[test]
    fn container_labels_do_not_match_the_request() {
        let labels = Some(FullName::parse("clawker.p.b").expect("name"));
        refused(&Call { labels, ..good() }, UntrustedReason::LabelMismatch);
        let unscoped = Some(FullName::parse("clawker.a").expect("name"));
        refused(
            &Call {
                labels: unscoped,
                ..good()
            },
            UntrustedReason::LabelMismatch,
        );
    }

    /// An address is no identity here: the kernel says which container a connection is from, before TLS. What is left of
    /// the check is that the key is the one that this very start was given.
    #[test]
    fn peer_ip_does_not_match_the_containers_ip() {
        let call = Call {
            shown: Some(shown("somebody-else's")),
            ..good()
        };
        refused(&call, UntrustedReason::ThumbprintMismatch);
    }

    /// Rows are replaced by generation: a restart's new key is no replay, an old one is.
    #[test]
    fn existing_row_has_a_different_thumbprint() {
        let newer = Call {
            row: Some(row(2, 2)),
            ..good()
        };
        refused(&newer, UntrustedReason::GenerationReplayed);
        let other_key = Call {
            row: Some(RegistryRow {
                key_hash: "another".into(),
                ..row(1, 1)
            }),
            ..good()
        };
        refused(&other_key, UntrustedReason::GenerationReplayed);
        let replaced = Call {
            row: Some(RegistryRow {
                thumbprint: Thumbprint::parse(&"ff".repeat(32)).expect("hex"),
                ..row(1, 1)
            }),
            ..good()
        };
        refused(&replaced, UntrustedReason::ThumbprintMismatch);
        let restarted = Call {
            row: Some(row(1, 1)),
            attested: attested(2, 2),
            ..good()
        };
        assert!(
            matches!(outcome(&restarted), Ok(Admission::Admit(_))),
            "superseded by generation"
        );
    }

    #[test]
    fn idempotent_retry_returns_welcome_silently() {
        for token in [Token::Valid, Token::Stale, Token::Missing] {
            let call = Call {
                token,
                row: Some(row(1, 1)),
                ..good()
            };
            assert_eq!(outcome(&call), Ok(Admission::Known), "whatever the token");
        }
    }

    #[test]
    fn a_token_that_is_missing_is_refused_and_one_of_an_earlier_session_may_come_again() {
        refused(
            &Call {
                token: Token::Missing,
                ..good()
            },
            UntrustedReason::RegisterFailed,
        );
        let stale = Call {
            token: Token::Stale,
            ..good()
        };
        assert_eq!(outcome(&stale), Ok(Admission::Again));
    }

    #[test]
    fn every_verdict_of_the_handshake_is_the_reason() {
        use UntrustedReason::*;
        for reason in [ChainInvalid, CertMalformed, CertExpired, PossessionUnproven, EkuInvalid] {
            refused(&judged(reason), reason);
        }
    }
}
