//! The Docker engine of this host: found or started, probed, and repaired only where it is ours to repair.
//!
//! ```text
//!             answers? ──no──► an init system here? ──yes──► name the fault and the command
//!                │                     └─no─► remove a stale pid file ─► start ─► wait until it answers
//!                ▼ yes                                                              │
//!      Docker of a kind that can be supervised? ◄──────────────────────────────────┘
//!                ▼ yes
//!      bridge missing? ──ours──► add it     not ours ──► say so and go on: agents use a network of their own
//!                ▼
//!      probe: network, image, container that ends with 0; all of it removed ──fails──► name the fault
//! ```

pub mod api;
mod daemon;
mod probe;

use anyhow::Result;
use serde_json::Value;

use crate::engine::api::Api;
use crate::project::Project;
use crate::run::unmet;
use crate::say::{say, timed};

/// An engine that answers and runs containers, or the reason why there is none.
pub fn ready(project: &Project, api: &Api) -> Result<()> {
    if api.answers() {
        say("setup", format!("an engine answers on {}", api.socket.display()));
    } else if let Some(init) = daemon::init_system() {
        return Err(unmet(format!(
            "no engine answers on {}, and starting it is {init}'s: run `{}`, then this again",
            api.socket.display(),
            if init == "systemd" {
                "systemctl enable --now docker"
            } else {
                "service docker start"
            },
        )));
    } else {
        timed("setup", "starting dockerd", || daemon::start(project, api))?;
    }
    refuse_unsupported(&api.get("/version")?, &api.get("/info")?)?;
    bridge(api)?;
    timed(
        "setup",
        "probing the engine with a container on a network of ours",
        || probe::run(api),
    )
}

/// Engines whose containers a control plane can't reach through the kernel.
fn refuse_unsupported(version: &Value, info: &Value) -> Result<()> {
    let named = |value: &Value, word: &str| value.as_str().is_some_and(|text| text.to_lowercase().contains(word));
    let any = |values: &Value, key: Option<&str>, word: &str| {
        values
            .as_array()
            .is_some_and(|all| all.iter().any(|one| named(key.map_or(one, |key| &one[key]), word)))
    };
    let what = if any(&version["Components"], Some("Name"), "podman") {
        "Podman"
    } else if any(&info["SecurityOptions"], None, "rootless") {
        "rootless Docker"
    } else if named(&info["OperatingSystem"], "docker desktop") {
        "Docker Desktop"
    } else {
        let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
        let (release, api, driver) = (&version["Version"], &version["ApiVersion"], &info["CgroupDriver"]);
        say(
            "setup",
            format!(
                "Docker {}, API {}, cgroups by {}",
                text(release),
                text(api),
                text(driver)
            ),
        );
        return Ok(());
    };
    Err(unmet(format!(
        "the engine is {what}, whose containers can't be contained through this host's kernel: point DOCKER_HOST at the \
         socket of a Docker Engine that runs as root on this host"
    )))
}

fn bridge(api: &Api) -> Result<()> {
    let Some(missing) = daemon::missing_bridge(api) else {
        return Ok(());
    };
    if daemon::is_ours() {
        return timed(
            "setup",
            &format!("adding the bridge {}, which the engine lost", missing.name),
            || missing.add(),
        );
    }
    say(
        "setup",
        format!(
            "the engine has no bridge {}: containers on Docker's default network will not start until it is restarted. \
             It isn't one that this command started, so it stays as it is; agents use a network of their own",
            missing.name
        ),
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn engines_that_cannot_be_supervised_are_named() {
        let docker = json!({"Version": "28.0", "Components": [{"Name": "Engine"}]});
        let info = json!({"SecurityOptions": ["name=seccomp"], "OperatingSystem": "Debian"});
        assert!(refuse_unsupported(&docker, &info).is_ok());
        for (version, info, name) in [
            (
                json!({"Components": [{"Name": "Podman Engine"}]}),
                info.clone(),
                "Podman",
            ),
            (
                docker.clone(),
                json!({"SecurityOptions": ["name=rootless"]}),
                "rootless Docker",
            ),
            (
                docker.clone(),
                json!({"OperatingSystem": "Docker Desktop"}),
                "Docker Desktop",
            ),
        ] {
            let error = refuse_unsupported(&version, &info).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
            assert_eq!(crate::run::exit_code(&error), crate::run::UNMET);
        }
    }
}
