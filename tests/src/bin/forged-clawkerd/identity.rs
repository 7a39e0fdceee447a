//! What is shown in a handshake: any chain with any key, whether they belong together or not.
//!
//! A folder has `0.der`, `1.der` … (the chain, leaf first) and `key.der` (PKCS#8). Whoever made them is elsewhere.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{DigitallySignedStruct, SignatureScheme};

/// A chain and a key, of which nothing is checked.
#[derive(Debug, Clone, Default)]
pub struct Shown {
    pub chain: Vec<Vec<u8>>,
    pub key: Vec<u8>,
}

impl Shown {
    pub fn read(dir: &Path) -> Result<Self> {
        let file = |name: &str| fs::read(dir.join(name));
        let chain = (0..).map_while(|n| file(&format!("{n}.der")).ok()).collect();
        let key = file("key.der").with_context(|| format!("reading {}/key.der", dir.display()))?;
        Ok(Self { chain, key })
    }

    /// Leaves it for somebody else to show.
    pub fn save(&self, dir: &Path) -> Result<()> {
        fs::create_dir_all(dir)?;
        for (n, der) in self.chain.iter().enumerate() {
            fs::write(dir.join(format!("{n}.der")), der)?;
        }
        // Whoever waits for the key finds the chain there too.
        let beside = dir.join("key.new");
        fs::write(&beside, &self.key)?;
        fs::rename(&beside, dir.join("key.der")).context("leaving a key")
    }

    fn certified(&self) -> Result<SingleCertAndKey> {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.clone()));
        let key = ring::sign::any_supported_type(&key).context("a key to sign with")?;
        let chain = self.chain.iter().cloned().map(CertificateDer::from).collect();
        Ok(SingleCertAndKey::from(CertifiedKey::new(chain, key)))
    }

    /// TLS that shows this and asks its peer for nothing.
    pub fn server(&self) -> Result<rustls::ServerConfig> {
        let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(self.certified()?));
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }

    /// TLS that shows this, or nothing without a chain, and believes anybody.
    pub fn client(&self) -> Result<rustls::ClientConfig> {
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody));
        let mut config = if self.chain.is_empty() {
            config.with_no_client_auth()
        } else {
            config.with_client_cert_resolver(Arc::new(self.certified()?))
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
