//! Images that are made on the spot, out of nothing but this machine's static busybox: no registry, no pull.
//!
//! An image's tag is the digest of what it is made from, so that parallel tests share one and a changed recipe is
//! another image.

use std::fs::File;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::bins::{self, SETUP};
use crate::docker::Docker;

/// Label of every image that is made here.
pub const LABEL: &str = "clawker-test-image";

/// A recipe.
#[derive(Debug, Clone)]
pub struct Image {
    repo: String,
    tar: Tar,
    changes: Vec<String>,
}

impl Image {
    /// A small userland: busybox with all its links, users `root` and `agent` (1000:1000), `/work` of the agent.
    pub fn busybox(repo: &str) -> Result<Self> {
        let path = bins::busybox()?;
        let program = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let needs_loader = program.windows(10).any(|bytes| bytes == b"/ld-linux-");
        ensure!(!needs_loader, "{} isn't static: {SETUP}", path.display());
        let listed = Command::new(&path)
            .arg("--list")
            .output()
            .context("asking busybox for its applets")?;
        let mut tar = Tar::default();
        for dir in ["bin/", "etc/", "usr/", "var/", "root/"] {
            tar.dir(dir, 0o755, 0);
        }
        tar.dir("tmp/", 0o1777, 0);
        tar.dir("work/", 0o755, 1000);
        tar.dir("home/", 0o755, 0);
        tar.dir("home/agent/", 0o755, 1000);
        tar.file("bin/busybox", 0o755, &program);
        for applet in String::from_utf8_lossy(&listed.stdout)
            .lines()
            .filter(|applet| *applet != "busybox")
        {
            tar.link(&format!("bin/{applet}"), "busybox");
        }
        tar.file(
            "etc/passwd",
            0o644,
            b"root:x:0:0:root:/root:/bin/sh\nagent:x:1000:1000:agent:/home/agent:/bin/sh\n",
        );
        tar.file("etc/group", 0o644, b"root:x:0:\nagent:x:1000:\n");
        let changes = vec![
            "ENV PATH=/bin".to_owned(),
            "WORKDIR /work".to_owned(),
            "USER agent".to_owned(),
            "CMD [\"sh\"]".to_owned(),
        ];
        Ok(Self {
            repo: repo.to_owned(),
            tar,
            changes,
        })
    }

    /// `FROM scratch` and one static program: no shell in PATH, no folders, no users.
    pub fn scratch(repo: &str) -> Result<Self> {
        let path = bins::busybox()?;
        let program = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let mut tar = Tar::default();
        tar.file("busybox", 0o755, &program);
        Ok(Self {
            repo: repo.to_owned(),
            tar,
            changes: Vec::new(),
        })
    }

    #[must_use]
    pub fn with_file(mut self, path: &str, mode: u32, bytes: &[u8]) -> Self {
        self.tar.file(path, mode, bytes);
        self
    }

    #[must_use]
    pub fn with_dir(mut self, path: &str) -> Self {
        self.tar.dir(path, 0o755, 0);
        self
    }

    /// A line of a Dockerfile; a later one of the same instruction wins.
    #[must_use]
    pub fn with(mut self, change: &str) -> Self {
        self.changes.push(change.to_owned());
        self
    }

    /// Makes sure that the engine has it; its name.
    pub fn make(&self, docker: &Docker) -> Result<String> {
        let tar = self.tar.clone().finish();
        let tag = fnv(&[tar.as_slice(), self.changes.join("\n").as_bytes()].concat());
        let name = format!("{}:{tag}", self.repo);
        // One importer at a time: a second import of the same name would leave the first image nameless.
        let lock = std::env::temp_dir().join("clawker-test-images.lock");
        let lock = File::create(&lock).with_context(|| format!("making {}", lock.display()))?;
        lock.lock().context("waiting for the images' lock")?;
        if !docker.has_image(&name)? {
            let label = format!("LABEL {LABEL}=true");
            let changes: Vec<&str> = self
                .changes
                .iter()
                .map(String::as_str)
                .chain([label.as_str()])
                .collect();
            docker.import(&self.repo, &tag, &changes, &tar)?;
        }
        Ok(name)
    }
}

/// Names of the engine's images whose repository begins with `repo`, `repo-…:…`.
pub fn named(docker: &Docker, repo: &str) -> Result<Vec<String>> {
    let tags = docker.images(LABEL)?.into_iter();
    Ok(tags.filter(|tag| tag.starts_with(&format!("{repo}-"))).collect())
}

/// FNV-1a: tells recipes apart, protects against nothing.
fn fnv(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// A ustar archive (POSIX.1-1988) in memory.
#[derive(Debug, Clone, Default)]
pub struct Tar(Vec<u8>);

impl Tar {
    /// `path` ends with `/`.
    pub fn dir(&mut self, path: &str, mode: u32, owner: u32) {
        self.entry(path, mode, owner, b'5', "", b"");
    }

    pub fn file(&mut self, path: &str, mode: u32, bytes: &[u8]) {
        self.entry(path, mode, 0, b'0', "", bytes);
    }

    pub fn link(&mut self, path: &str, to: &str) {
        self.entry(path, 0o777, 0, b'2', to, b"");
    }

    fn entry(&mut self, path: &str, mode: u32, owner: u32, kind: u8, link: &str, bytes: &[u8]) {
        let mut header = [0_u8; 512];
        let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, path);
        put(100, &format!("{mode:07o}"));
        put(108, &format!("{owner:07o}"));
        put(116, &format!("{owner:07o}"));
        put(124, &format!("{:011o}", bytes.len()));
        put(136, "00000000000");
        // The checksum counts its own field as spaces.
        put(148, "        ");
        put(157, link);
        put(257, "ustar\x0000");
        header[156] = kind;
        let sum: u32 = header.iter().copied().map(u32::from).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&header);
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}
