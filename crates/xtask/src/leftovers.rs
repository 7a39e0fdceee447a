//! What a run of the tests or the demo may leave on a machine: containers, networks, network namespaces, mounts and
//! processes of ours. Only what came since the run began counts, so neither a control plane that somebody uses here
//! nor another person's work is touched.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::Value;

use crate::engine::api::Api;
use crate::project::Project;
use crate::say::say;

/// The default label prefix; what set-up probes with is below it.
const PREFIX: &str = "dev.clawker.";
/// Prefixes of control planes that tests, demo and scorecard start: `test.clawker.<who>.managed`.
const TRIALS: [&str; 4] = ["test.clawker", "demo.clawker", "score.clawker", "clawker-test"];
/// The labels that a control plane with the default prefix writes: its agents aren't ours to judge.
const IN_USE: [&str; 6] = ["managed", "purpose", "project", "agent", "owner", "run"];
/// What folders of the tests' second engines begin with; every process of one names its own.
const ELSEWHERE: &str = "/clawker-e2e-elsewhere-";
/// Docker and the kernel need a moment to let go.
const GRACE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Kind {
    Process,
    Container,
    Network,
    Namespace,
    Mount,
}

/// Each trace by kind and key (id, pid, path), with what a person calls it.
pub struct Traces {
    api: Api,
    seen: BTreeMap<(Kind, String), String>,
}

impl Traces {
    pub fn now(project: &Project) -> Result<Self> {
        let api = Api::of_this_host()?;
        let mut seen = BTreeMap::new();
        let mut add =
            |kind, all: Vec<(String, String)>| seen.extend(all.into_iter().map(|(key, name)| ((kind, key), name)));
        add(Kind::Process, processes(&project.target));
        add(
            Kind::Container,
            labelled(&api.get("/containers/json?all=true")?, |one| one["Names"][0].as_str()),
        );
        add(
            Kind::Network,
            labelled(&api.get("/networks")?, |one| one["Name"].as_str()),
        );
        add(Kind::Namespace, namespaces());
        add(
            Kind::Mount,
            mounts(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()),
        );
        Ok(Self { api, seen })
    }

    /// What is here now and was not here then; what is just going away gets a moment.
    pub fn what_came_since(&self, project: &Project) -> Result<Self> {
        let since = Instant::now();
        loop {
            let now = Self::now(project)?;
            let seen: BTreeMap<_, _> = now
                .seen
                .into_iter()
                .filter(|(key, _)| !self.seen.contains_key(key))
                .collect();
            if seen.is_empty() || since.elapsed() > GRACE {
                return Ok(Self { api: now.api, seen });
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// Processes first: a control plane that still runs would start its agents anew.
    pub fn remove(&self) {
        for ((kind, key), name) in &self.seen {
            let removed = match kind {
                Kind::Process => kill(key),
                Kind::Container => {
                    end_frozen(key);
                    self.api.delete(&format!("/containers/{key}?force=true&v=true"))
                }
                Kind::Network => self.api.delete(&format!("/networks/{key}")),
                Kind::Namespace | Kind::Mount => detach(Path::new(key), *kind),
            };
            match removed {
                Ok(()) => say("test", format!("removed {}: {name}", kind.word())),
                Err(error) => say("test", format!("{} {name} stays: {error:#}", kind.word())),
            }
        }
    }
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Container => "container",
            Self::Network => "network",
            Self::Namespace => "network namespace",
            Self::Mount => "mount",
        }
    }
}

impl fmt::Display for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self
            .seen
            .iter()
            .map(|((kind, key), name)| format!("{} {name} ({key})", kind.word()))
            .collect();
        f.write_str(&lines.join("\n  "))
    }
}

fn labelled(listed: &Value, name: impl Fn(&Value) -> Option<&str>) -> Vec<(String, String)> {
    let ours = |one: &&Value| {
        one["Labels"]
            .as_object()
            .is_some_and(|labels| labels.keys().any(|label| is_test_label(label)))
    };
    let listed = listed.as_array().into_iter().flatten().filter(ours);
    listed
        .map(|one| {
            (
                one["Id"].as_str().unwrap_or_default().to_owned(),
                name(one).unwrap_or("?").to_owned(),
            )
        })
        .collect()
}

fn is_test_label(label: &str) -> bool {
    TRIALS.iter().any(|prefix| label.starts_with(prefix))
        || label.strip_prefix(PREFIX).is_some_and(|rest| !IN_USE.contains(&rest))
}

/// Programs from the target folder, and clawkerd wherever it runs; not ourselves and not who started us.
fn processes(target: &Path) -> Vec<(String, String)> {
    let above = ancestors();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(exe) = fs::read_link(entry.path().join("exe")) else {
            continue;
        };
        // Of the tests' second engine: dockerd, and shims that outlived it.
        let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let elsewhere = String::from_utf8_lossy(&arguments).contains(ELSEWHERE);
        if !above.contains(&pid) && (exe.starts_with(target) || exe.starts_with("/.clawker") || elsewhere) {
            found.push((pid.to_string(), exe.display().to_string()));
        }
    }
    found
}

fn ancestors() -> BTreeSet<u32> {
    let mut all = BTreeSet::new();
    let mut pid = std::process::id();
    while pid > 1 && all.insert(pid) {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat
            .rfind(')')
            .and_then(|end| stat[end + 1..].split_whitespace().nth(1)?.parse().ok());
        pid = parent.unwrap_or(0);
    }
    all
}

fn namespaces() -> Vec<(String, String)> {
    let entries = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    entries
        .map(|entry| {
            (
                entry.path().display().to_string(),
                entry.file_name().to_string_lossy().into_owned(),
            )
        })
        .collect()
}

fn mounts(mountinfo: &str) -> Vec<(String, String)> {
    let points = mountinfo.lines().filter_map(|line| line.split_whitespace().nth(4));
    points
        .filter(|point| point.contains("clawker"))
        .map(|point| (point.to_owned(), point.to_owned()))
        .collect()
}

fn kill(pid: &str) -> Result<()> {
    use rustix::process::{Pid, Signal, kill_process};
    let Some(pid) = pid.parse().ok().and_then(Pid::from_raw) else {
        return Ok(());
    };
    match kill_process(pid, Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// With cgroup v1 a kill reaches a frozen process when it is thawed, and Docker's own kill waits for that forever.
fn end_frozen(container: &str) {
    let freezer = Path::new("/sys/fs/cgroup/freezer/docker").join(container);
    for dir in [freezer.join("agent"), freezer] {
        if fs::read_to_string(dir.join("freezer.state")).is_ok_and(|state| state.trim() != "THAWED") {
            for pid in fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default().lines() {
                let _ = kill(pid);
            }
            let _ = fs::write(dir.join("freezer.state"), "THAWED");
        }
    }
}

fn detach(path: &Path, kind: Kind) -> Result<()> {
    crate::run::output(std::process::Command::new("umount").arg("--lazy").arg(path))
        .map(drop)
        .or_else(|error| {
            // A named namespace is a bind mount over a file; one that is no mount any more is just the file.
            if kind == Kind::Namespace { Ok(()) } else { Err(error) }
        })?;
    if kind == Kind::Namespace {
        fs::remove_file(path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_prefixes_of_tests_count() {
        for (label, expected) in [
            ("dev.clawker.managed", false),
            ("dev.clawker.project", false),
            ("dev.clawker.test-12.managed", true),
            ("dev.clawker.probe", true),
            ("test.clawker.p12x3.managed", true),
            ("dev.clawkerish.x", false),
            ("maintainer", false),
        ] {
            assert_eq!(is_test_label(label), expected, "{label}");
        }
    }

    #[test]
    fn containers_of_tests_are_found_by_label() {
        let listed = serde_json::json!([
            {"Id": "1", "Names": ["/a"], "Labels": {"dev.clawker.test-1.managed": "true"}},
            {"Id": "2", "Names": ["/b"], "Labels": {"dev.clawker.managed": "true"}},
            {"Id": "3", "Names": ["/c"], "Labels": null},
        ]);
        assert_eq!(
            labelled(&listed, |one| one["Names"][0].as_str()),
            [("1".to_owned(), "/a".to_owned())]
        );
    }

    #[test]
    fn mounts_of_ours_are_found() {
        let info = "1 2 0:1 / /tmp/clawker-test-1/run rw - tmpfs tmpfs rw\n2 2 0:1 / /home rw - tmpfs tmpfs rw\n";
        assert_eq!(mounts(info).len(), 1);
    }

    #[test]
    fn we_and_our_parents_are_not_left_over() {
        assert!(ancestors().contains(&std::process::id()));
    }
}
