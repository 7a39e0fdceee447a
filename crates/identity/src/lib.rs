//! Who is who: the host's certificate authority, leaves, and the TLS of both sides.
//!
//! Trust is asymmetric. clawkerd is strict ([`agent`]): it talks to nobody but its control plane. The control
//! plane is permissive ([`control`]): its handshake never fails on certificate grounds, it keeps what the peer
//! showed and judges afterwards ([`leaf::judge`]), because the agent that shows a bad certificate is the one
//! that must stay reachable for containment.
//!
//! TLS 1.3 only, without resumption, so each connection shows its certificate. Does no I/O but the
//! authority's two files; knows no registry and takes no decision about an agent.

pub mod agent;
#[cfg(feature = "authority")]
pub mod authority;
pub mod control;
#[cfg(feature = "handshake")]
pub mod handshake;
pub mod leaf;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};

/// CN and DNS name of every control plane's leaf.
pub const CONTROL_PLANE: &str = "clawker-cp";

/// A certificate with its key, and the roots that peers must chain to. All DER, the key PKCS#8.
#[derive(Clone)]
pub struct Credentials {
    pub leaf: Vec<u8>,
    pub key: zeroize::Zeroizing<Vec<u8>>,
    pub roots: Vec<Vec<u8>>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("leaf", &thumbprint(&self.leaf))
            .finish_non_exhaustive()
    }
}

impl Credentials {
    fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![CertificateDer::from(self.leaf.clone())]
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.to_vec()))
    }

    fn root_store(&self) -> Result<rustls::RootCertStore, TlsError> {
        roots(&self.roots)
    }
}

/// Why a TLS configuration can't be made from what was given.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("reading a root certificate: {0}")]
    Root(rustls::Error),
    #[error("setting up verification: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    #[error("using the leaf certificate and its key: {0}")]
    Leaf(rustls::Error),
}

/// SHA-256 of a DER, in hex: a certificate's thumbprint, a root's id.
pub fn thumbprint(der: &[u8]) -> String {
    hex(&digest(der))
}

/// SHA-256.
pub fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn roots(ders: &[Vec<u8>]) -> Result<rustls::RootCertStore, TlsError> {
    let mut store = rustls::RootCertStore::empty();
    for der in ders {
        store.add(CertificateDer::from(der.clone())).map_err(TlsError::Root)?;
    }
    Ok(store)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

const VERSIONS: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];
const ALPN: &[u8] = b"h2";
