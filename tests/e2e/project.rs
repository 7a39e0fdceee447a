//! Projects' files: `clawker apply` and `clawker check`.

use anyhow::{Result, ensure};
use clawker_tests::Host;
use clawker_tests::host::Setup;
use clawker_tests::wait::{PATIENCE, until_true};

use crate::steps::project;

const TWO: &str = r#"
  a:
    image: IMAGE
    command: [sh, -c, "trap 'exit 0' TERM; while :; do sleep 0.1; done"]
    env: {COLOUR: red}
  b:
    image: IMAGE
    command: [sh, -c, "trap 'exit 0' TERM; while :; do sleep 0.1; done"]
    network: none
"#;

#[test]
fn what_the_file_says_is_made_once_and_what_differs_is_named() -> Result<()> {
    let host = Host::start()?;
    let file = project(&host, TWO)?;
    host.cli(["apply", "-f", &file])?.ok()?;
    for name in ["a", "b"] {
        host.existing(name).expect_session()?;
    }
    let first = host.existing("a").container()?;
    let said = host.cli(["apply", "-f", &file, "--json"])?.ok()?.objects()?;
    ensure!(
        said.len() == 2
            && said
                .iter()
                .all(|agent| agent["made"] == "unchanged" && agent["started"] == false),
        "{said:?}"
    );

    let changed = project(&host, &TWO.replace("red", "blue"))?;
    let refused = host.cli(["apply", "-f", &changed])?.failed(73, "differs in: env")?;
    ensure!(refused.stderr.contains("--replace"), "{refused:?}");
    ensure!(
        refused.stdout.contains("unchanged"),
        "the other agent had its turn: {refused:?}"
    );
    ensure!(host.existing("a").container()? == first);

    let said = host.cli(["apply", "-f", &changed, "--replace", "a"])?.ok()?.stdout;
    ensure!(said.contains("replaced, started"), "{said}");
    let agent = host.existing("a");
    agent.expect_session()?;
    ensure!(agent.container()? != first);
    ensure!(agent.exec(["sh", "-c", "echo $COLOUR"])?.ok()?.stdout == "blue\n");

    // One that was stopped is started, and nothing else.
    host.cli(["stop", "--timeout", "1", &agent.short()])?.ok()?;
    until_true("its end", PATIENCE, || Ok(agent.view()?["status"] == "exited"))?;
    let said = host.cli(["apply", "-f", &changed, "a"])?.ok()?.stdout;
    ensure!(said.contains("unchanged, started"), "{said}");
    Ok(())
}

#[test]
fn a_file_that_is_wrong_makes_nothing() -> Result<()> {
    let host = Host::start()?;
    for (agents, code, says) in [
        ("  a:\n    image: IMAGE\n    imgae: x\n", 78, "imgae"),
        (
            "  a:\n    image: IMAGE\n    steps: [{plugin: nothing}]\n",
            2,
            "no plugin `nothing`",
        ),
        (
            "  a:\n    image: IMAGE\n    steps: [{plugin: egress-guard}]\n",
            2,
            "policy plugin",
        ),
        (
            "  a:\n    image: IMAGE\n    steps: [{plugin: ssh, settings: {hosts: []}}]\n",
            2,
            "there is no `hosts`",
        ),
        (
            "  a:\n    image: IMAGE\n    steps: [{plugin: post-init, settings: {script: x, secret: TOKEN}}]\n",
            2,
            "needs the secret `TOKEN`",
        ),
    ] {
        let file = project(&host, agents)?;
        host.cli(["apply", "-f", &file])?.failed(code, says)?;
    }
    ensure!(host.ps()?.is_empty());
    Ok(())
}

#[test]
fn a_projects_file_does_not_weaken_the_host() -> Result<()> {
    let config = "[project]\nforbid = [\"env\"]\nplugins = [\"git\"]\n";
    let host = Setup::test()?.config(config).start()?;
    let file = project(&host, TWO)?;
    host.cli(["apply", "-f", &file, "a"])?.failed(77, "forbids `env`")?;
    let script = "  c:\n    image: IMAGE\n    steps: [{plugin: post-init, settings: {script: x}}]\n";
    host.cli(["apply", "-f", &project(&host, script)?])?
        .failed(77, "`post-init`")?;
    let file = project(
        &host,
        "  c:\n    image: IMAGE\n    command: [sleep, '100']\n    steps: [{plugin: git}]\n",
    )?;
    host.cli(["apply", "-f", &file])?.ok()?;
    // The host's own step ran first.
    let agent = host.existing("c");
    agent.exec(["cat", "/etc/clawker-welcome"])?.ok()?;
    let steps: Vec<_> = host
        .events()
        .into_iter()
        .filter(|row| row.kind == "InitStepCompleted")
        .map(|row| row.body["name"].to_string())
        .collect();
    ensure!(steps == ["\"welcome\"", "\"git\""], "{steps:?}");
    Ok(())
}
