//! What the double says, in the shape of Docker's answers: the fields that a client of ours reads.

use serde_json::{Value, json};

use super::IMAGE;
use super::engine::{Container, State};

/// The API that it speaks a part of.
pub const API: &str = "1.41";

pub fn version() -> Value {
    json!({
        "Version": "0.0.0-rig", "ApiVersion": API, "MinAPIVersion": "1.12", "Os": "linux", "Arch": arch(),
        "Components": [{"Name": "clawker-rig", "Version": "0.0.0"}],
    })
}

pub fn info(dir: &std::path::Path, containers: usize) -> Value {
    json!({
        "ID": "clawker-rig", "Name": "clawker-rig", "Containers": containers, "ServerVersion": "0.0.0-rig",
        "CgroupDriver": "cgroupfs", "CgroupVersion": "1", "OSType": "linux", "Architecture": arch(),
        "OperatingSystem": "Linux", "DockerRootDir": dir, "SecurityOptions": [],
    })
}

pub fn image() -> Value {
    json!({
        "Id": format!("sha256:{}", "0".repeat(64)), "RepoTags": [format!("{IMAGE}:latest")], "Os": "linux",
        "Architecture": arch(), "Config": {"Cmd": ["sleep", "100000"], "Env": ["PATH=/bin"]},
    })
}

pub fn summary(container: &Container) -> Value {
    json!({
        "Id": container.id, "Names": [format!("/{}", container.name)], "Image": IMAGE, "State": status(container),
        "Status": status(container), "Labels": container.labels(), "Created": 0, "Mounts": mounts(container),
    })
}

pub fn inspect(container: &Container) -> Value {
    let request = &container.request;
    let (pid, code) = match container.state {
        State::Created => (0, 0),
        State::Running { pid, .. } => (pid, 0),
        State::Exited { code } => (0, code),
    };
    json!({
        "Id": container.id, "Name": format!("/{}", container.name), "Image": request["Image"],
        "Created": "1970-01-01T00:00:00Z",
        "State": {
            "Status": status(container), "Running": container.runs(), "Paused": false, "Restarting": false,
            "OOMKilled": false, "Dead": false, "Pid": pid, "ExitCode": code, "StartedAt": container.started_at,
        },
        "Config": {
            "Labels": container.labels(), "Entrypoint": request["Entrypoint"], "Cmd": request["Cmd"],
            "User": request["User"], "Env": request["Env"], "Tty": request["Tty"], "OpenStdin": request["OpenStdin"],
        },
        "HostConfig": {"NetworkMode": request["HostConfig"]["NetworkMode"], "CgroupParent": ""},
        "Mounts": mounts(container),
        "NetworkSettings": {"Networks": {}},
    })
}

fn mounts(container: &Container) -> Value {
    let asked = container.request["HostConfig"]["Mounts"]
        .as_array()
        .into_iter()
        .flatten();
    let mount = |mount: &Value| {
        json!({
            "Type": "bind", "Source": mount["Source"], "Destination": mount["Target"], "Mode": "",
            "RW": !mount["ReadOnly"].as_bool().unwrap_or(false), "Propagation": "rprivate",
        })
    };
    asked.map(mount).collect()
}

fn status(container: &Container) -> &'static str {
    match container.state {
        State::Created => "created",
        State::Running { .. } => "running",
        State::Exited { .. } => "exited",
    }
}

fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
