//! `clawker-cp`, the control plane of one host.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use clawker_control_plane::config::Config;
use clawker_control_plane::{backup, core, run};
use tracing_subscriber::EnvFilter;

/// The control plane of one host: supervises AI agents in containers.
#[derive(Debug, Parser)]
#[command(name = "clawker-cp", version)]
struct Args {
    /// Configuration, TOML; /etc/clawker/control-plane.toml if it exists.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check the configuration and end.
    #[arg(long)]
    check_config: bool,
    /// Overrides `state_dir`.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Overrides `admin_socket`.
    #[arg(long, value_name = "PATH")]
    admin_socket: Option<PathBuf>,
    /// Overrides `label_prefix`.
    #[arg(long, value_name = "PREFIX")]
    label_prefix: Option<String>,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Without one it is the control plane.
#[derive(Debug, Subcommand)]
enum Command {
    /// Put a backup in the place of the state of a control plane that doesn't run, and end. `clawker restore` calls it.
    Restore {
        /// What `clawker backup` wrote.
        file: PathBuf,
        /// Move a state that is there aside.
        #[arg(long)]
        force: bool,
    },
}

fn main() -> ExitCode {
    // This program is also its own plugin worker: then it knows nothing of a control plane.
    if let Some(ended) = clawker_plugin_host::worker::run_child() {
        return ended;
    }
    let args = Args::parse();
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_env("CLAWKER_LOG").unwrap_or_else(|_| EnvFilter::new("info")))
        .with_writer(std::io::stderr)
        .init();
    let config = match configure(&args) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("clawker-cp: {error}");
            return ExitCode::from(clawker_model::exit::MISCONFIGURED);
        }
    };
    if args.check_config {
        println!("configuration is good");
        return ExitCode::SUCCESS;
    }
    #[cfg(feature = "faults")]
    let _faults = fail::FailScenario::setup();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("clawker-cp: starting its runtime: {error}");
            return ExitCode::from(clawker_model::exit::FAILED);
        }
    };
    if let Some(Command::Restore { file, force }) = &args.command {
        return restore(&runtime, file, &config, *force);
    }
    match runtime.block_on(run::run(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("clawker-cp: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// Prints what was restored as one JSON object.
fn restore(runtime: &tokio::runtime::Runtime, file: &std::path::Path, config: &Config, force: bool) -> ExitCode {
    let restored = runtime.block_on(backup::restore(file, &config.state_dir, force, core::now_ms()));
    match restored {
        Ok(restored) => {
            println!("{}", serde_json::json!(restored));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("clawker-cp: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn configure(args: &Args) -> Result<Config, clawker_control_plane::config::ConfigError> {
    let mut config = Config::load(args.config.as_deref())?;
    if let Some(state_dir) = &args.state_dir {
        config.state_dir.clone_from(state_dir);
    }
    if let Some(admin_socket) = &args.admin_socket {
        config.admin_socket.clone_from(admin_socket);
    }
    if let Some(label_prefix) = &args.label_prefix {
        config.label_prefix.clone_from(label_prefix);
    }
    config.check()?;
    Ok(config)
}
