//! What a registry or a layout says, read without trust: manifests, an index, a challenge, a token. No I/O.

use clawker_model::PluginDigest;
use serde::Deserialize;

use crate::{COMPONENT_TYPE, MAX_COMPONENT, MAX_SIGNATURE, PLUGIN_TYPE, SIGNATURE_TYPE};

/// OCI image manifest.
pub(crate) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image index.
pub(crate) const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
/// Where an index says an entry's tag.
const TAG: &str = "org.opencontainers.image.ref.name";
/// Bytes of a challenge's header.
const MAX_CHALLENGE: usize = 4 << 10;
/// Bytes of a token.
const MAX_TOKEN: usize = 16 << 10;

/// A blob that a manifest names, of a size and digest that it has to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Blob {
    pub digest: PluginDigest,
    pub size: u64,
}

/// What a plugin's manifest names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Artifact {
    pub component: Blob,
    pub signature: Option<Blob>,
}

/// Why a manifest is no plugin's.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    Malformed(String),
    NotAPlugin(String),
    /// The layer, its size, the limit.
    TooLarge(&'static str, u64, u64),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
    manifests: Option<Vec<Descriptor>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

impl Manifest {
    fn read(json: &[u8]) -> Result<Self, String> {
        // A list with the fields in their order would be taken, too.
        if json.trim_ascii_start().first() != Some(&b'{') {
            return Err("it is no JSON object".to_owned());
        }
        serde_json::from_slice(json).map_err(|error| error.to_string())
    }
}

impl Descriptor {
    fn blob(&self, layer: &'static str, max: u64) -> Result<Blob, Unfit> {
        if self.size > max {
            return Err(Unfit::TooLarge(layer, self.size, max));
        }
        Ok(Blob {
            digest: sha256(&self.digest).ok_or_else(|| Unfit::Malformed(bad_digest(&self.digest)))?,
            size: self.size,
        })
    }
}

/// Reads an image manifest as a plugin's.
pub(crate) fn artifact(json: &[u8]) -> Result<Artifact, Unfit> {
    let said = Manifest::read(json).map_err(Unfit::Malformed)?;
    let not = |problem: String| Err(Unfit::NotAPlugin(problem));
    if said.schema_version != 2 {
        return not(format!("it is a manifest of schema {}, not 2", said.schema_version));
    }
    // One that is both an index and a manifest would be another thing to another reader.
    if said.manifests.is_some() || said.media_type.as_deref() == Some(INDEX_TYPE) {
        return not("it is an index of several; name one of its manifests by the digest".to_owned());
    }
    if let Some(other) = said.media_type.as_deref().filter(|said| *said != MANIFEST_TYPE) {
        return not(format!("its manifest is of the type `{other:.120}`"));
    }
    let config = said.config.as_ref().map_or("", |config| config.media_type.as_str());
    match said.artifact_type.as_deref() {
        Some(PLUGIN_TYPE) => {}
        None if config == PLUGIN_TYPE => {}
        None => return not(format!("its config is of the type `{config:.120}`")),
        Some(other) => return not(format!("it is an artifact of the type `{other:.120}`")),
    }
    let (component, signature) = match said.layers.as_slice() {
        [component] => (component, None),
        [component, signature] => (component, Some(signature)),
        layers => {
            return not(format!(
                "it has {} layers, not a component and a signature",
                layers.len()
            ));
        }
    };
    if component.media_type != COMPONENT_TYPE {
        let found = &component.media_type;
        return not(format!(
            "its first layer is of the type `{found:.120}`, not {COMPONENT_TYPE}"
        ));
    }
    match signature.map(|layer| layer.media_type.as_str()) {
        None | Some(SIGNATURE_TYPE) => {}
        Some(COMPONENT_TYPE) => return not("it has two components".to_owned()),
        Some(other) => {
            return not(format!(
                "its second layer is of the type `{other:.120}`, not {SIGNATURE_TYPE}"
            ));
        }
    }
    Ok(Artifact {
        component: component.blob("component", MAX_COMPONENT)?,
        signature: signature
            .map(|layer| layer.blob("signature", MAX_SIGNATURE))
            .transpose()?,
    })
}

/// An entry of a layout's index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub tag: Option<String>,
    pub digest: PluginDigest,
}

/// Reads a layout's `index.json`.
pub(crate) fn index(json: &[u8]) -> Result<Vec<Entry>, String> {
    let said = Manifest::read(json)?;
    if said.schema_version != 2 {
        return Err(format!("it is an index of schema {}, not 2", said.schema_version));
    }
    let manifests = said.manifests.ok_or("it has no `manifests`")?;
    let entry = |mut said: Descriptor| {
        Ok(Entry {
            digest: sha256(&said.digest).ok_or_else(|| bad_digest(&said.digest))?,
            tag: said.annotations.remove(TAG),
        })
    };
    manifests.into_iter().map(entry).collect()
}

/// Reads a layout's `oci-layout`.
pub(crate) fn layout(json: &[u8]) -> Result<(), String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Layout {
        image_layout_version: String,
    }
    let said: Layout = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    match said.image_layout_version.as_str() {
        "1.0.0" => Ok(()),
        other => Err(format!("it is a layout of version `{other:.20}`, not 1.0.0")),
    }
}

/// How a registry wants to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    /// A token from `realm`; its scope is ours to say.
    Bearer {
        realm: String,
        service: Option<String>,
    },
}

impl Challenge {
    /// Reads `WWW-Authenticate`; `None` for what we don't know how to answer.
    pub(crate) fn parse(header: &str) -> Option<Self> {
        if header.len() > MAX_CHALLENGE {
            return None;
        }
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service) = (None, None);
        let mut rest = rest.trim_start();
        while let Some((name, after)) = rest.split_once('=') {
            let (value, after) = parameter(after)?;
            match name.trim().to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value),
                "service" => service = Some(value),
                _ => {}
            }
            rest = after.trim_start().trim_start_matches(',').trim_start();
        }
        Some(Self::Bearer { realm: realm?, service })
    }
}

/// A parameter's value, a token or a quoted string, and what comes after it.
fn parameter(text: &str) -> Option<(String, &str)> {
    let text = text.trim_start();
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ']).unwrap_or(text.len());
        let (value, after) = text.split_at_checked(end)?;
        return Some((value.to_owned(), after));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    loop {
        match chars.next()? {
            (at, '"') => return Some((value, quoted.get(at + 1..).unwrap_or(""))),
            (_, '\\') => value.push(chars.next()?.1),
            (_, c) => value.push(c),
        }
    }
}

/// Reads a token server's answer.
pub(crate) fn token(json: &[u8]) -> Result<String, String> {
    #[derive(Deserialize)]
    struct Token {
        token: Option<String>,
        access_token: Option<String>,
    }
    // What is wrong with it may quote it.
    let said: Token = serde_json::from_slice(json).map_err(|_| "it is no JSON with a token".to_owned())?;
    let token = said.token.or(said.access_token).ok_or("there is no token in it")?;
    let good = (1..=MAX_TOKEN).contains(&token.len()) && token.bytes().all(|b| b.is_ascii_graphic());
    if good {
        Ok(token)
    } else {
        Err("its token isn't one".to_owned())
    }
}

/// `sha256:<64 hex digits>`
pub(crate) fn sha256(digest: &str) -> Option<PluginDigest> {
    PluginDigest::parse(digest.strip_prefix("sha256:")?).ok()
}

fn bad_digest(digest: &str) -> String {
    format!("`{digest:.100}` isn't `sha256:<64 hex digits>`")
}
