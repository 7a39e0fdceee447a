//! The preamble of a session: which identity is in force, and the descriptors that PID 1 gets.
//!
//! ```text
//! PID 1 {held generation, root ids} ─▶ keep? ─yes▶ {start, generation} + cgroup descriptors
//!                                          └no─▶ issue: max(stored, held) + 1 ─▶ journal, synced ─▶ + sealed bundle
//! ```

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use clawker_engine::rotation::Roots;
use clawker_identity::leaf::Claims;
use clawker_identity::thumbprint;
use clawker_model::event::BundleIssued;
use clawker_model::{ContainerId, FullName, Thumbprint};
use clawker_proc::cgroup::AgentCgroup;
use clawker_store::AgentRecord;
use clawker_wire::preamble::{self, Bundle, ClientPreamble, Descriptor, ServerPreamble};
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::UnixStream;

use super::AgentError;
use crate::core::Core;
use crate::fault::fault_point;

/// How long PID 1 may take to say its part, which it sends with the connect.
const DEADLINE: Duration = Duration::from_secs(5);

/// Most bundles that one start gets for lack of a usable one.
const MAX_PER_START: u32 = 5;

/// The identity in force after the preamble.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub generation: u64,
    /// Hash of the key issued with it; `None` when nothing was ever issued.
    pub key_hash: Option<String>,
    /// Thumbprint of the leaf issued with it.
    pub leaf: Option<Thumbprint>,
    /// How often a leaf that had run out was renewed in this start.
    pub recovered: u32,
    /// Ids of the roots that PID 1 knows.
    pub knows: Vec<String>,
}

/// Reads PID 1's part.
pub async fn read(stream: &mut UnixStream) -> Result<ClientPreamble, AgentError> {
    let reading = async {
        let mut prefix = [0; 4];
        stream.read_exact(&mut prefix).await?;
        let len = preamble::body_len("preamble", prefix).map_err(io::Error::other)?;
        let mut body = vec![0; len];
        stream.read_exact(&mut body).await?;
        preamble::decode("preamble", &body).map_err(io::Error::other)
    };
    let fail = |source| AgentError::Preamble { source };
    let read: ClientPreamble = tokio::time::timeout(DEADLINE, reading)
        .await
        .map_err(|_| fail(io::Error::new(io::ErrorKind::TimedOut, "PID 1 said nothing in 5 s")))?
        .map_err(fail)?;
    if read.wire != preamble::WIRE {
        return Err(fail(io::Error::other(format!(
            "PID 1 speaks wire {}, not {}",
            read.wire,
            preamble::WIRE
        ))));
    }
    Ok(read)
}

/// The identity that PID 1 can go on with, if it can: it holds a root in use, and the generation issued last.
pub fn kept(held: &ClientPreamble, record: &AgentRecord, start: u64, roots: &Roots) -> Option<Identity> {
    let issued = record.issued.as_ref()?;
    let keeps = held.held_generation != 0
        && roots.shown_to(&held.root_ids).is_some()
        && issued.generation == held.held_generation
        && issued.start == start
        && !issued.revoked;
    keeps.then(|| Identity {
        generation: issued.generation,
        key_hash: Some(issued.key_hash.clone()),
        leaf: Some(issued.thumbprint.clone()),
        recovered: issued.recovered,
        knows: held.root_ids.clone(),
    })
}

/// Issues a new identity and journals it as issued; returns its bundle, sealed. `held` is the generation that PID 1 has.
pub async fn issue(
    core: &Core,
    name: &FullName,
    container: &ContainerId,
    record: &AgentRecord,
    start: u64,
    held: u64,
) -> Result<(Identity, OwnedFd), AgentError> {
    let issued = record.issued.as_ref().filter(|issued| issued.start == start);
    if issued.map_or(0, |issued| issued.count) >= MAX_PER_START {
        return Err(AgentError::TooManyBundles {
            start,
            max: MAX_PER_START,
        });
    }
    let wanted = Wanted {
        name,
        container,
        start,
        held,
        join: None,
    };
    let (identity, bundle) = make(core, record, wanted, seal).await?;
    fault_point!("bundle-unwritten");
    Ok((identity, bundle))
}

fn seal(bundle: &Bundle) -> Result<OwnedFd, AgentError> {
    let bytes = bundle.encode().map(zeroize::Zeroizing::new);
    let bytes = bytes.map_err(|error| AgentError::Bundle(error.to_string()))?;
    clawker_proc::memfd::sealed("clawker-bundle", &bytes).map_err(|error| AgentError::Bundle(format!("memfd: {error}")))
}

/// For whom an identity is made.
pub struct Wanted<'a> {
    pub name: &'a FullName,
    pub container: &'a ContainerId,
    pub start: u64,
    /// The generation that PID 1 has.
    pub held: u64,
    /// The token that goes with it to an engine elsewhere.
    pub join: Option<String>,
}

/// Makes an identity, packs its bundle, and only then journals that it is issued.
pub async fn make<T>(
    core: &Core,
    record: &AgentRecord,
    wanted: Wanted<'_>,
    pack: impl FnOnce(&Bundle) -> Result<T, AgentError>,
) -> Result<(Identity, T), AgentError> {
    let Wanted {
        name,
        container,
        start,
        held,
        join,
    } = wanted;
    let generation = after(record.generation, held)?;
    let credentials = core.signer.agent_leaf(name, container).await?;
    let claims = Claims::read(&credentials.leaf).map_err(|error| AgentError::Bundle(error.to_string()))?;
    let join_hash = join.as_ref().map(|token| thumbprint(token.as_bytes()));
    let mut bundle = Bundle {
        generation,
        project: name.project().map(ToString::to_string).unwrap_or_default(),
        agent: name.agent().to_string(),
        leaf: credentials.leaf.clone(),
        key: credentials.key.to_vec(),
        roots: credentials.roots.clone(),
        join,
    };
    let packed = pack(&bundle);
    zeroize::Zeroize::zeroize(&mut bundle.key);
    let packed = packed?;

    core.store
        .append_synced(
            Some(name),
            BundleIssued {
                container: container.clone(),
                start,
                generation,
                thumbprint: claims.thumbprint.clone(),
                key_hash: claims.key_hash.clone(),
                join: join_hash,
            },
        )
        .await?;
    let issued = record.issued.as_ref().filter(|issued| issued.start == start);
    let identity = Identity {
        generation,
        key_hash: Some(claims.key_hash),
        leaf: Some(claims.thumbprint),
        recovered: issued.map_or(0, |issued| issued.recovered),
        knows: credentials.roots.iter().map(|root| thumbprint(root)).collect(),
    };
    Ok((identity, packed))
}

/// The generation that supersedes both. What PID 1 says it holds is its word alone: one from which nobody could count
/// on, or that the store couldn't keep (its integers are signed), is refused.
fn after(stored: u64, held: u64) -> Result<u64, AgentError> {
    let last = i64::MAX.unsigned_abs();
    let next = stored.max(held).checked_add(1).filter(|next| *next < last);
    next.ok_or_else(|| {
        AgentError::Bundle(format!(
            "PID 1 says it holds generation {held}, which nobody can have issued"
        ))
    })
}

/// Sends the control plane's part: numbers in the message, descriptors with it.
pub async fn send(
    stream: &UnixStream,
    start: u64,
    generation: u64,
    bundle: Option<OwnedFd>,
    half: Option<OwnedFd>,
    cgroup: &AgentCgroup,
) -> Result<(), AgentError> {
    let fail = |source| AgentError::Preamble { source };
    let mut descriptors = vec![Descriptor::CgroupProcs, Descriptor::Freeze];
    let mut fds = vec![cgroup.procs_fd().map_err(fail)?, cgroup.freeze_fd().map_err(fail)?];
    if let Some(bundle) = bundle {
        descriptors.push(Descriptor::Bundle);
        fds.push(bundle);
    }
    if let Some(half) = half {
        descriptors.push(Descriptor::SessionHalf);
        fds.push(half);
    }
    let message = ServerPreamble {
        wire: preamble::WIRE,
        start,
        generation,
        descriptors,
    };
    let bytes = preamble::encode_framed("preamble", &message).map_err(|error| fail(io::Error::other(error)))?;
    let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    stream
        .async_io(Interest::WRITABLE, || {
            clawker_proc::fdpass::send(stream.as_fd(), &bytes, &borrowed)
        })
        .await
        .map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_is_superseded_as_long_as_it_can_be_counted() {
        for (stored, held, next) in [(0, 0, 1), (3, 0, 4), (3, 7, 8), (3, 3, 4)] {
            assert_eq!(after(stored, held).expect("counted"), next);
        }
        for held in [u64::MAX, u64::MAX - 1, i64::MAX as u64, i64::MAX as u64 - 1] {
            assert!(after(1, held).is_err(), "{held}");
        }
    }
}
