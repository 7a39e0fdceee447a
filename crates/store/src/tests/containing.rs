use clawker_model::Containment;
use clawker_model::event::*;

use super::*;

pub(super) fn asked(by: &str, action: Action, reason: &str) -> ContainmentAsked {
    ContainmentAsked {
        cause: cause(by, action, reason),
        asked: Containment::default(),
    }
}

fn released(by: &str) -> Released {
    Released {
        by: by.into(),
        causes: 0,
        asked: Containment::default(),
    }
}

#[tokio::test]
async fn causes_are_kept_until_whoever_may_releases_them() {
    let w = World::with_agent().await;
    let lock = || Action::LockNetwork;
    w.happens(asked("host", Action::RestrictEgress { allow: Vec::new() }, "egress"))
        .await;
    w.happens(asked("policy:a", lock(), "first")).await;
    w.happens(asked("policy:b", lock(), "second")).await;
    w.happens(asked("policy:a", Action::Freeze, "third")).await;
    w.happens(asked("operator:uid:0", lock(), "fourth")).await;
    w.happens(asked("policy:a", lock(), "again")).await;
    let said = |by: &str, action, reason: &str| (by.to_owned(), action, reason.to_owned());
    let host = said("host", "restrict-egress", "egress");
    let b = said("policy:b", "lock-network", "second");
    let operator = said("operator:uid:0", "lock-network", "fourth");
    let expected = [
        host.clone(),
        b.clone(),
        said("policy:a", "freeze", "third"),
        operator.clone(),
        said("policy:a", "lock-network", "again"),
    ];
    assert_eq!(w.causes().await, expected);

    w.happens(released("policy:a")).await;
    assert_eq!(w.causes().await, [host.clone(), b, operator]);
    w.happens(released("nobody")).await;
    assert_eq!(w.causes().await.len(), 3, "who asked for nothing releases nothing");
    w.happens(released("operator:uid:1000")).await;
    assert_eq!(w.causes().await, [host]);
    w.store.close().await;
}

#[tokio::test]
async fn a_revocation_stands_on_its_own_and_keeps_the_reason_it_has() {
    let w = World::with_agent().await;
    let revoked = || IdentityRevoked {
        container: container(1),
        by: "operator:uid:0".into(),
    };
    w.happens(revoked()).await;
    assert_eq!(
        w.causes().await,
        [("operator:uid:0".to_owned(), "revoke", "identity revoked".to_owned())]
    );
    w.happens(released("operator:uid:0")).await;
    w.happens(asked("operator:uid:0", Action::Revoke, "stolen")).await;
    w.happens(revoked()).await;
    assert_eq!(
        w.causes().await,
        [("operator:uid:0".to_owned(), "revoke", "stolen".to_owned())]
    );
    w.store.close().await;
}

#[tokio::test]
async fn a_policy_that_failed_keeps_its_state_and_other_code_doesnt_get_it() {
    let w = World::with_agent().await;
    w.happens(decided("one", None)).await;
    w.happens(decided("", Some("trap"))).await;
    assert_eq!(w.store.policy_state("p", &code(), &name(0)).await.expect("read"), "one");
    w.happens(decided("two", None)).await;
    assert_eq!(w.store.policy_state("p", &code(), &name(0)).await.expect("read"), "two");
    assert_eq!(w.store.policy_state("p", &code(), &name(1)).await.expect("read"), "");
    let other = PluginDigest::parse(&"1".repeat(64)).expect("digest");
    assert_eq!(w.store.policy_state("p", &other, &name(0)).await.expect("read"), "");
    w.store.close().await;
}
