//! Where mounts really end up in a container: behind the symlinks of its image, and of what agents left in it.
//!
//! Docker follows symlinks in a mount's target. A link to [`RUN_DIR`] in an image, or one that a root agent put in
//! place of a target's parent folder, would lay an agent's own folder over clawkerd or its sockets at the next start.
//! A container that doesn't run can't change its links meanwhile.

use std::collections::{BTreeSet, VecDeque};

use bollard::query_parameters::ContainerArchiveInfoOptions;
use clawker_model::ContainerId;

use crate::hostconfig::{AGENT_DIR, RUN_DIR, SpecError};
use crate::{Docker, Error, Inspect, mounts};

/// Most parts of a target that are looked at.
const MAX_PARTS: usize = 256;

/// What stands at a path of a container.
enum Stands {
    Nothing,
    Something,
    /// A symlink; Docker has followed it to its end.
    Link(String),
}

impl Docker {
    /// Refuses a container whose mounts would cover what is ours or the kernel's, or each other.
    pub(crate) async fn check_places(&self, inspect: &Inspect) -> Result<(), Error> {
        let ours = [AGENT_DIR, RUN_DIR];
        let theirs: Vec<&str> = inspect
            .mounts
            .iter()
            .map(|mount| mount.target.as_str())
            .filter(|target| !ours.contains(target))
            .collect();
        // Nothing can cover ours, wherever they are.
        if theirs.is_empty() {
            return Ok(());
        }
        let mut taken = BTreeSet::new();
        for target in ours.into_iter().chain(theirs.iter().copied()) {
            let place = self.place(&inspect.id, target).await?;
            let displaced = ours.contains(&target) && place != target;
            let covers = !ours.contains(&target) && mounts::target(&place).is_err();
            if displaced || covers || !taken.insert(place) {
                return Err(SpecError::MountTarget {
                    target: target.to_owned(),
                    why: "symlinks in the container lead it to a place that is taken, clawker's own or the kernel's",
                }
                .into());
            }
        }
        Ok(())
    }

    /// The path that `target` leads to in a container that doesn't run.
    async fn place(&self, id: &ContainerId, target: &str) -> Result<String, Error> {
        let mut parts: VecDeque<&str> = target.split('/').filter(|part| !part.is_empty()).collect();
        if parts.len() > MAX_PARTS {
            return Err(SpecError::MountTarget {
                target: target.chars().take(200).collect(),
                why: "too deep",
            }
            .into());
        }
        let mut at = String::new();
        let mut exists = true;
        while let Some(part) = parts.pop_front() {
            at = format!("{at}/{part}");
            if !exists {
                continue;
            }
            match self.stands(id, &at).await? {
                Stands::Something => {}
                Stands::Nothing => exists = false,
                Stands::Link(to) => at = to.trim_end_matches('/').to_owned(),
            }
        }
        Ok(if at.is_empty() { "/".to_owned() } else { at })
    }

    async fn stands(&self, id: &ContainerId, path: &str) -> Result<Stands, Error> {
        let call = format!("look at {path} of container {}", id.short());
        let options = ContainerArchiveInfoOptions { path: path.to_owned() };
        let answer = self
            .query(&call, async move |docker| {
                docker.get_container_archive_info(id.as_str(), Some(options)).await
            })
            .await;
        match answer {
            Ok(stat) if stat.link_target.is_empty() => Ok(Stands::Something),
            Ok(stat) => Ok(Stands::Link(stat.link_target)),
            Err(Error::Engine { status: 404, .. }) => Ok(Stands::Nothing),
            Err(error) => Err(error),
        }
    }
}
