use clawker_model::OPERATOR_EXEC;
use clawker_wire::admin::{ExecAck, ExecInput, ExecOutput, ExecStart, Resize, WhenLeft, exec_input, exec_output};
use futures::StreamExt;
use futures::stream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::run::environment;
use crate::client::Client;
use crate::error::{CommandError, Kind, is_cut};
use crate::parse::{self, EnvArg};
use crate::progress::Progress;
use crate::reconnect::{Next, Retries, stayed_away};
use crate::relay::{End, Heard, Relay, Say, Wires, exit_code};
use crate::resume::Resume;
use crate::session::interrupt;
use crate::term::{Signals, Term};
use crate::text::short_name;

/// Run another command in an agent
///
/// It runs beside the agent's own command, as the agent's user unless told otherwise, under the same containment.
/// The exit code is the command's. When the control plane is started again meanwhile, or updated, nothing of the output
/// or the input is lost or doubled. Interrupted three times, clawker leaves, and the command is hung up.
#[derive(Debug, clap::Args)]
#[command(override_usage = "clawker exec [OPTIONS] AGENT -- COMMAND...")]
#[command(after_help = "\
Examples:
  clawker exec web.scout -- ls -l /work
  clawker exec -it web.scout -- sh
  clawker exec --user 0 --env DEBUG=1 web.scout -- id
  clawker exec --id build-7 --keep web.scout -- make")]
pub struct Args {
    /// `agent`, `project.agent`, the full name, a container id or the beginning of one
    agent: String,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
    /// Give it our standard input
    #[arg(long, short)]
    interactive: bool,
    /// Give it a terminal
    #[arg(long, short)]
    tty: bool,
    /// `user`, `uid`, `user:group`, `uid:gid`, or `host` for your own uid:gid
    #[arg(long, short, value_name = "USER")]
    user: Option<String>,
    /// An environment variable; NAME alone takes your own value (repeatable)
    #[arg(long, short, value_name = "NAME[=VALUE]")]
    env: Vec<EnvArg>,
    /// Where it runs
    #[arg(long, short, value_name = "DIR")]
    workdir: Option<String>,
    /// Its id, for once in this agent: the same line again goes on with the command, and starts nothing twice
    #[arg(long, value_name = "ID", value_parser = parse::exec_id)]
    id: Option<String>,
    /// Let it go on when we leave; its output waits for the same line, with `--id`
    #[arg(long, requires = "id")]
    keep: bool,
}

pub async fn run(args: Args, client: &mut Client, term: &mut Term) -> Result<u8, CommandError> {
    super::run::needs_terminal(args.interactive, args.tty, term)?;
    let mut signals = crate::session::listen(term)?;
    let size = args.tty.then(|| term.world.size()).flatten();
    let id = match args.id {
        Some(id) => id,
        None => term
            .world
            .word()
            .map_err(|error| CommandError::io("choosing an id", &error))?,
    };
    let mut asking = Asking {
        start: ExecStart {
            agent: args.agent.clone(),
            argv: args.command,
            user: args.user.map(|user| super::run::user(&user, term)),
            env: environment(&args.env, &[], term)?,
            cwd: args.workdir,
            stdin: args.interactive,
            tty: args.tty,
            size: size.map(|size| Resize {
                rows: size.rows.into(),
                cols: size.cols.into(),
            }),
            exec_id: format!("{OPERATOR_EXEC}{id}"),
            acknowledges: true,
            when_left: if args.keep { WhenLeft::Keep } else { WhenLeft::Hangup }.into(),
            ..ExecStart::default()
        },
        name: short_name(&args.agent).into_owned(),
        deadline: Instant::now(),
    };
    let mut progress = Progress::new(term);
    progress.make_way();
    let mut relay = Relay::new(term, args.interactive, args.tty, progress);
    relay.resume = Some(Resume::default());
    let mut wires = tokio::select! {
        asked = asking.ask(client, [0; 2]) => match asked {
            // It was asked for, or not: once more starts nothing twice.
            Err(status) if is_cut(&status) => asking.again(&mut relay, client, term, &mut signals).await?,
            asked => asked?,
        },
        signal = interrupt(&mut signals) => return Err(asking.left(signal)),
    };
    loop {
        match relay.run(term, &mut signals, wires).await? {
            End::Exit(exit) => {
                if exit.oom {
                    let text = "clawker: the kernel killed the command: out of memory";
                    term.note("oom", text).await?;
                }
                return Ok(exit_code(&exit));
            }
            End::Cut => {
                relay.progress.make_way();
                wires = asking.again(&mut relay, client, term, &mut signals).await?;
            }
            End::Early(signal) | End::Left(signal) => return Err(asking.left(signal)),
            End::Refused(refused) => return Err(CommandError::new(Kind::Failed, refused.reason)),
        }
    }
}

/// An exec that is asked for until it has ended, and by whom it is known.
struct Asking {
    start: ExecStart,
    name: String,
    /// Until when a lost connection is tried again; counts from the loss of one that carried the streams.
    deadline: Instant,
}

impl Asking {
    /// `has` is how much of stdout and stderr is here.
    async fn ask(&self, client: &mut Client, has: [u64; 2]) -> Result<Wires, Status> {
        let (say, input) = mpsc::channel(8);
        let start = ExecStart {
            stdout_from: has[0],
            stderr_from: has[1],
            ..self.start.clone()
        };
        let first = ExecInput {
            body: Some(exec_input::Body::Start(start)),
        };
        let input = stream::once(async move { first }).chain(ReceiverStream::new(input).map(exec_say));
        let output = client.rpc.exec(input).await?.into_inner();
        let heard = output.map(exec_heard).boxed();
        Ok(Wires { say, heard })
    }

    /// The same exec on another connection, with nothing lost and nothing twice.
    async fn again(
        &mut self,
        relay: &mut Relay,
        client: &mut Client,
        term: &mut Term,
        signals: &mut Signals,
    ) -> Result<Wires, CommandError> {
        let resume = relay.resume.get_or_insert_default();
        if resume.lose() {
            self.deadline = Instant::now() + term.settings.reconnect_for;
            let text = "clawker: the connection to the control plane broke; trying again, the command goes on";
            term.note("reconnecting", text).await?;
        }
        let has = resume.written();
        let mut retries = Retries::until(self.deadline);
        loop {
            let mut anew = match retries.next(&client.socket, signals).await {
                Next::Client(anew) => anew,
                Next::Signal(signal) => return Err(self.left(signal)),
                Next::Over => return Err(stayed_away().hint(self.hint())),
            };
            let asked = tokio::select! {
                asked = self.ask(&mut anew, has) => asked,
                signal = interrupt(signals) => return Err(self.left(signal)),
            };
            match asked {
                Ok(wires) => {
                    *client = anew;
                    return Ok(wires);
                }
                Err(status) if is_cut(&status) => {}
                Err(status) => return Err(status.into()),
            }
        }
    }

    fn left(&self, signal: u8) -> CommandError {
        let error = CommandError::new(Kind::Code(128 + signal), format!("left by signal {signal}"));
        match self.start.when_left() {
            WhenLeft::Keep => error.hint(self.hint()),
            WhenLeft::Hangup => error,
        }
    }

    /// How to go on with it by hand.
    fn hint(&self) -> String {
        let id = self.start.exec_id.trim_start_matches(OPERATOR_EXEC);
        let kept = match self.start.when_left() {
            WhenLeft::Keep => "go on with the command",
            WhenLeft::Hangup => "go on with the command, within a minute",
        };
        format!("{kept}: the same line with `--id {id}`; agent `{}`", self.name)
    }
}

fn exec_say(say: Say) -> ExecInput {
    use exec_input::Body;
    let body = match say {
        Say::Stdin(bytes) => Body::Stdin(bytes),
        Say::Eof => Body::StdinEof(true),
        Say::Resize(size) => Body::Resize(Resize {
            rows: size.rows.into(),
            cols: size.cols.into(),
        }),
        Say::Signal(number) => Body::Signal(number),
        Say::Has([stdout, stderr]) => Body::Ack(ExecAck { stdout, stderr }),
    };
    ExecInput { body: Some(body) }
}

fn exec_heard(message: Result<ExecOutput, Status>) -> Result<Heard, Status> {
    use exec_output::Body;
    Ok(match message?.body {
        Some(Body::Started(_)) => Heard::Ready,
        Some(Body::Opened(from)) => Heard::Opened(from),
        Some(Body::StdinTaken(offset)) => Heard::Taken(offset),
        Some(Body::Stdout(bytes)) => Heard::Out(bytes),
        Some(Body::Stderr(bytes)) => Heard::Err(bytes),
        Some(Body::Exit(exit)) => Heard::Exit(exit),
        // A word of a later version.
        None => Heard::Out(bytes::Bytes::new()),
    })
}
