//! The authority's phases on disk: each resumes after a crash, and handshakes hold throughout.

use std::path::Path;

use clawker_identity::authority::{Authority, AuthorityError, CONTROL_PLANE_LIFE, LEAF_LIFE, ROOT_LIFE, Validity};
use clawker_identity::control::{Capture, CaptureSlot, session_client};
use clawker_identity::handshake::handshake;
use clawker_identity::leaf::{Claims, Expected, judge};
use clawker_identity::{Credentials, agent};
use clawker_model::event::UntrustedReason;
use clawker_model::identity::RotationPhase;
use clawker_model::{ContainerId, FullName};
use rustls::pki_types::UnixTime;

fn name() -> FullName {
    FullName::parse("clawker.demo.a").expect("name")
}

fn container() -> ContainerId {
    ContainerId::parse(&"ab".repeat(32)).expect("id")
}

fn root_validity() -> Validity {
    Validity::from_now(ROOT_LIFE)
}

fn files(dir: &Path) -> usize {
    std::fs::read_dir(dir).expect("folder").count()
}

/// A session of `agent` with the control plane that shows `own`: what was captured, or who refused.
fn session(own: &Credentials, agent: &Credentials) -> Result<Capture, rustls::Error> {
    let slot = CaptureSlot::default();
    let client = session_client(own, slot.clone()).expect("config");
    let server = agent::server_config(agent).expect("config");
    handshake(client, server, "clawkerd")?;
    Ok(slot.get())
}

fn verdict(authority: &Authority, capture: &Capture) -> Result<(), UntrustedReason> {
    let (name, container, roots) = (name(), container(), authority.roots());
    let expected = Expected {
        name: &name,
        container: &container,
        roots: &roots,
    };
    judge(capture, &expected, UnixTime::now())
        .verdict
        .map_err(|distrust| distrust.reason)
}

/// As PID 1 does with what RotateIdentity brings.
fn renew(authority: &Authority, held: &Credentials) -> Credentials {
    let spki = Claims::read(&held.leaf).expect("a leaf").spki;
    let leaf = authority
        .renewed_leaf(&name(), &container(), &spki, Validity::from_now(LEAF_LIFE))
        .expect("signed");
    agent::renewed(held, leaf, authority.roots(), UnixTime::now()).expect("accepted")
}

#[test]
fn a_rotation_goes_through_its_phases_and_no_handshake_fails() {
    let mut authority = Authority::ephemeral().expect("an authority");
    let mut agent = authority.agent_leaf(&name(), &container()).expect("a leaf");
    let first = authority.root_id();
    for step in [Authority::introduce_now, Authority::switch, Authority::retire] {
        step(&mut authority).expect("a step");
        // The agent that wasn't told yet is shown a leaf under a root that it knows, while there is one.
        let known = clawker_identity::thumbprint(&agent.roots[0]);
        let own = authority
            .control_plane_leaf_under(&known, Validity::from_now(CONTROL_PLANE_LIFE))
            .expect("its root is in force");
        let capture = session(&own, &agent).expect("served");
        assert_eq!(verdict(&authority, &capture), Ok(()), "{}", authority.phase());

        agent = renew(&authority, &agent);
        let own = authority.control_plane_leaf().expect("a leaf");
        let capture = session(&own, &agent).expect("served");
        assert_eq!(verdict(&authority, &capture), Ok(()), "{}", authority.phase());
    }
    assert_ne!(authority.root_id(), first);
    assert_eq!(authority.roots().len(), 1);
    let gone = authority.control_plane_leaf_under(&first, Validity::from_now(CONTROL_PLANE_LIFE));
    assert!(matches!(gone, Err(AuthorityError::UnknownRoot { .. })));
}

#[test]
fn every_phase_survives_a_restart_and_a_retired_key_is_deleted() {
    let dir = tempfile::tempdir().expect("folder");
    let mut authority = Authority::open(dir.path()).expect("begun");
    for (step, phase, roots) in [
        (
            Authority::introduce_now as fn(&mut Authority) -> _,
            RotationPhase::Introduced,
            2,
        ),
        (Authority::switch, RotationPhase::Switched, 2),
        (Authority::retire, RotationPhase::Standby, 1),
    ] {
        step(&mut authority).expect("a step");
        let ids = authority.root_ids();
        authority = Authority::open(dir.path()).expect("opened again");
        assert_eq!((authority.phase(), authority.root_ids()), (phase, ids));
        assert_eq!(authority.roots().len(), roots);
        assert_eq!(files(dir.path()), 1 + 2 * roots, "a manifest, and two files a root");
    }
}

#[test]
fn what_an_interrupted_step_left_is_deleted_and_changes_nothing() {
    let dir = tempfile::tempdir().expect("folder");
    let before = Authority::open(dir.path()).expect("begun").root_ids();
    // A crash between the new root's files and the manifest, and one in the middle of a file.
    let other = tempfile::tempdir().expect("folder");
    let stray = Authority::open(other.path()).expect("another").root_id();
    for extension in ["key", "der"] {
        let file = format!("{stray}.{extension}");
        std::fs::copy(other.path().join(&file), dir.path().join(&file)).expect("copied");
    }
    std::fs::write(dir.path().join("authority.new"), b"{").expect("written");
    let opened = Authority::open(dir.path()).expect("opened");
    assert_eq!((opened.phase(), opened.root_ids()), (RotationPhase::Standby, before));
    assert_eq!(files(dir.path()), 3);
}

#[test]
fn steps_out_of_turn_are_refused() {
    let mut authority = Authority::ephemeral().expect("an authority");
    assert!(matches!(authority.switch(), Err(AuthorityError::OutOfTurn { .. })));
    assert!(matches!(authority.retire(), Err(AuthorityError::OutOfTurn { .. })));
    authority.introduce(root_validity()).expect("begun");
    let twice = authority.introduce(root_validity()).expect_err("twice").to_string();
    assert!(twice.contains("introduced"), "{twice}");
}

#[test]
fn a_damaged_folder_is_refused_with_what_to_do_and_never_overwritten() {
    let begin = || {
        let dir = tempfile::tempdir().expect("folder");
        let id = Authority::open(dir.path()).expect("begun").root_id();
        (dir, id)
    };
    type Damage = fn(&Path, &str);
    let cases: [(&str, Damage); 6] = [
        ("manifest cut", |dir, _| {
            std::fs::write(dir.join("authority.json"), b"{").expect("written")
        }),
        ("manifest huge", |dir, _| {
            std::fs::write(dir.join("authority.json"), vec![b' '; 5000]).expect("written");
        }),
        ("a path for an id", |dir, _| {
            let text = r#"{"phase":"standby","signer":"../../etc/passwd","other":null}"#;
            std::fs::write(dir.join("authority.json"), text).expect("written");
        }),
        ("key cut", |dir, id| {
            std::fs::write(dir.join(format!("{id}.key")), b"").expect("written")
        }),
        ("certificate of another", |dir, id| {
            let other = Authority::ephemeral().expect("another");
            std::fs::write(dir.join(format!("{id}.der")), other.root()).expect("written");
        }),
        ("key of another", |dir, id| {
            let other = tempfile::tempdir().expect("folder");
            let theirs = Authority::open(other.path()).expect("another").root_id();
            let key = other.path().join(format!("{theirs}.key"));
            std::fs::copy(key, dir.join(format!("{id}.key"))).expect("copied");
        }),
    ];
    for (what, damage) in cases {
        let (dir, id) = begin();
        damage(dir.path(), &id);
        let key = std::fs::read(dir.path().join(format!("{id}.key"))).expect("key");
        let error = Authority::open(dir.path()).expect_err(what).to_string();
        assert!(error.contains("restore"), "{what}: {error}");
        let after = std::fs::read(dir.path().join(format!("{id}.key"))).expect("key");
        assert_eq!(key, after, "{what}: overwritten");
    }
}

#[test]
fn clawkerd_takes_a_renewal_for_its_own_key_and_name_alone() {
    let authority = Authority::ephemeral().expect("an authority");
    let own = authority.agent_leaf(&name(), &container()).expect("a leaf");
    let spki = |credentials: &Credentials| Claims::read(&credentials.leaf).expect("a leaf").spki;
    let validity = Validity::from_now(LEAF_LIFE);
    let leaf = |name: &FullName, spki: &[u8]| {
        authority
            .renewed_leaf(name, &container(), spki, validity)
            .expect("signed")
    };
    let renewed =
        agent::renewed(&own, leaf(&name(), &spki(&own)), authority.roots(), UnixTime::now()).expect("accepted");
    assert_eq!(renewed.key.as_slice(), own.key.as_slice());
    assert_ne!(renewed.leaf, own.leaf);

    let another = authority.agent_leaf(&name(), &container()).expect("a leaf");
    let other_name = FullName::parse("clawker.demo.b").expect("name");
    let foreign = Authority::ephemeral().expect("another");
    for (what, leaf, roots) in [
        ("another key", leaf(&name(), &spki(&another)), authority.roots()),
        ("another name", leaf(&other_name, &spki(&own)), authority.roots()),
        (
            "roots that it doesn't chain to",
            leaf(&name(), &spki(&own)),
            foreign.roots(),
        ),
        ("no roots", leaf(&name(), &spki(&own)), Vec::new()),
        ("no certificate", b"leaf".to_vec(), authority.roots()),
    ] {
        assert!(agent::renewed(&own, leaf, roots, UnixTime::now()).is_err(), "{what}");
    }
}
