//! The contract of [`Registry`], held by both of its keepers. Each test is named after a sentence of the interface
//! that the first design of this registry had, which is quoted where it differs from ours.

use super::*;
use crate::{Candidate, Entry, Registry};

/// Each test twice: with the store, and in memory.
macro_rules! holds_for_both {
    ($($test:ident)*) => {
        mod store {
            $(#[tokio::test]
            async fn $test() {
                let dir = tempfile::tempdir().expect("dir");
                let store = crate::tests::open(dir.path());
                super::$test(&store).await;
                assert_eq!(store.verify_chain(0).await.expect("verify"), None);
                store.close().await;
            })*
        }
        mod memory {
            $(#[tokio::test]
            async fn $test() {
                super::$test(&crate::Memory::new()).await;
            })*
        }
    };
}

mod add;
mod faults;
mod lookup;

fn candidate(c: usize, project: &str, agent: &str, generation: u64, t: usize) -> Candidate {
    Candidate {
        container: container(c),
        project: project.into(),
        agent: agent.into(),
        start: 1,
        generation,
        key_hash: format!("key-{generation}"),
        thumbprint: thumbprint(t),
        registered_at_ms: 5,
        token: None,
    }
}

async fn rotate(r: &impl Registry, c: usize, generation: u64, t: usize) -> Result<Entry, crate::Error> {
    let renewal = clawker_model::event::IdentityRotated {
        container: container(c),
        generation,
        thumbprint: thumbprint(t),
        held: None,
        not_after: 0,
    };
    r.rotate(renewal).await
}

async fn add(r: &impl Registry, c: usize, project: &str, agent: &str, t: usize) -> Entry {
    r.add(candidate(c, project, agent, 1, t)).await.expect("added")
}
