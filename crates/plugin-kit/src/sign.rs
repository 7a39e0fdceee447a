//! Signing a component, and checking what stands beside it: `<component>.sig`.
//!
//! Only what a control plane would load is signed: the component is loaded in the sandbox first.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clawker_plugin_host::{Plugin, digest};
use clawker_plugin_package::{KeyId, MAX_SIGNATURE, PublicKey, SecretKey, Signature};

use crate::error::{place, read_bytes};
use crate::{Error, Sandbox, sandbox};

/// What was signed, by whom.
pub struct Signed {
    pub plugin: Arc<Plugin>,
    pub by: PublicKey,
    /// Where the signature is.
    pub file: PathBuf,
}

/// Signs the component, once the sandbox has taken it.
pub fn sign(component: &Path, key: &SecretKey) -> Result<Signed, Error> {
    let plugin = Sandbox::load(&sandbox::read(component)?)?.plugin;
    let file = write(component, &plugin, key)?;
    Ok(Signed {
        plugin,
        by: key.public(),
        file,
    })
}

/// Puts the key's word for a plugin beside its component. Where it is.
pub fn write(component: &Path, plugin: &Plugin, key: &SecretKey) -> Result<PathBuf, Error> {
    let file = beside(component);
    place(&file, Signature::make(key, &plugin.digest).to_json().as_bytes())?;
    Ok(file)
}

/// The key in a file.
pub fn secret_key(path: &Path) -> Result<SecretKey, Error> {
    Ok(SecretKey::load(path)?)
}

/// Whether `by` vouches for the component, by the signature in `signature` or beside it. Runs nothing.
pub fn verify(component: &Path, signature: Option<&Path>, by: &PublicKey) -> Result<Signature, Error> {
    let found = digest(&sandbox::read(component)?);
    let file = signature.map_or_else(|| beside(component), Path::to_owned);
    let signature = Signature::parse(&read_bytes(&file, MAX_SIGNATURE as u64)?)?;
    signature.verify(&found, by)?;
    Ok(signature)
}

/// The key of a development machine: made on its first use.
pub fn development_key(path: &Path) -> Result<(SecretKey, bool), Error> {
    if path.exists() {
        return Ok((SecretKey::load(path)?, false));
    }
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(Error::io("making", dir))?;
    }
    Ok((SecretKey::make(path, "development")?, true))
}

/// A public key: the line itself, or a file that holds it.
pub fn public_key(line_or_file: &str) -> Result<PublicKey, Error> {
    if line_or_file.starts_with(PublicKey::PREFIX) {
        return Ok(PublicKey::parse(line_or_file)?);
    }
    let text = read_bytes(Path::new(line_or_file), MAX_SIGNATURE as u64)?;
    Ok(PublicKey::parse(&String::from_utf8_lossy(&text))?)
}

/// The key that a signature file says it is by; not whether it is.
pub fn signer(signature: &[u8]) -> Option<KeyId> {
    Some(Signature::parse(signature).ok()?.key)
}

fn beside(component: &Path) -> PathBuf {
    component.with_added_extension("sig")
}
