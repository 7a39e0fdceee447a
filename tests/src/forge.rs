//! Forged certificates: what somebody with a key of his own, or an insider with the host's, can make.
//!
//! An insider has read the authority's key in the state folder, as only root on the host can. What he signs chains to
//! the host's root, so that everything but the chain can be wrong.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SignatureAlgorithm,
};
use time::{Duration, OffsetDateTime};

/// A chain, leaf first, and a key; nothing says that they belong together.
#[derive(Debug, Clone)]
pub struct Shown {
    pub chain: Vec<Vec<u8>>,
    /// PKCS#8.
    pub key: Vec<u8>,
}

impl Shown {
    /// Puts it where the forged PID 1 reads it.
    pub fn save(&self, dir: &Path) -> Result<()> {
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        for (n, der) in self.chain.iter().enumerate() {
            fs::write(dir.join(format!("{n}.der")), der)?;
        }
        // Whoever waits for the key finds the chain there too.
        let beside = dir.join("key.new");
        fs::write(&beside, &self.key)?;
        fs::rename(&beside, dir.join("key.der")).context("leaving a key")
    }

    #[must_use]
    pub fn with_key_of(mut self, other: &Shown) -> Self {
        self.key.clone_from(&other.key);
        self
    }

    #[must_use]
    pub fn with_leaf(mut self, change: impl FnOnce(&mut Vec<u8>)) -> Self {
        if let Some(leaf) = self.chain.first_mut() {
            change(leaf);
        }
        self
    }
}

/// Somebody who signs.
pub struct Signer {
    issuer: Issuer<'static, KeyPair>,
    /// DER of its own certificate, and of those above it.
    chain: Vec<Vec<u8>>,
}

impl Signer {
    /// The host's authority, as root on the host can steal it from `dir`.
    pub fn insider(dir: &Path) -> Result<Self> {
        let mut files: Vec<_> = fs::read_dir(dir)
            .with_context(|| format!("listing {}", dir.display()))?
            .flatten()
            .map(|entry| entry.path())
            .collect();
        files.sort();
        let of = |kind: &'static str| {
            files
                .iter()
                .filter(move |path| path.extension().is_some_and(|e| e == kind))
        };
        for key in of("key") {
            let key = fs::read(key)?;
            let Ok(key) = KeyPair::from_pkcs8_der_and_sign_algo(&key.as_slice().into(), &PKCS_ECDSA_P256_SHA256) else {
                continue;
            };
            // The certificate with this key in it.
            for root in of("der") {
                let root = fs::read(root)?;
                let has_key = root
                    .windows(key.der_bytes().len())
                    .any(|window| window == key.der_bytes());
                if has_key {
                    return Self::behind(vec![root], key);
                }
            }
        }
        anyhow::bail!("{} holds no authority that can be read", dir.display())
    }

    /// An authority that nobody knows.
    pub fn stranger() -> Result<Self> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let params = authority("somebody's authority");
        let root = params.self_signed(&key)?.der().to_vec();
        Ok(Self {
            issuer: Issuer::new(params, key),
            chain: vec![root],
        })
    }

    /// Another key behind the same subject and the same certificate.
    pub fn impostor(&self) -> Result<Self> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        Self::behind(self.chain.clone(), key)
    }

    /// Whoever holds `leaf`, as if it were an authority's.
    pub fn holder_of(leaf: &Shown) -> Result<Self> {
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&leaf.key.as_slice().into(), &PKCS_ECDSA_P256_SHA256)?;
        Self::behind(leaf.chain.clone(), key)
    }

    fn behind(chain: Vec<Vec<u8>>, key: KeyPair) -> Result<Self> {
        let own = chain.first().context("a signer has a certificate")?;
        Ok(Self {
            issuer: Issuer::from_ca_cert_der(&own.as_slice().into(), key)?,
            chain,
        })
    }

    /// An authority below this one.
    pub fn intermediate(&self) -> Result<Self> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let params = authority("an intermediate");
        let der = params.signed_by(&key, &self.issuer)?.der().to_vec();
        Ok(Self {
            issuer: Issuer::new(params, key),
            chain: [vec![der], self.chain.clone()].concat(),
        })
    }

    /// Signs a leaf with a new key.
    pub fn sign(&self, leaf: &Leaf) -> Result<Shown> {
        self.sign_key(leaf, &KeyPair::generate_for(leaf.algorithm)?)
    }

    pub fn sign_key(&self, leaf: &Leaf, key: &KeyPair) -> Result<Shown> {
        let der = leaf.params().signed_by(key, &self.issuer)?.der().to_vec();
        Ok(Shown {
            chain: vec![der],
            key: key.serialize_der(),
        })
    }

    /// Signs a leaf and shows everything above it too.
    pub fn sign_with_chain(&self, leaf: &Leaf) -> Result<Shown> {
        let mut shown = self.sign(leaf)?;
        shown.chain.extend(self.chain.iter().cloned());
        Ok(shown)
    }
}

fn authority(subject: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, subject);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

/// What a leaf says. A forgery is a good one with one thing changed.
#[derive(Clone)]
pub struct Leaf {
    pub cn: Option<String>,
    /// URI SANs.
    pub uris: Vec<String>,
    /// DNS SANs.
    pub dns: Vec<String>,
    pub usages: Vec<ExtendedKeyUsagePurpose>,
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
    pub algorithm: &'static SignatureAlgorithm,
    pub is_authority: bool,
}

impl Leaf {
    /// All that an agent's leaf has to have.
    pub fn good(name: &str, container: &str) -> Self {
        let now = OffsetDateTime::now_utc();
        Self {
            cn: Some(name.to_owned()),
            uris: vec![agent_urn(name), container_urn(container)],
            dns: Vec::new(),
            usages: vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
            not_before: now - Duration::minutes(5),
            not_after: now + Duration::HOUR,
            algorithm: &PKCS_ECDSA_P256_SHA256,
            is_authority: false,
        }
    }

    #[must_use]
    pub fn but(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Signed by its own key.
    pub fn self_signed(&self) -> Result<Shown> {
        let key = KeyPair::generate_for(self.algorithm)?;
        Ok(Shown {
            chain: vec![self.params().self_signed(&key)?.der().to_vec()],
            key: key.serialize_der(),
        })
    }

    fn params(&self) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        if let Some(cn) = &self.cn {
            params.distinguished_name.push(DnType::CommonName, cn.as_str());
        }
        // What isn't ASCII can't be a name here, so there is none to lose.
        let uris = self.uris.iter().filter_map(|uri| uri.as_str().try_into().ok());
        let dns = self.dns.iter().filter_map(|name| name.as_str().try_into().ok());
        params.subject_alt_names = uris.map(SanType::URI).chain(dns.map(SanType::DnsName)).collect();
        params.extended_key_usages.clone_from(&self.usages);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.is_ca = if self.is_authority {
            IsCa::Ca(BasicConstraints::Unconstrained)
        } else {
            IsCa::ExplicitNoCa
        };
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = (self.not_before, self.not_after);
        params
    }
}

pub fn agent_urn(name: &str) -> String {
    format!("urn:clawker:agent:{name}")
}

pub fn container_urn(id: &str) -> String {
    format!("urn:clawker:container:{id}")
}
