//! Packages by name, and what makes one unnecessary: Docker's own packages serve as well as Debian's docker.io.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use clawker_plugin_build::guest_linker;

use super::GuestToolchain;
use crate::engine::api::Api;
use crate::project::which;
use crate::run;
use crate::say::{say, timed};

/// A test starts it on a port of its own. Its package would start it too, for everybody, on every address.
const REGISTRY: &str = "docker-registry";

/// What is missing, as apt knows it, and what only rustup can add.
pub struct Missing {
    packages: Vec<&'static str>,
    rustup_target: bool,
    /// There is no way that we know to build guests here.
    no_guests: bool,
}

impl Missing {
    pub fn is_empty(&self) -> bool {
        self.packages.is_empty() && !self.rustup_target && !self.no_guests
    }
}

pub fn missing(api: &Api, guests: &GuestToolchain) -> Missing {
    // Each package with what it is needed for.
    let needed: [(&'static str, bool); 11] = [
        ("docker.io", which("dockerd").is_some() || api.answers()),
        ("iptables", which("iptables").is_some()),
        ("iproute2", which("ip").is_some()),
        ("nftables", which("nft").is_some()),
        ("libnftnl-dev", library("libnftnl")),
        ("libmnl-dev", library("libmnl")),
        ("pkg-config", which("pkg-config").is_some()),
        ("busybox-static", static_busybox()),
        // The peers of tests/peers.
        ("tini", which("tini").is_some()),
        ("dumb-init", which("dumb-init").is_some()),
        // What plugins are fetched from in crates/plugin-source.
        (REGISTRY, which(REGISTRY).is_some()),
    ];
    let mut packages: Vec<&'static str> = needed
        .into_iter()
        .filter(|(_, there)| !there)
        .map(|(package, _)| package)
        .collect();
    if apt_serves_this_system() {
        let wanted: &[&'static str] = match guests {
            GuestToolchain::Debian => &["ca-certificates", "cargo-web", "rustc-web", "rust-web-src"],
            _ => &["ca-certificates"],
        };
        packages.extend(wanted.iter().filter(|package| !installed(package)));
        if matches!(guests, GuestToolchain::Debian) && guest_linker().is_none() {
            packages.push("lld-19");
        }
        // Newer releases have the client in a package of its own; the scorecard compares with it.
        if which("docker").is_none() && known("docker-cli") {
            packages.push("docker-cli");
        }
    }
    Missing {
        packages,
        rustup_target: matches!(guests, GuestToolchain::Rustup),
        no_guests: matches!(guests, GuestToolchain::Nothing),
    }
}

/// The commands that would put it right.
pub fn commands(missing: &Missing, sudo: &str) -> Vec<String> {
    let mut commands = Vec::new();
    if !missing.packages.is_empty() {
        if apt_serves_this_system() {
            commands.push(format!("{sudo}apt-get update"));
            if starts_a_registry(missing) {
                commands.push(format!("{sudo}systemctl mask {REGISTRY}.service"));
            }
            commands.push(format!(
                "{sudo}apt-get install -y --no-install-recommends {}",
                missing.packages.join(" ")
            ));
        } else {
            commands.push(format!(
                "# with this system's package manager, what Debian calls: {}",
                missing.packages.join(" ")
            ));
        }
    }
    if missing.rustup_target {
        commands.push("rustup target add wasm32-unknown-unknown".to_owned());
    }
    if missing.no_guests {
        commands.push("# install Rust by rustup, then: rustup target add wasm32-unknown-unknown".to_owned());
    }
    commands
}

pub fn install(missing: &Missing) -> Result<()> {
    if missing.no_guests {
        return Err(super::refused(
            "plugins can't be built with this Rust. Run",
            &commands(missing, ""),
        ));
    }
    if !missing.packages.is_empty() {
        say("setup", format!("missing: {}", missing.packages.join(" ")));
        if missing.packages.iter().any(|package| !known(package)) {
            update()?;
        }
        if starts_a_registry(missing) {
            run::ok(quiet("systemctl").args(["mask", &format!("{REGISTRY}.service")]))?;
        }
        timed("setup", "installing", || {
            let first = run::ok(&mut apt(missing));
            // A package list that is older than the mirror names files that are gone.
            first.or_else(|_| update().and_then(|()| run::ok(&mut apt(missing))))
        })
        .map_err(|error| {
            run::unmet(format!(
                "apt couldn't install what is missing ({error:#}). By hand:\n  {}",
                commands(missing, "").join("\n  ")
            ))
        })?;
    }
    if missing.rustup_target {
        timed("setup", "adding the target of plugins", || {
            run::ok(Command::new("rustup").args(["target", "add", "wasm32-unknown-unknown"]))
        })?;
    }
    Ok(())
}

/// Whether the registry's service would run from then on.
fn starts_a_registry(missing: &Missing) -> bool {
    missing.packages.contains(&REGISTRY) && Path::new("/run/systemd/system").is_dir()
}

/// Reads the package lists, once.
fn update() -> Result<()> {
    static DONE: AtomicBool = AtomicBool::new(false);
    if DONE.swap(true, Ordering::SeqCst) {
        return Ok(());
    }
    timed("setup", "reading the package lists", || {
        run::ok(quiet("apt-get").args(["update", "-q"]))
    })
}

/// Whether this system has a package, there or to be had. On a new machine the lists must be read to know; without
/// root they can't be, and Debian's own packages are assumed.
pub fn offered(package: &str, root: bool) -> Result<bool> {
    if !apt_serves_this_system() {
        return Ok(false);
    }
    let mut lists = std::fs::read_dir("/var/lib/apt/lists").into_iter().flatten().flatten();
    let read = lists.any(|list| list.file_name().to_string_lossy().contains("_Packages"));
    if !read && !installed(package) {
        if !root {
            return Ok(true);
        }
        update()?;
    }
    Ok(known(package))
}

fn apt(missing: &Missing) -> Command {
    let mut apt = quiet("apt-get");
    apt.args([
        "install",
        "-y",
        "-q",
        "--no-install-recommends",
        "-o",
        "Dpkg::Use-Pty=0",
        "-o",
        "DPkg::Lock::Timeout=300",
    ]);
    apt.args(&missing.packages);
    apt
}

/// Without questions, and with its output on stderr like the rest of ours.
fn quiet(program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdout(Stdio::from(std::io::stderr()));
    command
}

/// Debian, Ubuntu and what calls itself like them.
pub fn apt_serves_this_system() -> bool {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    which("apt-get").is_some() && is_debian_like(&release)
}

fn is_debian_like(release: &str) -> bool {
    release
        .lines()
        .filter_map(|line| line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE=")))
        .any(|ids| {
            ids.trim_matches('"')
                .split_whitespace()
                .any(|id| id == "debian" || id == "ubuntu")
        })
}

fn installed(package: &str) -> bool {
    run::output(Command::new("dpkg-query").args(["--show", "--showformat=${db:Status-Status}", package]))
        .is_ok_and(|status| status == "installed")
}

/// Whether apt has a candidate for it.
pub fn known(package: &str) -> bool {
    run::output(Command::new("apt-cache").env("LC_ALL", "C").args(["policy", package]))
        .is_ok_and(|policy| policy.contains("Candidate:") && !policy.contains("Candidate: (none)"))
}

fn library(name: &str) -> bool {
    let pkg_config =
        which("pkg-config").is_some_and(|program| run::output(Command::new(program).args(["--exists", name])).is_ok());
    pkg_config || installed(&format!("{name}-dev"))
}

/// The probe's and the demo's image is this one file, so it must need no other.
fn static_busybox() -> bool {
    Path::new("/bin/busybox").is_file() && (!apt_serves_this_system() || installed("busybox-static"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systems_are_told_apart() {
        for (release, expected) in [
            ("NAME=\"Debian GNU/Linux\"\nID=debian\n", true),
            ("ID=ubuntu\nID_LIKE=debian\n", true),
            ("ID=pop\nID_LIKE=\"ubuntu debian\"\n", true),
            ("ID=fedora\n", false),
            ("ID=notdebian\n", false),
        ] {
            assert_eq!(is_debian_like(release), expected, "{release}");
        }
    }
}
