//! Debian's registry, with what another client pushed into it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Once;

use clawker_plugin_source::{COMPONENT_TYPE, Fetched, PLUGIN_TYPE, SIGNATURE_TYPE, SourceError};
use oci_client::client::{ClientConfig, ClientProtocol, Config, ImageLayer};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};

use crate::plugin::{component, fetched, hex, quick, refused, signature};

/// `user:password`, bcrypt.
const HTPASSWD: &str = "user:$2b$05$abcdefghijklmnopqrstuuWG29KuyeAicPCJODk1zjyGvyQUU2awu\n";

/// A registry of the test's own, on a port that the kernel chose.
struct Registry {
    addr: SocketAddr,
    process: Child,
    dir: tempfile::TempDir,
}

impl Registry {
    fn start() -> Self {
        Self::start_with("")
    }

    fn start_locked() -> Self {
        Self::start_with("auth: {htpasswd: {realm: here, path: DIR/htpasswd}}\n")
    }

    fn start_with(more: &str) -> Self {
        let dir = tempfile::tempdir().expect("folder");
        let at = dir.path().display().to_string();
        std::fs::write(dir.path().join("htpasswd"), HTPASSWD).expect("written");
        let config = format!(
            "version: 0.1\nlog: {{level: info, formatter: json}}\nstorage: {{filesystem: {{rootdirectory: DIR/data}}}}\n\
             http: {{addr: '127.0.0.1:0'}}\n{more}"
        );
        let file = dir.path().join("config.yml");
        std::fs::write(&file, config.replace("DIR", &at)).expect("written");
        let mut process = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("Debian's docker-registry; `cargo xtask setup` installs it");
        let stderr = process.stderr.take().expect("its log");
        let mut lines = BufReader::new(stderr).lines();
        let addr = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| {
                let (_, addr) = line.split_once("listening on ")?;
                addr.split('"').next()?.parse().ok()
            })
            .expect("it listens");
        // Its log would fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { addr, process, dir }
    }

    fn oci(&self, rest: &str) -> String {
        format!("oci://{}/{rest}", self.addr)
    }

    /// Pushes as an author does; the manifest's digest.
    async fn push(&self, image: &str, layers: &[(&str, Vec<u8>)], config: &str, auth: &RegistryAuth) -> String {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| {
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
        let client = Client::new(ClientConfig {
            protocol: ClientProtocol::Http,
            ..ClientConfig::default()
        });
        let image: Reference = format!("{}/{image}", self.addr).parse().expect("a reference");
        let layers: Vec<ImageLayer> = layers
            .iter()
            .map(|(kind, bytes)| ImageLayer::new(bytes.clone(), (*kind).to_owned(), None))
            .collect();
        let config = Config::new(&b"{}"[..], config.to_owned(), None);
        client.push(&image, &layers, config, auth, None).await.expect("pushed");
        client.fetch_manifest_digest(&image, auth).await.expect("a digest")
    }

    async fn push_signed(&self, image: &str, name: &str) -> String {
        let layers = [(COMPONENT_TYPE, component(name)), (SIGNATURE_TYPE, signature(name))];
        self.push(image, &layers, PLUGIN_TYPE, &RegistryAuth::Anonymous).await
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn expect_signed(fetched: &Fetched, name: &str) {
    assert_eq!(fetched.component, component(name));
    assert_eq!(fetched.signature, Some(signature(name)));
    assert_eq!(fetched.digest.as_str(), hex(&component(name)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_is_fetched_by_tag_and_by_digest() {
    let registry = Registry::start();
    let digest = registry.push_signed("team/oom-alert:1.0", "one").await;
    let by_tag = fetched(&registry.oci("team/oom-alert:1.0"), &quick())
        .await
        .expect("by tag");
    expect_signed(&by_tag, "one");
    assert_eq!(by_tag.resolved, registry.oci(&format!("team/oom-alert:1.0@{digest}")));

    // What is resolved stays what it was, wherever the tag goes.
    registry.push_signed("team/oom-alert:1.0", "two").await;
    let moved = fetched(&registry.oci("team/oom-alert:1.0"), &quick())
        .await
        .expect("by tag");
    expect_signed(&moved, "two");
    let pinned = fetched(&by_tag.resolved, &quick()).await.expect("by digest");
    assert_eq!(pinned, by_tag);
    let alone = fetched(&registry.oci(&format!("team/oom-alert@{digest}")), &quick()).await;
    expect_signed(&alone.expect("by digest alone"), "one");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_tag_it_is_the_latest_and_without_a_signature_there_is_none() {
    let registry = Registry::start();
    let layers = [(COMPONENT_TYPE, component("bare"))];
    registry
        .push("bare:latest", &layers, PLUGIN_TYPE, &RegistryAuth::Anonymous)
        .await;
    let fetched = fetched(&registry.oci("bare"), &quick()).await.expect("the latest");
    assert_eq!((fetched.component, fetched.signature), (component("bare"), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_registry_doesnt_have_is_named() {
    let registry = Registry::start();
    registry.push_signed("a:1", "a").await;
    let wrong = format!("a@sha256:{}", "0".repeat(64));
    for missing in ["a:2", "a", "b:1", wrong.as_str()] {
        let error = refused(&registry.oci(missing), &quick()).await;
        assert!(matches!(error, SourceError::NotFound { .. }), "{error}");
        assert!(error.to_string().contains(missing), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_no_plugin_and_a_module_no_component() {
    let registry = Registry::start();
    let tar = [("application/vnd.oci.image.layer.v1.tar+gzip", b"tar".to_vec())];
    let image = "application/vnd.oci.image.config.v1+json";
    registry.push("image:1", &tar, image, &RegistryAuth::Anonymous).await;
    let error = refused(&registry.oci("image:1"), &quick()).await;
    assert!(matches!(error, SourceError::NotAPlugin { .. }), "{error}");
    for (name, bytes, says) in [
        ("module", b"\0asm\x01\0\0\0".to_vec(), "a core module"),
        ("page", b"<html>".to_vec(), "doesn't begin as WebAssembly"),
    ] {
        let layers = [(COMPONENT_TYPE, bytes)];
        let image = format!("{name}:1");
        registry
            .push(&image, &layers, PLUGIN_TYPE, &RegistryAuth::Anonymous)
            .await;
        let error = refused(&registry.oci(&image), &quick()).await;
        assert!(matches!(error, SourceError::NotAComponent { .. }), "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_registry_opens_to_the_operators_file_alone() {
    let registry = Registry::start_locked();
    let auth = RegistryAuth::Basic("user".to_owned(), "password".to_owned());
    let layers = [(COMPONENT_TYPE, component("a"))];
    registry.push("a:1", &layers, PLUGIN_TYPE, &auth).await;
    let a = registry.oci("a:1");
    let error = refused(&a, &quick()).await;
    assert!(matches!(error, SourceError::Denied { status: 401, .. }), "{error}");

    let file = registry.dir.path().join("auth");
    let mut options = quick();
    options.registry_auth = Some(file.clone());
    secret(&file, "user:password\n");
    assert_eq!(fetched(&a, &options).await.expect("let in").component, component("a"));
    secret(&file, "user:hunter2\n");
    let error = refused(&a, &options).await;
    assert!(matches!(error, SourceError::Denied { status: 401, .. }), "{error}");
    assert!(!error.to_string().contains("hunter2"), "{error}");

    // Docker's file, for this registry and for another.
    let mut options = quick();
    options.docker_config = Some(file.clone());
    // `user:password`
    let entry = "{\"auth\":\"dXNlcjpwYXNzd29yZA==\"}";
    secret(&file, &format!("{{\"auths\":{{\"{}\":{entry}}}}}", registry.addr));
    assert_eq!(fetched(&a, &options).await.expect("let in").component, component("a"));
    secret(&file, &format!("{{\"auths\":{{\"registry.example.org\":{entry}}}}}"));
    let error = refused(&a, &options).await;
    assert!(matches!(error, SourceError::Denied { status: 401, .. }), "{error}");
}

/// Writes a file for its owner alone.
fn secret(path: &std::path::Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).expect("written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("changed");
}
