//! From an agent's definition to the request that makes it: names and values parsed, paths and secrets looked up.

use std::path::{Path, PathBuf};

use clawker_model::{AgentName, ProjectName};
use clawker_wire::admin::{CreateAgentRequest, Mount, Secret, Step};

use super::{AgentDefinition, FileError, OnFailure, ProjectFile, SecretKind, StepDefinition, When};
use crate::parse::{self, EnvArg, SecretArg, Volume};
use crate::term::World;

/// What the definitions are read against.
pub struct Here<'a> {
    /// The file's folder.
    pub folder: &'a Path,
    pub world: &'a dyn World,
}

/// An agent as the file has it, and the request that makes it, but for the content of its secrets.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// As the file names it.
    pub name: String,
    pub request: CreateAgentRequest,
    /// Where the content of each of the request's secrets is.
    pub secret_files: Vec<PathBuf>,
}

/// The agents of the file, all of them or those that are named.
pub fn wanted(file: &ProjectFile, only: &[String], here: &Here<'_>) -> Result<Vec<Wanted>, FileError> {
    if let Some(project) = &file.project {
        ProjectName::parse(project).map_err(|error| FileError::value("project", error))?;
    }
    if let Some(unknown) = only.iter().find(|name| !file.agents.contains_key(*name)) {
        let known: Vec<&str> = file.agents.keys().map(String::as_str).collect();
        let known = known.join(", ");
        return Err(FileError::value(
            "agents",
            format!("there is no `{unknown:.40}`; there are: {known}"),
        ));
    }
    // All are checked, so that a mistake in one is seen whichever is asked for.
    let all = file
        .agents
        .iter()
        .map(|(name, agent)| one(file, name, agent, here))
        .collect::<Result<Vec<_>, _>>()?;
    let chosen = |wanted: &Wanted| only.is_empty() || only.contains(&wanted.name);
    Ok(all.into_iter().filter(chosen).collect())
}

fn one(file: &ProjectFile, name: &str, agent: &AgentDefinition, here: &Here<'_>) -> Result<Wanted, FileError> {
    let bad = |key: &str, problem: &dyn std::fmt::Display| FileError::value(format!("agents.{name}.{key}"), problem);
    AgentName::parse(name).map_err(|error| FileError::value(format!("agents.{name:.40}"), error))?;
    if agent.image.is_empty() {
        return Err(bad("image", &"it is empty"));
    }
    let mut secrets = Vec::new();
    let mut secret_files = Vec::new();
    for (secret, definition) in &agent.secrets {
        // The command line's own rules for a name.
        format!("{secret}=x")
            .parse::<SecretArg>()
            .map_err(|error| bad("secrets", &error))?;
        secrets.push(Secret {
            name: secret.clone(),
            as_file: definition.kind == SecretKind::File,
            step_only: definition.kind == SecretKind::Step,
            content: Default::default(),
        });
        let path = here.path(&definition.file);
        secret_files.push(path.ok_or_else(|| bad(&format!("secrets.{secret}.file"), &"HOME isn't set"))?);
    }
    let mounts = agent
        .mounts
        .iter()
        .map(|mount| {
            here.mount(mount)
                .map_err(|problem| bad("mounts", &format!("`{mount}`: {problem}")))
        })
        .collect::<Result<_, _>>()?;
    let each = |key: &str, items: &[String], parse: fn(&str) -> Result<String, parse::ParseError>| {
        let parsed = items
            .iter()
            .map(|item| parse(item).map_err(|error| bad(key, &format!("`{item}`: {error}"))));
        parsed.collect::<Result<Vec<_>, _>>()
    };
    let egress = each("egress", &agent.egress, parse::egress)?;
    if egress.len() > 1 && egress.iter().any(|item| item == "open") {
        return Err(bad(
            "egress",
            &"`open` allows everything: nothing else makes sense beside it",
        ));
    }
    let resources = &agent.resources;
    let size = |text: &String| parse::memory(text).map_err(|error| bad("resources.memory", &error));
    let cpus = |text: &String| parse::cpus(text).map_err(|error| bad("resources.cpus", &error));
    if resources.pids == Some(0) {
        return Err(bad("resources.pids", &parse::ParseError::Zero));
    }
    let request = CreateAgentRequest {
        project: file.project.clone().unwrap_or_default(),
        agent: name.to_owned(),
        image: agent.image.clone(),
        command: agent.command.clone(),
        user: agent.user.as_ref().map(|user| here.user(user)),
        env: here.env(agent).map_err(|error| bad("env", &error))?,
        cwd: agent.workdir.clone(),
        secrets,
        mounts,
        publish: each("publish", &agent.publish, parse::publish)?,
        network: agent.network.clone().unwrap_or_default(),
        egress,
        memory: resources.memory.as_ref().map(size).transpose()?,
        nano_cpus: resources.cpus.as_ref().map(cpus).transpose()?,
        pids: resources.pids,
        on_orphan: agent.on_orphan.clone().unwrap_or_default(),
        on_absent: agent.on_absent.clone().unwrap_or_default(),
        restart: agent.restart.clone().unwrap_or_default(),
        steps: agent.steps.iter().map(step).collect(),
        from_project: true,
        ..Default::default()
    };
    Ok(Wanted {
        name: name.to_owned(),
        request,
        secret_files,
    })
}

fn step(step: &StepDefinition) -> Step {
    Step {
        plugin: step.plugin.clone(),
        // An object of JSON values can always be written.
        settings: serde_json::to_string(&step.settings).unwrap_or_default(),
        when: match step.when {
            None => "",
            Some(When::Once) => "once",
            Some(When::Start) => "start",
        }
        .into(),
        on_failure: match step.on_failure {
            None => "",
            Some(OnFailure::Halt) => "halt",
            Some(OnFailure::Continue) => "continue",
        }
        .into(),
        timeout: step.timeout.unwrap_or_default(),
    }
}

impl Here<'_> {
    /// From the file's folder; `~/` is the caller's home. `None` without one.
    fn path(&self, path: &str) -> Option<PathBuf> {
        match path.strip_prefix("~/") {
            Some(rest) => Some(Path::new(&self.world.var("HOME")?).join(rest)),
            None => Some(self.folder.join(path)),
        }
    }

    fn mount(&self, text: &str) -> Result<Mount, String> {
        let Volume {
            source,
            target,
            read_only,
        } = text.parse().map_err(|error: parse::ParseError| error.to_string())?;
        let local = source.starts_with('.') || source.starts_with("~/");
        let source = if local {
            let path = self.path(&source).ok_or("HOME isn't set")?;
            let path = path
                .canonicalize()
                .map_err(|error| format!("{}: {error}", path.display()))?;
            path.to_str().ok_or("not UTF-8")?.to_owned()
        } else if source.contains('/') && !source.starts_with('/') {
            return Err(format!(
                "neither a path nor a volume's name; for a path from here: ./{source}"
            ));
        } else {
            source
        };
        Ok(Mount {
            source,
            target,
            read_only,
        })
    }

    fn user(&self, named: &str) -> String {
        match named {
            "host" => {
                let (uid, gid) = self.world.ids();
                format!("{uid}:{gid}")
            }
            _ => named.to_owned(),
        }
    }

    /// A variable that isn't set here isn't passed on.
    fn env(&self, agent: &AgentDefinition) -> Result<Vec<String>, parse::ParseError> {
        let mut env = Vec::new();
        for (name, value) in &agent.env {
            let EnvArg { name, .. } = match value {
                Some(value) => format!("{name}={value}").parse()?,
                None => name.parse()?,
            };
            if let Some(value) = value.clone().or_else(|| self.world.var(&name)) {
                env.push(format!("{name}={value}"));
            }
        }
        Ok(env)
    }
}
