//! What the control plane gave PID 1 with the preamble: identity, and the two files of the `agent` cgroup.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use clawker_identity::thumbprint;
use clawker_proc::memfd;
use clawker_wire::preamble::{Bundle, ClientPreamble, Descriptor, MAX_BUNDLE, WIRE, decode};
use zeroize::{Zeroize, Zeroizing};

use super::link::Established;

/// `CGROUP2_SUPER_MAGIC` (include/uapi/linux/magic.h).
const CGROUP2_MAGIC: i64 = 0x6367_7270;

#[derive(Debug, thiserror::Error)]
pub enum GiftError {
    #[error("the bundle: {0}")]
    Bundle(String),
    #[error("the bundle is of generation {bundle}, the preamble says {preamble}")]
    Generation { bundle: u64, preamble: u64 },
    #[error("no bundle came and none is held")]
    NoBundle,
}

/// Everything that outlives a connection.
#[derive(Debug, Default)]
pub struct Gifts {
    bundle: Option<Held>,
    procs: Option<OwnedFd>,
    freeze: Option<OwnedFd>,
    /// Number of this start; 0 until the first preamble.
    pub start: u64,
    /// They came in a join file: there are no cgroup files, and none will come.
    joined: bool,
}

/// What a session half gets.
#[derive(Debug)]
pub struct Handover {
    pub socket: OwnedFd,
    pub bundle: OwnedFd,
    /// Another program for the half to be, if one came.
    pub half: Option<OwnedFd>,
}

/// The bundle stays in its sealed memfd; only what the preamble tells is taken out.
#[derive(Debug)]
struct Held {
    memfd: OwnedFd,
    generation: u64,
    root_ids: Vec<String>,
}

impl Gifts {
    pub fn hello(&self) -> ClientPreamble {
        ClientPreamble {
            wire: WIRE,
            held_generation: self.bundle.as_ref().map_or(0, |held| held.generation),
            root_ids: self
                .bundle
                .as_ref()
                .map(|held| held.root_ids.clone())
                .unwrap_or_default(),
        }
    }

    /// Keeps what a join file held.
    pub fn join(&mut self, start: u64, mut bundle: Bundle) -> Result<(), GiftError> {
        let encoded = bundle.encode().map(Zeroizing::new);
        bundle.key.zeroize();
        let unusable = |error: &dyn std::fmt::Display| GiftError::Bundle(error.to_string());
        let sealed = memfd::sealed("clawker-bundle", &encoded.map_err(|e| unusable(&e))?).map_err(|e| unusable(&e))?;
        self.bundle = Some(Held::read(sealed, bundle.generation)?);
        (self.start, self.joined) = (start, true);
        Ok(())
    }

    /// Whether the control plane is elsewhere, and reaches nothing here but this connection.
    pub fn is_joined(&self) -> bool {
        self.joined
    }

    /// Keeps what came; the connection, and a bundle for the session half.
    pub fn take(&mut self, established: Established) -> Result<Handover, GiftError> {
        let mut half = None;
        for (descriptor, fd) in established.descriptors {
            match descriptor {
                Descriptor::Bundle => self.bundle = Some(Held::read(fd, established.preamble.generation)?),
                Descriptor::CgroupProcs => self.procs = Some(fd),
                Descriptor::Freeze => self.freeze = Some(fd),
                Descriptor::SessionHalf => half = Some(fd),
            }
        }
        self.start = established.preamble.start;
        let held = self.bundle.as_ref().ok_or(GiftError::NoBundle)?;
        let copy = held.memfd.try_clone().map_err(|e| GiftError::Bundle(e.to_string()))?;
        Ok(Handover {
            socket: established.socket,
            bundle: copy,
            half,
        })
    }

    /// Puts a renewed leaf and the roots in force into the bundle; key and generation stay. The half has checked that
    /// they belong together: PID 1 reads no certificates.
    pub fn rotate(&mut self, leaf: Vec<u8>, roots: Vec<Vec<u8>>) -> Result<(), GiftError> {
        let held = self.bundle.as_mut().ok_or(GiftError::NoBundle)?;
        if leaf.is_empty() || roots.is_empty() {
            return Err(GiftError::Bundle("a leaf and a root are needed".to_owned()));
        }
        let unusable = |error: &dyn std::fmt::Display| GiftError::Bundle(error.to_string());
        let bytes = memfd::read_sealed(held.memfd.as_fd(), MAX_BUNDLE).map_err(|e| unusable(&e))?;
        let bytes = Zeroizing::new(bytes);
        let mut bundle: Bundle = decode("bundle", &bytes).map_err(|e| unusable(&e))?;
        (bundle.leaf, bundle.roots) = (leaf, roots);
        let encoded = bundle.encode().map(Zeroizing::new);
        bundle.key.zeroize();
        let sealed = memfd::sealed("clawker-bundle", &encoded.map_err(|e| unusable(&e))?).map_err(|e| unusable(&e))?;
        *held = Held::read(sealed, held.generation)?;
        Ok(())
    }

    /// `agent`'s cgroup.procs; without it nothing of the user's runs.
    pub fn procs(&self) -> Option<&OwnedFd> {
        self.procs.as_ref()
    }

    pub fn freeze(&self) -> io::Result<()> {
        self.write_freezer("FROZEN", "1")
    }

    /// Only to end.
    pub fn thaw(&self) -> io::Result<()> {
        self.write_freezer("THAWED", "0")
    }

    fn write_freezer(&self, v1: &str, v2: &str) -> io::Result<()> {
        let Some(fd) = &self.freeze else { return Ok(()) };
        let unified = rustix::fs::fstatfs(fd).is_ok_and(|stat| magic(&stat) == CGROUP2_MAGIC);
        let value = if unified { v2 } else { v1 };
        rustix::io::write(fd, value.as_bytes())?;
        Ok(())
    }
}

#[allow(
    clippy::unnecessary_cast,
    clippy::allow_attributes,
    reason = "the type of f_type depends on the target"
)]
fn magic(stat: &rustix::fs::StatFs) -> i64 {
    stat.f_type as i64
}

impl Held {
    fn read(memfd: OwnedFd, expected: u64) -> Result<Self, GiftError> {
        let bytes = memfd::read_sealed(memfd.as_fd(), MAX_BUNDLE).map_err(|e| GiftError::Bundle(e.to_string()))?;
        let bytes = Zeroizing::new(bytes);
        let mut bundle: Bundle = decode("bundle", &bytes).map_err(|e| GiftError::Bundle(e.to_string()))?;
        bundle.key.zeroize();
        if bundle.generation != expected {
            return Err(GiftError::Generation {
                bundle: bundle.generation,
                preamble: expected,
            });
        }
        Ok(Self {
            memfd,
            generation: bundle.generation,
            root_ids: bundle.roots.iter().map(|root| thumbprint(root)).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clawker_wire::preamble::ServerPreamble;

    fn established(generation: u64, descriptors: Vec<(Descriptor, OwnedFd)>) -> Established {
        Established {
            socket: std::fs::File::open("/dev/null").expect("null").into(),
            preamble: ServerPreamble {
                wire: WIRE,
                start: 4,
                generation,
                descriptors: descriptors.iter().map(|(d, _)| *d).collect(),
            },
            descriptors,
        }
    }

    fn bundle(generation: u64) -> OwnedFd {
        let bundle = Bundle {
            generation,
            project: String::new(),
            agent: "a".to_owned(),
            leaf: vec![1],
            key: vec![2],
            roots: vec![vec![3]],
            join: None,
        };
        memfd::sealed("bundle", &bundle.encode().expect("small")).expect("memfd")
    }

    #[test]
    fn a_bundle_is_kept_and_told_of_in_the_next_preamble() {
        let mut gifts = Gifts::default();
        assert_eq!(gifts.hello().held_generation, 0);
        gifts
            .take(established(3, vec![(Descriptor::Bundle, bundle(3))]))
            .expect("kept");
        assert_eq!(gifts.start, 4);
        assert_eq!(gifts.hello().held_generation, 3);
        assert_eq!(gifts.hello().root_ids, [thumbprint(&[3])]);
        // The next connection brings none: the same one is handed over again.
        gifts.take(established(3, Vec::new())).expect("held");
    }

    #[test]
    fn a_renewed_leaf_is_kept_with_the_old_key_and_generation() {
        let mut gifts = Gifts::default();
        assert!(matches!(gifts.rotate(vec![1], vec![vec![2]]), Err(GiftError::NoBundle)));
        gifts
            .take(established(3, vec![(Descriptor::Bundle, bundle(3))]))
            .expect("kept");
        gifts.rotate(vec![7; 100], vec![vec![3], vec![4]]).expect("renewed");
        assert_eq!(gifts.hello().held_generation, 3);
        assert_eq!(gifts.hello().root_ids, [thumbprint(&[3]), thumbprint(&[4])]);
        let handover = gifts.take(established(3, Vec::new())).expect("held");
        let bytes = memfd::read_sealed(handover.bundle.as_fd(), MAX_BUNDLE).expect("sealed");
        let read: Bundle = decode("bundle", &bytes).expect("a bundle");
        assert_eq!((read.leaf, read.key, read.generation), (vec![7; 100], vec![2], 3));

        for (leaf, roots) in [
            (Vec::new(), vec![vec![3]]),
            (vec![7], Vec::new()),
            (vec![7; MAX_BUNDLE], vec![vec![3]]),
        ] {
            assert!(gifts.rotate(leaf, roots).is_err());
        }
        assert_eq!(gifts.hello().root_ids.len(), 2, "what was refused changed nothing");
    }

    #[test]
    fn without_a_bundle_or_with_another_generation_nothing_is_handed_over() {
        let mut gifts = Gifts::default();
        assert!(matches!(
            gifts.take(established(1, Vec::new())),
            Err(GiftError::NoBundle)
        ));
        assert!(matches!(
            gifts.take(established(2, vec![(Descriptor::Bundle, bundle(1))])),
            Err(GiftError::Generation { .. })
        ));
        let open: OwnedFd = std::fs::File::open("/dev/null").expect("null").into();
        assert!(matches!(
            gifts.take(established(1, vec![(Descriptor::Bundle, open)])),
            Err(GiftError::Bundle(_))
        ));
    }
}
