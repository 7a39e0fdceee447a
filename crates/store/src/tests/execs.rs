//! What became of an exec is known by its id.

use clawker_model::event::{ExecExited, ExecStarted};

use super::retention::{LATER, NOTHING, lived};
use super::*;
use crate::ExecRecord;

fn started(exec: &str) -> ExecStarted {
    ExecStarted {
        exec: exec.into(),
        argv: vec!["true".into()],
        by: "uid:0".into(),
        init_life: "life".into(),
    }
}

fn exited(exec: &str, code: i32) -> ExecExited {
    ExecExited {
        exec: exec.into(),
        code,
        signal: None,
        oom: false,
    }
}

#[tokio::test]
async fn an_exec_is_found_by_agent_and_id_until_retention_drops_it() {
    let dir = tempfile::tempdir().expect("dir");
    let (store, _) = lived(dir.path(), 3).await;
    let (a, b) = (name(0), name(1));
    store.append(Some(&a), started("operator/x")).await.expect("append");
    store.append(Some(&b), started("operator/y")).await.expect("append");
    let argv = vec!["true".to_owned()];
    let running = Some(ExecRecord {
        argv: argv.clone(),
        init_life: "life".into(),
        exited: None,
    });
    assert_eq!(store.exec(&a, 0, "operator/x").await.expect("asked"), running);
    assert_eq!(store.exec(&b, 0, "operator/x").await.expect("asked"), None);
    assert_eq!(store.exec(&a, 0, "operator/").await.expect("asked"), None);

    store.append(Some(&a), exited("operator/x", 7)).await.expect("append");
    // Said twice, by two that kept it: the first one was told.
    store.append(Some(&a), exited("operator/x", 8)).await.expect("append");
    let ended = Some(ExecRecord {
        argv,
        init_life: "life".into(),
        exited: Some(exited("operator/x", 7)),
    });
    assert_eq!(store.exec(&a, 0, "operator/x").await.expect("asked"), ended);
    assert_eq!(
        store.exec(&a, LATER, "operator/x").await.expect("asked"),
        None,
        "of an earlier agent of this name"
    );

    store.retain(NOTHING, LATER).await.expect("retained");
    assert_eq!(store.exec(&a, 0, "operator/x").await.expect("asked"), None);
    store.close().await;
}
