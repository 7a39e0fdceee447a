//! TLS: whose certificates are believed, and that nothing leads out of it.

use clawker_plugin_source::{Options, SourceError};
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::plugin::{component, fetched, quick, refused};
use crate::served::{Server, missing, ok, redirect};

/// A server's certificate that nobody signed but itself; its PEM, and the configuration of a server that has it.
fn own_certificate() -> (String, ServerConfig) {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
    let certificate = params.self_signed(&key).expect("a certificate");
    let chain = vec![CertificateDer::from(certificate.der().to_vec())];
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a configuration");
    (certificate.pem(), config)
}

fn believing(dir: &tempfile::TempDir, pem: &str) -> Options {
    let file = dir.path().join("roots.pem");
    std::fs::write(&file, pem).expect("written");
    Options {
        extra_roots: Some(file),
        ..quick()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_believed_if_the_operator_says_so() {
    let dir = tempfile::tempdir().expect("folder");
    let (pem, config) = own_certificate();
    let plain = Server::start(|_| ok(component("plain"))).await;
    let to = plain.url("/a.wasm");
    let server = Server::start_tls(config, move |asked| match asked.path.as_str() {
        "/a.wasm" => ok(component("a")),
        "/down.wasm" => redirect(&to),
        _ => missing(),
    })
    .await;
    let url = |path: &str| format!("https://localhost:{}{path}", server.addr.port());
    let error = refused(&url("/a.wasm"), &quick()).await;
    assert!(matches!(error, SourceError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("certificate"), "{error}");

    let options = believing(&dir, &pem);
    let got = fetched(&url("/a.wasm"), &options).await.expect("fetched");
    assert_eq!(got.component, component("a"));
    // From https nothing leads to http, not even of this machine.
    let error = refused(&url("/down.wasm"), &options).await;
    assert!(matches!(error, SourceError::Downgrade { .. }), "{error}");
    assert_eq!(plain.asked().len(), 0);

    // Of another name than it is for.
    let error = refused(&format!("https://127.0.0.1:{}/a.wasm", server.addr.port()), &options).await;
    assert!(matches!(error, SourceError::Unreachable { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_without_certificates_is_refused() {
    let dir = tempfile::tempdir().expect("folder");
    for pem in [
        "",
        "junk",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
    ] {
        let error = refused("https://localhost:1/a.wasm", &believing(&dir, pem)).await;
        assert!(matches!(error, SourceError::Roots { .. }), "{pem}: {error}");
    }
    let mut options = quick();
    options.extra_roots = Some(dir.path().to_owned());
    let error = refused("https://localhost:1/a.wasm", &options).await;
    assert!(
        matches!(error, SourceError::NotAFile { kind: "a folder", .. }),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_that_stalls_is_left() {
    // Reads what begins TLS as a request that never ends.
    let server = Server::start(|_| ok("")).await;
    let mut options = quick();
    options.connect = std::time::Duration::from_millis(300);
    options.read = std::time::Duration::from_secs(15);
    let error = refused(&format!("https://localhost:{}/a.wasm", server.addr.port()), &options).await;
    assert!(
        matches!(error, SourceError::Slow { after, .. } if after == options.connect),
        "{error}"
    );
}
