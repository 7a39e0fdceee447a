use clawker_wire::admin::{ExecInput, ExecOutput, ExecStart, Resize, exec_input, exec_output};
use futures::StreamExt;
use futures::stream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::run::environment;
use crate::client::Client;
use crate::error::{CommandError, Kind};
use crate::parse::EnvArg;
use crate::progress::Progress;
use crate::relay::{End, Heard, Relay, Say, Wires, exit_code};
use crate::term::Term;
use crate::text::short_name;

/// Run another command in an agent
///
/// It runs beside the agent's own command, as the agent's user unless told otherwise, under the same containment.
/// The exit code is the command's.
#[derive(Debug, clap::Args)]
#[command(override_usage = "clawker exec [OPTIONS] AGENT -- COMMAND...")]
#[command(after_help = "\
Examples:
  clawker exec web.scout -- ls -l /work
  clawker exec -it web.scout -- sh
  clawker exec --user 0 --env DEBUG=1 web.scout -- id")]
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
}

pub async fn run(args: Args, client: &mut Client, term: &mut Term) -> Result<u8, CommandError> {
    super::run::needs_terminal(args.interactive, args.tty, term)?;
    let mut signals = crate::session::listen(term)?;
    let size = args.tty.then(|| term.world.size()).flatten();
    let start = ExecStart {
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
    };
    let mut progress = Progress::new(term);
    progress.make_way();
    let mut relay = Relay::new(term, args.interactive, args.tty, progress);
    let (say, input) = mpsc::channel(8);
    let first = ExecInput {
        body: Some(exec_input::Body::Start(start)),
    };
    let input = stream::once(async move { first }).chain(ReceiverStream::new(input).map(exec_say));
    let asked = client.rpc.exec(input);
    let output = crate::session::unless_interrupted(&mut signals, asked)
        .await?
        .into_inner();
    let heard = output.map(exec_heard).boxed();
    let name = short_name(&args.agent);
    match relay.run(term, &mut signals, Wires { say, heard }).await? {
        End::Exit(exit) => Ok(exit_code(&exit)),
        End::Cut => Err(CommandError::new(
            Kind::NoControlPlane,
            format!("the connection to the control plane broke; the command in `{name}` may go on"),
        )
        .hint("clawker status")),
        End::Early(signal) | End::Left(signal) => Err(CommandError::new(
            Kind::Code(128 + signal),
            format!("left by signal {signal}"),
        )),
        End::Refused(refused) => Err(CommandError::new(Kind::Failed, refused.reason)),
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
    };
    ExecInput { body: Some(body) }
}

fn exec_heard(message: Result<ExecOutput, Status>) -> Result<Heard, Status> {
    use exec_output::Body;
    Ok(match message?.body {
        Some(Body::Started(_)) => Heard::Ready,
        Some(Body::Stdout(bytes)) => Heard::Out(bytes),
        Some(Body::Stderr(bytes)) => Heard::Err(bytes),
        Some(Body::Exit(exit)) => Heard::Exit(exit),
        // A word of a later version.
        None => Heard::Out(bytes::Bytes::new()),
    })
}
