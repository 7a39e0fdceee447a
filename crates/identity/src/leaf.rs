//! Leaves: what a certificate says of its holder, and whether that is to be believed.

use clawker_model::event::UntrustedReason;
use clawker_model::{ContainerId, FullName, Thumbprint};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{CertificateError, Error as RustlsError};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::control::Capture;
use crate::{provider, roots, thumbprint};

const AGENT_URN: &str = "urn:clawker:agent:";
const CONTAINER_URN: &str = "urn:clawker:container:";

/// How far NotBefore lies before the signing, for clocks that differ, seconds.
pub const BACKDATE_S: i64 = 300;

/// The URI SANs of an agent's leaf.
pub fn sans(name: &FullName, container: &ContainerId) -> [String; 2] {
    [format!("{AGENT_URN}{name}"), format!("{CONTAINER_URN}{container}")]
}

/// What a certificate claims. Parsed, not yet believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    pub thumbprint: Thumbprint,
    /// SHA-256 of the SubjectPublicKeyInfo, in hex.
    pub key_hash: String,
    pub cn: String,
    pub name: Option<FullName>,
    pub container: Option<ContainerId>,
    pub client_auth: bool,
    pub server_auth: bool,
    /// Seconds since the Unix epoch.
    pub not_before: i64,
    pub not_after: i64,
    /// Distinguished names, DER. Every root of ours has a subject of its own, so a leaf's issuer names its root.
    pub subject: Vec<u8>,
    pub issuer: Vec<u8>,
    /// SubjectPublicKeyInfo, DER.
    pub spki: Vec<u8>,
}

/// Why a peer's certificate isn't believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Distrust {
    pub reason: UntrustedReason,
    pub detail: String,
}

fn distrust(reason: UntrustedReason, detail: impl Into<String>) -> Distrust {
    Distrust {
        reason,
        detail: detail.into(),
    }
}

impl Claims {
    /// Reads a certificate; fails with `cert_malformed` on anything that isn't one.
    pub fn read(der: &[u8]) -> Result<Self, Distrust> {
        let malformed = |what: &str| distrust(UntrustedReason::CertMalformed, what);
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| malformed("not an X.509 certificate"))?;
        if !rest.is_empty() {
            return Err(malformed("bytes after the certificate"));
        }
        let mut cns = certificate.subject().iter_common_name();
        let cn = cns
            .next()
            .and_then(|cn| cn.as_str().ok())
            .unwrap_or_default()
            .to_owned();
        if cns.next().is_some() {
            return Err(malformed("more than one common name"));
        }

        let mut claims = Self {
            thumbprint: Thumbprint::parse(&thumbprint(der)).map_err(|_| malformed("thumbprint"))?,
            key_hash: thumbprint(certificate.public_key().raw),
            cn,
            name: None,
            container: None,
            client_auth: false,
            server_auth: false,
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
            subject: certificate.subject().as_raw().to_vec(),
            issuer: certificate.issuer().as_raw().to_vec(),
            spki: certificate.public_key().raw.to_vec(),
        };
        for extension in certificate.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::ExtendedKeyUsage(usage) => {
                    claims.client_auth = usage.client_auth;
                    claims.server_auth = usage.server_auth;
                }
                ParsedExtension::SubjectAlternativeName(alternatives) => {
                    for alternative in &alternatives.general_names {
                        if let GeneralName::URI(uri) = alternative {
                            claims.read_urn(uri)?;
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(claims)
    }

    fn read_urn(&mut self, uri: &str) -> Result<(), Distrust> {
        let mismatch = |detail: String| distrust(UntrustedReason::SanMismatch, detail);
        if let Some(name) = uri.strip_prefix(AGENT_URN) {
            let name = FullName::parse(name).map_err(|error| mismatch(error.to_string()))?;
            if self.name.replace(name).is_some() {
                return Err(mismatch("more than one agent name".into()));
            }
        } else if let Some(id) = uri.strip_prefix(CONTAINER_URN) {
            let id = ContainerId::parse(id).map_err(|error| mismatch(error.to_string()))?;
            if self.container.replace(id).is_some() {
                return Err(mismatch("more than one container id".into()));
            }
        }
        Ok(())
    }
}

/// Whom the control plane expects at the other end, by the kernel's attestation.
#[derive(Debug, Clone)]
pub struct Expected<'a> {
    pub name: &'a FullName,
    pub container: &'a ContainerId,
    /// Roots in force, DER.
    pub roots: &'a [Vec<u8>],
}

/// What judging came to. The claims are there also when they aren't believed, as far as they could be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    pub claims: Option<Claims>,
    pub verdict: Result<(), Distrust>,
    /// The key is proven, usages and names hold: nothing but validity or chain may be wrong with it.
    pub sound_but_for_its_chain: bool,
}

/// Judges what a handshake captured.
pub fn judge(capture: &Capture, expected: &Expected<'_>, now: UnixTime) -> Judged {
    let unread = |distrust| Judged {
        claims: None,
        verdict: Err(distrust),
        sound_but_for_its_chain: false,
    };
    let Some(der) = &capture.leaf else {
        return unread(distrust(
            UntrustedReason::CertMalformed,
            "the peer showed no certificate",
        ));
    };
    let claims = match Claims::read(der) {
        Ok(claims) => claims,
        Err(distrust) => return unread(distrust),
    };
    let holds = holds(capture, &claims, expected);
    Judged {
        sound_but_for_its_chain: holds.is_ok(),
        verdict: chain(der, expected.roots, now).and(holds),
        claims: Some(claims),
    }
}

/// Possession, usages and names.
fn holds(capture: &Capture, claims: &Claims, expected: &Expected<'_>) -> Result<(), Distrust> {
    if !capture.possession {
        return Err(distrust(
            UntrustedReason::PossessionUnproven,
            "the handshake's signature isn't by this key",
        ));
    }
    if !(claims.client_auth && claims.server_auth) {
        return Err(distrust(
            UntrustedReason::EkuInvalid,
            "the leaf isn't for both client and server",
        ));
    }
    let canonical = expected.name.to_string();
    if claims.cn != canonical {
        return Err(distrust(
            UntrustedReason::CnMismatch,
            format!("`{}` instead of `{canonical}`", claims.cn),
        ));
    }
    if claims.name.as_ref() != Some(expected.name) || claims.container.as_ref() != Some(expected.container) {
        return Err(distrust(
            UntrustedReason::SanMismatch,
            "the leaf names another agent or container",
        ));
    }
    Ok(())
}

/// Chain, validity and purpose, by webpki. A root of ours signs leaves and nothing else; webpki doesn't look at a root's
/// path length, so whatever intermediates a peer shows are left out.
fn chain(der: &[u8], trusted: &[Vec<u8>], now: UnixTime) -> Result<(), Distrust> {
    let invalid = |detail: String| distrust(UntrustedReason::ChainInvalid, detail);
    let store = roots(trusted).map_err(|error| invalid(error.to_string()))?;
    let verifier = WebPkiClientVerifier::builder_with_provider(store.into(), provider())
        .build()
        .map_err(|error| invalid(error.to_string()))?;
    let leaf = CertificateDer::from(der);
    match verifier.verify_client_cert(&leaf, &[], now) {
        Ok(_) => Ok(()),
        Err(RustlsError::InvalidCertificate(error)) => Err(match error {
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => distrust(UntrustedReason::CertExpired, format!("{error}")),
            CertificateError::BadEncoding => distrust(UntrustedReason::CertMalformed, format!("{error}")),
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                distrust(UntrustedReason::EkuInvalid, format!("{error}"))
            }
            error => invalid(format!("{error}")),
        }),
        Err(error) => Err(invalid(error.to_string())),
    }
}
