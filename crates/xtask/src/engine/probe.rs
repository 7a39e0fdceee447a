//! The probe: that an engine answers says little about whether a container starts on it. A container of an image made
//! here, on a network made here, has to end with 0; then container, network and image go again.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::engine::api::{Api, label_filter, tar_of_one};
use crate::run::unmet;
use crate::say::say;

const LABEL: &str = "dev.clawker.probe";
const BUSYBOX: &str = "/bin/busybox";
/// A probe takes a second or two; what is this old was left by one that was killed.
const STALE_SECONDS: i64 = 300;

pub fn run(api: &Api) -> Result<()> {
    sweep(api);
    let name = format!("clawker-probe-{}", std::process::id());
    let outcome = probe(api, &name);
    let removed = remove(api, &name);
    match outcome {
        Ok(()) => removed.context("removing the probe"),
        Err(error) => Err(unmet(format!(
            "the engine can't run a container: {error:#}{}",
            hint(&error)
        ))),
    }
}

fn probe(api: &Api, name: &str) -> Result<()> {
    let tar = tar_of_one("busybox", Path::new(BUSYBOX))?;
    let imported = api
        .post_tar(
            &format!("/images/create?fromSrc=-&repo={name}&tag=1&changes=LABEL%20{LABEL}%3Dtrue"),
            &tar,
        )
        .context("importing an image")?;
    if let Some(error) = imported["error"].as_str() {
        anyhow::bail!("importing an image: {error}");
    }
    let labels = json!({ LABEL: "true" });
    api.post(
        "/networks/create",
        &json!({"Name": name, "Driver": "bridge", "CheckDuplicate": true, "Labels": labels}),
    )
    .context("creating a network")?;
    api.post(
        &format!("/containers/create?name={name}"),
        &json!({"Image": format!("{name}:1"), "Cmd": ["/busybox", "true"], "Labels": labels,
            "HostConfig": {"NetworkMode": name}}),
    )
    .context("creating a container")?;
    api.post(&format!("/containers/{name}/start"), &Value::Null)
        .context("starting a container")?;
    let ended = api
        .post(&format!("/containers/{name}/wait"), &Value::Null)
        .context("waiting for a container")?;
    anyhow::ensure!(
        ended["StatusCode"] == 0,
        "the container ended with {} instead of 0",
        ended["StatusCode"]
    );
    Ok(())
}

fn remove(api: &Api, name: &str) -> Result<()> {
    api.delete(&format!("/containers/{name}?force=true&v=true"))?;
    api.delete(&format!("/networks/{name}"))?;
    api.delete(&format!("/images/{name}:1?force=true"))
}

/// Removes what a killed probe left; another one may be running right now, so only what is old.
fn sweep(api: &Api) {
    let filter = label_filter(LABEL);
    let Ok(listed) = api.get(&format!("/containers/json?all=true&filters={filter}")) else {
        return;
    };
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    for container in listed.as_array().into_iter().flatten() {
        let age = i64::try_from(now).unwrap_or(0) - container["Created"].as_i64().unwrap_or(0);
        let name = container["Names"][0]
            .as_str()
            .unwrap_or_default()
            .trim_start_matches('/');
        if age > STALE_SECONDS && name.starts_with("clawker-probe-") {
            say("setup", format!("removing {name}, left by an earlier probe"));
            if let Err(error) = remove(api, name) {
                say("setup", format!("{name} stays: {error:#}"));
            }
        }
    }
}

/// The next step, for faults that are known.
fn hint(error: &anyhow::Error) -> &'static str {
    let text = format!("{error:#}").to_lowercase();
    if text.contains("could not find bridge") {
        "\n  The bridge of a network is gone: restart the engine."
    } else if text.contains("iptables") || text.contains("nf_tables") {
        "\n  The engine couldn't write its packet rules: is iptables installed, and has the kernel nf_tables?"
    } else if text.contains("cgroup") {
        "\n  Control groups aren't mounted as runc needs them: see /proc/self/cgroup and /sys/fs/cgroup."
    } else if text.contains("non-overlapping") || text.contains("address pool") {
        "\n  All of the engine's address pools are taken: remove networks that nobody uses (`docker network prune`)."
    } else if text.contains("no space left") {
        "\n  The disk of the engine's data folder is full."
    } else {
        ""
    }
}
