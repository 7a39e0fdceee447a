//! Which engine this is, and whether it can be used.

use bollard::models::{SystemInfo, SystemVersion};

/// What the engine says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineInfo {
    /// Not unique: engines that share a key file have the same.
    pub id: String,
    pub name: String,
    pub version: String,
    pub api_version: String,
    /// `cgroupfs` or `systemd`.
    pub cgroup_driver: String,
    /// `1` or `2`.
    pub cgroup_version: String,
    /// `linux`, …
    pub os: String,
    pub architecture: String,
    /// Where the engine keeps images and containers.
    pub root_dir: String,
    /// Who runs containers that name nobody, e.g. `runc`.
    pub default_runtime: String,
    pub rootless: bool,
    pub desktop: bool,
    pub podman: bool,
}

impl EngineInfo {
    pub(crate) fn from_answers(info: SystemInfo, version: SystemVersion) -> Self {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let has_option = |name: &str| {
            info.security_options
                .iter()
                .flatten()
                .any(|option| option.split(',').any(|part| part == name))
        };
        let desktop_label = info
            .labels
            .iter()
            .flatten()
            .any(|label| label.starts_with("com.docker.desktop."));
        let component = |what: &str| {
            let what = what.to_ascii_lowercase();
            let named = |name: &str| name.to_ascii_lowercase().contains(&what);
            version.components.iter().flatten().any(|c| named(&c.name))
                || version.platform.as_ref().is_some_and(|platform| named(&platform.name))
        };
        Self {
            id: text(&info.id),
            name: text(&info.name),
            version: text(&version.version),
            api_version: text(&version.api_version),
            cgroup_driver: info.cgroup_driver.map(|d| d.to_string()).unwrap_or_default(),
            cgroup_version: info.cgroup_version.map(|v| v.to_string()).unwrap_or_default(),
            os: text(&info.os_type),
            architecture: text(&info.architecture),
            root_dir: text(&info.docker_root_dir),
            default_runtime: text(&info.default_runtime),
            rootless: has_option("name=rootless"),
            desktop: desktop_label
                || component("docker desktop")
                || info.operating_system.as_deref() == Some("Docker Desktop"),
            podman: component("podman"),
        }
    }

    /// Whose containers these are: engines that share a key file have the same id, and not the same folder.
    pub fn identity(&self) -> String {
        format!("{} at {}", self.id, self.root_dir)
    }

    /// What this engine is, if it is one that can't be used.
    pub fn unsupported(&self) -> Option<&'static str> {
        if self.podman {
            Some("Podman")
        } else if self.desktop {
            Some("Docker Desktop, whose containers run in a virtual machine,")
        } else if self.rootless {
            Some("rootless Docker, whose containers' namespaces are out of reach,")
        } else if !self.os.is_empty() && self.os != "linux" {
            Some("an engine for another system than Linux")
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Docker;

    fn engine(info: &str, version: &str) -> EngineInfo {
        EngineInfo::from_answers(
            serde_json::from_str(info).expect("info"),
            serde_json::from_str(version).expect("version"),
        )
    }

    #[test]
    fn what_the_engine_is_decides_whether_it_is_refused() {
        let docker =
            r#"{"Version":"20.10.24","ApiVersion":"1.41","Components":[{"Name":"Engine","Version":"20.10.24"}]}"#;
        let cases = [
            (
                "plain",
                r#"{"OSType":"linux","SecurityOptions":["name=seccomp,profile=default"]}"#,
                docker,
                None,
            ),
            (
                "rootless",
                r#"{"OSType":"linux","SecurityOptions":["name=seccomp","name=rootless"]}"#,
                docker,
                Some("rootless"),
            ),
            (
                "not rootless by a name alike",
                r#"{"SecurityOptions":["name=rootlesskit"]}"#,
                docker,
                None,
            ),
            (
                "desktop by system",
                r#"{"OperatingSystem":"Docker Desktop","OSType":"linux"}"#,
                docker,
                Some("Desktop"),
            ),
            (
                "desktop by label",
                r#"{"Labels":["com.docker.desktop.address=unix:///x"]}"#,
                docker,
                Some("Desktop"),
            ),
            (
                "desktop by platform",
                "{}",
                r#"{"Platform":{"Name":"Docker Desktop 4.30.0"}}"#,
                Some("Desktop"),
            ),
            (
                "podman",
                r#"{"OSType":"linux"}"#,
                r#"{"Components":[{"Name":"Podman Engine","Version":"5.0"}]}"#,
                Some("Podman"),
            ),
            ("windows", r#"{"OSType":"windows"}"#, docker, Some("another system")),
            ("says nothing", "{}", "{}", None),
        ];
        for (name, info, version, refused) in cases {
            let result = Docker::refuse_unsupported(&engine(info, version));
            match (refused, result) {
                (None, Ok(())) => {}
                (Some(word), Err(error)) => assert!(error.to_string().contains(word), "{name}: {error}"),
                (_, result) => panic!("{name}: {result:?}"),
            }
        }
    }

    #[test]
    fn the_cgroup_is_named_as_docker_names_it() {
        let engine = engine(
            r#"{"CgroupDriver":"systemd","CgroupVersion":"2","DockerRootDir":"/d"}"#,
            "{}",
        );
        assert_eq!(
            (engine.cgroup_driver.as_str(), engine.cgroup_version.as_str()),
            ("systemd", "2")
        );
        assert_eq!(engine.root_dir, "/d");
    }
}
