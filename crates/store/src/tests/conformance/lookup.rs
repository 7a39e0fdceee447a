//! Sentences on Lookup, LookupByContainerID, EvictByContainerID and Snapshot.

use clawker_model::event::RegistryRow;

use super::*;
use crate::{Error, Matched};

holds_for_both! {
    lookup_retrieves_by_thumbprint_and_verifies_the_cn
    lookup_finds_current_and_previous_thumbprint
    mismatch_on_thumbprint_or_cn_is_unknown_agent
    the_three_ways_to_be_unknown_look_the_same
    lookup_by_container_checks_no_cn
    lookup_by_container_gives_hello_all_that_it_classifies_by
    a_mismatch_is_a_local_outcome_and_not_an_unknown_agent
    lookup_by_container_without_an_entry_is_unknown_agent
    evict_removes_any_entry_of_that_container
    snapshot_is_a_copy_of_every_entry_sorted_by_project_and_agent
    the_same_short_name_in_two_projects_is_two_agents
    snapshots_are_stable
    last_seen_begins_at_registration_and_is_refreshed
    a_settled_renewal_denies_the_previous_thumbprint
}

/// "Lookup retrieves an entry by cert thumbprint and verifies that the supplied peer cert CN matches the entry's
/// pre-computed canonical CN with subtle.ConstantTimeCompare." Whatever part of the CN differs, it is another.
async fn lookup_retrieves_by_thumbprint_and_verifies_the_cn(r: &impl Registry) {
    let entry = add(r, 1, "p", "a", 1).await;
    assert_eq!(r.lookup(&thumbprint(1), "clawker.p.a").await, Ok(entry));
    let cn = "clawker.p.a";
    for at in 0..cn.len() {
        let mut other = cn.as_bytes().to_vec();
        other[at] ^= 1;
        let other = String::from_utf8(other).expect("ASCII");
        assert_eq!(
            r.lookup(&thumbprint(1), &other).await,
            Err(Error::UnknownAgent),
            "{other}"
        );
        assert_eq!(r.lookup(&thumbprint(1), &cn[..at]).await, Err(Error::UnknownAgent));
    }
    for other in ["clawker.p.aa", "CLAWKER.P.A", "clawker.p.a\0", " clawker.p.a"] {
        assert_eq!(
            r.lookup(&thumbprint(1), other).await,
            Err(Error::UnknownAgent),
            "{other}"
        );
    }
}

/// Ours: while a renewal is on its way both leaves hold.
async fn lookup_finds_current_and_previous_thumbprint(r: &impl Registry) {
    add(r, 1, "p", "a", 1).await;
    let entry = rotate(r, 1, 1, 2).await.expect("rotated");
    for (t, matched) in [(1, Matched::Previous), (2, Matched::Current)] {
        let found = r.lookup(&thumbprint(t), "clawker.p.a").await.expect("found");
        assert_eq!((&found, found.matched(&thumbprint(t))), (&entry, Some(matched)));
    }
    assert_eq!(entry.matched(&thumbprint(3)), None);
    // The second renewal: still one row, and the first leaf is out.
    rotate(r, 1, 1, 3).await.expect("rotated");
    assert_eq!(r.snapshot().await.expect("snapshot").len(), 1);
    assert_eq!(r.lookup(&thumbprint(1), "clawker.p.a").await, Err(Error::UnknownAgent));
    let replayed = rotate(r, 1, 7, 4).await;
    assert!(
        matches!(
            replayed,
            Err(Error::GenerationReplayed {
                generation: 7,
                held: 1,
                ..
            })
        ),
        "{replayed:?}"
    );
    assert_eq!(rotate(r, 2, 1, 4).await, Err(Error::UnknownAgent));
}

/// "Mismatch on thumbprint OR CN returns ErrUnknownAgent."
async fn mismatch_on_thumbprint_or_cn_is_unknown_agent(r: &impl Registry) {
    add(r, 1, "p", "a", 1).await;
    add(r, 2, "p", "b", 2).await;
    for (t, cn) in [
        (3, "clawker.p.a"),
        (1, "clawker.p.b"),
        (2, "clawker.p.a"),
        (3, "clawker.p.c"),
    ] {
        assert_eq!(r.lookup(&thumbprint(t), cn).await, Err(Error::UnknownAgent), "{t} {cn}");
    }
}

/// Of ErrUnknownAgent: "the only way to fail a Lookup is for the cert to have never registered, to have been evicted, or
/// for the peer cert's CN not to match …. All three failure modes collapse into one sentinel".
async fn the_three_ways_to_be_unknown_look_the_same(r: &impl Registry) {
    let never = r
        .lookup(&thumbprint(1), "clawker.p.a")
        .await
        .expect_err("never registered");
    add(r, 1, "p", "a", 1).await;
    let other = r.lookup(&thumbprint(1), "clawker.p.b").await.expect_err("another CN");
    r.evict_by_container(&container(1), "destroyed").await.expect("evicted");
    let evicted = r.lookup(&thumbprint(1), "clawker.p.a").await.expect_err("evicted");
    assert_eq!((&never, never.to_string()), (&other, other.to_string()));
    assert_eq!((&never, never.to_string()), (&evicted, evicted.to_string()));
}

/// "LookupByContainerID returns the entry whose ContainerID matches, without any CN cross-check."
async fn lookup_by_container_checks_no_cn(r: &impl Registry) {
    let (a, b) = (add(r, 1, "p", "a", 1).await, add(r, 2, "", "b", 2).await);
    assert_eq!(r.lookup_by_container(&container(1)).await, Ok(a));
    assert_eq!(r.lookup_by_container(&container(2)).await, Ok(b));
}

/// "Used by the dialer at Hello time to drive registry classification …" Ours goes by generation, key and start.
async fn lookup_by_container_gives_hello_all_that_it_classifies_by(r: &impl Registry) {
    let mut shown = candidate(1, "p", "a", 4, 1);
    shown.start = 7;
    r.add(shown.clone()).await.expect("added");
    let found = r.lookup_by_container(&container(1)).await.expect("found");
    let expected = RegistryRow {
        container: container(1),
        name: FullName::parse("clawker.p.a").expect("name"),
        start: 7,
        generation: 4,
        key_hash: shown.key_hash,
        thumbprint: thumbprint(1),
        previous_thumbprint: None,
        registered_at_ms: 5,
    };
    assert_eq!((found.row, found.cn.as_str()), (expected, "clawker.p.a"));
}

/// "The dialer performs the thumbprint + CN comparisons against the returned entry itself; this read intentionally does
/// not gate on either so a mismatch surfaces as a typed local outcome rather than as ErrUnknownAgent."
async fn a_mismatch_is_a_local_outcome_and_not_an_unknown_agent(r: &impl Registry) {
    add(r, 1, "p", "a", 1).await;
    let found = r.lookup_by_container(&container(1)).await.expect("found all the same");
    assert_eq!(
        (found.matched(&thumbprint(2)), found.cn == "clawker.p.b"),
        (None, false)
    );
}

/// "Returns (nil, ErrUnknownAgent) when no entry matches."
async fn lookup_by_container_without_an_entry_is_unknown_agent(r: &impl Registry) {
    add(r, 1, "p", "a", 1).await;
    assert_eq!(r.lookup_by_container(&container(2)).await, Err(Error::UnknownAgent));
}

/// "EvictByContainerID removes any entry whose ContainerID matches." One that isn't there is no error.
async fn evict_removes_any_entry_of_that_container(r: &impl Registry) {
    add(r, 1, "p", "a", 1).await;
    let other = add(r, 2, "p", "b", 2).await;
    for _ in 0..2 {
        r.evict_by_container(&container(1), "destroyed").await.expect("evicted");
        assert_eq!(r.snapshot().await, Ok(vec![other.clone()]));
    }
    let anew = add(r, 1, "p", "a", 1).await;
    assert_eq!(
        r.lookup_by_container(&container(1)).await,
        Ok(anew),
        "it may come again"
    );
}

/// "Snapshot returns a copy of every live entry, sorted by (Project, AgentName) for deterministic output."
async fn snapshot_is_a_copy_of_every_entry_sorted_by_project_and_agent(r: &impl Registry) {
    let agents = [("q", "a"), ("p", "b"), ("", "z"), ("p-q", "a"), ("p", "a"), ("", "b")];
    for (n, (project, agent)) in agents.into_iter().enumerate() {
        add(r, n, project, agent, n + 1).await;
    }
    let copy = r.snapshot().await.expect("snapshot");
    let names: Vec<&str> = copy.iter().map(|entry| entry.cn.as_str()).collect();
    let sorted = [
        "clawker.b",
        "clawker.z",
        "clawker.p.a",
        "clawker.p.b",
        "clawker.p-q.a",
        "clawker.q.a",
    ];
    assert_eq!(names, sorted);
    r.evict_by_container(&container(0), "destroyed").await.expect("evicted");
    assert_eq!(
        (copy.len(), r.snapshot().await.expect("snapshot").len()),
        (6, 5),
        "the copy is a copy"
    );
}

/// "Project is the primary sort key because the same short AgentName can be reused across different projects".
async fn the_same_short_name_in_two_projects_is_two_agents(r: &impl Registry) {
    let (q, p) = (add(r, 1, "q", "a", 1).await, add(r, 2, "p", "a", 2).await);
    assert_eq!(r.snapshot().await, Ok(vec![p, q]));
    assert_eq!(r.lookup(&thumbprint(1), "clawker.p.a").await, Err(Error::UnknownAgent));
}

/// "Used by AdminService.ListAgents and the … CLI; both rely on stable ordering for diffability." Equal names, which
/// there may be while one container takes the other's place, go by container.
async fn snapshots_are_stable(r: &impl Registry) {
    for n in [3, 1, 2] {
        add(r, n, "p", "a", n).await;
    }
    let one = r.snapshot().await.expect("snapshot");
    let containers: Vec<_> = one.iter().map(|entry| entry.row.container.clone()).collect();
    assert_eq!(containers, [container(1), container(2), container(3)]);
    assert_eq!(r.snapshot().await, Ok(one));
}

/// Of Entry: "LastSeen currently equals RegisteredAt; future per-agent RPCs will refresh LastSeen at their own boundary."
/// Ours do, and it never goes back.
async fn last_seen_begins_at_registration_and_is_refreshed(r: &impl Registry) {
    assert_eq!(add(r, 1, "p", "a", 1).await.last_seen_ms, 5);
    for (at, expected) in [(50, 50), (40, 50), (60, 60)] {
        r.seen(&container(1), at);
        let found = r.lookup(&thumbprint(1), "clawker.p.a").await.expect("found");
        assert_eq!(found.last_seen_ms, expected);
    }
    let renewed = rotate(r, 1, 1, 2).await.expect("rotated");
    assert_eq!((renewed.last_seen_ms, renewed.row.registered_at_ms), (60, 5));
    assert_eq!(r.snapshot().await.expect("snapshot")[0].last_seen_ms, 60);
    r.evict_by_container(&container(1), "destroyed").await.expect("evicted");
    assert_eq!(
        add(r, 1, "p", "a", 1).await.last_seen_ms,
        5,
        "nothing of the one before"
    );
}

/// Ours: both thumbprints hold until the new leaf is seen in a finished handshake.
async fn a_settled_renewal_denies_the_previous_thumbprint(r: &impl Registry) {
    add(r, 1, "p", "a", 1).await;
    rotate(r, 1, 1, 2).await.expect("rotated");
    r.settle(&container(1), &thumbprint(1))
        .await
        .expect("the old leaf settles nothing");
    assert!(r.lookup(&thumbprint(1), "clawker.p.a").await.is_ok());
    for _ in 0..2 {
        r.settle(&container(1), &thumbprint(2)).await.expect("settled");
        assert_eq!(r.lookup(&thumbprint(1), "clawker.p.a").await, Err(Error::UnknownAgent));
        assert!(r.lookup(&thumbprint(2), "clawker.p.a").await.is_ok());
    }
    r.settle(&container(9), &thumbprint(2)).await.expect("nobody there");
}
