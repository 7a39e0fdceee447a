use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;

use super::*;
use crate::SecretKey;

const NOW: u64 = 1_800_000_000_000;

struct Author {
    _dir: tempfile::TempDir,
    key: SecretKey,
}

impl Author {
    fn new(name: &str) -> Self {
        let dir = tempfile::tempdir().expect("folder");
        let key = SecretKey::make(&dir.path().join("key"), name).expect("a key");
        Self { _dir: dir, key }
    }

    fn id(&self) -> KeyId {
        self.key.public().id()
    }

    fn entry(&self, rest: &str) -> String {
        format!("[[key]]\nkey = \"{}\"\n{rest}\n", self.key.public())
    }
}

fn digest(n: u8) -> PluginDigest {
    PluginDigest::parse(&format!("{n:02x}").repeat(32)).expect("digest")
}

fn trust(parts: &[String]) -> Trust {
    Trust::parse(&format!("format = 1\n{}", parts.concat())).expect("a trust file")
}

/// What the key says to a policy `oom-alert` of the first digest that asks for these.
fn ask(
    trust: &Trust,
    signature: Option<&Signature>,
    asked: &[&str],
    installed: Option<&KeyId>,
) -> Result<Judged, Refused> {
    trust.judge(&Question {
        name: "oom-alert",
        kind: Kind::Policy,
        digest: &digest(1),
        asked: &Grants::parse(asked.iter().copied()).expect("grants"),
        signature,
        installed,
        now_ms: NOW,
    })
}

const POLICIES: &str = "plugins = [\"oom-*\"]\nkinds = [\"policy\"]";

#[test]
fn a_plugin_of_a_trusted_author_is_taken_within_the_keys_scope() {
    let alice = Author::new("alice");
    let signature = Signature::make(&alice.key, &digest(1));
    let ok = trust(&[alice.entry(POLICIES)]);
    let judged = ask(&ok, Some(&signature), &["log", "settings"], None).expect("taken");
    assert_eq!((judged.key, judged.signer), (alice.id(), Signer::ThirdParty));
    assert_eq!(judged.author, "alice");
    for (scope, asked, what) in [
        (
            "plugins = [\"git-*\"]\nkinds = [\"policy\"]",
            "log",
            "a plugin called `oom-alert`",
        ),
        (
            "plugins = [\"oom\"]\nkinds = [\"policy\"]",
            "log",
            "a plugin called `oom-alert`",
        ),
        ("plugins = [\"*\"]\nkinds = [\"step\", \"gate\"]", "log", "a policy"),
        ("plugins = [\"*\"]\nkinds = [\"policy\"]", "exec", "`exec`"),
        (
            "plugins = [\"*\"]\nkinds = [\"policy\"]\ngrants = [\"exec:git *\"]",
            "exec",
            "`exec`",
        ),
    ] {
        let narrow = trust(&[alice.entry(scope)]);
        let refused = ask(&narrow, Some(&signature), &[asked], None).expect_err(scope);
        assert!(
            matches!(&refused, Refused::OutOfScope { what: of, .. } if of == what),
            "{refused}"
        );
    }
    let wide = trust(&[alice.entry("plugins = [\"oom-alert\"]\nkinds = [\"policy\"]\ngrants = [\"exec\"]")]);
    assert!(ask(&wide, Some(&signature), &["exec:git *"], None).is_ok());
}

#[test]
fn unsigned_foreign_replayed_and_forged_signatures_are_told_apart() {
    let (alice, mallory) = (Author::new("alice"), Author::new("mallory"));
    let trust = trust(&[alice.entry(POLICIES)]);
    let of = |author: &Author, n| Signature::make(&author.key, &digest(n));
    assert_eq!(ask(&trust, None, &[], None), Err(Refused::Unsigned));
    let foreign = ask(&trust, Some(&of(&mallory, 1)), &[], None);
    assert_eq!(foreign, Err(Refused::UnknownKey { key: mallory.id() }));
    let replayed = ask(&trust, Some(&of(&alice, 2)), &[], None);
    let other = |error: &SignatureError| matches!(error, SignatureError::OtherComponent { .. });
    assert!(
        matches!(&replayed, Err(Refused::Signature(error)) if other(error)),
        "{replayed:?}"
    );
    let json = of(&mallory, 1)
        .to_json()
        .replace(mallory.id().as_str(), alice.id().as_str());
    let forged = Signature::parse(json.as_bytes()).expect("well formed");
    let forged = ask(&trust, Some(&forged), &[], None);
    let wrong = |error: &SignatureError| matches!(error, SignatureError::Wrong { .. });
    assert!(
        matches!(&forged, Err(Refused::Signature(error)) if wrong(error)),
        "{forged:?}"
    );
}

#[test]
fn trust_ends_when_it_is_said_to() {
    let alice = Author::new("alice");
    let signature = Signature::make(&alice.key, &digest(1));
    let until = |at: &str| trust(&[alice.entry(&format!("{POLICIES}\nexpires = \"{at}\""))]);
    assert!(ask(&until("2027-01-15T08:00:00.001Z"), Some(&signature), &[], None).is_ok());
    let ended = ask(&until("2027-01-15T08:00:00Z"), Some(&signature), &[], None);
    assert!(matches!(ended, Err(Refused::Expired { .. })), "{ended:?}");
}

#[test]
fn only_the_same_key_or_its_successor_follows_an_installed_version() {
    let (old, new) = (Author::new("alice"), Author::new("alice-2027"));
    let signature = Signature::make(&new.key, &digest(1));
    let stranger = trust(&[old.entry(POLICIES), new.entry(POLICIES)]);
    let refused = ask(&stranger, Some(&signature), &[], Some(&old.id()));
    assert!(matches!(refused, Err(Refused::AnotherKey { .. })), "{refused:?}");
    let heir = new.entry(&format!("{POLICIES}\nsuccessor-of = \"{}\"", old.id()));
    assert!(ask(&trust(&[heir]), Some(&signature), &[], Some(&old.id())).is_ok());
    assert!(ask(&stranger, Some(&signature), &[], Some(&new.id())).is_ok());
}

#[test]
fn what_is_revoked_is_neither_taken_nor_run() {
    let alice = Author::new("alice");
    let signature = Signature::make(&alice.key, &digest(1));
    let component = format!("[[revoked]]\ndigest = \"sha256:{}\"\nwhy = \"leaks\"\n", digest(1));
    let by_digest = trust(&[alice.entry(POLICIES), component]);
    let key = format!("[[revoked]]\nkey = \"{}\"\nwhy = \"stolen\"\n", alice.id());
    let by_key = trust(&[alice.entry(POLICIES), key]);
    let refused = ask(&by_digest, Some(&signature), &[], None);
    assert_eq!(refused, Err(Refused::Revoked { why: "leaks".into() }));
    assert!(by_digest.still(&digest(1), &alice.id()).is_err());
    assert!(by_digest.still(&digest(2), &alice.id()).is_ok());
    let refused = ask(&by_key, Some(&signature), &[], None);
    assert!(matches!(refused, Err(Refused::KeyRevoked { .. })), "{refused:?}");
    assert!(by_key.still(&digest(2), &alice.id()).is_err());
    // A developer's own word isn't above it.
    let developer = by_key.with_development(alice.key.public());
    assert!(ask(&developer, Some(&signature), &[], None).is_err());
}

#[test]
fn a_development_key_may_do_everything_in_a_class_of_its_own() {
    let me = Author::new("development");
    let signature = Signature::make(&me.key, &digest(1));
    let trust = Trust::default().with_development(me.key.public());
    let judged = ask(&trust, Some(&signature), &["exec", "secrets"], None).expect("taken");
    assert_eq!(judged.signer, Signer::Development);
    let other = Author::new("other").id();
    assert!(matches!(
        ask(&trust, Some(&signature), &[], Some(&other)),
        Err(Refused::AnotherKey { .. })
    ));
}

#[test]
fn a_file_of_keys_that_is_wrong_is_refused_by_what_is_wrong() {
    let alice = Author::new("alice");
    let entry = alice.entry(POLICIES);
    for (text, says) in [
        (String::new(), "format"),
        ("format = 2".into(), "format 2"),
        (format!("format = 1\n{}", entry.replace("kinds", "kind")), "kind"),
        (
            format!("format = 1\n{}", entry.replace("[\"policy\"]", "[]")),
            "at least one",
        ),
        (
            format!("format = 1\n{}", entry.replace("oom-*", "oom-*-x")),
            "no plugin's name",
        ),
        (
            format!("format = 1\n{}", entry.replace("oom-*", "../x")),
            "no plugin's name",
        ),
        (
            format!("format = 1\n{}", entry.replace("-1:", "-9:")),
            "a public key is",
        ),
        (format!("format = 1\n{entry}{entry}"), "twice"),
        (format!("format = 1\n{entry}expires = \"tomorrow\""), "a time like"),
        (format!("format = 1\n{entry}grants = [\"network\"]"), "no grant"),
        ("format = 1\n[[revoked]]\nwhy = \"x\"".into(), "a digest or a key"),
        ("format = 1\n[[revoked]]\ndigest = \"x\"\nwhy = \"x\"".into(), "sha256:"),
        (
            format!(
                "format = 1\n{}",
                "[[revoked]]\nkey = \"00000000000000000000000000000000\"\nwhy = \"x\"\n".repeat(1001)
            ),
            "1000",
        ),
    ] {
        let error = Trust::parse(&text).expect_err(says);
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn the_example_of_the_page_is_a_file_of_keys() {
    let page = include_str!("../../../../docs/plugins/trust.md");
    let example = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next());
    let trust = Trust::parse(example.expect("an example")).expect("a file of keys");
    assert_eq!((trust.keys.len(), trust.digests.len()), (2, 1));
}

#[test]
fn a_file_of_keys_that_others_may_change_is_refused() {
    let dir = tempfile::tempdir().expect("folder");
    let path = dir.path().join("trust.toml");
    assert!(Trust::load(&path).is_ok(), "nobody is trusted without one");
    std::fs::write(&path, "format = 1\n").expect("written");
    let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("changed");
    mode(0o644);
    assert!(Trust::load(&path).is_ok());
    for open in [0o666, 0o664, 0o646] {
        mode(open);
        assert!(matches!(Trust::load(&path), Err(TrustError::Writable { .. })));
    }
    mode(0o644);
    std::fs::write(&path, vec![b'#'; MAX_TRUST as usize + 1]).expect("written");
    assert!(matches!(Trust::load(&path), Err(TrustError::Malformed { .. })));
    assert!(matches!(Trust::load(dir.path()), Err(TrustError::Malformed { .. })));
}

proptest! {
    #[test]
    fn no_text_is_a_panic(text in "\\PC{0,200}") {
        let _ = Trust::parse(&text);
        let _ = Trust::parse(&format!("format = 1\n[[key]]\n{text}"));
    }
}
