//! What a project's file may do on this host, and whether an agent is what its file says.
//!
//! The host's configuration may forbid keys and plugins to projects and puts its own steps first; nothing in a
//! project's file takes any of that away.

use std::path::Path;

use clawker_model::{AgentSpec, FullName, Step, exit};
use clawker_wire::admin::{CreateAgentRequest, Secret};
use tonic::Code;

use super::error::Fault;
use crate::config::{ProjectConfig, ProjectKey};

/// Refuses what the host forbids to projects.
pub fn check(config: &ProjectConfig, request: &CreateAgentRequest) -> Result<(), Fault> {
    if !request.from_project {
        return Ok(());
    }
    let forbidden = |what: String| {
        Err(Fault::new(
            Code::PermissionDenied,
            exit::NOT_PERMITTED,
            format!("this host forbids {what} in a project's file"),
            "leave it out, or ask who runs this host (`[project]` in the control plane's configuration)",
        ))
    };
    if let Some(key) = config.forbid.iter().find(|key| is_used(**key, request)) {
        return forbidden(format!("`{key}`"));
    }
    if let Some(allowed) = &config.plugins
        && let Some(step) = request.steps.iter().find(|step| !allowed.contains(&step.plugin))
    {
        let plugin: String = step.plugin.chars().take(64).collect();
        return forbidden(format!("the step `{plugin}`"));
    }
    if request.allow_sudo || !request.unsafe_options.is_empty() {
        return forbidden("`--allow-sudo` and `--unsafe-…`".to_owned());
    }
    Ok(())
}

fn is_used(key: ProjectKey, r: &CreateAgentRequest) -> bool {
    match key {
        ProjectKey::Command => !r.command.is_empty() || !r.entrypoint.is_empty(),
        ProjectKey::User => r.user.is_some(),
        ProjectKey::Env => !r.env.is_empty(),
        ProjectKey::Secrets => !r.secrets.is_empty(),
        ProjectKey::Mounts => !r.mounts.is_empty(),
        ProjectKey::Publish => !r.publish.is_empty(),
        ProjectKey::Network => !r.network.is_empty(),
        ProjectKey::Egress => !r.egress.is_empty(),
        ProjectKey::Resources => r.memory.is_some() || r.nano_cpus.is_some() || r.pids.is_some(),
        ProjectKey::OnOrphan => !r.on_orphan.is_empty(),
        ProjectKey::OnAbsent => !r.on_absent.is_empty(),
        ProjectKey::Restart => !r.restart.is_empty(),
        ProjectKey::Steps => !r.steps.is_empty(),
    }
}

/// The agent is there; `differing` names in what it isn't what its file says.
pub fn differs(name: &FullName, differing: &[&str]) -> Fault {
    Fault::new(
        Code::AlreadyExists,
        exit::CANT_CREATE,
        format!("agent `{name}` is there and differs in: {}", differing.join(", ")),
        format!(
            "`clawker apply --replace {}` removes it and makes it anew",
            name.agent()
        ),
    )
}

/// In what two agents differ, by the names of a project's file.
pub fn differences(old: &AgentSpec, new: &AgentSpec) -> Vec<&'static str> {
    // By name, so that nobody adds a field and forgets it here. Who made it makes no difference.
    let AgentSpec {
        name: _,
        image: _,
        image_id,
        owner: _,
        main,
        health,
        secrets,
        mounts,
        publish,
        network,
        egress,
        resources,
        plan,
        remove: _,
        on_orphan,
        absence,
        restart,
        unsafe_options,
    } = old;
    let same_steps = plan.steps.len() == new.plan.steps.len()
        && plan
            .steps
            .iter()
            .zip(&new.plan.steps)
            .all(|(old, new)| is_same(old, new));
    let command = (&main.argv, &main.cwd, main.tty, main.open_stdin, main.no_new_privs);
    let new_command = (
        &new.main.argv,
        &new.main.cwd,
        new.main.tty,
        new.main.open_stdin,
        new.main.no_new_privs,
    );
    [
        (
            "image",
            *image_id != new.image_id || *health != new.health || main.stop_signal != new.main.stop_signal,
        ),
        ("command", command != new_command),
        ("user", main.user != new.main.user),
        ("env", main.env != new.main.env),
        ("secrets", *secrets != new.secrets),
        ("mounts", *mounts != new.mounts),
        ("publish", *publish != new.publish),
        ("network", *network != new.network),
        ("egress", *egress != new.egress),
        ("resources", *resources != new.resources),
        (
            "on_orphan",
            *on_orphan != new.on_orphan || absence.lease_s != new.absence.lease_s,
        ),
        ("on_absent", absence.on_absent != new.absence.on_absent),
        ("restart", *restart != new.restart),
        ("steps", !same_steps),
        ("unsafe options", *unsafe_options != new.unsafe_options),
    ]
    .into_iter()
    .filter_map(|(what, differs)| differs.then_some(what))
    .collect()
}

/// Another version of the same plugin is no difference: every agent gets this host's.
fn is_same(old: &Step, new: &Step) -> bool {
    let Step {
        name,
        plugin: _,
        settings,
        secrets,
        when,
        on_failure,
        timeout_s,
    } = old;
    (name, settings, secrets, when, on_failure, timeout_s)
        == (
            &new.name,
            &new.settings,
            &new.secrets,
            &new.when,
            &new.on_failure,
            &new.timeout_s,
        )
}

/// Whether the secrets in `dir` are these.
pub async fn same_secrets(dir: &Path, secrets: &[Secret]) -> bool {
    for secret in secrets {
        let kept = tokio::fs::read(dir.join(&secret.name)).await;
        if !kept.is_ok_and(|kept| kept == secret.content) {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use clawker_model::OnOrphan;
    use clawker_model::{
        Egress, MainSpec, Network, OnFailure, Plan, PluginDigest, Resources, SecretKind, SecretRef, When,
    };
    use clawker_wire::admin;

    use super::*;

    fn from_project(change: impl FnOnce(&mut CreateAgentRequest)) -> CreateAgentRequest {
        let mut request = CreateAgentRequest {
            from_project: true,
            ..Default::default()
        };
        change(&mut request);
        request
    }

    #[test]
    fn what_the_host_forbids_is_refused_in_a_projects_file_alone() {
        let steps = |r: &mut CreateAgentRequest| {
            r.steps = vec![admin::Step {
                plugin: "post-init".into(),
                ..Default::default()
            }];
        };
        for (key, change) in [
            (
                ProjectKey::Command,
                (|r| r.command = vec!["x".into()]) as fn(&mut CreateAgentRequest),
            ),
            (ProjectKey::User, |r| r.user = Some("0".into())),
            (ProjectKey::Env, |r| r.env = vec!["A=1".into()]),
            (ProjectKey::Secrets, |r| r.secrets = vec![Secret::default()]),
            (ProjectKey::Mounts, |r| r.mounts = vec![admin::Mount::default()]),
            (ProjectKey::Publish, |r| r.publish = vec!["80".into()]),
            (ProjectKey::Network, |r| r.network = "none".into()),
            (ProjectKey::Egress, |r| r.egress = vec!["open".into()]),
            (ProjectKey::Resources, |r| r.pids = Some(1)),
            (ProjectKey::OnOrphan, |r| r.on_orphan = "continue".into()),
            (ProjectKey::OnAbsent, |r| r.on_absent = "await".into()),
            (ProjectKey::Restart, |r| r.restart = "always".into()),
            (ProjectKey::Steps, steps),
        ] {
            let config = ProjectConfig {
                forbid: vec![key],
                plugins: None,
            };
            let request = from_project(change);
            let fault = check(&config, &request).expect_err("forbidden");
            assert!(
                fault.exit == 77 && fault.message.contains(&format!("`{key}`")),
                "{fault:?}"
            );
            check(&ProjectConfig::default(), &request).expect("allowed unless forbidden");
            check(&config, &from_project(|_| {})).expect("not used");
            let by_hand = CreateAgentRequest {
                from_project: false,
                ..request
            };
            check(&config, &by_hand).expect("an operator's own");
        }
        let only = ProjectConfig {
            forbid: vec![],
            plugins: Some(vec!["git".into()]),
        };
        let fault = check(&only, &from_project(steps)).expect_err("not allowed");
        assert!(fault.message.contains("`post-init`"), "{fault:?}");
        check(&ProjectConfig::default(), &from_project(|r| r.allow_sudo = true)).expect_err("never in a file");
    }

    fn spec() -> AgentSpec {
        AgentSpec {
            name: FullName::parse("clawker.a").expect("name"),
            image: "i".into(),
            image_id: "sha256:1".into(),
            owner: "uid:0".into(),
            main: MainSpec {
                argv: vec!["x".into()],
                user: String::new(),
                env: vec![],
                cwd: String::new(),
                tty: false,
                open_stdin: false,
                stop_signal: None,
                no_new_privs: true,
            },
            health: None,
            secrets: vec![],
            mounts: vec![],
            publish: vec![],
            network: Network::Default,
            egress: Egress::Open,
            resources: Resources::default(),
            plan: Plan {
                steps: vec![Step {
                    name: "s".into(),
                    plugin: PluginDigest::parse(&"a".repeat(64)).expect("digest"),
                    settings: "{}".into(),
                    secrets: vec![],
                    when: When::Once,
                    on_failure: OnFailure::Halt,
                    timeout_s: 1,
                }],
            },
            remove: false,
            on_orphan: OnOrphan::Freeze,
            absence: Default::default(),
            restart: Default::default(),
            unsafe_options: vec![],
        }
    }

    #[test]
    fn differences_are_named_as_the_file_names_them() {
        assert_eq!(differences(&spec(), &spec()), [""; 0]);
        type Change = fn(&mut AgentSpec);
        let changes: [(&str, Change); 12] = [
            ("image", |s| s.image_id = "sha256:2".into()),
            ("command", |s| s.main.argv = vec!["y".into()]),
            ("user", |s| s.main.user = "1".into()),
            ("env", |s| s.main.env = vec!["A=1".into()]),
            ("secrets", |s| {
                s.secrets = vec![SecretRef {
                    name: "A".into(),
                    kind: SecretKind::Env,
                }];
            }),
            ("publish", |s| s.publish = vec!["80".into()]),
            ("network", |s| s.network = Network::None),
            ("egress", |s| s.egress = Egress::Only { allow: vec![] }),
            ("resources", |s| s.resources.pids = Some(1)),
            ("on_orphan", |s| s.on_orphan = OnOrphan::Stop),
            ("steps", |s| s.plan.steps[0].settings = r#"{"a":1}"#.into()),
            ("steps", |s| s.plan.steps.clear()),
        ];
        for (named, change) in changes {
            let mut other = spec();
            change(&mut other);
            assert_eq!(differences(&spec(), &other), [named]);
        }
        let mut upgraded = spec();
        upgraded.owner = "uid:1".into();
        upgraded.image = "i:latest".into();
        upgraded.plan.steps[0].plugin = PluginDigest::parse(&"b".repeat(64)).expect("digest");
        assert_eq!(differences(&spec(), &upgraded), [""; 0]);
    }

    #[tokio::test]
    async fn secrets_are_compared_by_content() {
        let dir = tempfile::tempdir().expect("folder");
        std::fs::write(dir.path().join("A"), "x").expect("written");
        let secret = |name: &str, content: &str| Secret {
            name: name.into(),
            content: content.to_owned().into(),
            ..Default::default()
        };
        assert!(same_secrets(dir.path(), &[secret("A", "x")]).await);
        assert!(!same_secrets(dir.path(), &[secret("A", "y")]).await);
        assert!(!same_secrets(dir.path(), &[secret("B", "x")]).await);
        assert!(same_secrets(dir.path(), &[]).await);
    }
}
