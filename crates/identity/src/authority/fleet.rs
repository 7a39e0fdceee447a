//! The fleet's root, which signs hosts' roots: a request on the host, a signature where the fleet's key is, and the
//! certificate back on the host.
//!
//! ```text
//! host: the root's name and key, signed by that key (PKCS#10) ─▶ fleet: sign, a year at most, for leaves alone
//!    ─▶ host: the same name and the same key? kept beside the root
//! ```
//! Agents never see it. They trust their host's root and nothing above it, so whoever holds the fleet's key can't make
//! an agent of this host; it is for those outside of the host who know the fleet and not its hosts.

use clawker_model::event::UntrustedReason;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, DnValue, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::root::{ROOT_LIFE, Validity, subject_of};
use crate::leaf::Claims;
use crate::thumbprint;

/// Most bytes of a request, a certificate or a key; each is less than one.
const MAX_FILE: usize = 16 * 1024;

/// Why a request wasn't signed, or a certificate not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {why}")]
pub struct FleetError {
    /// Which of the files.
    pub what: &'static str,
    pub why: String,
}

fn refuse(what: &'static str, why: impl ToString) -> FleetError {
    FleetError {
        what,
        why: why.to_string(),
    }
}

const REQUEST: &str = "the request";
const FLEET: &str = "the fleet's certificate";
const KEY: &str = "the fleet's key";
const CERTIFICATE: &str = "the certificate";

/// A certificate of a root of ours that the fleet's root signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cross {
    pub der: Vec<u8>,
    /// Who signed it: the common name.
    pub issuer: String,
    /// Seconds since the Unix epoch.
    pub not_after: i64,
}

/// Signs the request of a host's root with the fleet's key. All PEM, the key PKCS#8. The name follows from the key, so
/// that a request can ask for no other; what it is good for and for how long is decided here. Valid for [`ROOT_LIFE`]
/// from `now` (seconds since the Unix epoch), and not longer than the fleet's own certificate.
pub fn sign(request: &str, fleet: &str, key: &str, now: i64) -> Result<String, FleetError> {
    for (what, text) in [(REQUEST, request), (FLEET, fleet), (KEY, key)] {
        if text.len() > MAX_FILE {
            return Err(refuse(what, format!("it has more than {MAX_FILE} bytes")));
        }
    }
    let key = KeyPair::from_pem(key).map_err(|error| refuse(KEY, format!("{error}; it has to be PKCS#8, as PEM")))?;
    let fleet = CertificateDer::from_pem_slice(fleet.as_bytes()).map_err(|error| refuse(FLEET, error))?;
    let until = judge_fleet(&fleet, &key, now)?;

    let request = CertificateSigningRequestParams::from_pem(request).map_err(|error| refuse(REQUEST, error))?;
    if *request.public_key.algorithm() != PKCS_ECDSA_P256_SHA256 {
        return Err(refuse(REQUEST, "its key isn't one of P-256, as a host's is"));
    }
    let subject = subject_of(request.public_key.der_bytes());
    let asked = request.params.distinguished_name.get(&DnType::CommonName);
    let asked = asked.map(|name| match name {
        DnValue::Utf8String(name) => name.clone(),
        other => format!("{other:?}"),
    });
    if asked.as_deref() != Some(subject.as_str()) || request.params.distinguished_name.iter().count() != 1 {
        let asked: String = asked.unwrap_or_default().chars().take(80).collect();
        return Err(refuse(
            REQUEST,
            format!("it is for `{asked}`, and its key is that of `{subject}`"),
        ));
    }
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, subject);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    let life = ROOT_LIFE.min(time::Duration::seconds(until - now));
    Validity::at(now, life).write(&mut params);
    let issuer = Issuer::from_ca_cert_der(&fleet, key).map_err(|error| refuse(FLEET, error))?;
    let signed = params.signed_by(&request.public_key, &issuer);
    Ok(signed.map_err(|error| refuse(CERTIFICATE, error))?.pem())
}

/// Until when the fleet's certificate is valid, if it can sign hosts' roots with this key.
fn judge_fleet(der: &CertificateDer<'_>, key: &KeyPair, now: i64) -> Result<i64, FleetError> {
    let claims = Claims::read(der).map_err(|error| refuse(FLEET, error))?;
    if claims.key_hash != thumbprint(&key.subject_public_key_info()) {
        return Err(refuse(KEY, "it isn't the key of the fleet's certificate"));
    }
    if !(claims.not_before..claims.not_after).contains(&now) {
        return Err(refuse(FLEET, "it isn't valid now"));
    }
    match path_length(der) {
        Some(None | Some(1..)) => Ok(claims.not_after),
        Some(Some(0)) => Err(refuse(FLEET, "it may sign leaves alone, and a host's root isn't one")),
        None => Err(refuse(FLEET, "it isn't an authority's")),
    }
}

/// How many authorities may stand below an authority; `None` if it isn't one.
fn path_length(der: &[u8]) -> Option<Option<u32>> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let constraints = certificate.basic_constraints().ok()??.value;
    constraints.ca.then_some(constraints.path_len_constraint)
}

impl Cross {
    /// Reads a certificate (PEM) as one of the root with these claims.
    pub(super) fn of(root: &Claims, pem: &[u8], now: i64) -> Result<Self, FleetError> {
        if pem.len() > MAX_FILE {
            return Err(refuse(CERTIFICATE, format!("it has more than {MAX_FILE} bytes")));
        }
        let der = CertificateDer::from_pem_slice(pem).map_err(|error| refuse(CERTIFICATE, error))?;
        Self::read(root, &der, now)
    }

    /// The same of DER, as it is kept.
    pub(super) fn read(root: &Claims, der: &[u8], now: i64) -> Result<Self, FleetError> {
        let claims = Claims::read(der).map_err(|error| match error.reason {
            UntrustedReason::CertMalformed => refuse(CERTIFICATE, error.detail),
            _ => refuse(CERTIFICATE, error),
        })?;
        if claims.spki != root.spki || claims.subject != root.subject {
            return Err(refuse(
                CERTIFICATE,
                "it isn't of a root in force here; make a new request",
            ));
        }
        if claims.issuer == claims.subject {
            return Err(refuse(CERTIFICATE, "the host's root signed it, and not the fleet's"));
        }
        if path_length(der) != Some(Some(0)) {
            return Err(refuse(CERTIFICATE, "it isn't an authority's that signs leaves alone"));
        }
        if !(claims.not_before..claims.not_after).contains(&now) {
            return Err(refuse(CERTIFICATE, "it isn't valid now"));
        }
        Ok(Self {
            issuer: issuer(der),
            not_after: claims.not_after,
            der: der.to_vec(),
        })
    }
}

fn issuer(der: &[u8]) -> String {
    let parsed = X509Certificate::from_der(der).ok();
    let name = parsed.and_then(|(_, certificate)| {
        let mut names = certificate.issuer().iter_common_name();
        names.next().and_then(|name| name.as_str().ok()).map(str::to_owned)
    });
    name.unwrap_or_default().chars().take(200).collect()
}
