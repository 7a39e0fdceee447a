//! A container's cgroup in every hierarchy of this machine, where Docker would have it.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// Docker's own parent: what is below it is told from Docker's by the ids.
const PARENT: &str = "docker";
/// A process that has ended may hold its cgroup for a moment.
const TRIES: u32 = 200;
const PAUSE: Duration = Duration::from_millis(5);

/// The hierarchies that Docker would use.
#[derive(Debug, Clone)]
pub struct Cgroups {
    parents: Vec<PathBuf>,
}

impl Cgroups {
    /// Reads the mounts, and makes `docker` below those that don't have it yet.
    pub fn find() -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts").context("reading the mounts")?;
        let parents: Vec<PathBuf> = hierarchies(&mounts)
            .into_iter()
            .map(|mount| mount.join(PARENT))
            .collect();
        ensure!(!parents.is_empty(), "no cgroups are mounted below /sys/fs/cgroup");
        for parent in &parents {
            make(parent)?;
        }
        Ok(Self { parents })
    }

    /// Makes `id`'s, and opens the files into which a process writes `0` to be in them.
    pub fn make(&self, id: &str) -> Result<Vec<OwnedFd>> {
        let open = |parent: &PathBuf| {
            let group = parent.join(id);
            make(&group)?;
            let procs = group.join("cgroup.procs");
            let opened = OpenOptions::new().write(true).open(&procs);
            Ok(opened.with_context(|| format!("opening {}", procs.display()))?.into())
        };
        self.parents.iter().map(open).collect()
    }

    /// Removes `id`'s, with `agent` in it.
    pub fn remove(&self, id: &str) -> io::Result<()> {
        for parent in &self.parents {
            let group = parent.join(id);
            remove(&group.join("agent"))?;
            remove(&group)?;
        }
        Ok(())
    }

    /// Removes those that a rig left which was killed: their ids say whose they were.
    pub fn sweep(&self, ours: impl Fn(&str) -> bool) -> io::Result<()> {
        for parent in &self.parents {
            for entry in fs::read_dir(parent)?.flatten() {
                if let Some(id) = entry.file_name().to_str().filter(|id| ours(id)) {
                    self.remove(id)?;
                }
            }
        }
        Ok(())
    }
}

/// Mount points of cgroup v1 controllers; of v2 where there is nothing else.
fn hierarchies(mounts: &str) -> Vec<PathBuf> {
    let of = |kind: &str| -> Vec<PathBuf> {
        let lines = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        lines
            .filter(|fields| fields.get(2) == Some(&kind))
            .filter_map(|fields| fields.get(1).map(PathBuf::from))
            .filter(|mount| mount.starts_with("/sys/fs/cgroup"))
            .collect()
    };
    let v1 = of("cgroup");
    if v1.is_empty() { of("cgroup2") } else { v1 }
}

fn make(group: &Path) -> Result<()> {
    match fs::create_dir(group) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        made => made.with_context(|| format!("making cgroup {}", group.display()))?,
    }
    // A new cpuset of v1 has no processor, and takes no process.
    let parent = group.parent().context("a cgroup has a parent")?;
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if group.join("cpuset.memory_migrate").exists() {
            let inherited = fs::read_to_string(parent.join(file)).with_context(|| format!("reading {file}"))?;
            fs::write(group.join(file), inherited).with_context(|| format!("writing {file}"))?;
        }
    }
    Ok(())
}

fn remove(group: &Path) -> io::Result<()> {
    for _ in 0..TRIES {
        match fs::remove_dir(group) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => std::thread::sleep(PAUSE),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            removed => return removed,
        }
    }
    fs::remove_dir(group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v1_hierarchies_go_before_v2() {
        let v1 = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
                  cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n\
                  cgroup /sys/fs/cgroup/freezer cgroup rw,freezer 0 0\n\
                  cgroup /mnt/other cgroup rw,memory 0 0\n";
        assert_eq!(hierarchies(v1), [Path::new("/sys/fs/cgroup/freezer")]);
        assert_eq!(
            hierarchies("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n"),
            [Path::new("/sys/fs/cgroup")]
        );
        assert!(hierarchies("proc /proc proc rw 0 0\n").is_empty());
    }
}
