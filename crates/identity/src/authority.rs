//! The host's certificate authority: P-256, one year, two files in a folder that only root can enter.
//!
//! Issues two kinds of leaf: agents' (an hour, both usages, name and container as URI SANs) and the control
//! plane's own. Everything it signs is built here from typed names; it signs no request from outside.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use clawker_model::{ContainerId, FullName};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls_pki_types::CertificateDer;
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

use crate::{CONTROL_PLANE, Credentials, leaf, thumbprint};

/// How long an agent's leaf is valid.
pub const LEAF_LIFE: Duration = Duration::HOUR;
/// How far NotBefore lies back, for clocks that differ.
const BACKDATE: Duration = Duration::minutes(5);
const CA_LIFE: Duration = Duration::days(365);
const CONTROL_PLANE_LIFE: Duration = Duration::days(30);

/// What went wrong with the authority, and on which file.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error("{doing} {}: {source}", path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("reading {}: {source}. Without it no agent can be identified; restore it, or move the folder away to begin with a new authority", path.display())]
    Malformed { path: PathBuf, source: rcgen::Error },
    #[error("{} is readable by others (mode {mode:o}); run `chmod 600` on it", path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error("signing {what}: {source}")]
    Sign { what: &'static str, source: rcgen::Error },
}

/// The authority of one host.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: Vec<u8>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("root", &self.root_id())
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// Opens the authority in `dir`, or begins one there if both files are absent.
    pub fn open(dir: &Path) -> Result<Self, AuthorityError> {
        let (key_path, root_path) = (dir.join("ca.key"), dir.join("ca.der"));
        if !key_path.exists() && !root_path.exists() {
            let created = Self::ephemeral()?;
            created.save(dir, &key_path, &root_path)?;
            return Ok(created);
        }
        let mode = fs::metadata(&key_path)
            .map_err(io_error("reading", &key_path))?
            .permissions()
            .mode()
            & 0o777;
        if mode & 0o077 != 0 {
            return Err(AuthorityError::Exposed { path: key_path, mode });
        }
        let key = Zeroizing::new(fs::read(&key_path).map_err(io_error("reading", &key_path))?);
        let root = fs::read(&root_path).map_err(io_error("reading", &root_path))?;
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&key.as_slice().into(), &PKCS_ECDSA_P256_SHA256)
            .map_err(|source| AuthorityError::Malformed { path: key_path, source })?;
        let issuer = Issuer::from_ca_cert_der(&CertificateDer::from(root.as_slice()), key).map_err(|source| {
            AuthorityError::Malformed {
                path: root_path,
                source,
            }
        })?;
        Ok(Self { issuer, root })
    }

    /// An authority that lives in memory alone.
    pub fn ephemeral() -> Result<Self, AuthorityError> {
        let sign = |source| AuthorityError::Sign {
            what: "the authority's own certificate",
            source,
        };
        let key = new_key("the authority's own certificate")?;
        let mut params = CertificateParams::default();
        // The subject differs for every authority, so that two can be told apart while one replaces the other.
        let serial = thumbprint(key.public_key_raw());
        params.distinguished_name.push(
            DnType::CommonName,
            format!("clawker host CA {}", serial.get(..16).unwrap_or_default()),
        );
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        valid_for(&mut params, CA_LIFE);
        let root = params.self_signed(&key).map_err(sign)?.der().to_vec();
        Ok(Self {
            issuer: Issuer::new(params, key),
            root,
        })
    }

    fn save(&self, dir: &Path, key_path: &Path, root_path: &Path) -> Result<(), AuthorityError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(io_error("making", dir))?;
        // The key goes last: a root without a key is an interrupted beginning that the next start reports,
        // a key without its root would be one that had already signed.
        let key = Zeroizing::new(self.issuer.key().serialize_der());
        write_private(root_path, &self.root)?;
        write_private(key_path, &key)
    }

    /// The root's DER.
    pub fn root(&self) -> &[u8] {
        &self.root
    }

    /// SHA-256 of the root, in hex.
    pub fn root_id(&self) -> String {
        thumbprint(&self.root)
    }

    /// A new key and leaf for an agent.
    pub fn agent_leaf(&self, name: &FullName, container: &ContainerId) -> Result<Credentials, AuthorityError> {
        let mut params = leaf_params(&name.to_string(), LEAF_LIFE);
        for uri in leaf::sans(name, container) {
            let uri = uri.try_into().map_err(|source| AuthorityError::Sign {
                what: "an agent's leaf",
                source,
            })?;
            params.subject_alt_names.push(SanType::URI(uri));
        }
        self.issue("an agent's leaf", &params)
    }

    /// A new key and leaf for the control plane.
    pub fn control_plane_leaf(&self) -> Result<Credentials, AuthorityError> {
        let mut params = leaf_params(CONTROL_PLANE, CONTROL_PLANE_LIFE);
        let name = CONTROL_PLANE.try_into().map_err(|source| AuthorityError::Sign {
            what: "the control plane's leaf",
            source,
        })?;
        params.subject_alt_names.push(SanType::DnsName(name));
        self.issue("the control plane's leaf", &params)
    }

    fn issue(&self, what: &'static str, params: &CertificateParams) -> Result<Credentials, AuthorityError> {
        let key = new_key(what)?;
        let leaf = params
            .signed_by(&key, &self.issuer)
            .map_err(|source| AuthorityError::Sign { what, source })?;
        Ok(Credentials {
            leaf: leaf.der().to_vec(),
            key: Zeroizing::new(key.serialize_der()),
            roots: vec![self.root.clone()],
        })
    }
}

fn leaf_params(cn: &str, life: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, cn);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    valid_for(&mut params, life);
    params
}

fn valid_for(params: &mut CertificateParams, life: Duration) {
    let now = OffsetDateTime::now_utc();
    params.not_before = now - BACKDATE;
    params.not_after = now + life;
}

fn new_key(what: &'static str) -> Result<KeyPair, AuthorityError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|source| AuthorityError::Sign { what, source })
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> AuthorityError + use<> {
    let path = path.to_owned();
    move |source| AuthorityError::Io { doing, path, source }
}

/// Writes beside and renames, so that a crash leaves the old file or the new one.
fn write_private(path: &Path, bytes: &[u8]) -> Result<(), AuthorityError> {
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
        fs::rename(&beside, path)
    };
    write().map_err(io_error("writing", path))
}
