use clawker_model::event::*;

use super::*;
use crate::Error;
use crate::record::Matched;

#[tokio::test]
async fn the_registry_is_found_by_both_thumbprints() {
    let w = World::with_agent().await;
    let by = async |n| {
        let found = w.store.registry_by_thumbprint(&thumbprint(n)).await.expect("read");
        found.map(|m| (m.row.container, m.matched))
    };
    w.happens(RegistryRowWritten {
        row: registry_row(1, 0, 1, None),
        token: None,
    })
    .await;
    w.happens(IdentityRotated {
        container: container(1),
        generation: 2,
        thumbprint: thumbprint(8),
        held: None,
        not_after: 0,
    })
    .await;
    assert_eq!(by(8).await, None, "of another generation");
    w.happens(IdentityRotated {
        container: container(1),
        generation: 1,
        thumbprint: thumbprint(2),
        held: None,
        not_after: 0,
    })
    .await;
    assert_eq!(by(1).await, Some((container(1), Matched::Previous)));
    assert_eq!(by(2).await, Some((container(1), Matched::Current)));
    w.happens(RegistryRowWritten {
        row: registry_row(1, 0, 3, None),
        token: None,
    })
    .await;
    assert_eq!((by(1).await, by(2).await), (None, None), "denied from then on");

    w.happens(RegistryRowWritten {
        row: registry_row(3, 2, 5, None),
        token: None,
    })
    .await;
    w.happens(RegistryRowWritten {
        row: registry_row(2, 1, 4, None),
        token: None,
    })
    .await;
    let sorted: Vec<_> = w
        .store
        .registry()
        .await
        .expect("read")
        .into_iter()
        .map(|r| r.name)
        .collect();
    assert_eq!(sorted, [name(0), name(1), name(2)]);
    w.happens(RegistryRowEvicted {
        container: container(1),
        why: "destroyed".into(),
    })
    .await;
    assert_eq!(w.store.registry_row(&container(1)).await.expect("read"), None);
    w.store.close().await;
}

#[tokio::test]
async fn a_thumbprint_of_another_container_is_refused_before_it_is_journaled() {
    let w = World::with_agent().await;
    w.happens(RegistryRowWritten {
        row: registry_row(1, 0, 1, Some(2)),
        token: None,
    })
    .await;
    let last = w.store.last_seq();
    for taken in [1, 2] {
        let row = registry_row(2, 1, taken, None);
        let e = w
            .store
            .append(Some(&name(1)), RegistryRowWritten { row, token: None })
            .await
            .expect_err("taken");
        assert!(
            matches!(&e, Error::ThumbprintTaken { held_by, .. } if *held_by == container(1)),
            "{e}"
        );
    }
    let rotated = IdentityRotated {
        container: container(2),
        generation: 1,
        thumbprint: thumbprint(1),
        held: None,
        not_after: 0,
    };
    assert!(w.store.append(Some(&name(1)), rotated).await.is_err());
    assert_eq!(w.store.last_seq(), last);
    w.store.close().await;
}

/// The row as it is after a registration and two renewals, of which the agent never got the first.
#[tokio::test]
async fn of_three_leaves_the_one_that_the_agent_holds_and_the_newest_hold() {
    let w = World::with_agent().await;
    let rotated = |new, held: Option<usize>| IdentityRotated {
        container: container(1),
        generation: 1,
        thumbprint: thumbprint(new),
        held: held.map(thumbprint),
        not_after: 0,
    };
    w.happens(RegistryRowWritten {
        row: registry_row(1, 0, 1, None),
        token: None,
    })
    .await;
    w.happens(rotated(2, Some(1))).await;
    w.happens(rotated(3, Some(1))).await;
    let row = w.store.registry_row(&container(1)).await.expect("read").expect("a row");
    assert_eq!(
        (row.thumbprint, row.previous_thumbprint),
        (thumbprint(3), Some(thumbprint(1)))
    );

    let seen = |n| IdentityConfirmed {
        container: container(1),
        thumbprint: thumbprint(n),
    };
    w.happens(seen(1)).await;
    let row = w.store.registry_row(&container(1)).await.expect("read").expect("a row");
    assert_eq!(
        row.previous_thumbprint,
        Some(thumbprint(1)),
        "the old one confirms nothing"
    );
    w.happens(seen(3)).await;
    let row = w.store.registry_row(&container(1)).await.expect("read").expect("a row");
    assert_eq!((row.thumbprint, row.previous_thumbprint), (thumbprint(3), None));
    w.store.close().await;
}

#[tokio::test]
async fn a_token_is_burnt_with_the_row_that_it_bought() {
    let w = World::with_agent().await;
    let bought = |n, token: &str| RegistryRowWritten {
        row: registry_row(n, 0, n, None),
        token: Some(token.to_owned()),
    };
    w.happens(bought(1, "spent")).await;
    let last = w.store.last_seq();
    let again = w.store.append(Some(&name(0)), bought(2, "spent")).await;
    assert_eq!(again.expect_err("spent twice"), Error::TokenSpent);
    assert_eq!(w.store.last_seq(), last, "nothing was written");
    assert_eq!(w.store.registry_row(&container(2)).await.expect("read"), None);
    w.happens(bought(2, "another")).await;
    w.store.close().await;
}

#[tokio::test]
async fn a_revoked_key_loses_its_row_and_is_not_issued_any_more() {
    let w = World::with_agent().await;
    w.happens(BundleIssued {
        container: container(1),
        start: 1,
        generation: 1,
        thumbprint: thumbprint(1),
        key_hash: "key".into(),
        join: None,
    })
    .await;
    w.happens(RegistryRowWritten {
        row: registry_row(1, 0, 1, None),
        token: None,
    })
    .await;
    let revoked = IdentityRevoked {
        container: container(1),
        by: "operator:uid:0".into(),
    };
    w.happens(revoked).await;
    assert_eq!(w.store.registry_row(&container(1)).await.expect("read"), None);
    let record = w.store.agent(&name(0)).await.expect("read").expect("an agent");
    assert!(record.issued.expect("issued").revoked);
    w.store.close().await;
}
