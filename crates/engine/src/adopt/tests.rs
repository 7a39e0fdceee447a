use serde_json::json;

use super::*;

fn name(text: &str) -> FullName {
    FullName::parse(text).expect("name")
}

fn spec() -> AgentSpec {
    let spec = json!({"name": "clawker.a", "image": "i", "image_id": "sha256:1",
        "main": {"argv": ["x"], "user": "", "env": [], "cwd": "/", "no_new_privs": true, "tty": false,
            "open_stdin": false, "stop_signal": null},
        "health": null, "plan": {"steps": []}, "secrets": [], "mounts": [], "publish": [],
        "network": {"network": "default"}, "egress": {"egress": "open"}, "resources": {}, "remove": false,
        "on_orphan": "freeze", "owner": "uid:0", "unsafe_options": []});
    serde_json::from_value(spec).expect("spec")
}

fn shape(fields: &[(&str, &str)]) -> Shape {
    let field = |(field, value): &(&str, &str)| ((*field).to_owned(), (*value).to_owned());
    fields.iter().map(field).collect()
}

const WRITTEN: &[(&str, &str)] = &[
    ("Config.Entrypoint", r#"["/.clawker/clawkerd","init","--"]"#),
    ("HostConfig.CapDrop", r#"["NET_RAW"]"#),
    (
        "HostConfig.Mounts",
        r#"[{"ReadOnly":true,"Source":"/run/x","Target":"/.clawker-run"}]"#,
    ),
    ("HostConfig.NetworkMode", r#""clawker-net""#),
];

#[test]
fn a_container_is_adopted_if_it_is_exactly_what_create_writes() {
    let written = shape(WRITTEN);
    assert_eq!(judge(&name("clawker.a"), &spec(), &written, &written), Ok(()));
}

#[test]
fn one_field_that_is_otherwise_is_enough_to_refuse() {
    let written = shape(WRITTEN);
    let table: &[(&str, Option<&str>, &str)] = &[
        (
            "HostConfig.Binds",
            Some(r#"["/:/host"]"#),
            "HostConfig.Binds is [\"/:/host\"] instead of nothing",
        ),
        (
            "HostConfig.Privileged",
            Some("true"),
            "HostConfig.Privileged is true instead of nothing",
        ),
        (
            "Config.Entrypoint",
            Some(r#"["sh"]"#),
            "Config.Entrypoint is [\"sh\"] instead of [\"/.clawker/clawkerd\"",
        ),
        (
            "HostConfig.Mounts",
            Some(r#"[{"Source":"/run/x","Target":"/.clawker-run"}]"#),
            "HostConfig.Mounts is [{\"Source\":\"/run/x\"",
        ),
        (
            "HostConfig.NetworkMode",
            Some(r#""host""#),
            "HostConfig.NetworkMode is \"host\" instead of \"clawker-net\"",
        ),
        (
            "HostConfig.CapDrop",
            None,
            "HostConfig.CapDrop is nothing instead of [\"NET_RAW\"]",
        ),
    ];
    for (field, value, told) in table {
        let mut shown = written.clone();
        match value {
            Some(value) => shown.insert((*field).to_owned(), (*value).to_owned()),
            None => shown.remove(*field),
        };
        let refusal = judge(&name("clawker.a"), &spec(), &written, &shown).expect_err(field);
        let Refusal::Different(differences) = &refusal else {
            panic!("{refusal}")
        };
        assert_eq!(differences.len(), 1, "{field}");
        assert!(refusal.to_string().contains(told), "{refusal}");
    }
}

#[test]
fn a_definition_of_another_agent_is_nobodys() {
    let written = shape(WRITTEN);
    let refusal = judge(&name("clawker.b"), &spec(), &written, &written).expect_err("another");
    assert!(refusal.to_string().contains("clawker.b"), "{refusal}");
}

#[test]
fn however_much_differs_what_is_told_of_it_is_short() {
    let long = "x".repeat(100_000);
    let shown: Shape = (0..1000).map(|n| (format!("Config.{n}"), long.clone())).collect();
    let refusal = judge(&name("clawker.a"), &spec(), &Shape::new(), &shown).expect_err("much");
    let told = refusal.to_string();
    assert!(told.len() < 4000 && told.ends_with("and 992 more"), "{told}");
}

#[test]
fn what_the_kernel_has_in_force_stays_and_what_it_does_not_tell_is_locked() {
    let rules = |texts: &[&str]| -> Vec<EgressRule> {
        let rule = |text: &&str| {
            let (addr, port) = text.rsplit_once(':').expect("a destination");
            EgressRule {
                addr: addr.trim_matches(['[', ']']).parse().expect("an address"),
                port: port.parse().expect("a port"),
            }
        };
        texts.iter().map(rule).collect()
    };
    let only = |texts: &[&str]| Egress::Only { allow: rules(texts) };
    let up = |network, frozen| Found::Up { network, frozen };
    let restricted = |texts: &[&str]| Ok(NetworkState::Restricted { allow: rules(texts) });
    let (a, b) = ("192.0.2.1:80", "192.0.2.2:80");
    let table: Vec<(Found, Egress, Vec<&str>)> = vec![
        (Found::Down, Egress::Open, vec!["lock-network"]),
        (up(Ok(NetworkState::Open), false), Egress::Open, vec![]),
        (up(Ok(NetworkState::Open), true), Egress::Open, vec!["freeze"]),
        (up(Ok(NetworkState::Locked), false), Egress::Open, vec!["lock-network"]),
        (
            up(Ok(NetworkState::Locked), true),
            only(&[a]),
            vec!["lock-network", "freeze"],
        ),
        (up(restricted(&[a, b]), false), only(&[b, a]), vec![]),
        (up(restricted(&[a]), false), only(&["[::ffff:192.0.2.1]:80"]), vec![]),
        (
            up(restricted(&[a]), false),
            only(&[a, b]),
            vec!["restrict-egress to 192.0.2.1:80"],
        ),
        (
            up(restricted(&[a]), false),
            Egress::Open,
            vec!["restrict-egress to 192.0.2.1:80"],
        ),
        (
            up(Err("damaged".into()), true),
            Egress::Open,
            vec!["lock-network", "freeze"],
        ),
    ];
    for (found, own, expected) in table {
        let causes = causes(&found, &own, 7);
        let actions: Vec<String> = causes.iter().map(|cause| cause.action.to_string()).collect();
        assert_eq!(actions, expected, "{found:?} {own:?}");
        assert!(causes.iter().all(|cause| cause.by == BY && cause.at_ms == 7));
    }
}
