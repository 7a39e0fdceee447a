//! `clawker-demo [--json]`: one supervised host end to end, on a private state folder and label prefix.
//!
//! ```text
//! leftovers of an interrupted demo removed ─▶ the story, check by check ─▶ everything removed ─▶ the table
//!                       SIGINT, SIGTERM ─▶ whatever waits ends ─▶ everything removed ─▶ exit 130
//! ```
//! Exit 0 only if every check holds. Progress goes to stderr; stdout is the table, or one object a line.

mod report;
mod story;

use std::fs::File;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clawker_tests::host::Setup;
use clawker_tests::{Docker, cleanup, image, wait};

use crate::report::Report;

const PREFIX: &str = "demo.clawker";
/// Of the network, the images and the folders.
const NAME: &str = "clawker-demo";
const PROJECT: &str = "demo";

fn main() -> ExitCode {
    let json = match std::env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => false,
        [option] if option == "--json" => true,
        _ => {
            eprintln!("usage: clawker-demo [--json]");
            return ExitCode::from(clawker_model::exit::USAGE);
        }
    };
    let mut report = Report::new(json);
    let outcome = watch_signals().and_then(|()| run(&mut report));
    report.print();
    if wait::interrupted() {
        eprintln!("demo: interrupted; everything was removed");
        return ExitCode::from(130);
    }
    if let Err(error) = outcome {
        eprintln!("error: {error:#}");
        return ExitCode::FAILURE;
    }
    if report.passed() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn watch_signals() -> Result<()> {
    let signals = [
        signal_hook::consts::SIGINT,
        signal_hook::consts::SIGTERM,
        signal_hook::consts::SIGHUP,
    ];
    let mut signals = signal_hook::iterator::Signals::new(signals).context("watching for signals")?;
    std::thread::spawn(move || {
        for _ in signals.forever() {
            wait::interrupt();
        }
    });
    Ok(())
}

fn run(report: &mut Report) -> Result<()> {
    let lock = std::env::temp_dir().join(format!("{NAME}.lock"));
    let lock = File::create(&lock).with_context(|| format!("making {}", lock.display()))?;
    ensure!(lock.try_lock().is_ok(), "another demo runs on this machine");
    let docker = Docker::of_this_host()?;
    remove(&docker).context("removing what an earlier demo left")?;

    report.doing("a control plane on a private state folder");
    let told = match Setup::named(PREFIX, NAME, PROJECT).prepare() {
        Ok(mut host) => {
            let told = story::tell(&mut host, report);
            if told.is_err() && !wait::interrupted() {
                eprintln!("{}", host.log_tail());
            }
            report.doing("removing everything");
            told
        }
        Err(error) => Err(error),
    };
    remove(&docker).context("removing the demo")?;
    if told.is_ok() {
        report.check(
            "nothing is left",
            "0 containers, 0 networks, 0 images, 0 folders",
            || left(&docker),
        );
    }
    told
}

/// Removes all that any demo made.
fn remove(docker: &Docker) -> Result<()> {
    cleanup::remove_all(docker, PREFIX, Some(NAME))?;
    for name in image::named(docker, NAME)? {
        docker.remove_image(&name)?;
    }
    cleanup::remove_dirs(ours)
}

fn ours(dir: &str) -> bool {
    dir.starts_with(&format!("{NAME}-"))
}

fn left(docker: &Docker) -> Result<(String, bool)> {
    let bears = |thing: &serde_json::Value| {
        thing["Labels"]
            .as_object()
            .is_some_and(|labels| labels.keys().any(|label| label.starts_with(PREFIX)))
    };
    let containers = docker.all_containers()?.iter().filter(|one| bears(one)).count();
    let networks = docker.networks()?.iter().filter(|one| bears(one)).count();
    let images = image::named(docker, NAME)?.len();
    let folders = std::fs::read_dir(std::env::temp_dir())?
        .flatten()
        .filter(|entry| entry.path().is_dir() && entry.file_name().to_str().is_some_and(ours))
        .count();
    let seen = format!("{containers} containers, {networks} networks, {images} images, {folders} folders");
    Ok((seen, containers + networks + images + folders == 0))
}
