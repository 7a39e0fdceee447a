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
    })
    .await;
    w.happens(IdentityRotated {
        container: container(1),
        generation: 2,
        thumbprint: thumbprint(8),
    })
    .await;
    assert_eq!(by(8).await, None, "of another generation");
    w.happens(IdentityRotated {
        container: container(1),
        generation: 1,
        thumbprint: thumbprint(2),
    })
    .await;
    assert_eq!(by(1).await, Some((container(1), Matched::Previous)));
    assert_eq!(by(2).await, Some((container(1), Matched::Current)));
    w.happens(RegistryRowWritten {
        row: registry_row(1, 0, 3, None),
    })
    .await;
    assert_eq!((by(1).await, by(2).await), (None, None), "denied from then on");

    w.happens(RegistryRowWritten {
        row: registry_row(3, 2, 5, None),
    })
    .await;
    w.happens(RegistryRowWritten {
        row: registry_row(2, 1, 4, None),
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
    })
    .await;
    let last = w.store.last_seq();
    for taken in [1, 2] {
        let row = registry_row(2, 1, taken, None);
        let e = w
            .store
            .append(Some(&name(1)), RegistryRowWritten { row })
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
    };
    assert!(w.store.append(Some(&name(1)), rotated).await.is_err());
    assert_eq!(w.store.last_seq(), last);
    w.store.close().await;
}
