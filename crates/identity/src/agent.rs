//! clawkerd's TLS: strict. Whoever isn't its control plane fails in the handshake.
//!
//! Three things are asked of the peer's leaf: it chains to a root of the bundle, its extended key usage names
//! the role that it plays (absent is refused too), and its CN is `clawker-cp`.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme,
};

use crate::leaf::Claims;
use crate::{ALPN, CONTROL_PLANE, Credentials, TlsError, VERSIONS, provider};

/// TLS server for the session.
pub fn server_config(own: &Credentials) -> Result<ServerConfig, TlsError> {
    let webpki = WebPkiClientVerifier::builder_with_provider(own.root_store()?.into(), provider()).build()?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)
        .map_err(TlsError::Leaf)?
        .with_client_cert_verifier(Arc::new(PinnedClient { webpki }))
        .with_single_cert(own.chain(), own.key())
        .map_err(TlsError::Leaf)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// TLS client for the agent socket; connect with the name [`CONTROL_PLANE`].
pub fn client_config(own: &Credentials) -> Result<ClientConfig, TlsError> {
    let webpki = WebPkiServerVerifier::builder_with_provider(own.root_store()?.into(), provider()).build()?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)
        .map_err(TlsError::Leaf)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinnedServer { webpki }))
        .with_client_auth_cert(own.chain(), own.key())
        .map_err(TlsError::Leaf)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// What is wrong with a leaf that was offered for a renewal.
#[derive(Debug, thiserror::Error)]
pub enum RenewalError {
    #[error("a certificate can't be read: {0}")]
    Unreadable(#[from] crate::leaf::Distrust),
    #[error("the new leaf is for another key")]
    OtherKey,
    #[error("the new leaf is for another agent or container")]
    OtherName,
    #[error("the new leaf isn't believed under the new roots: {0}")]
    Chain(Error),
    #[error(transparent)]
    Roots(#[from] TlsError),
}

/// The credentials with another leaf for the same key and names, under these roots, if that leaf is valid now.
pub fn renewed(
    own: &Credentials,
    leaf: Vec<u8>,
    roots: Vec<Vec<u8>>,
    now: UnixTime,
) -> Result<Credentials, RenewalError> {
    let (old, new) = (Claims::read(&own.leaf)?, Claims::read(&leaf)?);
    if old.key_hash != new.key_hash {
        return Err(RenewalError::OtherKey);
    }
    if (&old.cn, &old.name, &old.container) != (&new.cn, &new.name, &new.container) {
        return Err(RenewalError::OtherName);
    }
    let renewed = Credentials {
        leaf,
        key: own.key.clone(),
        roots,
    };
    // As the other side will, so that nothing is kept that would be refused.
    let store = renewed.root_store()?;
    WebPkiClientVerifier::builder_with_provider(store.into(), provider())
        .build()
        .map_err(TlsError::from)?
        .verify_client_cert(&CertificateDer::from(renewed.leaf.as_slice()), &[], now)
        .map_err(RenewalError::Chain)?;
    Ok(renewed)
}

fn pinned(leaf: &CertificateDer<'_>, purpose: fn(&Claims) -> bool) -> Result<(), Error> {
    let refuse = |error| Err(Error::InvalidCertificate(error));
    match Claims::read(leaf) {
        Err(_) => refuse(CertificateError::BadEncoding),
        Ok(claims) if !purpose(&claims) => refuse(CertificateError::InvalidPurpose),
        Ok(claims) if claims.cn != CONTROL_PLANE => refuse(CertificateError::ApplicationVerificationFailure),
        Ok(_) => Ok(()),
    }
}

#[derive(Debug)]
struct PinnedClient {
    webpki: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for PinnedClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.webpki.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.webpki.verify_client_cert(leaf, intermediates, now)?;
        pinned(leaf, |claims| claims.client_auth)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

#[derive(Debug)]
struct PinnedServer {
    webpki: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for PinnedServer {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.webpki.verify_server_cert(leaf, intermediates, name, ocsp, now)?;
        pinned(leaf, |claims| claims.server_auth)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}
