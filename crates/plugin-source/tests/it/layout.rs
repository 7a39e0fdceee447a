//! OCI layouts in folders, of strangers too.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use clawker_plugin_source::{COMPONENT_TYPE, SourceError};
use serde_json::{Value, json};

use crate::plugin::{
    MANIFEST_TYPE, component, descriptor, fetched, hex, manifest, quick, refused, signature, signed, unfit,
};

struct Layout {
    dir: tempfile::TempDir,
    manifests: Vec<Value>,
}

impl Layout {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("folder");
        std::fs::create_dir_all(dir.path().join("blobs/sha256")).expect("made");
        std::fs::write(dir.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("written");
        let layout = Self {
            dir,
            manifests: Vec::new(),
        };
        layout.write_index();
        layout
    }

    /// With the signed plugin of each name, tagged so.
    fn of(names: &[&str]) -> Self {
        let mut layout = Self::new();
        for name in names {
            layout.add(&signed(name).to_string(), name);
            layout.blob(&component(name));
            layout.blob(&signature(name));
        }
        layout
    }

    fn add(&mut self, json: &str, tag: &str) -> String {
        let mut entry = descriptor(MANIFEST_TYPE, json.as_bytes());
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
        self.manifests.push(entry);
        self.write_index();
        self.blob(json.as_bytes());
        hex(json.as_bytes())
    }

    fn write_index(&self) {
        let index = json!({"schemaVersion": 2, "manifests": self.manifests});
        std::fs::write(self.dir.path().join("index.json"), index.to_string()).expect("written");
    }

    fn blob(&self, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join("blobs/sha256").join(hex(bytes));
        std::fs::write(&path, bytes).expect("written");
        path
    }

    fn at(&self) -> &Path {
        self.dir.path()
    }

    fn reference(&self, rest: &str) -> String {
        format!("oci-layout:{}{rest}", self.at().display())
    }
}

#[tokio::test]
async fn a_layout_with_one_plugin_needs_no_tag() {
    let layout = Layout::of(&["a"]);
    let got = fetched(&layout.reference(""), &quick()).await.expect("fetched");
    assert_eq!(
        (got.component.clone(), got.signature.clone()),
        (component("a"), Some(signature("a")))
    );
    let digest = hex(signed("a").to_string().as_bytes());
    let real = layout.at().canonicalize().expect("there");
    assert_eq!(got.resolved, format!("oci-layout:{}@sha256:{digest}", real.display()));
    assert_eq!(fetched(&got.resolved, &quick()).await.expect("pinned"), got);
}

#[tokio::test]
async fn of_several_one_is_named() {
    let mut layout = Layout::of(&["a", "b"]);
    let b = fetched(&layout.reference(":b"), &quick()).await.expect("fetched");
    assert_eq!(b.component, component("b"));
    let digest = hex(signed("a").to_string().as_bytes());
    let a = fetched(&layout.reference(&format!("@sha256:{digest}")), &quick()).await;
    assert_eq!(a.expect("fetched").component, component("a"));

    let error = refused(&layout.reference(""), &quick()).await;
    assert!(matches!(error, SourceError::Several { .. }), "{error}");
    assert!(error.to_string().ends_with("name one of: :a, :b"), "{error}");
    let error = refused(&layout.reference(":c"), &quick()).await;
    assert!(matches!(error, SourceError::NotFound { .. }), "{error}");
    // Two of the same tag, neither of which is meant more.
    layout.add(&signed("c").to_string(), "b");
    let error = refused(&layout.reference(":b"), &quick()).await;
    assert!(matches!(error, SourceError::Several { .. }), "{error}");
    let error = refused(&layout.reference(&format!("@sha256:{}", "0".repeat(64))), &quick()).await;
    assert!(matches!(error, SourceError::Io { .. }), "{error}");
}

#[tokio::test]
async fn a_blob_that_isnt_its_digest_is_refused() {
    for original in [signed("a").to_string().into_bytes(), component("a"), signature("a")] {
        let layout = Layout::of(&["a"]);
        let path = layout.blob(&original);
        let mut changed = original.clone();
        *changed.last_mut().expect("a byte") ^= 1;
        std::fs::write(&path, &changed).expect("written");
        let error = refused(&layout.reference(""), &quick()).await;
        assert!(matches!(error, SourceError::Digest { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_blob_larger_than_was_said_isnt_read() {
    let layout = Layout::of(&["a"]);
    let path = layout.blob(&component("a"));
    std::fs::File::options()
        .write(true)
        .open(path)
        .and_then(|file| file.set_len(64 << 20))
        .expect("grown");
    let error = refused(&layout.reference(""), &quick()).await;
    assert!(
        matches!(error, SourceError::TooLarge { len: 67_108_864, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn digests_that_are_paths_are_no_digests() {
    let layout = Layout::new();
    for digest in ["sha256:../../../etc/passwd", "../../x", "sha256:", "sha512:00"] {
        let index = json!({"schemaVersion": 2, "manifests": [{"digest": digest, "size": 1}]});
        std::fs::write(layout.at().join("index.json"), index.to_string()).expect("written");
        let error = refused(&layout.reference(""), &quick()).await;
        assert!(matches!(error, SourceError::Malformed { .. }), "{error}");
        assert!(error.to_string().contains("isn't `sha256:<64 hex digits>`"), "{error}");
    }
}

#[tokio::test]
async fn no_symlink_of_a_layout_is_followed() {
    let outside = Layout::of(&["a"]);
    let files = [
        "oci-layout".to_owned(),
        "index.json".to_owned(),
        format!("blobs/sha256/{}", hex(&component("a"))),
        "blobs/sha256".to_owned(),
        "blobs".to_owned(),
    ];
    for name in files {
        let layout = Layout::of(&["a"]);
        let path = layout.at().join(&name);
        std::fs::rename(&path, layout.at().join("moved")).expect("moved");
        symlink(outside.at().join(&name), &path).expect("linked");
        let error = refused(&layout.reference(""), &quick()).await;
        assert!(
            matches!(
                error,
                SourceError::NotAFile {
                    kind: "behind a symlink",
                    ..
                }
            ),
            "{name}: {error}"
        );
    }
    // The layout itself may be behind one: that is the person's own.
    let dir = tempfile::tempdir().expect("folder");
    symlink(outside.at(), dir.path().join("link")).expect("linked");
    let link = format!("oci-layout:{}", dir.path().join("link").display());
    fetched(&link, &quick()).await.expect("fetched");
}

#[tokio::test]
async fn a_fifo_for_a_blob_holds_nobody_up() {
    let layout = Layout::of(&["a"]);
    let path = layout.blob(&component("a"));
    std::fs::remove_file(&path).expect("removed");
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a FIFO");
    let error = refused(&layout.reference(""), &quick()).await;
    assert!(matches!(error, SourceError::NotAFile { kind: "a FIFO", .. }), "{error}");
}

#[tokio::test]
async fn manifests_of_something_else_are_refused_by_name() {
    for (json, says) in unfit() {
        let mut layout = Layout::new();
        layout.add(&json, "a");
        let error = refused(&layout.reference(":a"), &quick()).await.to_string();
        assert!(error.contains(says), "{json:.300}: {error}");
    }
}

#[tokio::test]
async fn what_is_no_layout_is_refused_by_name() {
    let junk = [
        ("oci-layout", "junk"),
        ("oci-layout", "{}"),
        ("oci-layout", r#"{"imageLayoutVersion":"2.0.0"}"#),
        ("index.json", "junk"),
        ("index.json", r#"{"schemaVersion":2}"#),
        ("index.json", r#"{"schemaVersion":1,"manifests":[]}"#),
    ];
    for (name, text) in junk {
        let layout = Layout::of(&["a"]);
        std::fs::write(layout.at().join(name), text).expect("written");
        let error = refused(&layout.reference(""), &quick()).await;
        assert!(matches!(error, SourceError::Malformed { .. }), "{text}: {error}");
        assert!(error.to_string().contains(name), "{error}");
        std::fs::remove_file(layout.at().join(name)).expect("removed");
        let error = refused(&layout.reference(""), &quick()).await;
        assert!(matches!(error, SourceError::Io { .. }), "{error}");
        std::fs::write(layout.at().join(name), vec![b' '; (1 << 20) + 1]).expect("written");
        let error = refused(&layout.reference(""), &quick()).await;
        assert!(matches!(error, SourceError::TooLarge { .. }), "{error}");
    }
    let empty = Layout::new();
    let error = refused(&empty.reference(""), &quick()).await;
    assert!(matches!(error, SourceError::NotFound { .. }), "{error}");
    let error = refused("oci-layout:/no/such/folder", &quick()).await;
    assert!(matches!(error, SourceError::Io { .. }), "{error}");
    // An unsigned one is fetched all the same; whether that does is the trust store's to say.
    let mut bare = Layout::new();
    bare.add(
        &manifest(&[descriptor(COMPONENT_TYPE, &component("a"))]).to_string(),
        "a",
    );
    bare.blob(&component("a"));
    assert_eq!(
        fetched(&bare.reference(""), &quick()).await.expect("fetched").signature,
        None
    );
}
