//! The verbs of operators on the plugins of a host.

use clawker_wire::admin::*;

use crate::stage::{Outcome, Props, Stage};

async fn run(stage: &Stage, line: &[&str]) -> Outcome {
    stage.run(line, Props::default()).await
}

fn component(stage: &Stage) -> String {
    let path = stage.dir.path().join("git-setup.wasm");
    std::fs::write(&path, b"\0asm\x0d\0\x01\0").expect("written");
    path.display().to_string()
}

fn git_setup() -> InstallPluginResponse {
    InstallPluginResponse {
        name: "git-setup".into(),
        version: "0.2.0".into(),
        kind: "step".into(),
        digest: "d".repeat(64),
        description: "Sets git up".into(),
        key: "0a".repeat(16),
        author: "alice@example.org".into(),
        signer: "third-party".into(),
        asked: ["exec:git **", "write-file"].map(String::from).into(),
        ..InstallPluginResponse::default()
    }
}

fn entry() -> PluginEntry {
    PluginEntry {
        name: "oom-alert".into(),
        version: "0.1.0".into(),
        kind: "policy".into(),
        digest: "d".repeat(64),
        signer: "third-party".into(),
        mode: "enforce".into(),
        enabled: true,
        settings: r#"{"freeze_after":3}"#.into(),
        standing: Some(PluginStanding {
            calls: 1207,
            failures: 1,
            p50_micros: Some(80),
            p99_micros: Some(212),
            ..PluginStanding::default()
        }),
        ..PluginEntry::default()
    }
}

#[tokio::test]
async fn what_a_plugin_asks_for_is_shown_and_has_to_be_granted() {
    let stage = Stage::new();
    stage.fake.with(|scene| scene.component = git_setup());
    let file = component(&stage);
    let refused = run(&stage, &["plugin", "install", &file]).await;
    assert_eq!(refused.code, 77, "{}", refused.err);
    for said in [
        "git-setup 0.2.0, a step",
        "signed by alice@example.org",
        "- run `git **` in the agent's container",
        "isn't granted what it asks for: exec:git **, write-file",
        "--grant 'exec:git **' --grant 'write-file'",
    ] {
        assert!(refused.err.contains(said), "{said}: {}", refused.err);
    }
    let looked = run(&stage, &["plugin", "install", "--dry-run", &file]).await;
    assert_eq!((looked.code, looked.out().as_str()), (0, ""));
    let line = [
        "plugin",
        "install",
        &file,
        "--grant",
        "exec:git **",
        "--grant",
        "write-file",
    ];
    let taken = run(&stage, &line).await;
    assert_eq!(
        (taken.code, taken.out().as_str()),
        (0, "git-setup 0.2.0 is installed\n"),
        "{}",
        taken.err
    );
    let all = run(&stage, &["plugin", "install", "--yes", "--json", &file]).await;
    assert_eq!(all.code, 0);
    assert!(all.out().contains("\"installed\":true"), "{}", all.out());
    let asked = stage.fake.with(|scene| scene.asked.clone());
    assert!(
        asked.last().expect("asked").contains("install 8 bytes, preview false"),
        "{asked:?}"
    );
}

#[tokio::test]
async fn a_version_takes_the_place_of_another_at_once_on_trial_or_back() {
    let stage = Stage::new();
    stage.fake.with(|scene| {
        scene.component = InstallPluginResponse {
            asked: Vec::new(),
            installed_version: "0.1.0".into(),
            ..git_setup()
        };
        scene.plugins = vec![entry()];
    });
    let file = component(&stage);
    let tried = run(&stage, &["plugin", "upgrade", &file, "--trial", "1000"]).await;
    assert_eq!(tried.code, 0, "{}", tried.err);
    assert!(tried.err.contains("takes the place of 0.1.0"), "{}", tried.err);
    for (flag, version) in [
        ("--promote", "Trial"),
        ("--back", "Previous"),
        ("--end-trial", "EndTrial"),
    ] {
        let changed = run(&stage, &["plugin", "upgrade", "oom-alert", flag]).await;
        assert_eq!(changed.code, 0, "{}", changed.err);
        let asked = stage.fake.with(|scene| scene.asked.last().cloned()).expect("asked");
        assert!(asked.ends_with(&format!("version {version}")), "{asked}");
    }
    let asked = stage.fake.with(|scene| scene.asked.clone());
    assert!(
        asked
            .iter()
            .any(|asked| asked.contains("upgrade true") && asked.contains("trial Some(1000)"))
    );
}

#[tokio::test]
async fn a_list_says_how_each_is_doing() {
    let stage = Stage::new();
    let trial = PluginEntry {
        name: "exec-guard".into(),
        trial: Some(PluginTrial {
            version: "0.2.0".into(),
            promote_after: 1000,
            agreed: 40,
            differed: 1,
            first_difference: "event 7 of clawker.a: nothing in force, freeze on trial".into(),
            ..PluginTrial::default()
        }),
        ..entry()
    };
    let mut broken = PluginEntry {
        name: "broken".into(),
        ..entry()
    };
    broken.standing.as_mut().expect("one").quarantined = true;
    stage.fake.with(|scene| scene.plugins = vec![entry(), trial, broken]);
    let listed = run(&stage, &["plugin", "list"]).await.out();
    for said in [
        "PLUGIN",
        "1207",
        "212 µs",
        "quarantined",
        "exec-guard: 0.2.0 on trial: 40 of 1000 events judged alike, 1 otherwise",
        "exec-guard: first difference: event 7 of clawker.a",
        "broken: it failed three times in a row",
    ] {
        assert!(listed.contains(said), "{said}: {listed}");
    }
    let json = run(&stage, &["plugin", "list", "--json"]).await.out();
    assert_eq!(json.lines().count(), 3);
    assert!(json.contains("\"settings\":{\"freeze_after\":3}"), "{json}");
}

#[tokio::test]
async fn plugins_are_enabled_disabled_and_removed_by_name() {
    let stage = Stage::new();
    stage.fake.with(|scene| scene.plugins = vec![entry()]);
    for line in [
        &["plugin", "enable", "oom-alert", "--mode", "monitor"][..],
        &["plugin", "disable", "oom-alert"],
        &["plugin", "remove", "oom-alert"],
    ] {
        let outcome = run(&stage, line).await;
        assert_eq!(outcome.code, 0, "{}", outcome.err);
    }
    let asked = stage.fake.with(|scene| scene.asked.clone());
    assert_eq!(
        asked,
        [
            "change oom-alert enabled Some(true) mode Some(\"monitor\") version Keep",
            "change oom-alert enabled Some(false) mode None version Keep",
            "plugin remove oom-alert",
        ]
    );
    let settings = stage.dir.path().join("settings.json");
    std::fs::write(&settings, "[1]").expect("written");
    let line = [
        "plugin",
        "enable",
        "oom-alert",
        "--settings",
        &settings.display().to_string(),
    ];
    let wrong = run(&stage, &line).await;
    assert_eq!(wrong.code, 2);
    assert!(wrong.err.contains("no JSON object"), "{}", wrong.err);
}

#[tokio::test]
async fn a_doctor_and_an_explanation_end_with_1_when_something_is_not_well() {
    let stage = Stage::new();
    let check = |pass: bool, detail: &str| PluginCheck {
        what: "oom-alert 0.1.0 (in force)".into(),
        pass,
        detail: detail.into(),
    };
    stage.fake.with(|scene| scene.checks = vec![check(true, "")]);
    let well = run(&stage, &["plugin", "doctor"]).await;
    assert_eq!(
        (well.code, well.out().as_str()),
        (0, "ok   oom-alert 0.1.0 (in force)\n")
    );
    stage
        .fake
        .with(|scene| scene.checks.push(check(false, "install it anew")));
    let ill = run(&stage, &["plugin", "doctor"]).await;
    assert_eq!(ill.code, 1);
    assert!(
        ill.out()
            .ends_with("bad  oom-alert 0.1.0 (in force): install it anew\n"),
        "{}",
        ill.out()
    );

    let explanation = |same| Explanation {
        decision: r#"{"seq":9,"agent":"clawker.a","kind":"PolicyDecided","body":{"policy":"oom-alert","digest":"dd",
            "seq":8,"verdicts":[{"action":{"action":"freeze"},"reason":"3 times"}],"unavailable":null,"fuel":712}}"#
            .into(),
        event: r#"{"seq":8,"kind":"ContainerOom","body":{"container":"cc"}}"#.into(),
        facts: r#"{"counts":[{"kind":"ContainerOom","seconds":3600,"count":3}],"containment":{}}"#.into(),
        settings: r#"{"freeze_after":3}"#.into(),
        verdicts: r#"[{"action":{"action":"freeze"},"reason":"3 times"}]"#.into(),
        fuel: 712,
        same,
        ..Explanation::default()
    };
    stage.fake.with(|scene| scene.explanation = explanation(true));
    let same = run(&stage, &["plugin", "explain", "9"]).await;
    assert_eq!(same.code, 0, "{}", same.err);
    for said in [
        "3 ContainerOom in 3600 s",
        "freeze (“3 times”)",
        "712 then, 712 now",
        "bit for bit",
    ] {
        assert!(same.out().contains(said), "{said}: {}", same.out());
    }
    stage.fake.with(|scene| scene.explanation = explanation(false));
    assert_eq!(run(&stage, &["plugin", "explain", "9"]).await.code, 1);
}
