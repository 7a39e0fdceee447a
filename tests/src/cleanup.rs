//! Removing all that bears a label prefix: containers, even frozen ones, and networks.

use std::collections::BTreeSet;

use anyhow::Result;
use clawker_proc::cgroup::{ContainerCgroup, Driver, expected_path};
use serde_json::Value;

use crate::docker::Docker;

/// The label of things that a test made itself, below its prefix.
pub const FIXTURE: &str = "fixture";

/// Removes every container and network of the control plane with this prefix and of the test around it.
pub fn remove_all(docker: &Docker, prefix: &str, network: Option<&str>) -> Result<()> {
    for label in ["managed", FIXTURE].map(|name| format!("{prefix}.{name}")) {
        for container in docker.containers(&label)? {
            if let Some(id) = container["Id"].as_str() {
                remove_container(docker, id)?;
            }
        }
    }
    for found in docker.networks()? {
        let (Some(name), labels) = (found["Name"].as_str(), &found["Labels"]) else {
            continue;
        };
        let ours = [format!("{prefix}.managed"), format!("{prefix}.{FIXTURE}")];
        if Some(name) == network || ours.iter().any(|label| !labels[label].is_null()) {
            docker.remove_network(name)?;
        }
    }
    Ok(())
}

/// Ends a container that Docker alone may not be able to end: on cgroup v1 nobody dies while he is frozen.
pub fn remove_container(docker: &Docker, id: &str) -> Result<()> {
    for driver in [Driver::Cgroupfs, Driver::Systemd] {
        if let Ok(Some(cgroup)) = ContainerCgroup::open(&expected_path(driver, None, id)) {
            // Docker's own removal is what counts; this only makes it possible.
            let _ = cgroup.kill_all();
        }
    }
    docker.remove(id)
}

/// Removes what tests left whose process no longer exists. `kind` begins their prefixes: `test.clawker`; `dirs` the
/// names of their folders.
pub fn sweep(docker: &Docker, kind: &str, dirs: &str) -> Result<()> {
    let mut prefixes = BTreeSet::new();
    let networks = docker.networks()?;
    for thing in docker.all_containers()?.iter().chain(&networks) {
        let labels = thing["Labels"].as_object().into_iter().flatten();
        prefixes.extend(labels.filter_map(|(label, _): (&String, &Value)| {
            let (prefix, _) = label.rsplit_once('.')?;
            of_the_dead(prefix.strip_prefix(kind)?.strip_prefix('.')?).then(|| prefix.to_owned())
        }));
    }
    for prefix in prefixes {
        remove_all(docker, &prefix, None)?;
    }
    remove_dirs(|name| name.strip_prefix(dirs).is_some_and(of_the_dead))
}

/// Removes folders of the temporary folder by name.
pub fn remove_dirs(ours: impl Fn(&str) -> bool) -> Result<()> {
    for entry in std::fs::read_dir(std::env::temp_dir())?.flatten() {
        if entry.file_name().to_str().is_some_and(&ours) && entry.path().is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Whether `p<pid>x<random>` names a process that isn't there.
pub(crate) fn of_the_dead(name: &str) -> bool {
    let pid = name
        .strip_prefix('p')
        .and_then(|rest| rest.split_once('x'))
        .and_then(|(pid, _)| pid.parse::<u32>().ok());
    pid.is_some_and(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists())
}
