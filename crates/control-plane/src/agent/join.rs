//! Starting a container: the only way, because on an engine elsewhere it must be given clawkerd and its identity first.
//!
//! ```text
//! transport unix: both are mounted ──────────────────────────────────────────────▶ Docker starts it
//! transport tcp:  bundle for the next start ─▶ journal ─▶ clawkerd, join file put ─▶ Docker starts it
//!                 started behind our back: bundle for this start ─▶ journal ─▶ join file put; PID 1 waits for it
//! ```
//! The join token is in that file alone; what is kept of it is its hash, in the journal.

use clawker_docker::PutFile;
use clawker_model::{ContainerId, FullName};
use clawker_wire::join::Join;

use super::AgentError;
use super::bundle::{self, Wanted};
use crate::core::{Core, random_word};

/// The folder of [`clawker_docker::AGENT_DIR`] and of the join file.
const FOLDER: &str = ".clawker";

/// Starts the container; one that runs already is fine.
pub async fn start(core: &Core, name: &FullName, container: &ContainerId) -> Result<(), AgentError> {
    if core.config.engine.is_elsewhere() && !runs(core, container).await? {
        let record = core.store.agent_by_container(container).await?;
        let last = record.and_then(|record| record.start).map_or(0, |start| start.number);
        put(core, name, container, last + 1, true).await?;
    }
    Ok(core.docker.start(container).await?)
}

async fn runs(core: &Core, container: &ContainerId) -> Result<bool, AgentError> {
    let inspect = core.docker.inspect(container).await?;
    Ok(inspect.is_some_and(|inspect| inspect.running))
}

/// Puts the join file of that start; with clawkerd, unless that runs already.
pub async fn put(
    core: &Core,
    name: &FullName,
    container: &ContainerId,
    start: u64,
    with_clawkerd: bool,
) -> Result<(), AgentError> {
    if !core.config.engine.is_elsewhere() {
        return Err(AgentError::Bundle("a join file is for an engine elsewhere".to_owned()));
    }
    let record = core.store.agent_by_container(container).await?;
    let record = record.ok_or_else(|| AgentError::Unknown { name: name.to_string() })?;
    let mut files = Vec::new();
    if with_clawkerd {
        let path = core.agent_dir.join("clawkerd");
        let content = tokio::fs::read(&path)
            .await
            .map_err(|source| AgentError::Clawkerd { path, source })?;
        files.push(PutFile {
            path: "clawkerd".into(),
            mode: 0o755,
            content: content.into(),
        });
    }
    let token = random_word(43).map_err(|error| AgentError::Random(error.to_string()))?;
    let wanted = Wanted {
        name,
        container,
        start,
        held: 0,
        join: Some(token),
    };
    let port = core.config.engine.session_port;
    let (_, file) = bundle::make(core, &record, wanted, |bundle| {
        let join = Join::new(start, port, bundle.clone());
        join.encode().map_err(|error| AgentError::Bundle(error.to_string()))
    })
    .await?;
    files.push(PutFile {
        path: "join".into(),
        mode: 0o400,
        content: file.into(),
    });
    Ok(core.docker.put(container, FOLDER, &files).await?)
}
