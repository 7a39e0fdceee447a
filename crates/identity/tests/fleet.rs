//! A fleet's root signs a host's, and agents notice nothing.

use std::sync::Arc;

use clawker_identity::authority::fleet::sign;
use clawker_identity::authority::{Authority, AuthorityError};
use clawker_model::{ContainerId, FullName};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;

struct Fleet {
    certificate: String,
    key: KeyPair,
}

impl Fleet {
    fn of(name: &str, is_ca: IsCa) -> Self {
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = is_ca;
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).expect("signed").pem();
        Self { certificate, key }
    }

    fn new() -> Self {
        Self::of("the fleet", IsCa::Ca(BasicConstraints::Unconstrained))
    }

    fn sign(&self, request: &str) -> Result<String, String> {
        sign(request, &self.certificate, &self.key.serialize_pem(), now()).map_err(|error| error.to_string())
    }
}

fn now() -> i64 {
    UnixTime::now().as_secs().cast_signed()
}

fn agent() -> (FullName, ContainerId) {
    let name = FullName::parse("clawker.a").expect("name");
    (name, ContainerId::parse(&"ab".repeat(32)).expect("id"))
}

#[test]
fn whoever_knows_the_fleet_alone_believes_the_hosts_leaves() {
    let dir = tempfile::tempdir().expect("folder");
    let fleet = Fleet::new();
    let mut authority = Authority::open(dir.path()).expect("authority");
    let root = authority.root_id();
    let signed = fleet.sign(&authority.request().expect("request")).expect("signed");
    authority.install(signed.as_bytes()).expect("installed");
    assert_eq!(authority.root_id(), root, "the root that agents pin is what it was");

    let authority = Authority::open(dir.path()).expect("again");
    let crosses = authority.crosses();
    assert_eq!(
        (crosses.len(), crosses[0].0.as_str(), crosses[0].1.issuer.as_str()),
        (1, root.as_str(), "the fleet")
    );
    let year = now() + 365 * 24 * 3600;
    assert!((crosses[0].1.not_after - year).abs() < 60);

    let mut roots = RootCertStore::empty();
    let known = CertificateDer::from_pem_slice(fleet.certificate.as_bytes()).expect("PEM");
    roots.add(known).expect("a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
        .build()
        .expect("verifier");
    let (name, container) = agent();
    let leaf = CertificateDer::from(authority.agent_leaf(&name, &container).expect("leaf").leaf);
    let cross = CertificateDer::from(crosses[0].1.der.clone());
    let verified = |between: &[CertificateDer<'_>]| verifier.verify_client_cert(&leaf, between, UnixTime::now());
    assert!(verified(&[cross]).is_ok());
    assert!(
        verified(&[]).is_err(),
        "without the certificate in between there is no way"
    );
}

#[test]
fn what_agents_are_given_has_nothing_of_the_fleet() {
    let fleet = Fleet::new();
    let mut authority = Authority::ephemeral().expect("authority");
    let before = authority.roots();
    let signed = fleet.sign(&authority.request().expect("request")).expect("signed");
    authority.install(signed.as_bytes()).expect("installed");
    let (name, container) = agent();
    assert_eq!(authority.agent_leaf(&name, &container).expect("leaf").roots, before);
}

#[test]
fn a_certificate_goes_with_its_root() {
    let dir = tempfile::tempdir().expect("folder");
    let fleet = Fleet::new();
    let mut authority = Authority::open(dir.path()).expect("authority");
    authority.introduce_now().expect("introduced");
    authority.switch().expect("switched");
    // Of the root that signs now.
    let signed = fleet.sign(&authority.request().expect("request")).expect("signed");
    authority.install(signed.as_bytes()).expect("installed");
    authority.retire().expect("retired");
    assert_eq!(Authority::open(dir.path()).expect("again").crosses().len(), 1);
    authority.introduce_now().expect("introduced");
    authority.switch().expect("switched");
    assert_eq!(authority.crosses().len(), 1, "the root that goes still has it");
    authority.retire().expect("retired");
    let authority = Authority::open(dir.path()).expect("again");
    assert_eq!(authority.crosses().len(), 0);
    let left = std::fs::read_dir(dir.path()).expect("folder").flatten();
    assert_eq!(
        left.filter(|file| file.path().extension().is_some_and(|e| e == "fleet"))
            .count(),
        0
    );
}

#[test]
fn the_fleet_signs_what_a_hosts_root_asks_for_itself_and_nothing_else() {
    let request = Authority::ephemeral().expect("authority").request().expect("request");
    let fleet = Fleet::new();
    assert!(fleet.sign(&request).is_ok());

    let key = KeyPair::generate().expect("key");
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "clawker host CA 0123456789abcdef");
    let other_name = params.serialize_request(&key).expect("request").pem().expect("PEM");
    assert!(
        fleet
            .sign(&other_name)
            .expect_err("a name of its choice")
            .contains("its key is that of")
    );
    let cut = request.replacen('M', "N", 1);
    assert!(fleet.sign(&cut).is_err(), "changed");
    assert!(fleet.sign(&"x".repeat(20_000)).expect_err("long").contains("more than"));

    let leaves_alone = Fleet::of("f", IsCa::Ca(BasicConstraints::Constrained(0)));
    assert!(
        leaves_alone
            .sign(&request)
            .expect_err("too low")
            .contains("leaves alone")
    );
    let leaf = Fleet::of("f", IsCa::ExplicitNoCa);
    assert!(
        leaf.sign(&request)
            .expect_err("a leaf")
            .contains("isn't an authority's")
    );
    let other = Fleet {
        certificate: fleet.certificate.clone(),
        key,
    };
    assert!(other.sign(&request).expect_err("another key").contains("isn't the key"));
}

#[test]
fn a_host_takes_only_the_fleets_certificate_of_its_own_root() {
    let fleet = Fleet::new();
    let mut authority = Authority::ephemeral().expect("authority");
    let other = Authority::ephemeral().expect("another host");
    let signed = |authority: &Authority| fleet.sign(&authority.request().expect("request")).expect("signed");
    let long_chain = {
        // By somebody who signs whatever comes, with a longer chain below.
        let request = rcgen::CertificateSigningRequestParams::from_pem(&authority.request().expect("request"));
        let mut request = request.expect("parsed");
        request.params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = Issuer::from_ca_cert_pem(
            &fleet.certificate,
            KeyPair::from_pem(&fleet.key.serialize_pem()).expect("key"),
        );
        request.signed_by(&issuer.expect("issuer")).expect("signed").pem()
    };
    for (pem, why) in [
        (signed(&other), "isn't of a root in force here"),
        (fleet.certificate.clone(), "isn't of a root in force here"),
        (long_chain, "signs leaves alone"),
        (
            "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n".into(),
            "the certificate",
        ),
        (String::new(), "the certificate"),
    ] {
        let refused = authority.install(pem.as_bytes()).expect_err(why);
        assert!(matches!(refused, AuthorityError::Fleet(_)), "{refused}");
        assert!(refused.to_string().contains(why), "{refused}");
        assert_eq!(authority.crosses().len(), 0);
    }
    authority.install(signed(&authority).as_bytes()).expect("its own");
}
