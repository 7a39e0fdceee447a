use std::path::PathBuf;

use clawker_plugin_kit::{sign, words};
use clawker_plugin_source::{Fetched, Options, Source, SourceError, fetch};
use clawker_wire::admin::install_plugin_request::Part;
use clawker_wire::admin::{InstallPluginRequest, InstallPluginResponse, PluginAbout};

use super::{Usage, ask, blocking, existing_key, settings};
use crate::client::Client;
use crate::error::{CommandError, Kind};
use crate::term::Term;
use crate::text::plain;

/// Bytes of one message.
const PIECE: usize = 1 << 20;

/// Install a plugin on this host
///
/// The control plane takes it if a key that it trusts has signed it, and if everything that it asks for is granted; both
/// are shown first. A policy is in force at once. A component that is signed with this machine's development key is taken
/// by the control plane of this machine, unless its configuration forbids it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  clawker plugin install oom-alert
  clawker plugin install oom-alert.wasm --settings settings.json --mode monitor
  clawker plugin install git-setup.wasm --grant 'exec:git **' --grant write-file
  clawker plugin install oci://registry.example/policies/oom-alert:0.2.0
  clawker plugin install oom-alert.wasm --dry-run")]
pub struct Args {
    /// A component, the folder of a project that was built, or a reference: `oci://…`, `oci-layout:…`, `https://…`
    #[arg(value_name = "PLUGIN")]
    source: String,
    #[command(flatten)]
    wanted: Wanted,
}

/// What is common to installing and upgrading.
#[derive(Debug, Default, clap::Args)]
pub struct Wanted {
    /// Grant this, e.g. `exec` or `exec:git *`; may be repeated
    #[arg(long = "grant", value_name = "GRANT")]
    grants: Vec<String>,
    /// Grant all that it asks for
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    usage: Usage,
    /// User and password for a registry, a file with a line `user:password` that only its owner may read
    #[arg(long, value_name = "FILE")]
    registry_auth: Option<PathBuf>,
    /// Root certificates to trust beside the system's, a PEM file
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Say what it is and asks for, and change nothing
    #[arg(long, short = 'n')]
    dry_run: bool,
}

pub async fn run(args: Args, client: &mut Client, term: &mut Term) -> Result<u8, CommandError> {
    take(&args.source, args.wanted, None, client, term).await
}

/// What takes the place of an installed version.
pub struct Upgrade {
    pub trial: Option<u64>,
}

/// Installs or upgrades, after showing what it is.
pub async fn take(
    source: &str,
    wanted: Wanted,
    upgrade: Option<Upgrade>,
    client: &mut Client,
    term: &mut Term,
) -> Result<u8, CommandError> {
    let found = get(source, &wanted, term).await?;
    let own = existing_key(term);
    let own = blocking(move || own.map(|path| sign::secret_key(&path)).transpose()).await?;
    let own = own.map(|key| key.public());
    let signed_by = found.signature.as_deref().and_then(sign::signer);
    let mut about = PluginAbout {
        signature: found.signature.unwrap_or_default().into(),
        source: found.resolved,
        upgrade: upgrade.is_some(),
        preview: true,
        grants: wanted.grants,
        // Only for what was signed with it: of others' components it says nothing.
        development_key: own
            .filter(|own| Some(own.id()) == signed_by)
            .map(|own| own.to_string())
            .unwrap_or_default(),
        settings: settings(wanted.usage.settings).await?,
        mode: wanted.usage.mode,
        fallback: wanted.usage.fallback,
        fail_mode: wanted.usage.fail_mode,
        trial: upgrade.and_then(|upgrade| upgrade.trial),
    };
    let looked = send(client, &about, &found.component).await?;
    if !term.settings.json {
        for line in shown(&looked) {
            term.remark(&plain(&line)).await?;
        }
    }
    if wanted.dry_run {
        return told(&looked, term).await;
    }
    if !looked.missing.is_empty() && !wanted.yes {
        consent(&looked, source, term).await?;
    }
    about.preview = false;
    about.grants.extend(looked.missing.iter().cloned());
    let taken = send(client, &about, &found.component).await?;
    told(&taken, term).await
}

async fn get(source: &str, wanted: &Wanted, term: &Term) -> Result<Fetched, CommandError> {
    let home = term.world.var("HOME").map(PathBuf::from);
    let docker = home.map(|home| home.join(".docker/config.json"));
    let options = Options {
        extra_roots: wanted.ca.clone(),
        registry_auth: wanted.registry_auth.clone(),
        docker_config: docker.filter(|file| file.exists()),
        ..Options::default()
    };
    let fetched = async { fetch(&Source::parse(source)?, &options).await };
    fetched.await.map_err(|error: SourceError| {
        let kind = match error.is_absent() {
            true => Kind::NoInput,
            false => Kind::Failed,
        };
        CommandError::new(kind, error)
    })
}

async fn consent(looked: &InstallPluginResponse, source: &str, term: &mut Term) -> Result<(), CommandError> {
    if ask(term, "Grant this and install it? [y/N] ").await? {
        return Ok(());
    }
    let missing = looked.missing.iter().map(|grant| format!("--grant '{grant}'"));
    let missing = missing.collect::<Vec<_>>().join(" ");
    let refused = CommandError::new(
        Kind::NotPermitted,
        format!(
            "{} isn't granted what it asks for: {}",
            looked.name,
            looked.missing.join(", ")
        ),
    );
    Err(refused.hint(format!(
        "`clawker plugin install {source} {missing}`, or `--yes` for all of it"
    )))
}

async fn send(
    client: &mut Client,
    about: &PluginAbout,
    component: &[u8],
) -> Result<InstallPluginResponse, CommandError> {
    let first = InstallPluginRequest {
        part: Some(Part::About(about.clone())),
    };
    let pieces: Vec<_> = component
        .chunks(PIECE)
        .map(|piece| InstallPluginRequest {
            part: Some(Part::Component(piece.to_vec().into())),
        })
        .collect();
    let messages = tokio_stream::iter(std::iter::once(first).chain(pieces));
    // It may have to be compiled, which takes as long as it takes.
    Ok(client.rpc.install_plugin(messages).await?.into_inner())
}

fn shown(looked: &InstallPluginResponse) -> Vec<String> {
    let mut lines = vec![format!("{} {}, a {}", looked.name, looked.version, looked.kind)];
    if !looked.description.is_empty() {
        lines.push(format!("  {}", looked.description));
    }
    lines.push(format!("  sha256:{}", looked.digest));
    let whose = match looked.signer.as_str() {
        "development" => "this machine's development key",
        _ => looked.author.as_str(),
    };
    lines.push(format!("  signed by {whose} ({})", looked.key));
    if !looked.installed_version.is_empty() && looked.installed_digest != looked.digest {
        lines.push(format!("  takes the place of {}", looked.installed_version));
    }
    lines.push("It may:".to_owned());
    if looked.kind == "policy" {
        lines.push(format!("  - {}", words::POLICY));
    }
    let say = |grants: &[String]| -> Vec<String> {
        words::grants(grants)
            .into_iter()
            .map(|line| format!("  - {line}"))
            .collect()
    };
    lines.extend(say(&looked.asked));
    if !looked.missing.is_empty() {
        lines.push("Of this isn't granted yet:".to_owned());
        lines.extend(say(&looked.missing));
    }
    lines
}

async fn told(answer: &InstallPluginResponse, term: &mut Term) -> Result<u8, CommandError> {
    if term.settings.json {
        let object = serde_json::json!({
            "name": answer.name, "version": answer.version, "kind": answer.kind,
            "digest": format!("sha256:{}", answer.digest), "key": answer.key, "author": answer.author,
            "signer": answer.signer, "asked": answer.asked, "missing": answer.missing,
            "before": answer.installed_version, "installed": answer.done,
        });
        term.object(&object).await?;
    } else if answer.done {
        term.line(&plain(&format!("{} {} is installed", answer.name, answer.version)))
            .await?;
    }
    Ok(0)
}
