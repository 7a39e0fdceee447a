use std::path::{Path, PathBuf};

use clawker_model::{AgentName, OnAbsent, Orphan, ProjectName, Restart};
use clawker_wire::admin::{CreateAgentRequest, Mount, Secret};
use tokio::io::AsyncReadExt;

use crate::client::Client;
use crate::error::{CommandError, Kind};
use crate::parse::{self, EnvArg, SecretArg, SecretFor, Volume};
use crate::progress::Progress;
use crate::session::{Foreground, detached, foreground, listen, unless_interrupted};
use crate::term::Term;
use crate::text::plain;

/// Most bytes of a secret, and of an env file.
const MAX_FILE: u64 = 256 * 1024;

/// Make an agent from an image and start it
///
/// The agent is prepared by the steps of its plan, then its command runs: the image's own, or COMMAND. In the
/// foreground its output is shown, Ctrl-C and other signals go to it, and its exit code is ours. Options of clawker
/// stand before IMAGE or before `--`; what follows is the command's.
#[derive(Debug, clap::Args)]
#[command(override_usage = "clawker run [OPTIONS] IMAGE [-- COMMAND...]")]
#[command(after_help = "\
Examples:
  clawker run --rm alpine -- echo hello
  clawker run -it --name scout --project web my-agent:1
  clawker run -d --name scout --secret TOKEN=./token --egress 192.0.2.7:443 my-agent:1
  clawker run --rm -v ./work:/work -w /work --user host --memory 512m --cpus 1.5 my-agent:1 -- make")]
pub struct Args {
    /// The image to make it from
    #[arg(value_name = "IMAGE", required_unless_present = "image_option")]
    image: Option<String>,
    /// Its command and arguments; one that begins with `-` is added to the image's own command
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<String>,
    /// The image, in place of IMAGE
    #[arg(long = "image", value_name = "IMAGE", id = "image_option")]
    image_option: Option<String>,
    /// Give the command our standard input
    #[arg(long, short)]
    interactive: bool,
    /// Give the command a terminal
    #[arg(long, short)]
    tty: bool,
    /// Return when the command runs, and print the agent's name
    #[arg(long, short)]
    detach: bool,
    /// Remove the agent when its command has ended
    #[arg(long)]
    rm: bool,
    /// Name of the agent; without it one is made up
    #[arg(long, value_name = "NAME", value_parser = AgentName::parse)]
    name: Option<AgentName>,
    /// Project that it belongs to
    #[arg(long, value_name = "NAME", value_parser = ProjectName::parse)]
    project: Option<ProjectName>,
    /// `user`, `uid`, `user:group`, `uid:gid`, or `host` for your own uid:gid
    #[arg(long, short, value_name = "USER")]
    user: Option<String>,
    /// An environment variable; NAME alone takes your own value (repeatable)
    #[arg(long, short, value_name = "NAME[=VALUE]")]
    env: Vec<EnvArg>,
    /// A file with such lines (repeatable)
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// A secret from a file, for the command alone, as a variable or as a file; or for steps alone (repeatable)
    #[arg(long, value_name = "NAME=FILE[,as=env|file|step]")]
    secret: Vec<SecretArg>,
    /// A folder of this machine, or a volume (repeatable)
    #[arg(long, short, value_name = "SRC:DST[:ro]")]
    volume: Vec<Volume>,
    /// A port that others may reach (repeatable)
    #[arg(long, short, value_name = "[[ADDR:]PORT:]PORT[/udp]", value_parser = parse::publish)]
    publish: Vec<String>,
    /// `none`, or the name of a network; without it clawker's own
    #[arg(long, value_name = "NETWORK", default_value = "", hide_default_value = true)]
    network: String,
    /// Where it may connect to, or `open` (repeatable)
    #[arg(long, value_name = "ADDR:PORT|open", value_parser = parse::egress)]
    egress: Vec<String>,
    /// Most memory, like 512m or 1.5g
    #[arg(long, short, value_name = "SIZE", value_parser = parse::memory)]
    memory: Option<u64>,
    /// Most CPU time, in CPUs, like 1.5
    #[arg(long, value_name = "N", value_parser = parse::cpus)]
    cpus: Option<u64>,
    /// Most processes
    #[arg(long, value_name = "N", value_parser = parse::pids)]
    pids: Option<u32>,
    /// Run this instead of the image's entrypoint
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// Where the command runs
    #[arg(long, short, value_name = "DIR")]
    workdir: Option<String>,
    /// Let the command gain privileges by set-user-id programs
    #[arg(long)]
    allow_sudo: bool,
    /// What it does when it hears nothing of a control plane for long: `continue`, `freeze` (default) or `stop`; with
    /// seconds of its own in place of the control plane's
    #[arg(long, value_name = "WHAT[:SECONDS]")]
    on_orphan: Option<Orphan>,
    /// What a start does while no control plane answers: `await` one (default), with a deadline exit 75 after it, or
    /// after so many seconds run the command by its `defaults`: unprepared, without secrets
    #[arg(long, value_name = "await[:SECONDS]|defaults:SECONDS")]
    on_absent: Option<OnAbsent>,
    /// With `--on-absent defaults`, which needs it: the command may run before a network policy is in force
    #[arg(long)]
    unverified_network: bool,
    /// When it is started again after its end: `no` (default), `on-failure` (that many times at most), `always`, or
    /// `unless-stopped` by you
    #[arg(long, value_name = "WHEN[:TIMES]")]
    restart: Option<Restart>,
}

pub async fn run(args: Args, client: &mut Client, term: &mut Term) -> Result<u8, CommandError> {
    needs_terminal(args.interactive && !args.detach, args.tty, term)?;
    let (detach, stdin, remove) = (args.detach, args.interactive, args.rm);
    let request = request(args, term).await?;
    let mut progress = Progress::new(term);
    progress
        .doing(term, &format!("making an agent from {}", request.image))
        .await?;
    if detach {
        let created = client.rpc.create_agent(request).await?.into_inner();
        drop(progress);
        detached(client, term, &created.name).await?;
        if term.settings.json {
            let object = serde_json::json!({"name": created.name, "container_id": created.container_id});
            return term.object(&object).await.map(|()| 0);
        }
        return term.line(&plain(&created.name)).await.map(|()| 0);
    }
    let mut signals = listen(term)?;
    let created = unless_interrupted(&mut signals, client.rpc.create_agent(request))
        .await
        .map_err(|error| match error.kind {
            Kind::Code(code) if code > 128 => error.hint("see what was made: `clawker ps -a`"),
            _ => error,
        })?
        .into_inner();
    let whom = Foreground {
        agent: &created.name,
        stdin,
        remove,
    };
    foreground(client, term, &mut signals, whom, progress).await
}

/// A command with a terminal and our stdin needs a terminal here.
pub fn needs_terminal(interactive: bool, tty: bool, term: &Term) -> Result<(), CommandError> {
    if interactive && tty && !term.tty.stdin {
        return Err(CommandError::usage("standard input is not a terminal").hint("use -i without -t"));
    }
    Ok(())
}

async fn request(args: Args, term: &Term) -> Result<CreateAgentRequest, CommandError> {
    let mut secrets = Vec::new();
    for secret in &args.secret {
        let content = read(Path::new(&secret.file), "secret").await?;
        secrets.push(Secret {
            name: secret.name.clone(),
            as_file: secret.kind == SecretFor::File,
            step_only: secret.kind == SecretFor::Step,
            content: content.into(),
        });
    }
    let mut command = args.command;
    // With --image what stands in IMAGE's place is the first word of the command.
    let image = match (args.image_option, args.image) {
        (Some(image), word) => {
            command.splice(0..0, word);
            image
        }
        (None, image) => image.unwrap_or_default(),
    };
    let mounts = args
        .volume
        .into_iter()
        .map(|volume| mount(volume, term))
        .collect::<Result<_, _>>()?;
    let mut from_files = Vec::new();
    for file in &args.env_file {
        from_files.extend(env_file(file).await?);
    }
    Ok(CreateAgentRequest {
        project: args.project.map(String::from).unwrap_or_default(),
        agent: args.name.map(String::from).unwrap_or_default(),
        image,
        command,
        entrypoint: args.entrypoint.into_iter().collect(),
        user: args.user.map(|named| user(&named, term)),
        env: environment(&args.env, &from_files, term)?,
        cwd: args.workdir,
        tty: args.tty,
        stdin: args.interactive,
        remove: args.rm,
        secrets,
        mounts,
        publish: args.publish,
        network: args.network,
        egress: egress(args.egress)?,
        memory: args.memory,
        nano_cpus: args.cpus,
        pids: args.pids,
        allow_sudo: args.allow_sudo,
        on_orphan: word(args.on_orphan),
        unsafe_options: Vec::new(),
        on_absent: word(args.on_absent),
        restart: word(args.restart),
        unverified_network: args.unverified_network,
        steps: Vec::new(),
        from_project: false,
    })
}

/// Empty for what wasn't said: then the control plane's default holds.
fn word(said: Option<impl ToString>) -> String {
    said.map(|word| word.to_string()).unwrap_or_default()
}

fn egress(items: Vec<String>) -> Result<Vec<String>, CommandError> {
    if items.len() > 1 && items.iter().any(|item| item == "open") {
        return Err(CommandError::usage(
            "--egress open allows everything: other destinations beside it make no sense",
        ));
    }
    Ok(items)
}

/// `host` is the caller's own uid and gid; anything else is Docker's USER string.
pub fn user(named: &str, term: &Term) -> String {
    match named {
        "host" => {
            let (uid, gid) = term.world.ids();
            format!("{uid}:{gid}")
        }
        _ => named.to_owned(),
    }
}

/// Files first, so that the command line wins. A variable that isn't set here isn't passed on.
pub fn environment(line: &[EnvArg], files: &[EnvArg], term: &Term) -> Result<Vec<String>, CommandError> {
    let mut env: Vec<(String, String)> = Vec::new();
    for EnvArg { name, value } in files.iter().chain(line) {
        let Some(value) = value.clone().or_else(|| term.world.var(name)) else {
            continue;
        };
        env.retain(|(known, _)| known != name);
        env.push((name.clone(), value));
    }
    Ok(env.into_iter().map(|(name, value)| format!("{name}={value}")).collect())
}

async fn env_file(file: &Path) -> Result<Vec<EnvArg>, CommandError> {
    let shown = file.display();
    let text = String::from_utf8(read(file, "env file").await?)
        .map_err(|_| CommandError::usage(format!("env file {shown}: not UTF-8")))?;
    parse::env_file(&text)
        .map_err(|(line, error)| CommandError::usage(format!("env file {shown}, line {line}: {error}")))
}

/// The source is a path of this machine if it looks like one, else the name of a volume.
fn mount(volume: Volume, term: &Term) -> Result<Mount, CommandError> {
    let source = volume.source;
    let relative = source == "." || source == ".." || source.starts_with("./") || source.starts_with("../");
    let source = if relative {
        let cwd = term
            .world
            .cwd()
            .map_err(|error| CommandError::io("finding the current directory", &error))?;
        let path = cwd.join(&source);
        let path = path
            .canonicalize()
            .map_err(|error| CommandError::io(format_args!("volume {}", path.display()), &error))?;
        path.to_str()
            .ok_or_else(|| CommandError::usage(format!("volume {}: not UTF-8", path.display())))?
            .to_owned()
    } else if source.contains('/') && !source.starts_with('/') {
        return Err(CommandError::usage(format!(
            "volume `{source}` is neither an absolute path nor a volume's name"
        ))
        .hint(format!("for a path from here: ./{source}")));
    } else {
        source
    };
    Ok(Mount {
        source,
        target: volume.target,
        read_only: volume.read_only,
    })
}

/// A whole file, of bounded size.
pub async fn read(file: &Path, what: &str) -> Result<Vec<u8>, CommandError> {
    let doing = format!("reading {what} {}", file.display());
    let failed = |error: std::io::Error| CommandError::io(&doing, &error);
    let mut content = Vec::new();
    let opened = tokio::fs::File::open(file).await.map_err(failed)?;
    opened
        .take(MAX_FILE + 1)
        .read_to_end(&mut content)
        .await
        .map_err(failed)?;
    if content.len() as u64 > MAX_FILE {
        return Err(CommandError::new(
            Kind::Usage,
            format!("{doing}: larger than {} KiB", MAX_FILE / 1024),
        ));
    }
    Ok(content)
}
