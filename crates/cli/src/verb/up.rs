use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use clawker_model::exit;
use clawker_wire::admin::{GetStatusRequest, Status};
use tokio::time::Instant;

use crate::client::{Client, answer, nobody, refused};
use crate::error::{CommandError, Kind};
use crate::progress::Progress;
use crate::term::Term;
use crate::text::plain;

pub(super) const PROGRAM: &str = "clawker-cp";
const STATE_DIR: &str = "/var/lib/clawker";
const LOG: &str = "control-plane.log";
/// Lines of the log that are shown when it ended at once, and the bytes they are looked for in.
const LAST_LINES: usize = 15;
const LAST_BYTES: u64 = 16 * 1024;

/// Start this machine's control plane in the background
///
/// It runs on its own defaults or on a configuration, writes its log to control-plane.log in the state directory,
/// and answers on the admin socket when the command returns. One that runs already is left as it is. With systemd,
/// enable clawker.service instead.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  clawker up
  clawker up --config ./control-plane.toml
  clawker --socket /tmp/try/admin.sock up --state-dir /tmp/try --label-prefix dev.try")]
pub struct Args {
    /// Its configuration; without it /etc/clawker/control-plane.toml, if there is one
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where it keeps its state [default: /var/lib/clawker]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Prefix of its containers' labels; two control planes on one engine need two [default: dev.clawker]
    #[arg(long, value_name = "PREFIX")]
    label_prefix: Option<String>,
    /// How long it may take until it answers
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
}

pub async fn run(args: Args, socket: &Path, term: &mut Term) -> Result<u8, CommandError> {
    match Client::open(socket).await {
        Ok(mut client) => {
            let status = answer(client.rpc.get_status(GetStatusRequest {})).await?;
            return report(term, socket, &status, None, "already up").await;
        }
        Err(error) if nobody(&error) => {}
        Err(error) => return Err(refused(socket, &error)),
    }
    let program = find(term).ok_or_else(|| {
        CommandError::new(
            Kind::Code(exit::UNAVAILABLE),
            format!("`{PROGRAM}` is neither beside clawker nor in PATH"),
        )
        .hint("install both programs into one folder")
    })?;
    let configured = args.config.as_deref().and_then(configured_state);
    let state = args
        .state_dir
        .clone()
        .or(configured)
        .unwrap_or_else(|| STATE_DIR.into());
    let state = absolute(&state, term)?;
    let (log, log_path) = open_log(&state)?;
    let begins = log.metadata().map(|log| log.len()).unwrap_or(0);
    let mut flags: Vec<OsString> = vec!["--admin-socket".into(), absolute(socket, term)?.into()];
    if let Some(config) = &args.config {
        flags.extend(["--config".into(), absolute(config, term)?.into()]);
    }
    if args.state_dir.is_some() {
        flags.extend(["--state-dir".into(), state.clone().into()]);
    }
    if let Some(prefix) = args.label_prefix {
        flags.extend(["--label-prefix".into(), prefix.into()]);
    }
    let mut progress = Progress::new(term);
    progress.doing(term, "starting the control plane").await?;
    let mut child = spawn(&program, &flags, &log)
        .map_err(|error| CommandError::io(format_args!("starting {}", program.display()), &error))?;
    let deadline = Instant::now() + Duration::from_secs(args.timeout);
    let status = loop {
        if let Some(ended) = child
            .try_wait()
            .map_err(|error| CommandError::io("watching the control plane", &error))?
        {
            progress.make_way();
            return Err(ended_early(term, ended, &log_path, begins).await);
        }
        if let Some(status) = answers(socket, deadline).await {
            break status;
        }
        if Instant::now() >= deadline {
            progress.make_way();
            return Err(too_slow(term, &mut child, args.timeout, &log_path, begins).await);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    progress.make_way();
    report(term, socket, &status, Some((child.id(), &log_path)), "up").await
}

/// The state directory that a configuration names. What is wrong with the file is for the control plane to say.
fn configured_state(config: &Path) -> Option<PathBuf> {
    let table: toml::Table = std::fs::read_to_string(config).ok()?.parse().ok()?;
    Some(table.get("state_dir")?.as_str()?.into())
}

/// Its status, if it answers by now.
async fn answers(socket: &Path, deadline: Instant) -> Option<Status> {
    let asked = async {
        let mut client = Client::open(socket).await.ok()?;
        client.rpc.get_status(GetStatusRequest {}).await.ok()
    };
    Some(tokio::time::timeout_at(deadline, asked).await.ok()??.into_inner())
}

/// Beside ourselves, else in PATH.
pub(super) fn find(term: &Term) -> Option<PathBuf> {
    let beside = term.world.program_dir().into_iter();
    let path = term.world.var("PATH").unwrap_or_default();
    let path: Vec<PathBuf> = std::env::split_paths(&path).filter(|dir| dir.is_absolute()).collect();
    beside
        .chain(path)
        .map(|dir| dir.join(PROGRAM))
        .find(|program| program.is_file())
}

pub(super) fn absolute(path: &Path, term: &Term) -> Result<PathBuf, CommandError> {
    if path.is_absolute() {
        return Ok(path.to_owned());
    }
    let cwd = term
        .world
        .cwd()
        .map_err(|error| CommandError::io("finding the current directory", &error))?;
    Ok(cwd.join(path))
}

fn open_log(state: &Path) -> Result<(File, PathBuf), CommandError> {
    let failed = |what: &Path, error: &io::Error| {
        let failed = CommandError::io(format_args!("making {}", what.display()), error);
        match failed.kind {
            Kind::NotPermitted => failed.hint("the control plane runs as root: `sudo clawker up`"),
            _ => CommandError {
                kind: Kind::CantCreate,
                ..failed
            },
        }
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(state)
        .map_err(|error| failed(state, &error))?;
    let path = state.join(LOG);
    let log = OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
    Ok((log.map_err(|error| failed(&path, &error))?, path))
}

fn spawn(program: &Path, flags: &[OsString], log: &File) -> io::Result<Child> {
    let mut command = Command::new(program);
    command.args(flags).current_dir("/").stdin(Stdio::null());
    command.stdout(log.try_clone()?).stderr(log.try_clone()?);
    // SAFETY: between fork and exec only setsid(2) is called, which is async-signal-safe and touches no memory.
    unsafe {
        command.pre_exec(|| {
            // Of its own session, so that the end of this terminal is not its end.
            rustix::process::setsid()?;
            Ok(())
        });
    }
    command.spawn()
}

async fn ended_early(term: &mut Term, ended: ExitStatus, log: &Path, begins: u64) -> CommandError {
    show_last_lines(term, log, begins).await;
    let (how, code) = match (ended.code(), ended.signal()) {
        (Some(code), _) => (format!("with exit code {code}"), code),
        (None, signal) => {
            let signal = signal.unwrap_or_default();
            (format!("by signal {signal}"), 128 + signal)
        }
    };
    // One that ends well without ever answering has failed us all the same.
    let code = u8::try_from(code)
        .ok()
        .filter(|code| *code != 0)
        .unwrap_or(exit::FAILED);
    CommandError::new(Kind::Code(code), format!("the control plane ended {how}"))
        .hint(format!("all of its log: {}", log.display()))
}

async fn too_slow(term: &mut Term, child: &mut Child, seconds: u64, log: &Path, begins: u64) -> CommandError {
    show_last_lines(term, log, begins).await;
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    let stopped = pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::TERM));
    let then = match stopped {
        Some(Ok(())) => "it was told to end",
        _ => "it is still there",
    };
    CommandError::new(
        Kind::NoControlPlane,
        format!("the control plane has not answered in {seconds} s; {then}"),
    )
    .hint(format!("all of its log: {}; more time: --timeout", log.display()))
}

async fn show_last_lines(term: &mut Term, log: &Path, begins: u64) {
    // Without a log the error that follows has to do.
    let Ok(text) = read_from(log, begins) else { return };
    let lines: Vec<&str> = text.lines().collect();
    for line in &lines[lines.len().saturating_sub(LAST_LINES)..] {
        let _ = term.error_line(&format!("  {}", plain(line))).await;
    }
}

/// What was written since, or the end of it.
fn read_from(log: &Path, begins: u64) -> io::Result<String> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(begins.max(length.saturating_sub(LAST_BYTES))))?;
    let mut bytes = Vec::new();
    file.take(LAST_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

async fn report(
    term: &mut Term,
    socket: &Path,
    status: &Status,
    started: Option<(u32, &Path)>,
    state: &str,
) -> Result<u8, CommandError> {
    if term.settings.json {
        let object = serde_json::json!({
            "state": state.replace(' ', "-"),
            "version": status.version,
            "cp_life": status.cp_life,
            "socket": socket,
            "state_dir": status.state_dir,
            "pid": started.map(|(pid, _)| pid),
            "log": started.map(|(_, log)| log),
        });
        term.object(&object).await?;
        return Ok(0);
    }
    term.remark(&format!(
        "clawker {} is {state} on {}",
        plain(&status.version),
        socket.display()
    ))
    .await?;
    for subsystem in status.subsystems.iter().filter(|subsystem| subsystem.degraded) {
        let text = format!("degraded: {}: {}", plain(&subsystem.name), plain(&subsystem.detail));
        term.remark(&term.yellow(&text)).await?;
    }
    if let Some((_, log)) = started {
        term.remark(&format!(
            "Its log: {}. An agent: `clawker run --rm IMAGE -- COMMAND`.",
            log.display()
        ))
        .await?;
    }
    Ok(0)
}
