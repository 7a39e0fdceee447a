use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::{Asked, Grants, Kind, Pin, SecretKey, Signer};

struct Host {
    dir: tempfile::TempDir,
    author: SecretKey,
}

impl Host {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("folder");
        let author = SecretKey::make(&dir.path().join("author.key"), "alice").expect("a key");
        Self { dir, author }
    }

    fn plugins(&self) -> PathBuf {
        self.dir.path().join("plugins")
    }

    fn open(&self) -> Result<Store, StoreError> {
        self.open_with(None)
    }

    fn open_with(&self, faults: Faults) -> Result<Store, StoreError> {
        Store::open(&self.plugins(), Zeroizing::new([7; 32]), faults)
    }

    /// Installs these bytes under that name, as a control plane does.
    fn install(&self, store: &mut Store, name: &str, component: &[u8]) -> Result<PluginDigest, StoreError> {
        let digest = store.put(component, &Signature::make(&self.author, &super::digest(component)))?;
        let entry = self.entry(name, &digest);
        store.commit(|plugins| {
            let previous = plugins.get(name).map(|before| before.pin.clone());
            plugins.insert(name.to_owned(), Entry { previous, ..entry });
        })?;
        Ok(digest)
    }

    fn entry(&self, name: &str, digest: &PluginDigest) -> Entry {
        Entry {
            name: name.into(),
            kind: Kind::Policy,
            installed_ms: 1,
            enabled: true,
            mode: "enforce".into(),
            fallback: "lock-network".into(),
            fail_mode: "closed".into(),
            pin: Pin {
                version: "0.1.0".into(),
                digest: digest.clone(),
                key: self.author.public().id(),
                signer: Signer::ThirdParty,
                world: "0.1.0".into(),
                source: "a test".into(),
                settings: "{}".into(),
                grants: Grants::default(),
                limits: Asked::default(),
            },
            trial: None,
            previous: None,
        }
    }

    fn blobs(&self) -> usize {
        list(&self.plugins().join("blobs")).expect("listed").len()
    }
}

#[test]
fn what_was_installed_is_there_after_a_restart() {
    let host = Host::new();
    let mut store = host.open().expect("opens");
    let digest = host.install(&mut store, "p", b"code").expect("installs");
    drop(store);
    let store = host.open().expect("opens");
    assert_eq!(store.entries()["p"].pin.digest, digest);
    assert_eq!(store.read(&digest).expect("read"), b"code");
    assert_eq!(store.signature(&digest).expect("read").digest, digest);
}

#[test]
fn components_go_when_nothing_names_them_any_more() {
    let host = Host::new();
    let mut store = host.open().expect("opens");
    let first = host.install(&mut store, "p", b"one").expect("installs");
    host.install(&mut store, "p", b"two").expect("installs");
    assert!(store.read(&first).is_ok(), "to go back to");
    host.install(&mut store, "p", b"three").expect("installs");
    assert!(matches!(store.read(&first), Err(StoreError::Missing(_))));
    store.commit(|plugins| drop(plugins.remove("p"))).expect("removes");
    assert_eq!(host.blobs(), 0);
    store
        .put(b"never committed", &Signature::make(&host.author, &super::digest(b"x")))
        .expect("put");
    drop(store);
    host.open().expect("opens");
    assert_eq!(host.blobs(), 0);
}

#[test]
fn an_installation_that_is_cut_anywhere_leaves_the_old_or_the_new() {
    let mut cut = 0;
    loop {
        let host = Host::new();
        let mut store = host.open().expect("opens");
        let old = host.install(&mut store, "p", b"old").expect("installs");
        drop(store);
        let (left, reached) = (Arc::new(AtomicUsize::new(cut)), Arc::new(AtomicUsize::new(0)));
        let faults: Faults = Some(Box::new({
            let (left, reached) = (left.clone(), reached.clone());
            move |_| {
                reached.fetch_add(1, Ordering::SeqCst);
                let cut = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
                cut.map(drop).map_err(|_| io::Error::other("the host died"))
            }
        }));
        let mut store = host.open_with(faults).expect("opens");
        let result = host.install(&mut store, "p", b"new");
        drop(store);
        let store = host.open().expect("opens after the cut");
        let now = &store.entries()["p"].pin.digest;
        let bytes = store.read(now).expect("whole");
        assert!(bytes == b"old" || bytes == b"new");
        assert_eq!(list(&host.plugins().join("incoming")).expect("listed").len(), 0);
        let named: BTreeSet<_> = store
            .entries()
            .values()
            .flat_map(Entry::pins)
            .map(|pin| &pin.digest)
            .collect();
        assert_eq!(host.blobs(), 2 * named.len(), "cut {cut}");
        if result.is_ok() {
            assert!(cut > 10, "{cut} points only");
            assert_ne!(*now, old);
            break;
        }
        cut += 1;
    }
}

#[test]
fn one_process_at_a_time_has_the_store() {
    let host = Host::new();
    let store = host.open().expect("opens");
    assert!(matches!(host.open(), Err(StoreError::InUse(_))));
    drop(store);
    assert!(host.open().is_ok());
}

#[test]
fn a_component_that_was_changed_on_disk_is_not_given_out_and_heals_when_put_again() {
    let host = Host::new();
    let mut store = host.open().expect("opens");
    let digest = host.install(&mut store, "p", b"code").expect("installs");
    fs::write(store.blob(&digest, "wasm"), b"c0de").expect("written");
    assert!(matches!(store.read(&digest), Err(StoreError::Changed(_))));
    host.install(&mut store, "p", b"code").expect("installs");
    assert_eq!(store.read(&digest).expect("read"), b"code");
    fs::write(store.blob(&digest, "sig"), b"{}").expect("written");
    assert!(matches!(store.signature(&digest), Err(StoreError::Signature { .. })));
}

#[test]
fn a_lockfile_that_was_changed_by_hand_opens_nothing() {
    let host = Host::new();
    let mut store = host.open().expect("opens");
    host.install(&mut store, "p", b"code").expect("installs");
    drop(store);
    let path = host.plugins().join("plugins.lock");
    let text = fs::read_to_string(&path).expect("there");
    fs::write(&path, text.replace("enforce", "monitor")).expect("written");
    let changed = host.open().err();
    assert!(
        matches!(&changed, Some(StoreError::Lock(LockError::ChangedByHand(name))) if name == "p"),
        "{changed:?}"
    );
    fs::write(&path, text).expect("written");
    assert!(host.open().is_ok(), "nothing was lost");
}

#[test]
fn a_component_over_the_limit_is_not_kept() {
    let host = Host::new();
    let store = host.open().expect("opens");
    let large = vec![0; MAX_COMPONENT + 1];
    let signature = Signature::make(&host.author, &super::digest(&large));
    assert!(matches!(store.put(&large, &signature), Err(StoreError::TooLarge(_))));
    // A hole counts as what it says it is.
    let filler = host.plugins().join("blobs/filler.wasm");
    File::create(&filler)
        .and_then(|file| file.set_len(MAX_STORE))
        .expect("made");
    assert!(matches!(
        store.put(b"x", &Signature::make(&host.author, &super::digest(b"x"))),
        Err(StoreError::Full)
    ));
}
