//! Plugins in worker processes: they decide as in this process, can do nothing else, and may die.

mod guests;

use std::collections::HashSet;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use clawker_model::{FullName, PluginDigest};
use clawker_plugin_host::worker::{Class, CodeKey, Workers, WorkersConfig};
use clawker_plugin_host::{
    Facts, LoadError, Plugin, PolicyCall, PolicyHost, PolicyReply, StepCall, StepContext, StepTurn, Unavailable,
    Wanted, WindowCount, digest,
};
use guests::Data;

/// The example `plugin-process`, which cargo builds beside the tests.
fn program() -> PathBuf {
    let tests = std::env::current_exe().expect("this test");
    let built = tests.parent().and_then(|deps| deps.parent()).expect("its folder");
    built.join("examples/plugin-process")
}

fn config(accepted: &[&[u8]]) -> WorkersConfig {
    let built_in: HashSet<PluginDigest> = accepted.iter().map(|bytes| digest(bytes)).collect();
    WorkersConfig {
        program: program(),
        policy: guests::POLICY,
        step: guests::STEP,
        ..WorkersConfig::of_this_program(built_in)
    }
}

fn workers() -> Workers {
    Workers::new(config(&[])).expect("workers")
}

fn ask(host: &dyn PolicyHost, plugin: &Arc<Plugin>, denied: u64) -> Result<PolicyReply, Unavailable> {
    ask_by(r#"{"threshold":1}"#, host, plugin, denied)
}

fn ask_by(
    settings: &str,
    host: &dyn PolicyHost,
    plugin: &Arc<Plugin>,
    denied: u64,
) -> Result<PolicyReply, Unavailable> {
    let count = |kind: &str, count| WindowCount {
        kind: kind.into(),
        seconds: 60,
        count,
    };
    host.evaluate(&PolicyCall {
        plugin: plugin.clone(),
        settings: settings.into(),
        row: &guests::denied(),
        facts: Facts {
            counts: vec![count("EgressDenied", denied), count("ContainerOom", 0)],
            ..Facts::default()
        },
        state: String::new(),
    })
}

fn same(mut a: PolicyReply, b: PolicyReply) -> bool {
    a.micros = b.micros;
    a == b
}

#[test]
fn a_policy_decides_in_a_worker_as_in_this_process() {
    let guard = guests::first_party("egress-guard");
    let (host, here) = guests::load(&guard).expect("loads here");
    let workers = workers();
    let there = workers.load(&guard, Class::ThirdParty).expect("loads there");
    assert_eq!(
        (&there.name, &there.events, &there.windows),
        (&here.name, &here.events, &here.windows)
    );
    assert_eq!(there.settings_schema, here.settings_schema);
    for denied in 0..3 {
        let (a, b) = (ask(&host, &here, denied), ask(&workers, &there, denied));
        assert!(
            same(a.expect("decides here"), b.expect("decides there")),
            "{denied} denials"
        );
    }
    assert_eq!(ask(&workers, &there, 1).expect("decides").verdicts.len(), 1);
}

#[test]
fn the_largest_of_our_policies_decide_in_a_worker_too() {
    let workers = workers();
    for (name, settings) in [
        (
            "cel-rules",
            r#"{"rules":[{"name":"r","on":["EgressDenied"],"when":"count('EgressDenied', 60) > 1","action":"kill"}]}"#,
        ),
        (
            "rego-rules",
            r#"{"policy":"package clawker\nverdicts contains {\"action\": \"kill\"} if input.counts.EgressDenied[\"60\"] > 1"}"#,
        ),
    ] {
        let component = guests::first_party(name);
        let plugin = workers.load(&component, Class::ThirdParty).expect(name);
        for (denied, verdicts) in [(1, 0), (2, 1)] {
            let reply = ask_by(settings, &workers, &plugin, denied).expect(name);
            assert_eq!(reply.verdicts.len(), verdicts, "{name}");
        }
    }
}

#[test]
fn a_step_takes_its_turns_in_a_worker() {
    let welcome = guests::first_party("welcome");
    let workers = workers();
    let plugin = workers.load(&welcome, Class::BuiltIn);
    assert!(
        matches!(plugin, Err(LoadError::NotAccepted { .. })),
        "not of this release"
    );
    let mut call = StepCall {
        plugin: workers.load(&welcome, Class::ThirdParty).expect("loads"),
        settings: "{}".into(),
        secrets: vec![],
        context: StepContext {
            agent: FullName::parse("clawker.p.a").expect("name"),
            start: 1,
            first_start: true,
            image: "image".into(),
        },
        history: Arc::default(),
    };
    let StepTurn::Effect(effect) = workers.step(&call) else {
        panic!("no effect")
    };
    let done = clawker_model::EffectResult::WriteFile { written: true };
    call.history = Arc::new(vec![(clawker_plugin_host::note(&effect), done)]);
    let turn = workers.step(&call);
    assert!(
        matches!(&turn, StepTurn::Completed { message } if message.contains("wrote")),
        "{turn:?}"
    );
}

#[test]
fn a_worker_has_no_rights() {
    let guard = guests::first_party("egress-guard");
    let workers = workers();
    workers.load(&guard, Class::ThirdParty).expect("loads");
    let pid = workers.pids()[&Class::ThirdParty];
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name}")).trim().to_owned()
    };
    assert_eq!((field("NoNewPrivs:"), field("Seccomp:")), ("1".into(), "2".into()));
    if rustix::process::geteuid().is_root() {
        let nobody = |line: String| line.split_whitespace().all(|id| id == "65534");
        assert!(nobody(field("Uid:")) && nobody(field("Gid:")) && field("Groups:").is_empty());
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
            assert_eq!(field(set), "0".repeat(16), "{set}");
        }
        let net = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).expect("a namespace");
        assert_ne!(net(&pid.to_string()), net("self"));
    }
    let environment = std::fs::read(format!("/proc/{pid}/environ")).expect("its environment");
    assert_eq!(String::from_utf8_lossy(&environment), "MALLOC_ARENA_MAX=1\0");
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors") {
        let target = std::fs::read_link(entry.expect("a descriptor").path()).expect("a link");
        let target = target.to_string_lossy().into_owned();
        let harmless = target.starts_with("socket:")
            || target == "/dev/null"
            || target.ends_with("/pagemap")
            || target.starts_with("/memfd:");
        assert!(harmless, "{target}");
    }
}

#[test]
fn whatever_a_worker_never_needs_is_its_end() {
    const SIGSYS: i32 = 31;
    let attempt = |what: &str| {
        let mut command = Command::new(program());
        let status = command.args(["confined", what]).stdin(Stdio::null()).status();
        status.expect("it runs")
    };
    assert!(attempt("nothing").success());
    for what in ["open", "connect", "unix", "exec", "thread", "kill", "terminal"] {
        assert_eq!(attempt(what).signal(), Some(SIGSYS), "{what}");
    }
}

#[test]
fn a_worker_that_was_killed_is_unavailable_once() {
    let guard = guests::first_party("egress-guard");
    let workers = workers();
    let plugin = workers.load(&guard, Class::ThirdParty).expect("loads");
    let first = workers.pids()[&Class::ThirdParty];
    clawker_proc::signal::kill(first as i32, 9).expect("killed");
    let died = ask(&workers, &plugin, 1).expect_err("it was killed");
    assert!(
        matches!(&died, Unavailable::Worker(why) if why == "it has died"),
        "{died}"
    );
    assert_eq!(ask(&workers, &plugin, 1).expect("another worker").verdicts.len(), 1);
    assert_ne!(workers.pids()[&Class::ThirdParty], first);
}

#[test]
fn a_worker_that_stands_still_is_ended() {
    let guard = guests::first_party("egress-guard");
    let mut config = config(&[]);
    config.policy.wall = std::time::Duration::from_millis(100);
    let workers = Workers::new(config).expect("workers");
    let plugin = workers.load(&guard, Class::ThirdParty).expect("loads");
    let first = workers.pids()[&Class::ThirdParty];
    clawker_proc::signal::kill(first as i32, 19).expect("stopped");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    let stands = || {
        let status = std::fs::read_to_string(format!("/proc/{first}/status")).expect("it is there");
        status.contains("State:\tT")
    };
    while !stands() {
        assert!(std::time::Instant::now() < deadline, "it doesn't stop");
        std::thread::yield_now();
    }
    let late = ask(&workers, &plugin, 1).expect_err("it stands still");
    assert!(
        matches!(&late, Unavailable::Worker(why) if why.contains("in time")),
        "{late}"
    );
    assert!(ask(&workers, &plugin, 1).is_ok());
    assert!(!PathBuf::from(format!("/proc/{first}/status")).exists(), "it is gone");
}

#[test]
fn hostile_policies_harm_nobody_in_their_worker() {
    let guard = guests::first_party("egress-guard");
    let workers = workers();
    let good = workers.load(&guard, Class::ThirdParty).expect("loads");
    let pid = workers.pids()[&Class::ThirdParty];
    let says = |evaluate: &str| {
        let bytes = guests::policy("", evaluate, Data::default());
        let plugin = workers.load(&bytes, Class::ThirdParty).expect("loads");
        let row = guests::oom();
        let answer = workers.evaluate(&PolicyCall {
            plugin: plugin.clone(),
            settings: "{}".into(),
            row: &row,
            facts: Facts::default(),
            state: String::new(),
        });
        drop(plugin);
        workers.sweep();
        answer.expect_err("it is hostile")
    };
    assert_eq!(says("(loop (br 0)) (i32.const 0)"), Unavailable::Fuel);
    assert_eq!(
        says("(drop (memory.grow (i32.const 2000))) (i32.const 0)"),
        Unavailable::Memory
    );
    assert!(matches!(says("unreachable"), Unavailable::Trap(_)));
    assert!(ask(&workers, &good, 1).is_ok());
    assert_eq!(workers.pids()[&Class::ThirdParty], pid, "the worker lived through it");
}

#[test]
fn code_is_forgotten_when_nobody_has_its_plugin_any_more() {
    let guard = guests::first_party("egress-guard");
    let workers = workers();
    let plugin = workers.load(&guard, Class::ThirdParty).expect("loads");
    let other = plugin.clone();
    drop(plugin);
    workers.sweep();
    assert!(ask(&workers, &other, 1).is_ok(), "somebody has it");
    assert_eq!(workers.held(), 1);
    drop(other);
    workers.sweep();
    assert_eq!(workers.held(), 0);
}

#[test]
fn signers_share_no_worker() {
    let guard = guests::first_party("egress-guard");
    let workers = Workers::new(config(&[&guard])).expect("workers");
    for class in [Class::BuiltIn, Class::ThirdParty, Class::Development] {
        let plugin = workers.load(&guard, class).expect("loads");
        assert!(ask(&workers, &plugin, 1).is_ok());
    }
    let pids: HashSet<u32> = workers.pids().into_values().collect();
    assert_eq!(pids.len(), 3);
}

#[test]
fn more_calls_at_once_than_channels_are_all_answered() {
    let guard = guests::first_party("egress-guard");
    let workers = workers();
    let plugin = workers.load(&guard, Class::ThirdParty).expect("loads");
    std::thread::scope(|scope| {
        let call = || (0..20).filter(|_| ask(&workers, &plugin, 1).is_ok()).count();
        let calls: Vec<_> = (0..24).map(|_| scope.spawn(call)).collect();
        let answered: usize = calls.into_iter().map(|call| call.join().expect("no panic")).sum();
        assert_eq!(answered, 24 * 20);
    });
}

#[test]
fn a_second_start_compiles_nothing() {
    let guard = guests::first_party("egress-guard");
    let dir = tempfile::tempdir().expect("folder");
    let start = || {
        let mut config = config(&[]);
        config.kept = Some((dir.path().to_owned(), CodeKey::new(&[7; 32])));
        let workers = Workers::new(config).expect("workers");
        let plugin = workers.load(&guard, Class::ThirdParty).expect("loads");
        assert!(ask(&workers, &plugin, 1).is_ok());
    };
    start();
    let engine = std::fs::read_dir(dir.path())
        .expect("kept")
        .next()
        .expect("an engine")
        .expect("a folder");
    let kept = engine.path().join(format!("{}.cwasm", digest(&guard)));
    let long_ago = std::time::SystemTime::UNIX_EPOCH;
    let file = std::fs::File::options().append(true).open(&kept).expect("kept");
    file.set_modified(long_ago).expect("dated");
    start();
    assert_eq!(
        std::fs::metadata(&kept).and_then(|kept| kept.modified()).expect("kept"),
        long_ago
    );
    std::fs::write(&kept, b"native code of somebody else").expect("written");
    start();
    assert!(std::fs::metadata(&kept).expect("compiled anew").len() > 1000);
}

/// More than a policy's fuel in a loop, more than its memory, and nothing to say.
fn hungry() -> Vec<u8> {
    let mut data = Data::default();
    let state = data.bytes(b"");
    let nothing = data.decision(0, "", state);
    let evaluate = format!(
        "(local $n i32)
         (local.set $n (i32.const 20000000))
         (loop $l (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
         (drop (memory.grow (i32.const 1280)))
         (i32.const {nothing})"
    );
    guests::policy("", &evaluate, data)
}

#[test]
fn a_plugin_has_the_limits_that_it_wants_here_and_in_a_worker() {
    let hungry = hungry();
    let (host, workers) = (guests::host_for(&[&hungry]), workers());
    let wanted = |memory: Option<u64>, fuel| Wanted {
        memory: memory.map(|mib| mib << 20),
        fuel,
    };
    let said = |wanted| {
        let here = host.load_with(&hungry, wanted).expect("loads here");
        let there = workers
            .load_with(&hungry, Class::ThirdParty, wanted)
            .expect("loads there");
        assert_eq!(here.limits, there.limits);
        let here = ask(&host, &here, 0).map(|reply| reply.fuel);
        assert_eq!(here, ask(&workers, &there, 0).map(|reply| reply.fuel));
        here
    };
    assert_eq!(said(Wanted::default()), Err(Unavailable::Fuel));
    assert_eq!(said(wanted(None, Some(200_000_000))), Err(Unavailable::Memory));
    let fuel = said(wanted(Some(128), Some(200_000_000))).expect("enough of both");
    assert!(fuel > guests::POLICY.fuel, "{fuel}");
    assert_eq!(said(wanted(Some(128), Some(fuel / 2))), Err(Unavailable::Fuel));
    for wanted in [wanted(Some(257), None), wanted(None, Some(1_000_000_001))] {
        let here = host.load_with(&hungry, wanted).expect_err("too much");
        assert!(matches!(here, LoadError::Limit { .. }), "{here}");
        assert_eq!(workers.load_with(&hungry, Class::ThirdParty, wanted).err(), Some(here));
    }
}
