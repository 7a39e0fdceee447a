//! Certificates: shown on both sockets by the attested init of a container that the store doesn't know.

use anyhow::{Result, ensure};
use clawker_tests::Host;
use clawker_tests::forge::{Leaf, Shown, Signer, agent_urn, container_urn};
use clawker_tests::forged::{Forged, Unlike};
use clawker_tests::wait::{PATIENCE, throughout, until_true};
use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
use time::Duration;

use super::{REFUSED, expect_nothing_given, expect_quarantined, expect_untrusted};

/// Somebody who forges an identity of the container that shows it.
struct Forger {
    name: String,
    container: String,
    /// The host's own authority, its key stolen.
    insider: Signer,
}

impl Forger {
    /// A leaf that is right in every way.
    fn leaf(&self) -> Leaf {
        Leaf::good(&self.name, &self.container)
    }

    /// Signed by the host's authority, with one thing changed.
    fn but(&self, change: impl FnOnce(&mut Leaf)) -> Result<Shown> {
        self.insider.sign(&self.leaf().but(change))
    }
}

/// One row: shown by PID 1 of a container of its own, on both sockets, and judged for `reason`.
fn shown(reason: &str, forge: impl FnOnce(&Forger) -> Result<Shown>) -> Result<()> {
    let host = Host::start()?;
    let target = host.reachable()?;
    let unlike = Unlike {
        shows: true,
        ..Unlike::default()
    };
    let forged = Forged::create(&host, "f", &target.address(), &unlike)?;
    let agent = &forged.agent;
    let forger = Forger {
        name: agent.full(),
        container: forged.container.clone(),
        insider: Signer::insider(&host.identity_dir())?,
    };
    forged.shows(&forge(&forger)?)?;
    expect_untrusted(&host, agent, reason)?;
    expect_quarantined(&host, agent)?;
    agent.expect("trust", |view| {
        view["trust"] == reason && view["session"] == "connected"
    })?;

    // The next attempt of its own fails.
    let (before, _) = forged.reaches()?;
    until_true("its attempts to fail", PATIENCE, || {
        let (count, reached) = forged.reaches()?;
        Ok(count > before && !reached)
    })?;
    expect_nothing_given(&host, agent)?;
    ensure!(forged.bundles()? == 0, "it was given an identity");
    let kinds = forged.kinds_sent()?;
    ensure!(
        kinds.iter().all(|kind| kind == "hello" || kind == "lease"),
        "it was sent {kinds:?}"
    );
    let answers = forged.answers()?;
    ensure!(answers.len() >= 5, "it asked for {answers:?}");
    for (asked, ok, why) in answers {
        let refused = match asked.as_str() {
            "register" | "who-am-i" => why == REFUSED,
            _ => why.starts_with("PermissionDenied") || why.starts_with("Unimplemented"),
        };
        ensure!(!ok && refused, "{asked}: {why}");
    }
    Ok(())
}

macro_rules! forgeries {
    ($($(#[$doc:meta])* fn $name:ident() -> $reason:literal { $forge:expr })*) => {
        $($(#[$doc])* #[test] fn $name() -> Result<()> { shown($reason, $forge) })*
    };
}

forgeries! {
    fn leaf_signed_by_itself() -> "chain_invalid" { |f| f.leaf().self_signed() }

    fn leaf_of_an_authority_that_nobody_knows() -> "chain_invalid" {
        |f| Signer::stranger()?.sign_with_chain(&f.leaf())
    }

    /// The name of an authority is no key.
    fn leaf_of_an_authority_with_our_subject() -> "chain_invalid" {
        |f| f.insider.impostor()?.sign_with_chain(&f.leaf())
    }

    /// Whoever is certified may not certify others.
    fn leaf_signed_by_a_leaf() -> "chain_invalid" {
        |f| Signer::holder_of(&f.but(|_| {})?)?.sign_with_chain(&f.leaf())
    }

    /// The root's path length is none, so even its own key can't make an authority.
    fn leaf_below_an_intermediate() -> "chain_invalid" {
        |f| f.insider.intermediate()?.sign_with_chain(&f.leaf())
    }

    fn leaf_that_is_an_authority() -> "chain_invalid" { |f| f.but(|leaf| leaf.is_authority = true) }

    /// Not the one that was issued, so it doesn't heal like that one.
    fn expired_leaf() -> "cert_expired" {
        |f| f.but(|leaf| {
            leaf.not_after = leaf.not_before + Duration::minutes(1);
        })
    }

    fn leaf_of_tomorrow() -> "cert_expired" {
        |f| f.but(|leaf| {
            leaf.not_before += Duration::DAY;
            leaf.not_after += Duration::DAY;
        })
    }

    fn leaf_for_clients_only() -> "eku_invalid" { |f| f.but(|leaf| leaf.usages = vec![ClientAuth]) }

    fn leaf_for_servers_only() -> "eku_invalid" { |f| f.but(|leaf| leaf.usages = vec![ServerAuth]) }

    fn leaf_for_no_purpose() -> "eku_invalid" { |f| f.but(|leaf| leaf.usages.clear()) }

    fn leaf_for_another_purpose() -> "eku_invalid" {
        |f| f.but(|leaf| leaf.usages = vec![rcgen::ExtendedKeyUsagePurpose::CodeSigning])
    }

    fn cn_of_another_agent() -> "cn_mismatch" { |f| f.but(|leaf| leaf.cn = Some("clawker.p.other".into())) }

    fn cn_of_the_control_plane() -> "cn_mismatch" { |f| f.but(|leaf| leaf.cn = Some("clawker-cp".into())) }

    fn cn_that_is_empty() -> "cn_mismatch" { |f| f.but(|leaf| leaf.cn = Some(String::new())) }

    fn cn_that_is_absent() -> "cn_mismatch" { |f| f.but(|leaf| leaf.cn = None) }

    /// One more than X.520 allows.
    fn cn_of_65_characters() -> "cn_mismatch" { |f| f.but(|leaf| leaf.cn = Some("x".repeat(65))) }

    fn cn_with_a_nul_after_the_name() -> "cn_mismatch" {
        |f| f.but(|leaf| leaf.cn = Some(format!("{}\0.evil", f.name)))
    }

    fn cn_in_capitals() -> "cn_mismatch" { |f| f.but(|leaf| leaf.cn = Some(f.name.to_uppercase())) }

    fn cn_with_a_wildcard() -> "cn_mismatch" { |f| f.but(|leaf| leaf.cn = Some("clawker.*".into())) }

    fn san_without_an_agent() -> "san_mismatch" { |f| f.but(|leaf| { leaf.uris.remove(0); }) }

    fn san_without_a_container() -> "san_mismatch" { |f| f.but(|leaf| { leaf.uris.remove(1); }) }

    fn san_that_is_absent() -> "san_mismatch" { |f| f.but(|leaf| leaf.uris.clear()) }

    fn san_of_another_agent() -> "san_mismatch" {
        |f| f.but(|leaf| leaf.uris[0] = agent_urn("clawker.p.other"))
    }

    fn san_of_another_container() -> "san_mismatch" {
        |f| f.but(|leaf| leaf.uris[1] = container_urn(&"ab".repeat(32)))
    }

    fn san_with_a_short_container_id() -> "san_mismatch" {
        |f| f.but(|leaf| leaf.uris[1] = container_urn(&f.container[..12]))
    }

    fn san_with_a_container_id_in_capitals() -> "san_mismatch" {
        |f| f.but(|leaf| leaf.uris[1] = container_urn(&f.container.to_uppercase()))
    }

    fn san_of_two_containers() -> "san_mismatch" {
        |f| f.but(|leaf| leaf.uris.push(container_urn(&"ab".repeat(32))))
    }

    fn san_of_two_agents() -> "san_mismatch" { |f| f.but(|leaf| leaf.uris.push(agent_urn("clawker.p.other"))) }

    fn san_as_dns_names() -> "san_mismatch" {
        |f| f.but(|leaf| {
            leaf.uris.clear();
            leaf.dns = vec![f.name.clone(), f.container[..60].to_owned()];
        })
    }

    fn san_percent_encoded() -> "san_mismatch" {
        |f| f.but(|leaf| leaf.uris[0] = agent_urn(&f.name.replace('.', "%2e")))
    }

    fn san_with_a_nul_after_the_name() -> "san_mismatch" {
        |f| f.but(|leaf| leaf.uris[0] = agent_urn(&format!("{}\0", f.name)))
    }

    fn san_with_bytes_after_the_container_id() -> "san_mismatch" {
        |f| f.but(|leaf| leaf.uris[1] = container_urn(&format!("{}00", f.container)))
    }

    fn certificate_of_garbage() -> "cert_malformed" {
        |f| Ok(f.but(|_| {})?.with_leaf(|leaf| *leaf = vec![0x30, 0x82, 0xff, 0xff]))
    }

    fn certificate_that_is_cut_off() -> "cert_malformed" {
        |f| Ok(f.but(|_| {})?.with_leaf(|leaf| leaf.truncate(leaf.len() / 2)))
    }

    fn certificate_with_bytes_after_it() -> "cert_malformed" {
        |f| Ok(f.but(|_| {})?.with_leaf(|leaf| leaf.extend_from_slice(b"more")))
    }

    fn certificate_of_a_single_byte() -> "cert_malformed" {
        |f| Ok(f.but(|_| {})?.with_leaf(|leaf| leaf.truncate(1)))
    }

    /// One bit of the signature, which is at the end.
    fn certificate_with_a_bit_flipped() -> "chain_invalid" {
        |f| Ok(f.but(|_| {})?.with_leaf(|leaf| if let Some(last) = leaf.last_mut() { *last ^= 1 }))
    }

    /// A certificate is public; its key isn't.
    fn right_certificate_with_anothers_key() -> "possession_unproven" {
        |f| Ok(f.but(|_| {})?.with_key_of(&f.but(|_| {})?))
    }

    /// Everything holds, even the chain: but nobody issued this key.
    fn perfect_leaf_that_was_never_issued() -> "thumbprint_mismatch" { |f| f.but(|_| {}) }

    fn leaf_with_an_ed25519_key() -> "thumbprint_mismatch" {
        |f| f.but(|leaf| leaf.algorithm = &rcgen::PKCS_ED25519)
    }

    fn leaf_with_a_p384_key() -> "thumbprint_mismatch" {
        |f| f.but(|leaf| leaf.algorithm = &rcgen::PKCS_ECDSA_P384_SHA384)
    }
}

/// Of an init that isn't clawkerd nobody knows where its processes are: all of its container is held, and let go.
#[test]
fn a_strangers_freeze_holds_all_of_its_container() -> Result<()> {
    let host = Host::start()?;
    let target = host.reachable()?;
    let forged = Forged::create(&host, "f", &target.address(), &Unlike::default())?;
    host.docker.start(&forged.container)?;
    expect_untrusted(&host, &forged.agent, "chain_invalid")?;
    let answer = forged.agent.contain("freeze")?;
    let said = answer["in_force"].as_str().unwrap_or_default();
    ensure!(said.contains("frozen"), "{answer}");
    let (before, _) = forged.reaches()?;
    // One attempt takes a second where the network is locked.
    throughout("its stillness", std::time::Duration::from_secs(3), || {
        Ok(forged.reaches()?.0 == before)
    })?;
    forged.agent.release()?;
    until_true("it to go on", PATIENCE, || Ok(forged.reaches()?.0 > before))
}
