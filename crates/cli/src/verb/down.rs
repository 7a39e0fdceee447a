use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use clawker_wire::admin::{ListAgentsRequest, ShutdownRequest};
use tokio::time::Instant;

use crate::client::{Client, answer, nobody, refused};
use crate::error::{CommandError, Kind};
use crate::progress::Progress;
use crate::term::Term;
use crate::text::count;

/// How long the control plane may take to do to the agents what was asked, and end.
const DOWN_WITHIN: Duration = Duration::from_secs(120);

/// End the control plane
///
/// What happens to agents that run has to be said: with `--agents`, or on a terminal when asked. Containment stays
/// in force in any case.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  clawker down --agents stop
  clawker down --agents leave      (before the control plane is replaced)")]
pub struct Args {
    /// What to do with agents that run
    #[arg(long, value_enum, value_name = "WHAT")]
    agents: Option<Agents>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Agents {
    /// End them
    Stop,
    /// Let them go on, unsupervised
    Leave,
    /// Hold them where they are, until `clawker release`
    Freeze,
}

impl Agents {
    fn word(self) -> &'static str {
        match self {
            Agents::Stop => "stop",
            Agents::Leave => "leave",
            Agents::Freeze => "freeze",
        }
    }
}

pub async fn run(args: Args, socket: &Path, term: &mut Term) -> Result<u8, CommandError> {
    if args.agents.is_none() && !(term.tty.stdin && term.tty.stderr) {
        return Err(CommandError::usage("what shall become of the agents?")
            .hint("clawker down --agents stop, --agents leave or --agents freeze"));
    }
    let mut client = match Client::open(socket).await {
        Ok(client) => client,
        Err(error) if nobody(&error) => return done(term, socket, "already down", &[]).await,
        Err(error) => return Err(refused(socket, &error)),
    };
    let agents = match args.agents {
        Some(agents) => agents,
        None => ask(&mut client, term).await?,
    };
    let mut progress = Progress::new(term);
    progress.doing(term, "ending the control plane").await?;
    let request = ShutdownRequest {
        agents: agents.word().to_owned(),
    };
    let process = process(socket).await;
    let untold = client.rpc.shutdown(request).await?.into_inner().untold;
    drop(client);
    let deadline = Instant::now() + DOWN_WITHIN;
    loop {
        match Client::open(socket).await {
            // The socket goes before the store is closed, which another `clawker up` has to wait for.
            Err(error) if nobody(&error) && !process.as_deref().is_some_and(runs) => break,
            _ if Instant::now() >= deadline => {
                return Err(CommandError::new(
                    Kind::Failed,
                    format!("the control plane has not ended in {} s", DOWN_WITHIN.as_secs()),
                )
                .hint("its log says what it waits for: control-plane.log in the state directory"));
            }
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    progress.make_way();
    for agent in &untold {
        term.remark(&format!(
            "{agent} had no session to be told on: it goes by its lease and its own --on-orphan."
        ))
        .await?;
    }
    done(term, socket, "down", &untold).await
}

/// Where the kernel shows which program the control plane's process runs; `None` if it can't be seen from here.
async fn process(socket: &Path) -> Option<PathBuf> {
    let peer = tokio::net::UnixStream::connect(socket).await.ok()?.peer_cred().ok()?;
    // One that serves from within this very process ends with its socket alone.
    let pid = peer.pid()?.unsigned_abs();
    (pid != 0 && pid != std::process::id()).then(|| PathBuf::from(format!("/proc/{pid}/exe")))
}

/// A process that has ended runs no program, also while its parent hasn't asked for its exit code yet.
fn runs(program: &Path) -> bool {
    std::fs::read_link(program).is_ok()
}

async fn ask(client: &mut Client, term: &mut Term) -> Result<Agents, CommandError> {
    let running = answer(client.rpc.list_agents(ListAgentsRequest { all: false }))
        .await?
        .agents
        .len();
    if running == 0 {
        return Ok(Agents::Leave);
    }
    let question = format!(
        "{} running. [s]top, [l]eave running without supervision, or [f]reeze? ",
        count(running as u64, "agent")
    );
    loop {
        match term.question(&question).await?.as_deref() {
            Some("s" | "stop") => return Ok(Agents::Stop),
            Some("l" | "leave") => return Ok(Agents::Leave),
            Some("f" | "freeze") => return Ok(Agents::Freeze),
            None => return Err(CommandError::usage("no answer: nothing was done")),
            Some(_) => {}
        }
    }
}

async fn done(term: &mut Term, socket: &Path, state: &str, untold: &[String]) -> Result<u8, CommandError> {
    if term.settings.json {
        term.object(&serde_json::json!({"state": state.replace(' ', "-"), "socket": socket, "untold": untold}))
            .await?;
    } else {
        term.remark(&format!("The control plane on {} is {state}.", socket.display()))
            .await?;
    }
    Ok(0)
}
