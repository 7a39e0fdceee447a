//! A plugin as bytes, and as the artifact that holds it.

use std::time::Duration;

use clawker_plugin_source::{
    COMPONENT_TYPE, Fetched, Options, PLUGIN_TYPE, SIGNATURE_TYPE, Source, SourceError, fetch,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// What begins as a component does; nothing here looks further.
pub fn component(name: &str) -> Vec<u8> {
    [b"\0asm\x0d\0\x01\0", name.as_bytes()].concat()
}

pub fn signature(name: &str) -> Vec<u8> {
    format!("{{\"signature of\":\"{name}\"}}\n").into_bytes()
}

pub fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Times that whatever answers keeps, on a busy machine too.
pub fn quick() -> Options {
    Options {
        all: Duration::from_secs(60),
        ..Options::default()
    }
}

/// Times for who never answers.
pub fn impatient() -> Options {
    Options {
        read: Duration::from_millis(300),
        ..quick()
    }
}

pub async fn fetched(reference: &str, options: &Options) -> Result<Fetched, SourceError> {
    fetch(&Source::parse(reference).expect(reference), options).await
}

/// What is said where nothing is fetched.
pub async fn refused(reference: &str, options: &Options) -> SourceError {
    match fetched(reference, options).await {
        Ok(fetched) => panic!("{reference} gave {} bytes", fetched.component.len()),
        Err(error) => error,
    }
}

pub fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": format!("sha256:{}", hex(bytes)), "size": bytes.len()})
}

/// The manifest of a plugin with these layers.
pub fn manifest(layers: &[Value]) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": descriptor(PLUGIN_TYPE, b"{}"),
        "layers": layers,
    })
}

/// The manifest of a plugin of this name, signed.
pub fn signed(name: &str) -> Value {
    manifest(&[
        descriptor(COMPONENT_TYPE, &component(name)),
        descriptor(SIGNATURE_TYPE, &signature(name)),
    ])
}

/// Manifests that no plugin has, each with what is said of it.
pub fn unfit() -> Vec<(String, &'static str)> {
    let a = descriptor(COMPONENT_TYPE, &component("a"));
    let sig = descriptor(SIGNATURE_TYPE, &signature("a"));
    let with = |key: &str, value: Value| {
        let mut changed = signed("a");
        changed[key] = value;
        changed.to_string()
    };
    let image = descriptor("application/vnd.oci.image.config.v1+json", b"{}");
    let tar = descriptor("application/vnd.oci.image.layer.v1.tar+gzip", b"tar");
    let digest_of = |digest: &str| {
        let mut layer = a.clone();
        layer["digest"] = json!(digest);
        manifest(&[layer]).to_string()
    };
    let size_of = |layer: &Value, size: u64| {
        let mut layer = layer.clone();
        layer["size"] = json!(size);
        layer
    };
    vec![
        (
            with("config", image),
            "its config is of the type `application/vnd.oci.image.config",
        ),
        (
            with("artifactType", json!("application/x")),
            "an artifact of the type `application/x`",
        ),
        (with("schemaVersion", json!(1)), "schema 1"),
        (with("manifests", json!([])), "an index of several"),
        (
            with("mediaType", json!("application/vnd.oci.image.index.v1+json")),
            "an index of several",
        ),
        (with("mediaType", json!("text/html")), "type `text/html`"),
        (with("layers", json!([])), "0 layers"),
        (manifest(&[a.clone(), sig.clone(), sig.clone()]).to_string(), "3 layers"),
        (manifest(&[a.clone(), a.clone()]).to_string(), "two components"),
        (manifest(&[sig.clone(), a.clone()]).to_string(), "its first layer"),
        (manifest(&[a.clone(), tar.clone()]).to_string(), "its second layer"),
        (manifest(&[tar]).to_string(), "its first layer"),
        (
            digest_of("sha256:../../../../etc/passwd"),
            "isn't `sha256:<64 hex digits>`",
        ),
        (
            digest_of(&format!("sha512:{}", "a".repeat(128))),
            "isn't `sha256:<64 hex digits>`",
        ),
        (digest_of(""), "isn't `sha256:<64 hex digits>`"),
        (
            manifest(&[size_of(&a, (32 << 20) + 1)]).to_string(),
            "33554433 bytes, the limit is 33554432",
        ),
        (
            manifest(&[a.clone(), size_of(&sig, 4097)]).to_string(),
            "4097 bytes, the limit is 4096",
        ),
        ("junk".to_owned(), "no JSON object"),
        ("{junk".to_owned(), "key must be a string"),
        ("[2]".to_owned(), "no JSON object"),
        ("{}".to_owned(), "missing field"),
        (format!("{{\"x\":{}", "[".repeat(100_000)), "EOF while parsing a list"),
        (
            signed("a").to_string().replace("\"size\":", "\"size\":-"),
            "invalid value",
        ),
    ]
}
