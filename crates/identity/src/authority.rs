//! The host's certificate authority: the roots in force, which of them signs, and how one replaces another.
//!
//! P-256, one year a root, in a folder that only root can enter. `authority.json` there says which roots count and
//! is replaced in one rename; a key that it doesn't name is the rest of an interrupted step and is deleted. Issues two
//! kinds of leaf: agents' (an hour, both usages, name and container as URI SANs) and the control plane's own.
//! Everything it signs is built here from typed names; it signs no request from outside. A root may have a certificate
//! by the fleet's root on top ([`fleet`]), which changes nothing for agents. It takes no decision: when
//! to go on with a rotation is the control plane's (`clawker_engine::rotation`).
//!
//! ```text
//!             introduce                    switch                      retire
//!  Standby ─────────────▶ Introduced ─────────────▶ Switched ─────────────────▶ Standby
//!  signs A, trusts A      signs A, trusts A B       signs B, trusts B A          signs B, trusts B; A's key is gone
//! ```

pub mod fleet;
mod root;

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use clawker_model::identity::RotationPhase;
use clawker_model::{ContainerId, FullName};
use serde::{Deserialize, Serialize};

use crate::Credentials;
use fleet::{Cross, FleetError};
use root::{CROSS, Root, io_error, path, write_private};

pub use root::{CONTROL_PLANE_LIFE, ROOT_LIFE, Validity};
pub use time::Duration;

/// How long an agent's leaf is valid, unless it is configured.
pub const LEAF_LIFE: Duration = Duration::HOUR;

const MANIFEST: &str = "authority.json";
/// Most bytes of the manifest; it has three short fields.
const MAX_MANIFEST: u64 = 4096;

/// What went wrong with the authority, and on which file.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error("{doing} {}: {source}", path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{} is damaged: {why}. Without it no agent can be identified: restore the folder (`clawker restore`), or move it away to begin with a new authority, which gives every agent a new identity and restarts none", path.display())]
    Damaged { path: PathBuf, why: String },
    #[error("{} is readable by others (mode {mode:o}); run `chmod 600` on it", path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error("signing {what}: {source}")]
    Sign { what: &'static str, source: rcgen::Error },
    #[error("{what} can't be used: {why}")]
    Unusable { what: &'static str, why: String },
    #[error("can't {step} a root while the rotation is {phase}")]
    OutOfTurn { step: &'static str, phase: RotationPhase },
    #[error(transparent)]
    Fleet(#[from] FleetError),
    #[error("no root with the id {id} is in force")]
    UnknownRoot { id: String },
}

/// Which roots count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    phase: RotationPhase,
    signer: String,
    /// The root that comes, or the one that goes.
    other: Option<String>,
}

/// The authority of one host.
#[derive(Debug)]
pub struct Authority {
    /// `None`: in memory alone.
    dir: Option<PathBuf>,
    phase: RotationPhase,
    signer: Root,
    other: Option<Root>,
}

impl Authority {
    /// Opens the authority in `dir`, or begins one there if there is none.
    pub fn open(dir: &Path) -> Result<Self, AuthorityError> {
        let manifest = dir.join(MANIFEST);
        if !manifest.exists() {
            let begun = Self {
                dir: Some(dir.to_owned()),
                ..Self::ephemeral()?
            };
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir)
                .map_err(io_error("making", dir))?;
            begun.signer.save(dir)?;
            begun.persist(RotationPhase::Standby, &begun.signer, None)?;
            begun.sweep()?;
            return Ok(begun);
        }
        let damaged = |why: String| AuthorityError::Damaged {
            path: manifest.clone(),
            why,
        };
        if fs::metadata(&manifest).map_err(io_error("reading", &manifest))?.len() > MAX_MANIFEST {
            return Err(damaged(format!("it has more than {MAX_MANIFEST} bytes")));
        }
        let text = fs::read(&manifest).map_err(io_error("reading", &manifest))?;
        let read: Manifest = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        let well_formed = |id: &String| id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit());
        if !well_formed(&read.signer) || !read.other.iter().all(well_formed) {
            return Err(damaged("a root's id isn't one".into()));
        }
        if (read.phase == RotationPhase::Standby) != read.other.is_none() {
            return Err(damaged(format!("phase {} with {:?}", read.phase, read.other)));
        }
        let opened = Self {
            signer: Root::load(dir, &read.signer)?,
            other: read.other.map(|id| Root::load(dir, &id)).transpose()?,
            phase: read.phase,
            dir: Some(dir.to_owned()),
        };
        opened.sweep()?;
        Ok(opened)
    }

    /// An authority that lives in memory alone.
    pub fn ephemeral() -> Result<Self, AuthorityError> {
        Self::ephemeral_for(Validity::from_now(ROOT_LIFE))
    }

    /// The same, with a root of this validity.
    pub fn ephemeral_for(validity: Validity) -> Result<Self, AuthorityError> {
        Ok(Self {
            dir: None,
            phase: RotationPhase::Standby,
            signer: Root::new(validity)?,
            other: None,
        })
    }

    pub fn phase(&self) -> RotationPhase {
        self.phase
    }

    /// DER of the root that signs.
    pub fn root(&self) -> &[u8] {
        self.signer.der()
    }

    /// SHA-256 of the root that signs, in hex.
    pub fn root_id(&self) -> String {
        self.signer.id().to_owned()
    }

    /// When the signing root ends, in seconds since the Unix epoch.
    pub fn not_after(&self) -> i64 {
        self.signer.not_after()
    }

    /// DER of every root in force, the signing one first.
    pub fn roots(&self) -> Vec<Vec<u8>> {
        self.in_force().map(|root| root.der().to_vec()).collect()
    }

    /// Ids of every root in force, the signing one's first.
    pub fn root_ids(&self) -> Vec<String> {
        self.in_force().map(|root| root.id().to_owned()).collect()
    }

    /// The fleet's certificates of roots in force, each with the root's id.
    pub fn crosses(&self) -> Vec<(String, Cross)> {
        let crossed = self.in_force().filter_map(|root| Some((root, root.cross()?)));
        crossed
            .map(|(root, cross)| (root.id().to_owned(), cross.clone()))
            .collect()
    }

    /// A request to the fleet's root for the root that signs: PKCS#10, as PEM.
    pub fn request(&self) -> Result<String, AuthorityError> {
        self.signer.request()
    }

    /// Takes the fleet's certificate (PEM) of a root in force.
    pub fn install(&mut self, pem: &[u8]) -> Result<(), AuthorityError> {
        let dir = self.dir.as_deref();
        match (self.signer.install(dir, pem), &mut self.other) {
            (Err(AuthorityError::Fleet(refused)), Some(other)) => {
                other.install(dir, pem).map_err(|error| match error {
                    // What is wrong with it is said of the root that signs.
                    AuthorityError::Fleet(_) => refused.into(),
                    other => other,
                })
            }
            (installed, _) => installed,
        }
    }

    fn in_force(&self) -> impl Iterator<Item = &Root> {
        std::iter::once(&self.signer).chain(self.other.as_ref())
    }

    /// Begins a rotation: a second root is trusted from now on, and doesn't sign yet.
    pub fn introduce(&mut self, validity: Validity) -> Result<(), AuthorityError> {
        self.expect("introduce", RotationPhase::Standby)?;
        let next = Root::new(validity)?;
        if let Some(dir) = &self.dir {
            next.save(dir)?;
        }
        self.persist(RotationPhase::Introduced, &self.signer, Some(&next))?;
        (self.phase, self.other) = (RotationPhase::Introduced, Some(next));
        Ok(())
    }

    /// The same, with a root that is valid for [`ROOT_LIFE`] from now.
    pub fn introduce_now(&mut self) -> Result<(), AuthorityError> {
        self.introduce(Validity::from_now(ROOT_LIFE))
    }

    /// The new root signs from now on; the old one is still trusted.
    pub fn switch(&mut self) -> Result<(), AuthorityError> {
        self.expect("switch to", RotationPhase::Introduced)?;
        let Some(next) = self.other.take() else {
            return Ok(());
        };
        if let Err(error) = self.persist(RotationPhase::Switched, &next, Some(&self.signer)) {
            self.other = Some(next);
            return Err(error);
        }
        self.phase = RotationPhase::Switched;
        self.other = Some(std::mem::replace(&mut self.signer, next));
        Ok(())
    }

    /// The old root is trusted no longer, and its key is deleted.
    pub fn retire(&mut self) -> Result<(), AuthorityError> {
        self.expect("retire", RotationPhase::Switched)?;
        self.persist(RotationPhase::Standby, &self.signer, None)?;
        (self.phase, self.other) = (RotationPhase::Standby, None);
        self.sweep()
    }

    fn expect(&self, step: &'static str, phase: RotationPhase) -> Result<(), AuthorityError> {
        if self.phase == phase {
            return Ok(());
        }
        Err(AuthorityError::OutOfTurn {
            step,
            phase: self.phase,
        })
    }

    /// Written before it counts in memory, so that a full disk changes nothing.
    fn persist(&self, phase: RotationPhase, signer: &Root, other: Option<&Root>) -> Result<(), AuthorityError> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let manifest = Manifest {
            phase,
            signer: signer.id().to_owned(),
            other: other.map(|root| root.id().to_owned()),
        };
        let text = serde_json::to_vec(&manifest).map_err(|error| AuthorityError::Unusable {
            what: MANIFEST,
            why: error.to_string(),
        })?;
        write_private(&dir.join(MANIFEST), &text)
    }

    /// Deletes what no manifest names: the rest of an interrupted step, and a retired root's key.
    fn sweep(&self) -> Result<(), AuthorityError> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let kept: Vec<PathBuf> = self
            .in_force()
            .flat_map(|root| ["key", "der", CROSS].map(|extension| path(dir, root.id(), extension)))
            .collect();
        for entry in fs::read_dir(dir).map_err(io_error("reading", dir))?.flatten() {
            let file = entry.path();
            let ours = file
                .extension()
                .is_some_and(|extension| ["key", "der", CROSS, "new"].iter().any(|known| extension == *known));
            if ours && !kept.contains(&file) {
                fs::remove_file(&file).map_err(io_error("deleting", &file))?;
            }
        }
        Ok(())
    }

    /// A new key and leaf for an agent, valid for [`LEAF_LIFE`].
    pub fn agent_leaf(&self, name: &FullName, container: &ContainerId) -> Result<Credentials, AuthorityError> {
        self.agent_leaf_for(name, container, Validity::from_now(LEAF_LIFE))
    }

    /// A new key and leaf for an agent.
    pub fn agent_leaf_for(
        &self,
        name: &FullName,
        container: &ContainerId,
        validity: Validity,
    ) -> Result<Credentials, AuthorityError> {
        let (leaf, key) = self.signer.agent(name, container, validity)?;
        Ok(self.credentials(leaf, key))
    }

    /// A new leaf for the key that an agent has already, given as its DER SubjectPublicKeyInfo.
    pub fn renewed_leaf(
        &self,
        name: &FullName,
        container: &ContainerId,
        spki: &[u8],
        validity: Validity,
    ) -> Result<Vec<u8>, AuthorityError> {
        self.signer.renewed(name, container, spki, validity)
    }

    /// A new key and leaf for the control plane, under the root that signs.
    pub fn control_plane_leaf(&self) -> Result<Credentials, AuthorityError> {
        self.control_plane_leaf_under(self.signer.id(), Validity::from_now(CONTROL_PLANE_LIFE))
    }

    /// The same under any root in force, for an agent that knows only that one.
    pub fn control_plane_leaf_under(&self, root_id: &str, validity: Validity) -> Result<Credentials, AuthorityError> {
        let root = self
            .in_force()
            .find(|root| root.id() == root_id)
            .ok_or_else(|| AuthorityError::UnknownRoot { id: root_id.to_owned() })?;
        let (leaf, key) = root.control_plane(validity)?;
        Ok(self.credentials(leaf, key))
    }

    fn credentials(&self, leaf: Vec<u8>, key: zeroize::Zeroizing<Vec<u8>>) -> Credentials {
        Credentials {
            leaf,
            key,
            roots: self.roots(),
        }
    }
}
