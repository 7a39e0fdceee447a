//! What a mount may show of the host, and where it may stand in the container.
//!
//! A source is judged by what it really is: after symlinks and `..`, and by device and inode, so that another
//! name of a protected folder doesn't help. Docker then gets the path that was judged.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use bollard::models::{Mount, MountType};

use crate::hostconfig::{AGENT_DIR, CreateContainer, RUN_DIR, SpecError, Unsafe, bind, shown};

pub(crate) const MAX_MOUNTS: usize = 64;

/// The host's own, lifted by `--unsafe-mount`.
const SYSTEM: &[&str] = &["/proc", "/sys", "/dev", "/run", "/var/run"];
/// Never shown to an agent: whoever holds one of these holds every agent.
const OURS: &[&str] = &[
    "/var/lib/docker",
    "/var/lib/containerd",
    "/var/lib/containers",
    "/var/lib/clawker",
    "/.clawker",
    "/.clawker-run",
    "/run/clawker",
    "/run/docker",
    "/run/containerd",
    "/run/podman",
];
const SOCKETS: &[&str] = &[
    "docker.sock",
    "containerd.sock",
    "podman.sock",
    "crio.sock",
    "buildkitd.sock",
];
/// Not to be covered in the container.
const TARGETS: &[&str] = &[AGENT_DIR, RUN_DIR, "/proc", "/sys", "/dev"];

/// The caller's mounts as Docker takes them. Looks at the file system, so it isn't for an async task.
pub(crate) fn check(spec: &CreateContainer, engine_socket: Option<&Path>) -> Result<Vec<Mount>, SpecError> {
    if spec.mounts.len() > MAX_MOUNTS {
        return Err(SpecError::TooMany {
            what: "mounts",
            count: spec.mounts.len(),
            max: MAX_MOUNTS,
        });
    }
    let mut system_allowed = false;
    for name in &spec.unsafe_options {
        match Unsafe::parse(name)? {
            Unsafe::Mount => system_allowed = true,
        }
    }
    let protected = Protected::gather(spec, engine_socket, system_allowed);
    let mut targets = BTreeSet::new();
    let mut mounts = Vec::new();
    for mount in &spec.mounts {
        let target = target(&mount.target)?;
        if !targets.insert(target.clone()) {
            return Err(SpecError::DuplicateTarget { target });
        }
        if mount.source.starts_with('/') && spec.mounted.is_none() {
            return Err(SpecError::MountElsewhere {
                source_path: shown(&mount.source),
            });
        }
        mounts.push(if mount.source.starts_with('/') {
            bind(&protected.admit(&mount.source)?, &target, mount.read_only)
        } else if is_docker_name(&mount.source) {
            Mount {
                target: Some(target),
                source: Some(mount.source.clone()),
                typ: Some(MountType::VOLUME),
                read_only: Some(mount.read_only),
                ..Default::default()
            }
        } else {
            return Err(SpecError::MountSource {
                source_path: shown(&mount.source),
            });
        });
    }
    Ok(mounts)
}

/// `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, at most 128: what Docker lets volumes and networks be called.
pub(crate) fn is_docker_name(name: &str) -> bool {
    name.len() <= 128
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

struct Place {
    path: PathBuf,
    id: Option<(u64, u64)>,
}

/// The host paths that no mount may show.
struct Protected {
    places: Vec<Place>,
    engine_socket: Option<(u64, u64)>,
}

impl Protected {
    fn gather(spec: &CreateContainer, engine_socket: Option<&Path>, system_allowed: bool) -> Self {
        let fixed = OURS
            .iter()
            .chain(if system_allowed { &[] } else { SYSTEM })
            .map(PathBuf::from);
        let mut places = Vec::new();
        for path in fixed
            .chain(spec.protected.iter().cloned())
            .chain(engine_socket.map(Path::to_owned))
        {
            let id = identity(&path);
            // Both names count: /var/run and what it links to, which needn't exist yet.
            if let Ok(real) = fs::canonicalize(&path)
                && real != path
            {
                places.push(Place { path: real, id });
            }
            places.push(Place { path, id });
        }
        Self {
            places,
            engine_socket: engine_socket.and_then(identity),
        }
    }

    /// The real path of a source, if it may be shown.
    fn admit(&self, source: &str) -> Result<PathBuf, SpecError> {
        let unusable = |message: String| SpecError::MountSourceUnusable {
            source_path: shown(source),
            message,
        };
        if source.contains('\0') || source.len() > 4096 {
            return Err(unusable("not a path".into()));
        }
        let real = fs::canonicalize(source).map_err(|error| unusable(error.to_string()))?;
        let meta = fs::metadata(&real).map_err(|error| unusable(error.to_string()))?;
        let protected = |place: &Path| SpecError::MountProtected {
            source_path: shown(source),
            protected: place.display().to_string(),
        };
        if real == Path::new("/") {
            return Err(protected(Path::new("/")));
        }
        if meta.file_type().is_socket() {
            let named = real
                .file_name()
                .is_some_and(|name| SOCKETS.iter().any(|socket| name == *socket));
            if named
                || self
                    .engine_socket
                    .is_some_and(|socket| socket == (meta.dev(), meta.ino()))
            {
                return Err(SpecError::MountSocket {
                    source_path: shown(source),
                });
            }
        }
        for place in &self.places {
            // Above, below or the thing itself: each of them shows it.
            if real.starts_with(&place.path) || place.path.starts_with(&real) {
                return Err(protected(&place.path));
            }
        }
        for above in real.ancestors() {
            let Some(id) = identity(above) else { continue };
            if let Some(place) = self.places.iter().find(|place| place.id == Some(id)) {
                return Err(protected(&place.path));
            }
        }
        if identity(&real) == identity(Path::new("/")) {
            return Err(protected(Path::new("/")));
        }
        Ok(real)
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

/// A target without doubled slashes and dots; `..` isn't taken.
pub(crate) fn target(target: &str) -> Result<String, SpecError> {
    let refuse = |why| {
        Err(SpecError::MountTarget {
            target: shown(target),
            why,
        })
    };
    if !target.starts_with('/') {
        return refuse("not an absolute path");
    }
    if target.contains('\0') || target.len() > 4096 {
        return refuse("not a path");
    }
    let mut plain = PathBuf::from("/");
    for part in Path::new(target).components() {
        match part {
            Component::Normal(part) => plain.push(part),
            Component::ParentDir => return refuse("`..` isn't taken"),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    if plain == Path::new("/") {
        return refuse("the container's root itself");
    }
    if TARGETS.iter().any(|kept| plain.starts_with(kept)) {
        return refuse("the place is the kernel's or clawker's own");
    }
    Ok(plain.to_string_lossy().into_owned())
}

#[cfg(test)]
pub(crate) mod tests;
