//! Changes of what is installed, one at a time: store, journal, then the policies in force.
//!
//! The lockfile is what the next start reads; so it is written first, and what is in force follows it. A row says what was
//! done and by whom.

use std::sync::Arc;

use clawker_model::PluginDigest;
use clawker_model::event::{PluginInstalled, PluginPromoted, PluginRemoved};
use clawker_plugin_package::{Entry, Kind, OnTrial, Trust};

use super::install::{Examined, InstallError, Usage, Wish};
use crate::containment::{Promotion, SHADOW};
use crate::core::Core;

/// Which version of a plugin is to be in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Version {
    Previous,
    /// The one on trial, if it still is that one.
    Trial(Option<PluginDigest>),
    /// The one that is, with no other on trial.
    EndTrial,
}

/// Why a change wasn't made, or isn't in force.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    #[error(transparent)]
    Refused(#[from] InstallError),
    #[error("it is installed, but not in force until the next start: {0}")]
    NotInForce(#[from] crate::containment::ContainError),
    #[error("the journal: {0}")]
    Journal(#[from] clawker_store::Error),
    #[error("it broke off: {0}")]
    Broken(#[from] tokio::task::JoinError),
}

/// Examines a component, and installs it unless that is only a look or something it asks for isn't granted.
pub async fn install(
    core: &Arc<Core>,
    component: Vec<u8>,
    wish: Wish,
    look: bool,
) -> Result<(Examined, Option<Entry>), ChangeError> {
    let _turn = core.plugins.turn.lock().await;
    let plugins = core.plugins.clone();
    let done = tokio::task::spawn_blocking(move || {
        let examined = plugins.examine(&component, &wish)?;
        if look || !examined.missing.is_empty() {
            return Ok((examined, None));
        }
        let entry = plugins.take(&component, &examined, wish)?;
        Ok::<_, InstallError>((examined, Some(entry)))
    });
    let (examined, entry) = done.await??;
    if let Some(entry) = &entry {
        let trial = entry.trial.as_ref().filter(|trial| trial.pin.digest == examined.digest);
        let (pin, name) = match trial {
            Some(trial) => (&trial.pin, format!("{}{SHADOW}", entry.name)),
            None => (&entry.pin, entry.name.clone()),
        };
        let row = PluginInstalled {
            name,
            digest: pin.digest.clone(),
            kind: entry.kind.word().to_owned(),
            version: pin.version.clone(),
            key: pin.key.to_string(),
            source: pin.source.clone(),
            grants: pin.grants.to_strings(),
        };
        core.store.append(None, row).await?;
        put_into_force(core).await?;
    }
    Ok((examined, entry))
}

/// Changes how a plugin is used. Enabling a policy that was quarantined gives it another chance.
pub async fn change(
    core: &Arc<Core>,
    name: String,
    enabled: Option<bool>,
    usage: Usage,
    version: Option<Version>,
) -> Result<Entry, ChangeError> {
    let _turn = core.plugins.turn.lock().await;
    let plugins = core.plugins.clone();
    let changed = tokio::task::spawn_blocking(move || {
        let mut installed = plugins.installed();
        let entry = installed.store.entries().get(&name).cloned();
        let mut entry = entry.ok_or(InstallError::NotInstalled { name })?;
        if entry.kind == Kind::Policy && plugins.is_configured(&entry.name) && version.is_none() {
            return Err(InstallError::Configured { name: entry.name });
        }
        usage.check(&entry.name, entry.kind)?;
        other_version(&mut entry, version)?;
        let given = usage.settings.clone();
        if let Some(settings) = &given {
            entry.pin.settings.clone_from(settings);
        }
        usage.put(&mut entry);
        entry.enabled = enabled.unwrap_or(entry.enabled);
        if entry.enabled {
            let trust = Trust::load(&plugins.trust)?;
            installed.load(&entry, &trust, &plugins.host);
            if let Some(plugin) = installed.held(&entry.pin.digest) {
                super::fits(&plugin, &entry.pin.settings)?;
                if let Some(given) = &given {
                    entry.pin.settings = clawker_plugin_host::with_version(&plugin, given);
                }
            }
        }
        let new = entry.clone();
        installed
            .store
            .commit(|plugins| drop(plugins.insert(new.name.clone(), new)))?;
        installed.let_go();
        Ok(entry)
    });
    let entry = changed.await??;
    put_into_force(core).await?;
    Ok(entry)
}

fn other_version(entry: &mut Entry, version: Option<Version>) -> Result<(), InstallError> {
    let none = |what| InstallError::NoVersion {
        name: entry.name.clone(),
        what,
    };
    match version {
        None => {}
        Some(Version::Previous) => {
            let previous = entry.previous.take().ok_or_else(|| none("version before"))?;
            entry.previous = Some(std::mem::replace(&mut entry.pin, previous));
            entry.trial = None;
        }
        Some(Version::Trial(meant)) => {
            let is_meant = |trial: &mut OnTrial| meant.is_none_or(|meant| meant == trial.pin.digest);
            let trial = entry.trial.take_if(is_meant);
            let trial = trial.ok_or_else(|| none("version on trial"))?;
            entry.previous = Some(std::mem::replace(&mut entry.pin, trial.pin));
        }
        Some(Version::EndTrial) => drop(entry.trial.take().ok_or_else(|| none("version on trial"))?),
    }
    Ok(())
}

/// Removes a plugin. What its policy asked for stays until it is released.
pub async fn remove(core: &Arc<Core>, name: String) -> Result<(), ChangeError> {
    let _turn = core.plugins.turn.lock().await;
    let plugins = core.plugins.clone();
    let removed = tokio::task::spawn_blocking(move || {
        if plugins.is_configured(&name) {
            return Err(InstallError::Configured { name });
        }
        let mut installed = plugins.installed();
        let entry = installed.store.entries().get(&name).cloned();
        let entry = entry.ok_or(InstallError::NotInstalled { name })?;
        installed.store.commit(|plugins| drop(plugins.remove(&entry.name)))?;
        installed.let_go();
        Ok(entry)
    });
    let Entry { name, pin, .. } = removed.await??;
    let digest = pin.digest;
    core.store.append(None, PluginRemoved { name, digest }).await?;
    put_into_force(core).await?;
    Ok(())
}

/// Puts versions that were clean on trial into force, until the control plane ends.
pub async fn promote(core: Arc<Core>, mut promotions: tokio::sync::mpsc::UnboundedReceiver<Promotion>) {
    loop {
        let promotion = tokio::select! {
            () = core.shutdown.cancelled() => return,
            promotion = promotions.recv() => promotion,
        };
        let Some(promotion) = promotion else { return };
        let name = promotion.policy.clone();
        if let Err(error) = promote_one(&core, promotion).await {
            core.board
                .degraded("plugins", format!("promoting {name}: {error}"))
                .await;
        }
    }
}

async fn promote_one(core: &Arc<Core>, promotion: Promotion) -> Result<(), ChangeError> {
    let Promotion { policy, digest, agreed } = promotion;
    let version = Some(Version::Trial(Some(digest.clone())));
    let entry = match change(core, policy.clone(), None, Usage::default(), version).await {
        Ok(entry) => entry,
        // Meanwhile an operator has ended or replaced it.
        Err(ChangeError::Refused(InstallError::NoVersion { .. } | InstallError::NotInstalled { .. })) => return Ok(()),
        Err(error) => return Err(error),
    };
    if let Some(before) = entry.previous {
        let row = PluginPromoted {
            name: policy,
            from: before.digest,
            to: digest,
            agreed,
        };
        core.store.append(None, row).await?;
    }
    Ok(())
}

async fn put_into_force(core: &Arc<Core>) -> Result<(), ChangeError> {
    let plugins = core.plugins.clone();
    let policies = tokio::task::spawn_blocking(move || plugins.policies()).await?;
    let policies = policies.map_err(InstallError::from)?;
    core.containment.replace(policies, core.plugins.host.clone()).await?;
    let plugins = core.plugins.clone();
    // The versions before may have calls under way; what they leave is taken away with the next change.
    tokio::task::spawn_blocking(move || plugins.host.sweep()).await?;
    match core.plugins.problems() {
        Some(problems) => core.board.degraded("plugins", problems).await,
        None => core.board.recovered("plugins").await,
    }
    Ok(())
}
