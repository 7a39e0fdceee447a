//! Plugins, as an operator installs, lists and changes them.

use std::collections::BTreeMap;
use std::sync::Arc;

use clawker_model::exit;
use clawker_plugin_host::LoadError;
use clawker_plugin_package::{Entry, Grants, MAX_COMPONENT, MAX_GRANTS, PublicKey, Signature};
use clawker_wire::admin as wire;
use tonic::{Code, Streaming};

use super::error::Fault;
use super::limits;
use crate::containment::{SHADOW, Standing};
use crate::core::Core;
use crate::plugins::{self, ChangeError, ExplainError, InstallError, Usage, Version, Wish};

const MAX_SOURCE: usize = 2048;
const MAX_SETTINGS: usize = 64 * 1024;
const MAX_NAME: usize = 64;

/// What goes with a component, then the component.
pub async fn receive(
    core: &Core,
    mut stream: Streaming<wire::InstallPluginRequest>,
) -> Result<(Vec<u8>, wire::PluginAbout), Fault> {
    use wire::install_plugin_request::Part;
    let broken =
        |error: tonic::Status| Fault::usage(format!("the component broke off: {}", error.message()), "try again");
    let Some(Part::About(about)) = stream.message().await.map_err(broken)?.and_then(|first| first.part) else {
        return Err(Fault::usage(
            "the first message says nothing about the component",
            "send `about` first",
        ));
    };
    let mut component = Vec::new();
    while let Some(message) = stream.message().await.map_err(broken)? {
        let Some(Part::Component(piece)) = message.part else {
            return Err(Fault::usage("a second `about`", "send the component after the first"));
        };
        limits::bytes("component", component.len().saturating_add(piece.len()), MAX_COMPONENT)?;
        component.extend_from_slice(&piece);
        if core.shutdown.is_cancelled() {
            return Err(Fault::stopping());
        }
    }
    Ok((component, about))
}

/// Takes a component, or says what it asks for.
pub async fn install(
    core: &Arc<Core>,
    component: Vec<u8>,
    about: wire::PluginAbout,
) -> Result<wire::InstallPluginResponse, Fault> {
    let look = about.preview;
    let wish = wish(core, about)?;
    let (examined, entry) = plugins::install(core, component, wish, look).await?;
    let (manifest, installed) = (examined.manifest, examined.installed.map(|entry| entry.pin));
    Ok(wire::InstallPluginResponse {
        name: manifest.name,
        version: manifest.version,
        kind: manifest.kind.word().to_owned(),
        digest: examined.digest.to_string(),
        description: manifest.description,
        key: examined.judged.key.to_string(),
        author: examined.judged.author,
        signer: examined.judged.signer.word().to_owned(),
        asked: examined.asked.to_strings(),
        missing: examined.missing.to_strings(),
        installed_version: installed.as_ref().map(|pin| pin.version.clone()).unwrap_or_default(),
        installed_digest: installed.map(|pin| pin.digest.to_string()).unwrap_or_default(),
        done: entry.is_some(),
    })
}

fn wish(core: &Core, about: wire::PluginAbout) -> Result<Wish, Fault> {
    limits::text("source", &about.source, MAX_SOURCE)?;
    limits::count("grants", about.grants.len(), MAX_GRANTS)?;
    let grants = Grants::parse(about.grants.iter().map(String::as_str));
    let grants = grants.map_err(|error| Fault::usage(error.to_string(), "see `clawker plugin inspect`"))?;
    let signature = match about.signature.is_empty() {
        true => None,
        false => Some(
            Signature::parse(&about.signature)
                .map_err(InstallError::from)
                .map_err(ChangeError::from)?,
        ),
    };
    let development = match about.development_key.as_str() {
        "" => None,
        _ if !core.config.plugins.development => {
            return Err(Fault::new(
                Code::PermissionDenied,
                exit::NOT_PERMITTED,
                "this host takes no plugins of development keys",
                "sign it with a key of the trusted ones, or set `plugins.development` in the configuration",
            ));
        }
        line => {
            Some(PublicKey::parse(line).map_err(|error| Fault::usage(error.to_string(), "see `clawker plugin sign`"))?)
        }
    };
    Ok(Wish {
        signature,
        source: about.source,
        upgrade: about.upgrade,
        grants,
        development,
        usage: usage(about.settings, about.mode, about.fallback, about.fail_mode)?,
        trial: about.trial,
    })
}

fn usage(
    settings: Option<String>,
    mode: Option<String>,
    fallback: Option<String>,
    fail_mode: Option<String>,
) -> Result<Usage, Fault> {
    if let Some(settings) = &settings {
        limits::bytes("settings", settings.len(), MAX_SETTINGS)?;
    }
    Ok(Usage {
        settings,
        mode,
        fallback,
        fail_mode,
    })
}

/// Changes how a plugin is used.
pub async fn change(core: &Arc<Core>, request: wire::ChangePluginRequest) -> Result<wire::PluginEntry, Fault> {
    use wire::change_plugin_request::Version as Wire;
    limits::text("plugin", &request.name, MAX_NAME)?;
    let version = match request.version() {
        Wire::Keep => None,
        Wire::Previous => Some(Version::Previous),
        Wire::Trial => Some(Version::Trial(None)),
        Wire::EndTrial => Some(Version::EndTrial),
    };
    let (name, enabled) = (request.name, request.enabled);
    let usage = usage(request.settings, request.mode, request.fallback, request.fail_mode)?;
    plugins::change(core, name.clone(), enabled, usage, version).await?;
    let found = list(core).await?.into_iter().find(|entry| entry.name == name);
    found.ok_or_else(|| Fault::internal(format!("`{name}` is gone already")))
}

/// Removes an installed plugin.
pub async fn remove(core: &Arc<Core>, name: String) -> Result<(), Fault> {
    limits::text("plugin", &name, MAX_NAME)?;
    Ok(plugins::remove(core, name).await?)
}

/// How the policies are doing, by name.
type Standings = BTreeMap<String, Standing>;

/// All plugins, with how the policies are doing.
pub async fn list(core: &Arc<Core>) -> Result<Vec<wire::PluginEntry>, Fault> {
    let standings = core.containment.standings().await?;
    let standings = standings
        .into_iter()
        .map(|standing| (standing.policy.clone(), standing));
    Ok(entries(core, &standings.collect()))
}

/// All plugins: this release's own that are loaded, and the installed ones. Asks nobody.
pub fn entries(core: &Core, standings: &Standings) -> Vec<wire::PluginEntry> {
    let configured = |name: &str| core.config.policies.iter().find(|policy| policy.plugin == name);
    let built_in = core.plugins.loaded();
    let mut entries: Vec<_> = built_in
        .values()
        .map(|plugin| {
            let policy = configured(&plugin.name);
            wire::PluginEntry {
                name: plugin.name.clone(),
                version: plugin.version.clone(),
                kind: plugin.kind.word().to_owned(),
                digest: plugin.digest.to_string(),
                signer: "built-in".to_owned(),
                grants: plugin.imports.clone(),
                mode: policy.map(|policy| policy.mode.clone()).unwrap_or_default(),
                enabled: true,
                configured: policy.is_some(),
                standing: standings.get(&plugin.name).map(standing),
                ..wire::PluginEntry::default()
            }
        })
        .collect();
    for entry in core.plugins.entries().into_values() {
        entries.push(installed(core, entry, standings));
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    entries
}

fn installed(core: &Core, entry: Entry, standings: &Standings) -> wire::PluginEntry {
    let trial = entry.trial.map(|trial| {
        let tally = standings
            .get(&format!("{}{SHADOW}", entry.name))
            .and_then(|standing| standing.trial.clone())
            .unwrap_or_default();
        wire::PluginTrial {
            version: trial.pin.version,
            digest: trial.pin.digest.to_string(),
            promote_after: trial.promote_after,
            agreed: tally.agreed,
            differed: tally.differed,
            first_difference: tally.first.unwrap_or_default(),
        }
    });
    let mode = match entry.kind {
        clawker_plugin_package::Kind::Policy => entry.mode,
        _ => String::new(),
    };
    wire::PluginEntry {
        version: entry.pin.version,
        kind: entry.kind.word().to_owned(),
        digest: entry.pin.digest.to_string(),
        signer: entry.pin.signer.word().to_owned(),
        key: entry.pin.key.to_string(),
        source: entry.pin.source,
        grants: entry.pin.grants.to_strings(),
        mode,
        enabled: entry.enabled,
        settings: entry.pin.settings,
        configured: core.plugins.is_configured(&entry.name),
        problem: core.plugins.problem(&entry.name).unwrap_or_default(),
        standing: standings.get(&entry.name).map(standing),
        trial,
        previous_version: entry.previous.map(|pin| pin.version).unwrap_or_default(),
        name: entry.name,
    }
}

fn standing(standing: &Standing) -> wire::PluginStanding {
    wire::PluginStanding {
        quarantined: standing.quarantined,
        calls: standing.calls,
        failures: standing.failures,
        fuel: standing.fuel,
        p50_micros: standing.p50_micros,
        p99_micros: standing.p99_micros,
        waiting: standing.waiting.try_into().unwrap_or(u64::MAX),
        running: standing.running,
        draining: standing.draining,
    }
}

/// A decision of the past, made again.
pub async fn explain(core: &Arc<Core>, decision: u64) -> Result<wire::Explanation, Fault> {
    let explained = plugins::explain(core, decision).await?;
    let json = |value: serde_json::Result<String>| value.map_err(|error| Fault::internal(error.to_string()));
    let (verdicts, unavailable, fuel, state_after) = match &explained.answer {
        Ok(answer) => (
            json(serde_json::to_string(&answer.verdicts))?,
            String::new(),
            answer.fuel,
            answer.state.clone(),
        ),
        Err(why) => ("[]".to_owned(), why.clone(), 0, explained.state.clone()),
    };
    Ok(wire::Explanation {
        decision: json(serde_json::to_string(&explained.decision))?,
        event: json(serde_json::to_string(&explained.event))?,
        facts: json(serde_json::to_string(&explained.decided.facts))?,
        settings: explained.settings,
        state: explained.state,
        verdicts,
        unavailable,
        fuel,
        state_after,
        same: explained.same,
    })
}

/// Holds what is installed against what it should be.
pub async fn check(core: &Arc<Core>) -> Result<wire::CheckPluginsResponse, Fault> {
    let plugins = core.plugins.clone();
    let checks = tokio::task::spawn_blocking(move || plugins.check()).await;
    let mut checks = checks.map_err(|error| Fault::internal(error.to_string()))?;
    for standing in core.containment.standings().await? {
        checks.push(plugins::Check {
            what: format!("policy {}", standing.policy),
            problem: standing.quarantined.then(|| {
                "it failed three times in a row and is asked no more, its fallback is done: see `clawker events`, then \
                 `clawker plugin enable` it"
                    .to_owned()
            }),
        });
    }
    let checks = checks.into_iter().map(|check| wire::PluginCheck {
        what: check.what,
        pass: check.problem.is_none(),
        detail: check.problem.unwrap_or_default(),
    });
    Ok(wire::CheckPluginsResponse {
        checks: checks.collect(),
    })
}

/// What an operator's row says of an installation.
pub fn detail(about: &wire::PluginAbout) -> String {
    let what = if about.upgrade { "upgrade" } else { "install" };
    format!("{what} from {:.200}", about.source)
}

impl From<ChangeError> for Fault {
    fn from(error: ChangeError) -> Self {
        let said = error.to_string();
        match error {
            ChangeError::Refused(refused) => refused.into(),
            ChangeError::NotInForce(_) => Fault::state(said, "see `clawker status`, and restart the control plane"),
            ChangeError::Journal(error) => error.into(),
            ChangeError::Broken(_) => Fault::internal(said),
        }
    }
}

impl From<InstallError> for Fault {
    fn from(error: InstallError) -> Self {
        let said = error.to_string();
        match error {
            InstallError::Plugins(error) => error.into(),
            InstallError::Load(LoadError::Describe(_) | LoadError::Compile(_)) => {
                Fault::state(said, "try it with `clawker plugin inspect`")
            }
            InstallError::Load(_) | InstallError::Manifest(_) | InstallError::NoManifest => {
                Fault::usage(said, "look at it with `clawker plugin inspect`")
            }
            InstallError::Signature(_) | InstallError::Refused { .. } => Fault::new(
                Code::PermissionDenied,
                exit::NOT_PERMITTED,
                said,
                "docs/plugins/trust.md says whose plugins are taken, and why others aren't",
            ),
            InstallError::Trust(_) => Fault::new(
                Code::FailedPrecondition,
                exit::MISCONFIGURED,
                said,
                "mend the file; until then nothing is installed",
            ),
            InstallError::NotInstalled { .. } => Fault::missing(said, "see `clawker plugin list`"),
            InstallError::Store(_) => Fault::internal(said),
            InstallError::Word { .. } | InstallError::NotAPolicy { .. } => {
                Fault::usage(said, "see `clawker plugin install --help`")
            }
            _ => Fault::state(said, "see `clawker plugin list`"),
        }
    }
}

impl From<ExplainError> for Fault {
    fn from(error: ExplainError) -> Self {
        let said = error.to_string();
        match error {
            ExplainError::NoDecision(_) | ExplainError::Gone(_) => {
                Fault::missing(said, "decisions are in `clawker events --json | grep PolicyDecided`")
            }
            ExplainError::Journal(error) => error.into(),
            ExplainError::Broken(_) => Fault::internal(said),
            _ => Fault::state(said, "only what is kept can be made again"),
        }
    }
}
