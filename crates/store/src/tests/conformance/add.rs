//! Sentences on Add and Entry.

use super::*;
use crate::Error;

holds_for_both! {
    add_inserts_an_entry_keyed_by_thumbprint_and_container
    a_container_restart_registers_anew_and_the_newer_generation_replaces_the_row
    a_lower_generation_or_the_same_with_another_key_is_a_replay
    the_same_generation_and_key_again_changes_nothing
    add_computes_the_canonical_cn_from_project_and_agent
    malformed_identity_strings_are_a_returned_error_and_no_panic
    callers_validate_at_the_wire_boundary
    add_returns_an_error_when_the_name_is_refused
    add_returns_an_error_on_a_collision_with_a_row_that_was_not_evicted_yet
    callers_translate_the_error_into_a_status
    a_token_is_spent_once
    a_zero_thumbprint_an_empty_container_or_a_zero_time_is_never_entered
    an_empty_agent_name_is_an_error_of_the_name
    an_empty_project_is_the_name_in_two_segments
}

/// "Add inserts an entry keyed by (Entry.Thumbprint, Entry.ContainerID)."
async fn add_inserts_an_entry_keyed_by_thumbprint_and_container(r: &impl Registry) {
    let entry = add(r, 1, "p", "a", 1).await;
    assert_eq!(r.lookup(&thumbprint(1), "clawker.p.a").await, Ok(entry.clone()));
    assert_eq!(r.lookup_by_container(&container(1)).await, Ok(entry));
}

/// "Container restart produces a new cert and a new thumbprint, so re-registration creates a new entry; the dockerevents
/// subscription is responsible for evicting the stale one by container ID." Here the newer generation takes the row's
/// place at one stroke, so there is no moment with two rows or none, and no eviction to wait for.
async fn a_container_restart_registers_anew_and_the_newer_generation_replaces_the_row(r: &impl Registry) {
    add(r, 1, "p", "a", 1).await;
    let entry = r.add(candidate(1, "p", "a", 2, 2)).await.expect("added");
    assert_eq!(entry.row.generation, 2);
    assert_eq!(r.snapshot().await, Ok(vec![entry.clone()]), "exactly one row");
    assert_eq!(r.lookup(&thumbprint(2), "clawker.p.a").await, Ok(entry));
    assert_eq!(r.lookup(&thumbprint(1), "clawker.p.a").await, Err(Error::UnknownAgent));
}

/// The other half of the sentence before: what doesn't supersede the row is no restart.
async fn a_lower_generation_or_the_same_with_another_key_is_a_replay(r: &impl Registry) {
    let entry = r.add(candidate(1, "p", "a", 2, 2)).await.expect("added");
    let mut another_key = candidate(1, "p", "a", 2, 3);
    another_key.key_hash = "another".into();
    for (replay, generation) in [(candidate(1, "p", "a", 1, 1), 1), (another_key, 2)] {
        let refused = r.add(replay).await.expect_err("a replay");
        let expected = Error::GenerationReplayed {
            container: container(1),
            generation,
            held: 2,
        };
        assert_eq!(refused, expected);
    }
    assert_eq!(r.snapshot().await, Ok(vec![entry]));
}

/// Of Register: "Idempotent retry: an existing row whose thumbprint matches … returns Welcome silently". Its entry
/// stays as it was first written.
async fn the_same_generation_and_key_again_changes_nothing(r: &impl Registry) {
    let entry = add(r, 1, "p", "a", 1).await;
    let mut again = candidate(1, "p", "a", 1, 1);
    again.registered_at_ms = 99;
    assert_eq!(r.add(again.clone()).await, Ok(entry));
    let renewed = rotate(r, 1, 1, 2).await.expect("rotated");
    assert_eq!(r.add(again).await, Ok(renewed), "the previous leaf is as good");
}

/// "Add computes the canonical agent CN from Entry.Project + Entry.AgentName via … the err-returning typed
/// constructors."
async fn add_computes_the_canonical_cn_from_project_and_agent(r: &impl Registry) {
    assert_eq!(add(r, 1, "web", "scout", 1).await.cn, "clawker.web.scout");
    let longest = "x".repeat(24);
    assert_eq!(
        add(r, 2, &longest, &longest, 2).await.cn,
        format!("clawker.{longest}.{longest}")
    );
}

/// "Malformed identity strings surface as a returned error, NOT as a panic."
async fn malformed_identity_strings_are_a_returned_error_and_no_panic(r: &impl Registry) {
    let long = "x".repeat(25);
    for bad in ["A", "a.b", "-a", "a-", "ä", "a\0", " ", "a\n", "../a", &long] {
        for (project, agent) in [(bad, "a"), ("p", bad)] {
            let refused = r.add(candidate(1, project, agent, 1, 1)).await;
            assert!(
                matches!(refused, Err(Error::Name(_))),
                "{project:?} {agent:?}: {refused:?}"
            );
        }
    }
    assert_eq!(r.snapshot().await, Ok(vec![]));
}

/// "Callers must validate at the wire boundary." What was parsed there is a type, which add takes as it is.
async fn callers_validate_at_the_wire_boundary(r: &impl Registry) {
    for bad in ["", "ab", &"g".repeat(64), &"a".repeat(65), &"A".repeat(64)] {
        assert!(clawker_model::ContainerId::parse(bad).is_err(), "{bad:?}");
        assert!(clawker_model::Thumbprint::parse(bad).is_err(), "{bad:?}");
    }
    let row = registry_row(1, 1, 1, None);
    assert_eq!(r.add(row.clone().into()).await.expect("parsed").row, row);
}

/// "Returns an error when the canonical-CN composition rejects the inputs", and it says which and why.
async fn add_returns_an_error_when_the_name_is_refused(r: &impl Registry) {
    let refused = r.add(candidate(1, "P", "a", 1, 1)).await.expect_err("a bad project");
    assert!(refused.to_string().contains("project name `P`"), "{refused}");
}

/// "… UNIQUE collision against a stale row that hasn't been evicted yet." Current and previous thumbprints are unique.
async fn add_returns_an_error_on_a_collision_with_a_row_that_was_not_evicted_yet(r: &impl Registry) {
    add(r, 1, "p", "a", 1).await;
    rotate(r, 1, 1, 2).await.expect("rotated");
    let before = r.snapshot().await;
    for t in [1, 2] {
        let refused = r.add(candidate(2, "p", "b", 1, t)).await;
        let taken = Error::ThumbprintTaken {
            thumbprint: thumbprint(t),
            container: container(2),
            held_by: container(1),
        };
        assert_eq!(refused, Err(taken));
    }
    assert_eq!(r.snapshot().await, before);
    add(r, 2, "p", "b", 3).await;
    assert!(rotate(r, 2, 1, 1).await.is_err());
    r.evict_by_container(&container(1), "destroyed").await.expect("evicted");
    r.add(candidate(2, "p", "b", 2, 1)).await.expect("free again");
}

/// "Callers translate the error into the appropriate gRPC status." A refusal is told from a fault by its kind.
async fn callers_translate_the_error_into_a_status(r: &impl Registry) {
    add(r, 1, "p", "a", 1).await;
    for refused in [
        r.add(candidate(2, "P", "b", 1, 2)).await,
        r.add(candidate(2, "p", "b", 1, 1)).await,
        r.add(candidate(1, "p", "a", 0, 2)).await,
        r.lookup(&thumbprint(9), "clawker.p.a").await,
    ] {
        let refused = refused.expect_err("refused");
        assert!(refused.is_refusal(), "{refused}");
    }
    for fault in [
        Error::Closed,
        Error::TokenSpent,
        Error::Full {
            doing: "x",
            file: "f".into(),
        },
        Error::StateCorrupt {
            doing: "x",
            file: "f".into(),
            detail: String::new(),
        },
    ] {
        assert!(!fault.is_refusal(), "{fault}");
    }
}

/// "Add panics on programming-error invariants (zero thumbprint, empty ContainerID, zero RegisteredAt)." Nothing of ours
/// panics once it serves: they are errors, and an empty container can't even be written down.
async fn a_zero_thumbprint_an_empty_container_or_a_zero_time_is_never_entered(r: &impl Registry) {
    assert!(clawker_model::ContainerId::parse("").is_err());
    let mut timeless = candidate(1, "p", "a", 1, 1);
    timeless.registered_at_ms = 0;
    for (bad, what) in [(candidate(1, "p", "a", 1, 0), "thumbprint"), (timeless, "time")] {
        let refused = r.add(bad).await.expect_err("refused");
        assert!(
            matches!(&refused, Error::BadCandidate { what: said, .. } if said.contains(what)),
            "{refused}"
        );
    }
    assert_eq!(r.snapshot().await, Ok(vec![]));
}

/// "Empty AgentName is treated as user-input violation and surfaces as an error from auth.NewAgentName."
async fn an_empty_agent_name_is_an_error_of_the_name(r: &impl Registry) {
    let refused = r.add(candidate(1, "p", "", 1, 1)).await;
    assert_eq!(
        refused,
        Err(Error::Name(clawker_model::NameError::Empty { what: "agent" }))
    );
}

/// Of Entry: "Empty string is allowed and matches the unscoped 2-segment naming case."
async fn an_empty_project_is_the_name_in_two_segments(r: &impl Registry) {
    let entry = add(r, 1, "", "a", 1).await;
    assert_eq!((entry.cn.as_str(), entry.row.name.project()), ("clawker.a", None));
    assert_eq!(r.lookup(&thumbprint(1), "clawker.a").await, Ok(entry));
}

/// Ours: the token of RegisterRequired is burnt in the transaction that writes the row, and not by a refusal.
async fn a_token_is_spent_once(r: &impl Registry) {
    let with_token = |c, t| {
        let mut candidate = candidate(c, "p", &format!("a{c}"), 1, t);
        candidate.token = Some("5e".repeat(32));
        candidate
    };
    add(r, 9, "p", "z", 9).await;
    assert!(matches!(
        r.add(with_token(1, 9)).await,
        Err(Error::ThumbprintTaken { .. })
    ));
    r.add(with_token(1, 1)).await.expect("added");
    assert!(r.add(with_token(1, 1)).await.is_ok(), "known: whatever the token");
    assert_eq!(r.add(with_token(2, 2)).await, Err(Error::TokenSpent));
    assert_eq!(r.lookup_by_container(&container(2)).await, Err(Error::UnknownAgent));
}
