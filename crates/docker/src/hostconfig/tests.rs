use super::*;
use crate::mounts::tests::spec;

#[test]
fn an_agent_always_gets_the_same() {
    let mut spec = spec(vec![]);
    spec.tty = true;
    spec.open_stdin = true;
    spec.publish = vec!["127.0.0.1:8080:80".into()];
    spec.labels = BTreeMap::from([("dev.clawker.managed".into(), "true".into())]);
    spec.resources = Resources {
        memory: Some(64 << 20),
        nano_cpus: Some(500_000_000),
        pids: Some(100),
    };
    let body = body(&spec, vec![bind(Path::new("/srv/work"), "/work", false)]).expect("body");
    let json = serde_json::to_value(&body).expect("json");
    insta::assert_json_snapshot!(json);
}

#[test]
fn an_agent_has_a_network_of_its_own() {
    let mode = |network| {
        let mut spec = spec(vec![]);
        spec.network = network;
        network_mode(&spec)
    };
    assert_eq!(mode(Network::None), Ok("none".into()));
    assert_eq!(mode(Network::Default), Ok("clawker-net".into()));
    assert_eq!(mode(Network::Named { name: "web_1".into() }), Ok("web_1".into()));
    for name in [
        "host",
        "container:abc",
        "ns:/proc/1/ns/net",
        "none",
        "default",
        "",
        "../x",
        "a b",
    ] {
        let result = mode(Network::Named { name: name.into() });
        assert!(matches!(result, Err(SpecError::Network { .. })), "{name:?}: {result:?}");
    }
}

#[test]
fn resources_fit_dockers_numbers() {
    let mut spec = spec(vec![]);
    for memory in [0, u64::MAX] {
        spec.resources.memory = Some(memory);
        assert!(
            matches!(body(&spec, vec![]), Err(SpecError::Resource { what: "memory", .. })),
            "{memory}"
        );
    }
}
