//! The container of an agent: what create writes for a definition, whoever asks for it.
//!
//! Used to make one, and to see whether a container that the store doesn't know is one that was made so.

use clawker_docker::{CreateContainer, Mounted};
use clawker_model::{AgentSpec, RunId};

use super::absence;
use super::error::Fault;
use crate::core::Core;

/// Most bytes of a definition in a label. Labels come with each of the engine's lists.
pub const MAX_SPEC: usize = 64 * 1024;

/// An agent's definition as its container's label has it. It holds no secret, only their names; like everything in a
/// container's configuration it can be read by whoever has the engine's socket.
pub fn label(spec: &AgentSpec) -> Result<String, Fault> {
    let text = serde_json::to_string(spec).map_err(|error| Fault::internal(format!("the definition: {error}")))?;
    if text.len() > MAX_SPEC {
        return Err(Fault::usage(
            format!(
                "the agent's definition is {} bytes long, the limit is {MAX_SPEC}: command, environment, mounts and \
                 settings of steps together",
                text.len()
            ),
            "put what is long in the command or the environment into a file and mount that",
        ));
    }
    Ok(text)
}

/// The definition in a label, if this version understands all of it.
pub fn spec(label: &str) -> Result<AgentSpec, String> {
    if label.len() > MAX_SPEC {
        return Err(format!("it is {} bytes long, the limit is {MAX_SPEC}", label.len()));
    }
    let said: serde_json::Value = serde_json::from_str(label).map_err(|error| error.to_string())?;
    let spec: AgentSpec = serde_json::from_value(said.clone()).map_err(|error| error.to_string())?;
    let understood = serde_json::to_value(&spec).map_err(|error| error.to_string())?;
    // A field of a newer version may be a restriction: what isn't understood isn't passed over.
    match unknown(&said, &understood) {
        Some(field) => Err(format!("`{field}` means nothing to this version")),
        None => Ok(spec),
    }
}

/// The first field that is said and wasn't understood.
fn unknown(said: &serde_json::Value, understood: &serde_json::Value) -> Option<String> {
    use serde_json::Value::{Array, Object};
    match (said, understood) {
        (Object(said), Object(understood)) => said.iter().find_map(|(field, value)| match understood.get(field) {
            Some(understood) => unknown(value, understood),
            // Written out only when there is something in it.
            None if value.as_array().is_some_and(Vec::is_empty) => None,
            None => Some(field.chars().take(80).collect()),
        }),
        (Array(said), Array(understood)) => said.iter().zip(understood).find_map(|(a, b)| unknown(a, b)),
        _ => None,
    }
}

/// What create writes; `label` is the definition as [`label`] has it.
pub fn options(core: &Core, spec: &AgentSpec, run: &RunId, label: String) -> Result<CreateContainer, Fault> {
    let mut labels = core.labels().of(&spec.name, &spec.owner, run);
    labels.insert(core.labels().spec(), label);
    Ok(CreateContainer {
        name: spec.name.clone(),
        image_id: spec.image_id.clone(),
        entrypoint: absence::entrypoint(spec, core.config.engine.is_elsewhere())?,
        cmd: spec.main.argv.clone(),
        labels,
        tty: spec.main.tty,
        open_stdin: spec.main.open_stdin,
        mounts: spec.mounts.clone(),
        mounted: (!core.config.engine.is_elsewhere()).then(|| Mounted {
            agent_dir: core.agent_dir.clone(),
            run_dir: core.run_root().join(run.as_str()),
        }),
        publish: spec
            .publish
            .iter()
            .cloned()
            .chain(core.config.engine.published())
            .collect(),
        network: spec.network.clone(),
        default_network: core.config.network.clone(),
        resources: spec.resources.clone(),
        unsafe_options: spec.unsafe_options.clone(),
        protected: protected(core),
    })
}

/// What no agent may be shown: our state, our socket and where the engine keeps its own.
fn protected(core: &Core) -> Vec<std::path::PathBuf> {
    let mut paths = vec![core.config.state_dir.clone(), core.config.admin_socket.clone()];
    if !core.engine.root_dir.is_empty() {
        paths.push(core.engine.root_dir.clone().into());
    }
    paths
}

#[cfg(test)]
mod tests {
    use clawker_model::{FullName, SecretKind, SecretRef};

    use super::*;
    use crate::containment::tests::kernel::spec as plain;

    fn agent() -> AgentSpec {
        plain(&FullName::parse("clawker.p.a").expect("name"))
    }

    #[test]
    fn a_definition_comes_back_whole_from_its_label() {
        let mut agent = agent();
        agent.secrets = vec![SecretRef {
            name: "TOKEN".into(),
            kind: SecretKind::Env,
        }];
        let label = label(&agent).expect("short");
        assert_eq!(spec(&label), Ok(agent));
    }

    #[test]
    fn a_definition_that_is_too_long_is_refused_with_the_way_out() {
        let mut agent = agent();
        agent.main.env = vec![format!("A={}", "x".repeat(MAX_SPEC))];
        let fault = label(&agent).expect_err("too long");
        assert_eq!(fault.exit, 2);
        assert!(
            fault.message.contains("the limit is 65536") && fault.hint.contains("mount"),
            "{fault:?}"
        );
        assert!(spec(&"x".repeat(MAX_SPEC + 1)).is_err());
    }

    #[test]
    fn what_another_version_wrote_is_taken_if_all_of_it_is_understood() {
        let mut said = serde_json::to_value(agent()).expect("json");
        let read = |said: &serde_json::Value| spec(&said.to_string());
        // Of before there was such a thing.
        said.as_object_mut().expect("object").remove("restart");
        assert_eq!(read(&said), Ok(agent()));
        said["main"]["sandbox"] = "strict".into();
        assert!(read(&said).expect_err("newer").contains("`sandbox`"));
        for bad in ["", "{}", "[]", "null", "{\"name\":\"A\"}"] {
            assert!(spec(bad).is_err(), "{bad}");
        }
    }
}
