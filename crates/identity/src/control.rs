//! The control plane's TLS: it completes every handshake, and keeps what it saw.

use std::sync::{Arc, Mutex};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme};

use crate::{ALPN, Credentials, TlsError, VERSIONS, provider};

/// What a peer showed in its handshake.
#[derive(Debug, Clone, Default)]
pub struct Capture {
    /// The leaf's DER as it came, malformed or not; `None` when no certificate was shown.
    pub leaf: Option<Vec<u8>>,
    /// The peer signed this handshake with the leaf's key.
    pub possession: bool,
}

/// Receives one handshake's capture.
#[derive(Debug, Clone, Default)]
pub struct CaptureSlot(Arc<Mutex<Capture>>);

impl CaptureSlot {
    pub fn get(&self) -> Capture {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn certificate(&self, leaf: &CertificateDer<'_>) {
        let mut capture = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        capture.leaf = Some(leaf.to_vec());
    }

    fn signature(&self, valid: bool) {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .possession = valid;
    }
}

/// TLS client for one session: shows the control plane's leaf, accepts any server, fills `slot`.
pub fn session_client(own: &Credentials, slot: CaptureSlot) -> Result<ClientConfig, TlsError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)
        .map_err(TlsError::Leaf)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Permissive { slot }))
        .with_client_auth_cert(own.chain(), own.key())
        .map_err(TlsError::Leaf)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// TLS server for one connection on an agent socket: asks for a leaf, accepts any or none, fills `slot`.
pub fn agent_server(own: &Credentials, slot: CaptureSlot) -> Result<ServerConfig, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)
        .map_err(TlsError::Leaf)?
        .with_client_cert_verifier(Arc::new(Permissive { slot }))
        .with_single_cert(own.chain(), own.key())
        .map_err(TlsError::Leaf)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Judges nothing, remembers all.
#[derive(Debug)]
struct Permissive {
    slot: CaptureSlot,
}

impl Permissive {
    fn remember_signature(&self, message: &[u8], cert: &CertificateDer<'_>, dss: &DigitallySignedStruct) {
        let algorithms = provider().signature_verification_algorithms;
        self.slot
            .signature(rustls::crypto::verify_tls13_signature(message, cert, dss, &algorithms).is_ok());
    }
}

/// More than can be verified: a peer with a key of another type completes its handshake, and its possession is unproven.
fn schemes() -> Vec<SignatureScheme> {
    let mut schemes = provider().signature_verification_algorithms.supported_schemes();
    schemes.extend(
        [SignatureScheme::ECDSA_NISTP521_SHA512, SignatureScheme::ED448]
            .into_iter()
            .filter(|scheme| {
                !provider()
                    .signature_verification_algorithms
                    .supported_schemes()
                    .contains(scheme)
            }),
    );
    schemes
}

/// We offer TLS 1.3 alone, so this is never reached; refusing is what is right if it were.
fn no_tls12() -> Error {
    Error::General("TLS 1.2 isn't spoken".into())
}

impl ServerCertVerifier for Permissive {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.slot.certificate(leaf);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.remember_signature(message, cert, dss);
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}

impl ClientCertVerifier for Permissive {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        // A missing leaf is judged after the handshake like a bad one, with the same answer.
        false
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.slot.certificate(leaf);
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.remember_signature(message, cert, dss);
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}
