//! Cases, measurements and replays of real components.

#[path = "../../plugin-host/tests/guests/mod.rs"]
mod guests;

use std::path::{Path, PathBuf};

use clawker_plugin_kit::cases::{self, Golden, Options, Report};
use clawker_plugin_kit::replay::{self, Journal};
use clawker_plugin_kit::{Sandbox, bench};
use clawker_plugin_package::{Asked, Kind, Manifest};

/// A policy that locks on the second kill within its window of a minute.
fn locks() -> Sandbox {
    let mut data = guests::Data::default();
    let state = data.bytes(b"seen");
    let (lock, nothing) = (data.decision(1, "lock-network", state), data.decision(0, "", state));
    let evaluate = format!(
        "(if (result i32) (i64.ge_u (i64.load offset=16 (local.get 9)) (i64.const 2))
             (then (i32.const {lock})) (else (i32.const {nothing})))"
    );
    let component = guests::described_policy("locks", 1, "", &evaluate, data);
    Sandbox::load(&component).expect("loads")
}

#[test]
fn a_component_runs_under_the_limits_of_its_manifest_and_is_what_it_says() {
    let mut data = guests::Data::default();
    let state = data.bytes(b"");
    let nothing = data.decision(0, "", state);
    let code = guests::described_policy("locks", 1, "", &format!("(i32.const {nothing})"), data);
    let with = |name: &str, memory, fuel| {
        let mut manifest = Manifest::new(name, "1", Kind::Policy, []);
        manifest.limits = Asked { memory, fuel };
        Sandbox::load(&manifest.embed(&code).expect("embeds"))
    };
    let more = with("locks", Some(100 << 20), Some(70_000_000)).expect("loads");
    assert!(run(&more, TWO).failures.is_empty());
    let words = clawker_plugin_kit::words::about(&more.plugin).concat();
    assert!(
        words.contains("100 MiB of memory and 70 million units of fuel"),
        "{words}"
    );
    let failures = run(&with("locks", None, Some(7)).expect("loads"), TWO)
        .failures
        .concat();
    assert!(failures.contains("used all its fuel"), "{failures}");
    for (refused, says) in [
        (with("locks", Some(1 << 40), None), "a host gives 1 to 268435456"),
        (with("locks", None, Some(0)), "wants 0 units of fuel"),
        (with("keys", None, None), "its `name` is keys, the code's is locks"),
    ] {
        let error = refused.err().expect(says).to_string();
        assert!(error.contains(says), "{error}");
    }
}

/// A policy that never ends.
fn loops() -> Sandbox {
    let component = guests::policy("", "(loop $l (br $l)) (unreachable)", guests::Data::default());
    Sandbox::load(&component).expect("loads")
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("folder"))
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).expect("writes");
        path
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

fn run(sandbox: &Sandbox, case: &str) -> Report {
    let folder = Folder::new();
    let file = folder.write("a.toml", case);
    cases::run(sandbox, &file, Options::default()).expect("runs")
}

const TWO: &str = "name = \"x\"\n[[event]]\nkind = \"ContainerOom\"\nexpect = []\n[[event]]\nkind = \"ContainerOom\"\n";

#[test]
fn a_case_counts_windows_and_compares_what_was_said() {
    let locks = locks();
    let good = run(
        &locks,
        &format!("{TWO}expect = [{{ action = \"lock-network\", reason = \"because\" }}]\n"),
    );
    assert_eq!(good.failures, Vec::<String>::new());
    assert_eq!((good.state.as_str(), good.lines.len()), ("seen", 2));
    assert!(good.lines.iter().all(|line| line.fuel > 0));
    assert!(good.actions.contains("lock-network") && good.events.contains("ContainerOom"));
    for (expect, says) in [
        ("[\"freeze\"]", "expected freeze, it said lock-network: because"),
        ("[]", "expected nothing, it said lock-network"),
        (
            "[{ action = \"lock-network\", reason = \"other\" }]",
            "expected lock-network because of `other`",
        ),
    ] {
        let bad = run(&locks, &format!("{TWO}expect = {expect}\n"));
        assert!(bad.failures.concat().contains(says), "{:?}", bad.failures);
    }
    let far = run(&locks, &format!("{TWO}at = 62000\nexpect = []\n"));
    assert_eq!(far.failures, Vec::<String>::new());
}

#[test]
fn what_a_policy_is_not_asked_about_is_counted_and_can_not_be_expected() {
    let other = "name = \"x\"\n[[event]]\nkind = \"EgressDenied\"\nbody = { count = 1, total = 1 }\n";
    assert!(run(&locks(), other).failures.is_empty());
    let failures = run(&locks(), &format!("{other}expect = [\"alert\"]\n"))
        .failures
        .concat();
    assert!(failures.contains("isn't asked about EgressDenied"), "{failures}");
}

#[test]
fn a_call_over_its_budget_fails_and_so_does_one_without_an_answer() {
    let failures = run(&locks(), &TWO.replacen("\n", "\n[budget]\nfuel = 1\n", 1))
        .failures
        .concat();
    assert!(failures.contains("fuel, the budget is 1"), "{failures}");
    let failures = run(&loops(), TWO).failures.concat();
    assert!(failures.contains("the plugin used all its fuel"), "{failures}");
}

#[test]
fn a_golden_file_is_written_and_then_compared() {
    let (folder, locks) = (Folder::new(), locks());
    let file = folder.write("a.toml", TWO);
    let golden = |options| cases::run(&locks, &file, options).expect("runs").golden;
    assert_eq!(golden(Options { bless: true }), Golden::Written);
    assert_eq!(golden(Options::default()), Golden::Same);
    folder.write("a.toml", &format!("{TWO}at = 62000\n"));
    assert_eq!(golden(Options::default()), Golden::Differs);
}

#[test]
fn a_folder_without_cases_is_told_apart_from_one_that_passes() {
    let folder = Folder::new();
    let missing = cases::list(&folder.path().join("cases")).expect_err("no folder");
    assert!(
        missing.to_string().contains("holds no case: put a `*.toml` there"),
        "{missing}"
    );
    assert!(
        cases::list(folder.path())
            .expect_err("none")
            .to_string()
            .contains("holds no case")
    );
    folder.write("b.toml", TWO);
    folder.write("a.toml", TWO);
    folder.write("a.golden", "");
    let files = cases::list(folder.path()).expect("two");
    assert_eq!(files, [folder.path().join("a.toml"), folder.path().join("b.toml")]);
    for number in 0..cases::MAX_CASES {
        folder.write(&format!("{number}.toml"), "");
    }
    let error = cases::list(folder.path()).expect_err("too many").to_string();
    assert!(error.contains("1002 cases, the limit is 1000"), "{error}");
}

const CONTAINER: &str = "0000000000000000000000000000000000000000000000000000000000000000";

fn oom(seq: u64, at: u64) -> String {
    format!(
        "{{\"seq\":{seq},\"at_ms\":{at},\"kind\":\"ContainerOom\",\"agent\":\"clawker.a\",\
         \"body\":{{\"container\":\"{CONTAINER}\"}}}}\n"
    )
}

fn decided(seq: u64, of: u64, policy: &str, verdicts: &str) -> String {
    format!(
        "{{\"seq\":{seq},\"at_ms\":1,\"kind\":\"PolicyDecided\",\"agent\":\"clawker.a\",\"body\":{{\"policy\":\"{policy}\",\
         \"digest\":\"{CONTAINER}\",\"seq\":{of},\"verdicts\":{verdicts},\"unavailable\":null,\"fuel\":1,\"micros\":1,\
         \"state_before\":\"\",\"state_after\":\"\"}}}}\n"
    )
}

#[test]
fn a_replay_names_the_decisions_that_differ() {
    let verdict = clawker_model::Verdict {
        action: clawker_model::Action::LockNetwork,
        reason: "r".into(),
    };
    let lock = serde_json::to_string(&[verdict]).expect("JSON");
    let text = [
        oom(1, 1_000),
        decided(2, 1, "locks", "[]"),
        oom(3, 2_000),
        decided(4, 3, "locks", &lock),
        oom(5, 3_000),
        decided(6, 5, "locks", "[]"),
        decided(7, 5, "other", "[]"),
        oom(8, 4_000),
    ]
    .concat();
    let journal = Journal::read(text.as_bytes(), "x").expect("reads");
    let summary = replay::run(&locks(), "{}", &journal, "locks").expect("plays");
    assert_eq!((summary.rows, summary.asked, summary.recorded), (8, 4, 3));
    assert_eq!(summary.actions["lock-network"], 3);
    assert!(summary.fuel > 0 && summary.p50_micros <= summary.p99_micros);
    let [flip] = summary.flips.as_slice() else {
        panic!("{:?}", summary.flips)
    };
    assert_eq!(
        (flip.seq, flip.was.len(), flip.is.concat()),
        (5, 0, "lock-network".to_owned())
    );
    assert_eq!(replay::policies(&journal), ["locks", "other"]);
    let stuck = replay::run(&loops(), "{}", &journal, "locks").expect("plays");
    assert_eq!(stuck.unavailable["the plugin used all its fuel"], 4);
    assert_eq!(stuck.flips.len(), 3);
}

#[test]
fn a_measurement_counts_calls_and_has_bounds() {
    let (folder, locks) = (Folder::new(), locks());
    let file = folder.write("a.toml", TWO);
    let measured = bench::run(&locks, &file, 5).expect("measures");
    assert_eq!(measured.calls, 6, "whole cases");
    assert!(measured.fuel > 0 && measured.p50_ns <= measured.p99_ns && measured.bare_p50_ns > 0);
    for calls in [0, bench::MAX_CALLS + 1] {
        assert!(bench::run(&locks, &file, calls).is_err());
    }
    let other = "name = \"x\"\n[[event]]\nkind = \"EgressDenied\"\nbody = { count = 1, total = 1 }\n";
    let error = bench::run(&locks, &folder.write("b.toml", other), 1).expect_err("never asked");
    assert!(error.to_string().contains("asked about no event"), "{error}");
}
