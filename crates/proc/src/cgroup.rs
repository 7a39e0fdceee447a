//! cgroups of containers, v1 and v2: which path a container has, and freezing and killing what is in it.
//!
//! Each container's cgroup gets a child `agent`, which holds every process of the user's and is what is frozen, so
//! that PID 1 stays reachable. On v1 SIGKILL of a frozen process stays pending until it is thawed, so a kill is always
//! signal, then thaw, then verify.

mod group;
mod path;

pub use group::{AgentCgroup, ContainerCgroup, Freeze};
pub use path::{Driver, expected_path, in_container};

use std::io;
use std::path::PathBuf;

/// Which cgroup tree freezes on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V1,
    V2,
}

/// `CGROUP2_SUPER_MAGIC` (include/uapi/linux/magic.h).
const CGROUP2_MAGIC: i64 = 0x6367_7270;

const ROOT: &str = "/sys/fs/cgroup";

/// V2 when `/sys/fs/cgroup` itself is the unified tree; the hybrid layout counts as v1, whose freezer Docker uses.
pub fn version() -> io::Result<Version> {
    let stat = rustix::fs::statfs(ROOT)
        .map_err(io::Error::from)
        .map_err(crate::attempting("reading the file system of /sys/fs/cgroup"))?;
    #[allow(
        clippy::unnecessary_cast,
        clippy::allow_attributes,
        reason = "the type of f_type depends on the target"
    )]
    let magic = stat.f_type as i64;
    Ok(if magic == CGROUP2_MAGIC {
        Version::V2
    } else {
        Version::V1
    })
}

/// Where the hierarchy is mounted that can freeze.
fn root(version: Version) -> PathBuf {
    match version {
        Version::V1 => PathBuf::from(ROOT).join("freezer"),
        Version::V2 => PathBuf::from(ROOT),
    }
}
