//! Handshakes between every kind of peer, in memory: who is refused, and what is captured of whom.

use std::sync::Arc;

use clawker_identity::authority::Authority;
use clawker_identity::control::{Capture, CaptureSlot, agent_server, session_client};
use clawker_identity::handshake::handshake;
use clawker_identity::leaf::{Expected, judge};
use clawker_identity::{CONTROL_PLANE, Credentials, agent};
use clawker_model::event::UntrustedReason;
use clawker_model::{ContainerId, FullName};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ServerConfig};

struct Host {
    authority: Authority,
    name: FullName,
    container: ContainerId,
}

impl Host {
    fn new() -> Self {
        Self {
            authority: Authority::ephemeral().expect("an authority"),
            name: FullName::parse("clawker.demo.a").expect("name"),
            container: ContainerId::parse(&"ab".repeat(32)).expect("id"),
        }
    }

    fn agent(&self) -> Credentials {
        self.authority.agent_leaf(&self.name, &self.container).expect("a leaf")
    }

    fn control_plane(&self) -> Credentials {
        self.authority.control_plane_leaf().expect("a leaf")
    }

    fn verdict_at(&self, capture: &Capture, now: UnixTime) -> Result<(), UntrustedReason> {
        let roots = [self.authority.root().to_vec()];
        let expected = Expected {
            name: &self.name,
            container: &self.container,
            roots: &roots,
        };
        judge(capture, &expected, now)
            .verdict
            .map_err(|distrust| distrust.reason)
    }

    fn verdict(&self, capture: &Capture) -> Result<(), UntrustedReason> {
        self.verdict_at(capture, UnixTime::now())
    }

    /// The session as the control plane sees it, with `server` at clawkerd's end.
    fn dial(&self, server: ServerConfig) -> Capture {
        let slot = CaptureSlot::default();
        let client = session_client(&self.control_plane(), slot.clone()).expect("config");
        handshake(client, server, "clawkerd").expect("the control plane never aborts");
        slot.get()
    }
}

/// A server that shows `leaf` and signs with `key`, whether they belong together or not.
fn lying_server(leaf: Vec<u8>, key: &[u8]) -> ServerConfig {
    let provider = rustls::crypto::ring::default_provider();
    let key = provider
        .key_provider
        .load_private_key(PrivatePkcs8KeyDer::from(key.to_vec()).into())
        .expect("key");
    let shown = CertifiedKey::new(vec![CertificateDer::from(leaf)], key);
    let mut config = ServerConfig::builder_with_provider(provider.into())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("versions")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(shown)));
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

#[test]
fn an_agent_of_this_host_is_believed() {
    let host = Host::new();
    let capture = host.dial(agent::server_config(&host.agent()).expect("config"));
    assert_eq!(host.verdict(&capture), Ok(()));
}

#[test]
fn each_lie_has_its_reason() {
    let host = Host::new();
    let own = host.agent();
    let foreign = Host::new().agent();
    let other_name = FullName::parse("clawker.demo.b").expect("name");
    let other_container = ContainerId::parse(&"cd".repeat(32)).expect("id");
    let renamed = host.authority.agent_leaf(&other_name, &host.container).expect("leaf");
    let moved = host.authority.agent_leaf(&host.name, &other_container).expect("leaf");
    let control_plane = host.control_plane();

    let cases = [
        (foreign.leaf.clone(), &foreign.key, UntrustedReason::ChainInvalid),
        (own.leaf.clone(), &foreign.key, UntrustedReason::PossessionUnproven),
        (b"\x30\x02\x05\x00".to_vec(), &own.key, UntrustedReason::CertMalformed),
        (renamed.leaf.clone(), &renamed.key, UntrustedReason::CnMismatch),
        (moved.leaf.clone(), &moved.key, UntrustedReason::SanMismatch),
        (
            control_plane.leaf.clone(),
            &control_plane.key,
            UntrustedReason::CnMismatch,
        ),
    ];
    for (leaf, key, reason) in cases {
        let capture = host.dial(lying_server(leaf, key));
        assert_eq!(host.verdict(&capture), Err(reason));
    }
}

#[test]
fn an_expired_leaf_is_called_expired() {
    let host = Host::new();
    let capture = host.dial(agent::server_config(&host.agent()).expect("config"));
    let later = UnixTime::since_unix_epoch(std::time::Duration::from_secs(UnixTime::now().as_secs() + 2 * 3600));
    assert_eq!(host.verdict_at(&capture, later), Err(UntrustedReason::CertExpired));
}

#[test]
fn clawkerd_refuses_whoever_is_not_its_control_plane() {
    let host = Host::new();
    let server = || agent::server_config(&host.agent()).expect("config");
    let dial_as = |own: &Credentials| {
        let client = session_client(own, CaptureSlot::default()).expect("config");
        handshake(client, server(), "clawkerd")
    };
    assert!(dial_as(&host.control_plane()).is_ok());
    assert!(
        dial_as(&Host::new().control_plane()).is_err(),
        "another host's control plane"
    );
    assert!(
        dial_as(&host.agent()).is_err(),
        "another agent, whose CN isn't the control plane's"
    );

    let anonymous = ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("versions")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    assert!(handshake(anonymous, server(), "clawkerd").is_err(), "nobody");
}

#[test]
fn clawkerd_tells_its_secrets_only_to_its_control_plane() {
    let host = Host::new();
    let ask = |server: &Credentials| {
        let server = agent_server(server, CaptureSlot::default()).expect("config");
        handshake(
            agent::client_config(&host.agent()).expect("config"),
            server,
            CONTROL_PLANE,
        )
    };
    assert!(ask(&host.control_plane()).is_ok());
    assert!(
        ask(&Host::new().control_plane()).is_err(),
        "another host's control plane"
    );
    assert!(ask(&host.agent()).is_err(), "an agent that plays the control plane");
}

#[test]
fn the_agent_server_takes_and_keeps_any_leaf() {
    let host = Host::new();
    let foreign = Host::new().agent();
    let slot = CaptureSlot::default();
    let server = agent_server(&host.control_plane(), slot.clone()).expect("config");
    let client = session_client(&foreign, CaptureSlot::default()).expect("config");
    handshake(client, server, CONTROL_PLANE).expect("accepted, to be judged later");
    assert_eq!(slot.get().leaf, Some(foreign.leaf.clone()));
    assert_eq!(host.verdict(&slot.get()), Err(UntrustedReason::ChainInvalid));
}

#[test]
fn an_authority_survives_a_restart_and_guards_its_key() {
    let dir = tempfile::tempdir().expect("folder");
    let first = Authority::open(dir.path()).expect("begun");
    let second = Authority::open(dir.path()).expect("opened again");
    assert_eq!(first.root(), second.root());

    let host = Host {
        authority: second,
        ..Host::new()
    };
    let capture = host.dial(agent::server_config(&host.agent()).expect("config"));
    assert_eq!(host.verdict(&capture), Ok(()));

    use std::os::unix::fs::PermissionsExt;
    let key = dir.path().join(format!("{}.key", host.authority.root_id()));
    assert_eq!(
        std::fs::metadata(&key).expect("key").permissions().mode() & 0o777,
        0o600
    );
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).expect("chmod");
    let refused = Authority::open(dir.path()).expect_err("an exposed key").to_string();
    assert!(refused.contains("chmod 600"), "{refused}");
}

#[test]
fn a_key_of_another_type_is_captured_and_judged() {
    let host = Host::new();
    let own = host.agent();
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("key");
    let odd = rcgen::CertificateParams::default()
        .self_signed(&key)
        .expect("a certificate");
    let capture = host.dial(lying_server(odd.der().to_vec(), &key.serialize_der()));
    assert_eq!(host.verdict(&capture), Err(UntrustedReason::ChainInvalid));
    // And one whose key nobody here can use: the signature is another's.
    let capture = host.dial(lying_server(odd.der().to_vec(), &own.key));
    assert!(!capture.possession);
}
