//! Plugins that an operator installs: whose are taken, what they do, and how they come and go.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use clawker_plugin_package::{Kind, Manifest, SecretKey, Signature};
use clawker_tests::Host;
use clawker_tests::host::Setup;
use clawker_tests::wait::{PATIENCE, until_true};
use serde_json::Value;

#[path = "../../crates/plugin-host/tests/guests/text.rs"]
mod guests;

/// An author with a key, and a folder for what they make.
struct Author {
    dir: tempfile::TempDir,
    key: SecretKey,
}

impl Author {
    fn new(name: &str) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let key = SecretKey::make(&dir.path().join("author.key"), name)?;
        Ok(Self { dir, key })
    }

    /// A host that takes this author's policies called `exec-…`.
    fn host(&self) -> Result<Host> {
        let trust = self.dir.path().join("trust.toml");
        let key = self.key.public();
        let text = format!("format = 1\n[[key]]\nkey = \"{key}\"\nplugins = [\"exec-*\"]\nkinds = [\"policy\"]\n");
        std::fs::write(&trust, text)?;
        Setup::test()?
            .config(&format!("[plugins]\ntrust = \"{}\"\n", trust.display()))
            .start()
    }

    /// A policy that freezes from the nth exec within a minute on, in a file with its signature beside it.
    fn policy(&self, name: &str, version: &str, nth: u64) -> Result<String> {
        let code = guests::counts((name, version), "ExecExited", nth, "freeze");
        let component = Manifest::new(name, version, Kind::Policy, []).embed(&code)?;
        self.write(&format!("{name}-{version}"), &component, true)
    }

    fn write(&self, stem: &str, component: &[u8], signed: bool) -> Result<String> {
        let file = self.dir.path().join(format!("{stem}.wasm"));
        std::fs::write(&file, component)?;
        if signed {
            let signature = Signature::make(&self.key, &clawker_plugin_package::digest(component));
            std::fs::write(file.with_extension("wasm.sig"), signature.to_json())?;
        }
        Ok(file.display().to_string())
    }
}

fn listed(host: &Host, name: &str) -> Result<Option<Value>> {
    let listed = host.cli(["plugin", "list", "--json"])?.ok()?.stdout;
    let mut entries = listed.lines().map(serde_json::from_str::<Value>);
    entries
        .find(|entry| entry.as_ref().is_ok_and(|entry| entry["name"] == name))
        .transpose()
        .context("reading the list")
}

#[test]
fn an_installed_policy_decides_is_tried_replaced_explained_and_removed() -> Result<()> {
    let author = Author::new("alice")?;
    let host = author.host()?;
    let agent = host.agent("a").script("while :; do sleep 0.1; done").run()?;
    let exec = || host.cli(["exec", &agent.short(), "true"]);

    let first = author.policy("exec-guard", "0.1.0", 5)?;
    let said = host.cli(["plugin", "install", &first])?.ok()?;
    ensure!(said.stdout == "exec-guard 0.1.0 is installed\n", "{said:?}");
    ensure!(said.stderr.contains("signed by alice"), "{said:?}");
    let again = host.cli(["plugin", "install", &first])?;
    ensure!(again.code == 0, "the same again is no change: {again:?}");
    exec()?.ok()?;
    host.expect_event("PolicyDecided", |row| row.body["policy"] == "exec-guard")?;

    // The next version agrees twice, and is in force.
    let second = author.policy("exec-guard", "0.2.0", 5)?;
    let refused = host.cli(["plugin", "install", &second])?;
    ensure!(
        refused.code == 1 && refused.stderr.contains("plugin upgrade"),
        "{refused:?}"
    );
    host.cli(["plugin", "upgrade", &second, "--trial", "2"])?.ok()?;
    for _ in 0..2 {
        exec()?.ok()?;
    }
    let promoted = host.expect_event("PluginPromoted", |row| row.body["name"] == "exec-guard")?;
    ensure!(promoted.body["agreed"] == 2, "{promoted:?}");
    let entry = listed(&host, "exec-guard")?.context("listed")?;
    ensure!(
        entry["version"] == "0.2.0" && entry["previous"] == "0.1.0" && entry["trial"].is_null(),
        "{entry}"
    );

    for _ in 0..2 {
        exec()?.ok()?;
    }
    agent.expect_containment("frozen")?;
    let decided = host.expect_event("PolicyDecided", |row| {
        row.body["policy"] == "exec-guard" && row.body["verdicts"].as_array().is_some_and(|all| !all.is_empty())
    })?;
    let explained = host.cli(["plugin", "explain", &decided.seq.to_string()])?;
    ensure!(
        explained.code == 0
            && explained.stdout.contains("5 ExecExited in 60 s")
            && explained.stdout.contains("bit for bit"),
        "{explained:?}"
    );

    host.cli(["plugin", "upgrade", "exec-guard", "--back"])?.ok()?;
    ensure!(listed(&host, "exec-guard")?.context("listed")?["version"] == "0.1.0");
    host.cli(["plugin", "disable", "exec-guard"])?.ok()?;
    host.expect_event("PolicyUnloaded", |row| row.body["policy"] == "exec-guard")?;
    host.cli(["plugin", "remove", "exec-guard"])?.ok()?;
    ensure!(listed(&host, "exec-guard")?.is_none());
    agent.expect_containment("frozen")?;
    agent.release().map(drop)
}

#[test]
fn what_a_host_does_not_trust_is_refused_by_name_and_nothing_of_it_stays() -> Result<()> {
    let (author, stranger) = (Author::new("alice")?, Author::new("mallory")?);
    let host = author.host()?;
    let code = guests::counts(("exec-guard", "0.1.0"), "ExecExited", 5, "freeze");
    let manifest = |name: &str, version: &str, imports: &[&str]| {
        Manifest::new(name, version, Kind::Policy, imports.iter().map(ToString::to_string)).embed(&code)
    };
    let good = manifest("exec-guard", "0.1.0", &[])?;
    let mut changed = good.clone();
    let at = changed
        .windows(7)
        .position(|bytes| bytes == b"because")
        .context("the reason")?;
    changed[at] = b'B';
    let signed_for_another = author.write("changed", &good, true)?;
    std::fs::write(&signed_for_another, &changed)?;
    let cases = [
        (author.write("unsigned", &good, false)?, 77, "it isn't signed"),
        (
            stranger.write("foreign", &good, true)?,
            77,
            "nobody here trusts the key",
        ),
        (signed_for_another, 77, "for another component"),
        (author.write("bare", &code, true)?, 2, "has no manifest"),
        (
            author.write("imports", &manifest("exec-guard", "0.1.0", &["log"])?, true)?,
            2,
            "`imports`",
        ),
        (
            author.write("version", &manifest("exec-guard", "0.2.0", &[])?, true)?,
            2,
            "`version`",
        ),
        (
            author.write("name", &manifest("exec-other", "0.1.0", &[])?, true)?,
            2,
            "`name`",
        ),
        (
            author.policy("git-guard", "0.1.0", 5)?,
            77,
            "a plugin called `git-guard`",
        ),
        (author.policy("egress-guard", "0.1.0", 5)?, 1, "of this release"),
        (author.write("text", b"hello", true)?, 1, "is no component"),
        (author.write("half", &good[..good.len() / 2], true)?, 2, ""),
    ];
    for (file, code, says) in cases {
        let refused = host.cli(["plugin", "install", &file])?;
        ensure!(
            refused.code == code && refused.stderr.contains(says),
            "{file}: {code}, {says}: {refused:?}"
        );
    }
    ensure!(listed(&host, "exec-guard")?.is_none());
    ensure!(!host.events().iter().any(|row| row.kind == "PluginInstalled"));
    let blobs = host.state_dir().join("plugins/blobs");
    ensure!(
        std::fs::read_dir(blobs)?.next().is_none(),
        "something stays in the store"
    );
    host.cli(["plugin", "install", &author.write("good", &good, true)?])?
        .ok()?;
    Ok(())
}

#[test]
fn what_is_installed_outlives_a_restart_and_what_was_changed_by_hand_does_not() -> Result<()> {
    let author = Author::new("alice")?;
    let mut host = author.host()?;
    let file = author.policy("exec-guard", "0.1.0", 2)?;
    host.cli(["plugin", "install", &file, "--mode", "monitor"])?.ok()?;
    host.kill_control_plane()?;
    host.restart_control_plane()?;
    ensure!(listed(&host, "exec-guard")?.context("listed")?["mode"] == "monitor");
    ensure!(host.cli(["plugin", "doctor"])?.code == 0);

    host.stop_control_plane()?;
    let lock = host.state_dir().join("plugins/plugins.lock");
    let text = std::fs::read_to_string(&lock)?;
    std::fs::write(&lock, text.replace("monitor", "enforce"))?;
    let ended = host.control_plane_refuses()?;
    ensure!(!ended.success(), "it starts with a lockfile that was changed");
    let log = host.log_tail();
    ensure!(log.contains("`exec-guard` was changed by hand"), "{log}");
    std::fs::write(&lock, text)?;
    let blob = std::fs::read_dir(host.state_dir().join("plugins/blobs"))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path: &PathBuf| path.extension().is_some_and(|of| of == "wasm"))
        .context("a component")?;
    std::fs::write(&blob, b"\0asm")?;
    host.restart_control_plane()?;
    let doctor = host.cli(["plugin", "doctor"])?;
    ensure!(doctor.code == 1 && doctor.stdout.contains("was changed"), "{doctor:?}");
    let status = host.cli(["status"])?.ok()?.stdout;
    ensure!(status.contains("plugins") && status.contains("exec-guard"), "{status}");
    // The same component again mends it.
    host.cli(["plugin", "install", &file])?.ok()?;
    until_true("a doctor without a complaint", PATIENCE, || {
        Ok(host.cli(["plugin", "doctor"])?.code == 0)
    })
}
