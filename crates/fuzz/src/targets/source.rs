//! Where plugins come from: what a person types, what registries and layouts answer.

use clawker_plugin_source::{MAX_COMPONENT, MAX_SIGNATURE, Source, fuzzing};

use super::{text, texts};
use crate::Target;

pub const REFERENCE: Target = Target {
    name: "plugin-source",
    about: "a reference to a plugin; whoever types it, and what was resolved and written down",
    check: reference,
    seeds: references,
    factor: 256,
};

pub const ANSWERS: Target = Target {
    name: "oci-answers",
    about: "manifests, an index, a challenge, a token; a registry, its token server, whoever made a layout",
    check: answers,
    seeds: jsons,
    // A descriptor is larger than the shortest JSON of one.
    factor: 1024,
};

fn reference(input: &[u8]) -> bool {
    let Ok(source) = Source::parse(&text(input)) else {
        return false;
    };
    let written = source.to_string();
    assert_eq!(
        Source::parse(&written).ok(),
        Some(source),
        "`{written}` is read as another"
    );
    true
}

fn answers(input: &[u8]) -> bool {
    let manifest = fuzzing::manifest(input);
    if let Some(layers) = &manifest {
        assert!((1..=2).contains(&layers.len()), "{} layers", layers.len());
        let within = layers.iter().zip([MAX_COMPONENT, MAX_SIGNATURE]);
        assert!(within.into_iter().all(|((_, size), max)| *size <= max), "over a limit");
    }
    let index = fuzzing::index(input);
    assert!(manifest.is_none() || index.is_none(), "both an index and a manifest");
    let token = fuzzing::token(input);
    assert!(
        token
            .iter()
            .all(|token| !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic())),
        "a token that no header can carry"
    );
    let challenge = fuzzing::challenge(&text(input));
    manifest.is_some() || index.is_some() || token.is_some() || challenge.is_some()
}

fn references() -> Vec<Vec<u8>> {
    let hex = "ab".repeat(32);
    texts(&[
        "./a.wasm",
        &format!("/nix/store/a/lib/clawker/plugins/a.wasm#sha256={hex}"),
        &format!("oci://[::1]:5000/team/a:1.0@sha256:{hex}"),
        "oci-layout:dir:tag",
        &format!("oci-layout:dir@sha256:{hex}"),
        &format!("https://example.org:8443/a.wasm?b=c#sha256={hex}"),
        "http://127.0.0.1/a.wasm",
    ])
}

fn jsons() -> Vec<Vec<u8>> {
    let hex = "ab".repeat(32);
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
        "artifactType":"application/vnd.clawker.plugin.v1+json",
        "config":{{"mediaType":"application/vnd.clawker.plugin.v1+json","digest":"sha256:{hex}","size":2}},"layers":[
        {{"mediaType":"application/wasm","digest":"sha256:{hex}","size":9}},
        {{"mediaType":"application/vnd.clawker.plugin.signature.v1+json","digest":"sha256:{hex}","size":9}}]}}"#
    );
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"digest":"sha256:{hex}","size":9,
        "annotations":{{"org.opencontainers.image.ref.name":"1.0"}}}}]}}"#
    );
    texts(&[
        &manifest,
        &index,
        r#"{"token":"abc","expires_in":60}"#,
        r#"Bearer realm="https://a/token",service="b \"c\"",scope=d"#,
        "Basic realm=x",
    ])
}
