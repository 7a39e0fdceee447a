use std::path::{Path, PathBuf};

use clawker_wire::admin::{AgentRef, CreateAgentRequest, RemoveAgentRequest};
use tonic::Code;

use super::run::read;
use crate::client::Client;
use crate::error::{CommandError, Kind};
use crate::progress::Progress;
use crate::project::request::{Here, Wanted, wanted};
use crate::project::{self, FileError};
use crate::session::detached;
use crate::term::Term;
use crate::text::{plain, short_name};

/// The project's file unless another is named.
pub const DEFAULT: &str = "clawker.yaml";

/// Make and start the agents of a project's file
///
/// What is there already and is what the file says stays as it is, so it can be run again and again. An agent that
/// differs is an error that names what differs; `--replace` removes it and makes it anew.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  clawker apply
  clawker apply -f deploy/clawker.yaml scout
  clawker apply --replace scout")]
pub struct Args {
    /// The project's file
    #[arg(long, short, value_name = "FILE", default_value = DEFAULT)]
    file: PathBuf,
    /// Only these agents of it
    #[arg(value_name = "AGENT")]
    agents: Vec<String>,
    /// Remove agents that differ, with all that is in their containers, and make them anew
    #[arg(long)]
    replace: bool,
    /// Make them, and start none
    #[arg(long)]
    no_start: bool,
}

/// Reads the file and what it names, but no secret.
pub async fn load(file: &Path, only: &[String], term: &Term) -> Result<Vec<Wanted>, CommandError> {
    let shown = file.display();
    let text = String::from_utf8(read(file, "project file").await?)
        .map_err(|_| CommandError::usage(format!("{shown}: not UTF-8")))?;
    let cwd = term
        .world
        .cwd()
        .map_err(|error| CommandError::io("finding the current directory", &error))?;
    let folder = cwd.join(file.parent().unwrap_or(Path::new("")));
    let here = Here {
        folder: &folder,
        world: term.world.as_ref(),
    };
    let wrong = |error: FileError| {
        CommandError::new(
            Kind::Code(clawker_model::exit::MISCONFIGURED),
            format!("{shown}: {error}"),
        )
    };
    let parsed = project::parse(&text).map_err(wrong)?;
    wanted(&parsed, only, &here).map_err(wrong)
}

pub async fn run(args: Args, client: &mut Client, term: &mut Term) -> Result<u8, CommandError> {
    let wanted = load(&args.file, &args.agents, term).await?;
    let mut requests = Vec::with_capacity(wanted.len());
    // All secrets are read before anything is made.
    for agent in wanted {
        requests.push(with_secrets(agent).await?);
    }
    let mut failure = None;
    for request in requests {
        if let Err(error) = apply(&args, request, client, term).await {
            match failure {
                None => failure = Some(error),
                Some(_) => error.report(term).await,
            }
        }
    }
    failure.map_or(Ok(0), Err)
}

async fn with_secrets(agent: Wanted) -> Result<CreateAgentRequest, CommandError> {
    let mut request = agent.request;
    for (secret, file) in request.secrets.iter_mut().zip(&agent.secret_files) {
        secret.content = read(file, "secret").await?.into();
    }
    Ok(request)
}

async fn apply(
    args: &Args,
    request: CreateAgentRequest,
    client: &mut Client,
    term: &mut Term,
) -> Result<(), CommandError> {
    let mut progress = Progress::new(term);
    progress
        .doing(term, &format!("looking at {}", plain(&request.agent)))
        .await?;
    let (made, name) = match client.rpc.create_agent(request.clone()).await {
        Ok(answer) => {
            let answer = answer.into_inner();
            (if answer.unchanged { "unchanged" } else { "created" }, answer.name)
        }
        Err(status) if args.replace && status.code() == Code::AlreadyExists => {
            let full = [&request.project, &request.agent]
                .into_iter()
                .filter(|part| !part.is_empty())
                .cloned()
                .collect::<Vec<_>>()
                .join(".");
            let remove = RemoveAgentRequest {
                agent: format!("clawker.{full}"),
                force: true,
            };
            client.rpc.remove_agent(remove).await?;
            ("replaced", client.rpc.create_agent(request).await?.into_inner().name)
        }
        Err(status) => return Err(status.into()),
    };
    drop(progress);
    let agent = AgentRef { agent: name.clone() };
    let runs = client.rpc.get_agent(agent).await?.into_inner().status == "running";
    let start = !runs && !args.no_start;
    if start {
        detached(client, term, &name).await?;
    }
    if term.settings.json {
        let object = serde_json::json!({"agent": name, "made": made, "started": start});
        return term.object(&object).await;
    }
    let started = if start { ", started" } else { "" };
    term.line(&format!("{}: {made}{started}", short_name(&name))).await
}
