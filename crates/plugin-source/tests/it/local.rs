//! Files, projects' folders, paths of the Nix store.

use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use clawker_plugin_source::{Options, SourceError};

use crate::plugin::{component, fetched, hex, quick, refused, signature};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("folder"))
    }

    fn at(&self) -> PathBuf {
        self.0.path().canonicalize().expect("there")
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.at().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(&path, bytes).expect("written");
        path
    }

    /// As if this folder were the Nix store.
    fn as_store(&self) -> Options {
        Options {
            nix_store: self.at(),
            ..quick()
        }
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[tokio::test]
async fn a_file_comes_with_the_signature_beside_it() {
    let folder = Folder::new();
    let path = folder.write("a.wasm", component("a"));
    let bare = fetched(&text(&path), &quick()).await.expect("read");
    assert_eq!((bare.component, bare.signature), (component("a"), None));
    folder.write("a.wasm.sig", signature("a"));
    let a = fetched(&text(&path), &quick()).await.expect("read");
    assert_eq!(a.signature, Some(signature("a")));
    assert_eq!(
        a.resolved,
        format!("{}#sha256={}", path.display(), hex(&component("a")))
    );
    assert_eq!(fetched(&a.resolved, &quick()).await.expect("pinned"), a);

    // Behind a symlink: resolved is what is behind it, the signature is beside either.
    let link = folder.at().join("link.wasm");
    symlink(&path, &link).expect("linked");
    folder.write("link.wasm.sig", signature("link"));
    let linked = fetched(&text(&link), &quick()).await.expect("read");
    assert_eq!(
        (linked.resolved, linked.signature),
        (a.resolved.clone(), Some(signature("link")))
    );

    folder.write("a.wasm", component("b"));
    let error = refused(&a.resolved, &quick()).await;
    assert!(matches!(error, SourceError::Digest { .. }), "{error}");
}

#[tokio::test]
async fn what_is_missing_or_no_component_is_named() {
    let folder = Folder::new();
    let missing = folder.at().join("missing.wasm");
    let error = refused(&text(&missing), &quick()).await;
    assert!(
        error.is_absent() && error.to_string().contains("missing.wasm"),
        "{error}"
    );
    for (bytes, says) in [
        (&b""[..], "doesn't begin as WebAssembly"),
        (b"\0asm\x0d\0\x01", "doesn't begin as WebAssembly"),
        (b"\x7fELF....", "doesn't begin as WebAssembly"),
        (b"\0asm\x01\0\0\0", "a core module; `clawker plugin build`"),
    ] {
        let path = folder.write("a.wasm", bytes);
        let error = refused(&text(&path), &quick()).await;
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[tokio::test]
async fn what_is_no_file_is_refused_without_opening_it() {
    let folder = Folder::new();
    let fifo = folder.at().join("fifo.wasm");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a FIFO");
    let socket = folder.at().join("socket.wasm");
    let _listener = UnixListener::bind(&socket).expect("a socket");
    let cases = [(fifo, "a FIFO"), (socket, "a socket"), ("/dev/zero".into(), "a device")];
    for (path, is) in cases {
        let error = refused(&text(&path), &quick()).await;
        assert!(
            matches!(error, SourceError::NotAFile { kind, .. } if kind == is),
            "{error}"
        );
    }
    // The same for the signature.
    let path = folder.write("a.wasm", component("a"));
    symlink("/dev/zero", folder.at().join("a.wasm.sig")).expect("linked");
    let error = refused(&text(&path), &quick()).await;
    assert!(
        matches!(error, SourceError::NotAFile { kind: "a device", .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_file_over_the_limit_isnt_read() {
    let folder = Folder::new();
    let path = folder.write("a.wasm", component("a"));
    let grow = |path: &Path, to: u64| {
        let file = std::fs::File::options().write(true).open(path).expect("opened");
        file.set_len(to).expect("grown");
    };
    grow(&path, 64 << 20);
    let error = refused(&text(&path), &quick()).await;
    assert!(
        matches!(
            error,
            SourceError::TooLarge {
                len: 67_108_864,
                max: 33_554_432,
                ..
            }
        ),
        "{error}"
    );
    grow(&path, 32 << 20);
    fetched(&text(&path), &quick()).await.expect("just so");
    let beside = folder.write("a.wasm.sig", "");
    grow(&beside, 4097);
    let error = refused(&text(&path), &quick()).await;
    assert!(
        matches!(
            error,
            SourceError::TooLarge {
                len: 4097,
                max: 4096,
                ..
            }
        ),
        "{error}"
    );
    grow(&beside, 4096);
    fetched(&text(&path), &quick()).await.expect("just so");
}

#[tokio::test]
async fn a_projects_folder_stands_for_what_was_built_in_it() {
    let folder = Folder::new();
    let error = refused(&text(&folder.at()), &quick()).await;
    assert!(
        error.to_string().contains("no project (without plugin.toml)"),
        "{error}"
    );
    folder.write("plugin.toml", "[plugin]\nkind = \"policy\"\n");
    let error = refused(&text(&folder.at()), &quick()).await;
    assert!(error.to_string().contains("`clawker plugin build` makes it"), "{error}");
    // Without a name anywhere, the only one.
    folder.write("x.wasm", component("x"));
    let x = fetched(&text(&folder.at()), &quick()).await.expect("read");
    assert_eq!(x.component, component("x"));
    // The name that the package has.
    folder.write("Cargo.toml", "[package]\nname = \"oom-alert\"\nversion = \"0.1.0\"\n");
    let error = refused(&text(&folder.at()), &quick()).await;
    assert!(error.to_string().contains("no oom-alert.wasm"), "{error}");
    folder.write("oom-alert.wasm", component("oom"));
    folder.write("oom-alert.wasm.sig", signature("oom"));
    let oom = fetched(&text(&folder.at()), &quick()).await.expect("read");
    assert_eq!(
        (oom.component, oom.signature),
        (component("oom"), Some(signature("oom")))
    );
    // The name in plugin.toml goes before it.
    folder.write("plugin.toml", "[plugin]\nname = \"x\"\n");
    assert_eq!(
        fetched(&text(&folder.at()), &quick()).await.expect("read").component,
        component("x")
    );

    for (toml, says) in [
        ("[plugin]\nname = \"../x\"\n", "no plugin's name"),
        ("[plugin]\nname = \"\"\n", "no plugin's name"),
        ("junk", "plugin.toml"),
        (&*" ".repeat((64 << 10) + 1), "65537 bytes"),
    ] {
        folder.write("plugin.toml", toml);
        let error = refused(&text(&folder.at()), &quick()).await.to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[tokio::test]
async fn a_store_path_stands_for_the_only_component_in_it() {
    let store = Folder::new();
    let path = store.write("hash-oom/lib/clawker/plugins/oom.wasm", component("oom"));
    let oom = store.at().join("hash-oom");
    let got = fetched(&text(&oom), &store.as_store()).await.expect("read");
    assert_eq!(got.component, component("oom"));
    assert!(got.resolved.starts_with(&text(&path)), "{}", got.resolved);
    // A result of `nix build` is a symlink to it.
    let elsewhere = Folder::new();
    symlink(&oom, elsewhere.at().join("result")).expect("linked");
    let result = fetched(&text(&elsewhere.at().join("result")), &store.as_store()).await;
    assert_eq!(result.expect("read"), got);

    store.write("hash-flat/flat.wasm", component("flat"));
    let flat = fetched(&text(&store.at().join("hash-flat")), &store.as_store()).await;
    assert_eq!(flat.expect("read").component, component("flat"));
    // Not in the store, the same folder stands for nothing.
    let error = refused(&text(&store.at().join("hash-flat")), &quick()).await;
    assert!(matches!(error, SourceError::NoComponent { .. }), "{error}");

    store.write("hash-oom/lib/clawker/plugins/other.wasm", component("other"));
    let error = refused(&text(&oom), &store.as_store()).await;
    assert!(matches!(error, SourceError::Several { .. }), "{error}");
    store.write("hash-none/share/doc", "");
    let error = refused(&text(&store.at().join("hash-none")), &store.as_store()).await;
    assert!(matches!(error, SourceError::NoComponent { .. }), "{error}");
}
