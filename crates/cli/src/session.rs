//! An agent in the foreground: attach, start, relay, and attach again when the connection breaks.
//!
//! ```text
//! attach ─▶ start ─▶ relay ──exit──▶ code
//!                    │    ▲
//!                   cut   └─ attach again + wait ◀─ reconnected
//!                    └▶ trying again, 60 s ─▶ exit 75; the agent goes on
//! ```

use bytes::Bytes;
use clawker_wire::admin::{
    AgentRef, AttachInput, AttachOutput, Refused, RemoveAgentRequest, Resize, StartAgentRequest, StartProgress,
    StopAgentRequest, attach_input, attach_output, start_progress,
};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::client::Client;
use crate::error::{CommandError, Kind, is_cut};
use crate::progress::Progress;
use crate::reconnect::{Next, Retries, stayed_away};
use crate::relay::{End, Heard, Relay, Say, Wires, exit_code};
use crate::term::{Signal, Signals, Term};
use crate::text::short_name;

type HeardStream = BoxStream<'static, Result<Heard, Status>>;

/// One side of an agent's streams, attached.
struct Attached {
    tty: bool,
    say: mpsc::Sender<Say>,
    heard: HeardStream,
}

/// Whom to stay with, and how.
pub struct Foreground<'a> {
    pub agent: &'a str,
    /// It gets our stdin.
    pub stdin: bool,
    /// Nothing is left of it when it doesn't come to run.
    pub remove: bool,
}

/// Starts the agent and stays with it; answers the exit code of its command.
pub async fn foreground(
    client: &mut Client,
    term: &mut Term,
    signals: &mut Signals,
    whom: Foreground<'_>,
    progress: Progress,
) -> Result<u8, CommandError> {
    let agent = whom.agent;
    // Attach comes before start: what a command says first is not lost.
    let attached = match interruptible(signals, try_attach(client, agent)).await {
        Ok(attached) => attached?,
        Err(signal) => return give_up(client, term, signals, &whom, signal).await,
    };
    let mut relay = Relay::new(term, whom.stdin, attached.tty, progress);
    let request = StartAgentRequest {
        agent: agent.to_owned(),
        detach: false,
    };
    let verdict = match interruptible(signals, client.rpc.start_agent(request)).await {
        Ok(Ok(verdict)) => verdict.into_inner().map(progress_heard).boxed(),
        Ok(Err(status)) => {
            if whom.remove && !is_cut(&status) {
                // What could not be started has nothing to tell that this error doesn't.
                let _ = client.rpc.remove_agent(removal(agent)).await;
            }
            return Err(status.into());
        }
        Err(signal) => return give_up(client, term, signals, &whom, signal).await,
    };
    let mut wires = join(Some(attached), verdict);
    loop {
        match relay.run(term, signals, wires).await? {
            End::Exit(exit) => {
                if exit.oom {
                    term.note(
                        "oom",
                        "clawker: the kernel killed the command: out of memory (see --memory)",
                    )
                    .await?;
                }
                return Ok(exit_code(&exit));
            }
            End::Refused(refused) => return Err(refusal(refused)),
            End::Early(signal) => {
                relay.progress.make_way();
                return give_up(client, term, signals, &whom, signal).await;
            }
            End::Left(signal) => return Err(left(agent, signal)),
            End::Cut => {
                relay.progress.make_way();
                let text = "clawker: the connection to the control plane broke; the agent goes on; trying again";
                term.note("reconnecting", text).await?;
                wires = again(client, term, signals, agent).await?;
                if !relay.ready() {
                    relay.now_ready(term)?;
                }
                let name = short_name(agent).into_owned();
                let text = format!("clawker: attached again; output in between is in `clawker logs {name}`");
                term.note("reconnected", &text).await?;
            }
        }
    }
}

/// Starts `agent`, shows the plan, and returns when its command runs.
pub async fn detached(client: &mut Client, term: &mut Term, agent: &str) -> Result<(), CommandError> {
    let mut progress = Progress::new(term);
    let request = StartAgentRequest {
        agent: agent.to_owned(),
        detach: true,
    };
    let mut stream = client.rpc.start_agent(request).await?.into_inner();
    while let Some(message) = stream.message().await? {
        match message.body {
            Some(start_progress::Body::Doing(text)) => progress.doing(term, &text).await?,
            Some(start_progress::Body::Step(step)) => progress.step(term, &step).await?,
            Some(start_progress::Body::Ready(_) | start_progress::Body::Exit(_)) => return Ok(()),
            Some(start_progress::Body::Refused(refused)) => {
                progress.make_way();
                return Err(refusal(refused));
            }
            None => {}
        }
    }
    let name = short_name(agent);
    Err(CommandError::new(
        Kind::NoControlPlane,
        format!("the control plane ended while it prepared `{name}`"),
    )
    .hint(format!("see what became of it: `clawker ps -a`, `clawker why {name}`")))
}

async fn try_attach(client: &mut Client, agent: &str) -> Result<Attached, Status> {
    let (say, input) = mpsc::channel(8);
    let first = AttachInput {
        body: Some(attach_input::Body::Agent(agent.to_owned())),
    };
    let input = stream::once(async move { first }).chain(ReceiverStream::new(input).map(attach_say));
    let mut output = client.rpc.attach(input).await?.into_inner();
    let tty = loop {
        match output.message().await? {
            Some(AttachOutput {
                body: Some(attach_output::Body::Attached(attached)),
            }) => break attached.tty,
            Some(_) => {}
            None => {
                return Err(Status::internal(
                    "the control plane ended the stream before it was attached",
                ));
            }
        }
    };
    Ok(Attached {
        tty,
        say,
        heard: output.filter_map(|message| async { attach_heard(message) }).boxed(),
    })
}

/// Both streams as one; the end of each is told.
fn join(attached: Option<Attached>, verdict: HeardStream) -> Wires {
    let verdict = verdict.chain(stream::iter([Ok(Heard::VerdictEnded)]));
    let ended = stream::iter([Ok(Heard::OutputEnded)]);
    let (say, output) = match attached {
        Some(attached) => (attached.say, attached.heard.chain(ended).boxed()),
        None => (mpsc::channel(1).0, ended.boxed()),
    };
    Wires {
        say,
        heard: stream::select(output, verdict).boxed(),
    }
}

/// Until the control plane answers again, the deadline passes, or the person has enough of it.
async fn again(
    client: &mut Client,
    term: &mut Term,
    signals: &mut Signals,
    agent: &str,
) -> Result<Wires, CommandError> {
    let mut retries = Retries::until(Instant::now() + term.settings.reconnect_for);
    loop {
        let mut anew = match retries.next(&client.socket, signals).await {
            Next::Client(anew) => anew,
            Next::Signal(signal) => return Err(left(agent, signal)),
            Next::Over => {
                let name = short_name(agent);
                return Err(stayed_away().hint(format!(
                    "the agent goes on: `clawker logs {name}`, `clawker wait {name}`"
                )));
            }
        };
        let attached = match try_attach(&mut anew, agent).await {
            Ok(attached) => Some(attached),
            Err(status) if is_cut(&status) => continue,
            // It may be gone by now, `--rm`; its exit code is still known for a while.
            Err(_) => None,
        };
        let mut rpc = anew.rpc.clone();
        *client = anew;
        let agent = AgentRef {
            agent: agent.to_owned(),
        };
        let exit = async move { Ok(Heard::Exit(rpc.wait_agent(agent).await?.into_inner())) };
        return Ok(join(attached, stream::once(exit).boxed()));
    }
}

pub async fn interrupt(signals: &mut Signals) -> u8 {
    loop {
        match signals.next().await {
            Some(Signal::Number(number)) => return number,
            Some(Signal::Resized) => {}
            None => std::future::pending().await,
        }
    }
}

/// Runs `work` unless a signal comes first.
pub async fn unless_interrupted<T>(
    signals: &mut Signals,
    work: impl Future<Output = Result<T, Status>>,
) -> Result<T, CommandError> {
    match interruptible(signals, work).await {
        Ok(done) => Ok(done?),
        Err(signal) => Err(CommandError::new(Kind::Code(128 + signal), "interrupted")),
    }
}

/// The result of `work`, or the signal that came first.
async fn interruptible<T>(signals: &mut Signals, work: impl Future<Output = T>) -> Result<T, u8> {
    tokio::select! {
        done = work => Ok(done),
        signal = interrupt(signals) => Err(signal),
    }
}

/// From now on signals are ours to answer.
pub fn listen(term: &Term) -> Result<Signals, CommandError> {
    term.world
        .signals()
        .map_err(|error| CommandError::io("listening for signals", &error))
}

/// A signal came before the command ran: the agent is ended, because nobody would wait for it.
async fn give_up(
    client: &mut Client,
    term: &mut Term,
    signals: &mut Signals,
    whom: &Foreground<'_>,
    signal: u8,
) -> Result<u8, CommandError> {
    let agent = whom.agent;
    let name = short_name(agent).into_owned();
    term.note(
        "interrupted",
        &format!("clawker: interrupted before the command ran; stopping {name}"),
    )
    .await?;
    let ended = if whom.remove {
        unless_interrupted(signals, client.rpc.remove_agent(removal(agent))).await
    } else {
        let request = StopAgentRequest {
            agent: agent.to_owned(),
            timeout: None,
        };
        unless_interrupted(signals, client.rpc.stop_agent(request)).await
    };
    match ended {
        Ok(_) => Ok(128 + signal),
        Err(error) if error.kind == Kind::Code(clawker_model::exit::NO_INPUT) || error.kind == Kind::NoInput => {
            Ok(128 + signal)
        }
        Err(error) => Err(error.hint(format!("clawker rm -f {name}"))),
    }
}

fn removal(agent: &str) -> RemoveAgentRequest {
    RemoveAgentRequest {
        agent: agent.to_owned(),
        force: true,
    }
}

fn left(agent: &str, signal: u8) -> CommandError {
    let name = short_name(agent);
    CommandError::new(
        Kind::Code(128 + signal),
        format!("left by signal {signal}; `{name}` goes on"),
    )
    .hint(format!("clawker stop {name}"))
}

fn refusal(refused: Refused) -> CommandError {
    let code = u8::try_from(refused.exit).ok().filter(|code| *code != 0);
    let error = CommandError::new(Kind::Code(code.unwrap_or(clawker_model::exit::FAILED)), refused.reason);
    if refused.hint.is_empty() {
        error
    } else {
        error.hint(refused.hint)
    }
}

fn attach_say(say: Say) -> AttachInput {
    use attach_input::Body;
    let body = match say {
        Say::Stdin(bytes) => Body::Stdin(bytes),
        Say::Eof => Body::StdinEof(true),
        Say::Resize(size) => Body::Resize(Resize {
            rows: size.rows.into(),
            cols: size.cols.into(),
        }),
        Say::Signal(number) => Body::Signal(number),
        // Of what isn't resumable nothing is told.
        Say::Has(_) => return AttachInput { body: None },
    };
    AttachInput { body: Some(body) }
}

fn attach_heard(message: Result<AttachOutput, Status>) -> Option<Result<Heard, Status>> {
    use attach_output::Body;
    match message {
        Ok(message) => match message.body? {
            Body::Stdout(bytes) => Some(Ok(Heard::Out(bytes))),
            Body::Stderr(bytes) => Some(Ok(Heard::Err(bytes))),
            Body::Attached(_) => None,
        },
        Err(status) => Some(Err(status)),
    }
}

fn progress_heard(message: Result<StartProgress, Status>) -> Result<Heard, Status> {
    use start_progress::Body;
    Ok(match message?.body {
        Some(Body::Doing(text)) => Heard::Doing(text),
        Some(Body::Step(step)) => Heard::Step(step),
        Some(Body::Ready(_)) => Heard::Ready,
        Some(Body::Exit(exit)) => Heard::Exit(exit),
        Some(Body::Refused(refused)) => Heard::Refused(refused),
        // A word of a later version.
        None => Heard::Out(Bytes::new()),
    })
}
