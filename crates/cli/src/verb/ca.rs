use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use clawker_identity::authority::fleet;
use clawker_wire::admin::{
    Authority, GetAuthorityRequest, InstallFleetCertificateRequest, RequestFleetCertificateRequest,
    RotateAuthorityRequest,
};

use crate::client::{Client, answer};
use crate::error::{CommandError, Kind};
use crate::term::Term;
use crate::text::{age, count, plain};

/// Show or rotate the host's certificate authority, have a fleet sign it
///
/// Agents' identities are signed by a root of this host. A rotation replaces it in phases: the new root is trusted, then
/// it signs, then the old one is dropped. It goes on by itself as the connected agents acknowledge each phase, restarts
/// none of them, and resumes after a crash. A root is rotated by itself in the last thirty days of its year.
///
/// A fleet may have a root of its own that signs the hosts' roots, for those who know the fleet and not its hosts. Its
/// key stays where `sign` is run, which needs no control plane. Agents go on trusting their host's root alone. A rotation
/// brings a root that the fleet has to sign again.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  clawker ca
  clawker ca rotate
  clawker ca request > host.csr
  clawker ca sign --fleet-key fleet.key --fleet-cert fleet.pem host.csr > host.pem
  clawker ca install host.pem")]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// The roots in force, and how far a rotation is
    Show,
    /// Begin a rotation
    Rotate,
    /// Print what the fleet's root is to sign, as PEM
    Request,
    /// Sign a host's request with the fleet's key, for a year, and print the certificate
    Sign {
        /// The fleet's private key: PKCS#8 as PEM, readable by its owner alone
        #[arg(long, value_name = "FILE")]
        fleet_key: PathBuf,
        /// The fleet's certificate, as PEM
        #[arg(long, value_name = "FILE")]
        fleet_cert: PathBuf,
        /// What `ca request` printed on the host
        request: PathBuf,
    },
    /// Give the control plane what `ca sign` printed
    Install {
        /// A certificate of a root in force, as PEM
        certificate: PathBuf,
    },
}

/// Most bytes of a file that is read.
const MAX_FILE: u64 = 64 * 1024;

impl Args {
    /// Whether it needs no control plane.
    pub fn is_offline(&self) -> bool {
        matches!(self.what, Some(What::Sign { .. }))
    }
}

/// With the fleet's key, wherever that is.
pub async fn sign(args: Args, term: &mut Term) -> Result<u8, CommandError> {
    let Some(What::Sign {
        fleet_key,
        fleet_cert,
        request,
    }) = args.what
    else {
        return Ok(clawker_model::exit::USAGE);
    };
    let mode = std::fs::metadata(&fleet_key).map_err(|error| reading(&fleet_key, &error))?;
    let mode = mode.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(CommandError::new(
            Kind::Failed,
            format!("{} is readable by others (mode {mode:o})", fleet_key.display()),
        )
        .hint(format!("run `chmod 600 {}`", fleet_key.display())));
    }
    let now = i64::try_from(term.world.now_ms() / 1000).unwrap_or(i64::MAX);
    let signed = fleet::sign(&text(&request)?, &text(&fleet_cert)?, &text(&fleet_key)?, now)
        .map_err(|error| CommandError::new(Kind::Usage, error.to_string()).hint("see `clawker ca --help`"))?;
    printed(term, "certificate", &signed).await
}

fn text(path: &Path) -> Result<String, CommandError> {
    let file = std::fs::File::open(path).map_err(|error| reading(path, &error))?;
    let mut text = String::new();
    let read = file.take(MAX_FILE).read_to_string(&mut text);
    read.map_err(|error| reading(path, &error))?;
    Ok(text)
}

fn reading(path: &Path, error: &std::io::Error) -> CommandError {
    CommandError::io(format_args!("reading {}", path.display()), error)
}

async fn printed(term: &mut Term, what: &str, pem: &str) -> Result<u8, CommandError> {
    if term.settings.json {
        term.object(&serde_json::json!({what: pem})).await?;
        return Ok(0);
    }
    let lines: Vec<String> = pem.lines().map(|line| plain(line).into_owned()).collect();
    term.lines(lines).await?;
    Ok(0)
}

pub async fn run(args: Args, client: &mut Client, term: &mut Term) -> Result<u8, CommandError> {
    let what = args.what.unwrap_or(What::Show);
    let authority = match &what {
        What::Show => answer(client.rpc.get_authority(GetAuthorityRequest {})).await?,
        What::Rotate => answer(client.rpc.rotate_authority(RotateAuthorityRequest {})).await?,
        What::Request => {
            let request = RequestFleetCertificateRequest {};
            let request = answer(client.rpc.request_fleet_certificate(request)).await?;
            return printed(term, "request", &request.pem).await;
        }
        What::Install { certificate } => {
            let certificate = text(certificate)?.into_bytes().into();
            let request = InstallFleetCertificateRequest { certificate };
            answer(client.rpc.install_fleet_certificate(request)).await?
        }
        // It was done before anybody was asked.
        What::Sign { .. } => return Ok(clawker_model::exit::USAGE),
    };
    if term.settings.json {
        term.object(&object(&authority)).await?;
        return Ok(0);
    }
    let phase = match authority.phase.as_str() {
        "standby" => "no rotation is under way".to_owned(),
        "introduced" => "a new root is trusted, and signs once all agents know it".to_owned(),
        "switched" => "the new root signs, the old one goes once all agents have a leaf of it".to_owned(),
        other => other.to_owned(),
    };
    term.line(&format!("Rotation   {phase}")).await?;
    for root in &authority.roots {
        let id: String = root.id.chars().take(16).collect();
        let role = if root.signs { "signs" } else { "trusted" };
        let ends = root.not_after.map(|at| ends_in(at, term)).unwrap_or_default();
        term.line(&format!("Root       {id}  {role}{ends}")).await?;
        if let Some(fleet) = &root.fleet {
            let (issuer, ends) = (plain(&fleet.issuer), ends_in(fleet.not_after, term));
            term.line(&format!("Fleet      {id}  signed by {issuer}{ends}")).await?;
        }
    }
    let leaf = age(u64::from(authority.leaf_seconds) * 1000);
    term.line(&format!("Leaves     valid for {leaf}, renewed at half of it"))
        .await?;
    let connected = count(authority.agents.into(), "trusted agent");
    term.line(&format!(
        "Agents     {connected} connected, {} of them up to date",
        authority.agents_current
    ))
    .await?;
    if matches!(what, What::Rotate) {
        term.line("It goes on by itself; `clawker ca` shows how far it is.")
            .await?;
    }
    Ok(0)
}

fn ends_in(at: i64, term: &Term) -> String {
    let at_ms = u64::try_from(at).unwrap_or_default().saturating_mul(1000);
    format!(", ends in {}", age(at_ms.saturating_sub(term.world.now_ms())))
}

fn object(authority: &Authority) -> serde_json::Value {
    let roots: Vec<_> = authority
        .roots
        .iter()
        .map(|root| {
            let fleet = root
                .fleet
                .as_ref()
                .map(|fleet| serde_json::json!({"id": fleet.id, "issuer": fleet.issuer, "not_after": fleet.not_after}));
            serde_json::json!({"id": root.id, "signs": root.signs, "not_after": root.not_after, "fleet": fleet})
        })
        .collect();
    serde_json::json!({
        "phase": authority.phase,
        "roots": roots,
        "leaf_seconds": authority.leaf_seconds,
        "agents": authority.agents,
        "agents_current": authority.agents_current,
    })
}
