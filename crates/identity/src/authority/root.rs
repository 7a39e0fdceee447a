//! One root of the host: a self-signed certificate and the key behind it, and the leaves that the key signs.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use clawker_model::{ContainerId, FullName};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SubjectPublicKeyInfo,
};
use rustls_pki_types::CertificateDer;
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

use super::AuthorityError;
use super::fleet::Cross;
use crate::leaf::Claims;
use crate::{CONTROL_PLANE, leaf, thumbprint};

/// How long a root is valid.
pub const ROOT_LIFE: Duration = Duration::days(365);
/// How long the control plane's own leaf is valid.
pub const CONTROL_PLANE_LIFE: Duration = Duration::days(30);

const ROOT: &str = "the authority's own certificate";
/// How the file with the fleet's certificate of a root ends.
pub(super) const CROSS: &str = "fleet";

fn now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}

/// From when, and for how long, something is valid. The clock is the caller's, so that a year can be tried in a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    from: OffsetDateTime,
    life: Duration,
}

impl Validity {
    pub fn from_now(life: Duration) -> Self {
        Self {
            from: OffsetDateTime::now_utc(),
            life,
        }
    }

    /// `at` in seconds since the Unix epoch; a time that no certificate can say is the epoch itself.
    pub fn at(at: i64, life: Duration) -> Self {
        let from = OffsetDateTime::from_unix_timestamp(at).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        Self { from, life }
    }

    pub(super) fn write(self, params: &mut CertificateParams) {
        params.not_before = self.from - Duration::seconds(leaf::BACKDATE_S);
        params.not_after = self.from + self.life;
    }
}

/// The name of the root with this public key.
pub(super) fn subject_of(public_key: &[u8]) -> String {
    let serial = thumbprint(public_key);
    format!("clawker host CA {}", serial.get(..16).unwrap_or_default())
}

/// A root with its key. Its `Debug` names no key.
pub(super) struct Root {
    issuer: Issuer<'static, KeyPair>,
    claims: Claims,
    /// Its certificate by the fleet's root, if there is one.
    cross: Option<Cross>,
    der: Vec<u8>,
    id: String,
}

impl std::fmt::Debug for Root {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Root").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Root {
    /// A new one. Its subject differs from every other's: with two roots of one subject, a verifier may try the
    /// wrong key for a leaf and give up (seen in SPIRE, issue 4415).
    pub fn new(validity: Validity) -> Result<Self, AuthorityError> {
        let sign = |source| AuthorityError::Sign { what: ROOT, source };
        let key = new_key(ROOT)?;
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, subject_of(key.public_key_raw()));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        validity.write(&mut params);
        let der = params.self_signed(&key).map_err(sign)?.der().to_vec();
        Self::from_parts(der, Issuer::new(params, key))
    }

    fn from_parts(der: Vec<u8>, issuer: Issuer<'static, KeyPair>) -> Result<Self, AuthorityError> {
        let claims = Claims::read(&der).map_err(|distrust| AuthorityError::Unusable {
            what: ROOT,
            why: distrust.to_string(),
        })?;
        Ok(Self {
            issuer,
            id: thumbprint(&der),
            claims,
            cross: None,
            der,
        })
    }

    /// Reads the root `id` below `dir`.
    pub fn load(dir: &Path, id: &str) -> Result<Self, AuthorityError> {
        let (key_path, root_path) = (path(dir, id, "key"), path(dir, id, "der"));
        let mode = fs::metadata(&key_path)
            .map_err(io_error("reading", &key_path))?
            .permissions()
            .mode()
            & 0o777;
        if mode & 0o077 != 0 {
            return Err(AuthorityError::Exposed { path: key_path, mode });
        }
        let key = Zeroizing::new(fs::read(&key_path).map_err(io_error("reading", &key_path))?);
        let der = fs::read(&root_path).map_err(io_error("reading", &root_path))?;
        if thumbprint(&der) != id {
            return Err(AuthorityError::Damaged {
                path: root_path,
                why: "it isn't the certificate that its name says".into(),
            });
        }
        let damaged = |path: PathBuf| {
            move |source: rcgen::Error| AuthorityError::Damaged {
                path,
                why: source.to_string(),
            }
        };
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&key.as_slice().into(), &PKCS_ECDSA_P256_SHA256)
            .map_err(damaged(key_path.clone()))?;
        let spki = key.subject_public_key_info();
        let claims = Claims::read(&der).map_err(|distrust| AuthorityError::Damaged {
            path: root_path.clone(),
            why: distrust.to_string(),
        })?;
        if claims.key_hash != thumbprint(&spki) {
            return Err(AuthorityError::Damaged {
                path: key_path,
                why: "it isn't the key of the certificate beside it".into(),
            });
        }
        let issuer =
            Issuer::from_ca_cert_der(&CertificateDer::from(der.as_slice()), key).map_err(damaged(root_path))?;
        let mut root = Self::from_parts(der, issuer)?;
        // Nobody in here needs it: one that is missing, damaged or over is none.
        let kept = fs::read(path(dir, id, CROSS)).ok();
        root.cross = kept.and_then(|der| Cross::read(&root.claims, &der, now()).ok());
        Ok(root)
    }

    /// Writes both files; the caller's manifest is what makes them count.
    pub fn save(&self, dir: &Path) -> Result<(), AuthorityError> {
        let key = Zeroizing::new(self.issuer.key().serialize_der());
        write_private(&path(dir, &self.id, "der"), &self.der)?;
        write_private(&path(dir, &self.id, "key"), &key)
    }

    pub fn der(&self) -> &[u8] {
        &self.der
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn not_after(&self) -> i64 {
        self.claims.not_after
    }

    pub fn cross(&self) -> Option<&Cross> {
        self.cross.as_ref()
    }

    /// Asks the fleet's root to sign this one: PKCS#10, as PEM.
    pub fn request(&self) -> Result<String, AuthorityError> {
        const WHAT: &str = "a request to the fleet's root";
        let sign = |source| AuthorityError::Sign { what: WHAT, source };
        let mut params = CertificateParams::default();
        let key = self.issuer.key();
        params
            .distinguished_name
            .push(DnType::CommonName, subject_of(key.public_key_raw()));
        params.serialize_request(key).map_err(sign)?.pem().map_err(sign)
    }

    /// Takes the fleet's certificate (PEM) of this root, and keeps it beside it.
    pub fn install(&mut self, dir: Option<&Path>, pem: &[u8]) -> Result<(), AuthorityError> {
        let cross = Cross::of(&self.claims, pem, now())?;
        if let Some(dir) = dir {
            write_private(&path(dir, &self.id, CROSS), &cross.der)?;
        }
        self.cross = Some(cross);
        Ok(())
    }

    /// A new key and leaf for an agent.
    pub fn agent(
        &self,
        name: &FullName,
        container: &ContainerId,
        validity: Validity,
    ) -> Result<(Vec<u8>, Zeroizing<Vec<u8>>), AuthorityError> {
        let key = new_key(AGENT_LEAF)?;
        let leaf = self.sign(AGENT_LEAF, &agent_params(name, container, validity)?, &key)?;
        Ok((leaf, Zeroizing::new(key.serialize_der())))
    }

    /// A new leaf for the key that an agent has already.
    pub fn renewed(
        &self,
        name: &FullName,
        container: &ContainerId,
        spki: &[u8],
        validity: Validity,
    ) -> Result<Vec<u8>, AuthorityError> {
        let key = SubjectPublicKeyInfo::from_der(spki).map_err(|source| AuthorityError::Sign {
            what: AGENT_LEAF,
            source,
        })?;
        self.sign(AGENT_LEAF, &agent_params(name, container, validity)?, &key)
    }

    /// A new key and leaf for the control plane.
    pub fn control_plane(&self, validity: Validity) -> Result<(Vec<u8>, Zeroizing<Vec<u8>>), AuthorityError> {
        const WHAT: &str = "the control plane's leaf";
        let mut params = leaf_params(CONTROL_PLANE, validity);
        let name = CONTROL_PLANE
            .try_into()
            .map_err(|source| AuthorityError::Sign { what: WHAT, source })?;
        params.subject_alt_names.push(SanType::DnsName(name));
        let key = new_key(WHAT)?;
        let leaf = self.sign(WHAT, &params, &key)?;
        Ok((leaf, Zeroizing::new(key.serialize_der())))
    }

    fn sign(
        &self,
        what: &'static str,
        params: &CertificateParams,
        key: &impl PublicKeyData,
    ) -> Result<Vec<u8>, AuthorityError> {
        let leaf = params
            .signed_by(key, &self.issuer)
            .map_err(|source| AuthorityError::Sign { what, source })?;
        Ok(leaf.der().to_vec())
    }
}

const AGENT_LEAF: &str = "an agent's leaf";

fn agent_params(
    name: &FullName,
    container: &ContainerId,
    validity: Validity,
) -> Result<CertificateParams, AuthorityError> {
    let mut params = leaf_params(&name.to_string(), validity);
    for uri in leaf::sans(name, container) {
        let uri = uri.try_into().map_err(|source| AuthorityError::Sign {
            what: AGENT_LEAF,
            source,
        })?;
        params.subject_alt_names.push(SanType::URI(uri));
    }
    Ok(params)
}

fn leaf_params(cn: &str, validity: Validity) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, cn);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    validity.write(&mut params);
    params
}

fn new_key(what: &'static str) -> Result<KeyPair, AuthorityError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|source| AuthorityError::Sign { what, source })
}

pub(super) fn path(dir: &Path, id: &str, extension: &str) -> PathBuf {
    dir.join(format!("{id}.{extension}"))
}

pub(super) fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> AuthorityError + use<> {
    let path = path.to_owned();
    move |source| AuthorityError::Io { doing, path, source }
}

/// Writes beside and renames, and syncs file and folder, so that a crash leaves the old file or the new one.
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), AuthorityError> {
    let beside = path.with_extension("new");
    let write = || -> io::Result<()> {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        match path.parent() {
            Some(folder) => fs::File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    };
    write().map_err(io_error("writing", path))
}
