//! Registries that want a token first, and what becomes of the operator's credentials.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use clawker_plugin_source::{Options, SourceError};

use crate::plugin::{component, fetched, hex, quick, refused, signature, signed};
use crate::served::{Asked, Reply, Server, ok, redirect, with};

/// `user:password`
const BASIC: &str = "Basic dXNlcjpwYXNzd29yZA==";

fn challenge(realm: &str) -> Reply {
    let bearer = format!("Bearer realm=\"{realm}\",service=\"the \\\"service\\\"\",scope=\"repository:other:push\"");
    with(401, &[("www-authenticate", &bearer)], "")
}

/// The plugin `a` for whoever has the token `abc`; others are sent to `realm`.
async fn registry(realm: String) -> Server {
    Server::start(move |asked| {
        if asked.header("authorization") != Some("Bearer abc") {
            return challenge(&realm);
        }
        if asked.path.contains("/manifests/") {
            ok(signed("a").to_string())
        } else if asked.path.ends_with(&hex(&component("a"))) {
            ok(component("a"))
        } else {
            ok(signature("a"))
        }
    })
    .await
}

fn operator() -> (tempfile::TempDir, PathBuf, Options) {
    let dir = tempfile::tempdir().expect("folder");
    let file = dir.path().join("auth");
    std::fs::write(&file, "user:password\n").expect("written");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("changed");
    let options = Options {
        registry_auth: Some(file.clone()),
        ..quick()
    };
    (dir, file, options)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_got_once_for_this_repository_alone() {
    let realm = Server::start(|_| ok("{\"token\":\"abc\",\"expires_in\":60}")).await;
    let server = registry(realm.url("/token?a=b")).await;
    let (_dir, _, options) = operator();
    let got = fetched(&server.oci("a:1"), &options).await.expect("fetched");
    assert_eq!(got.component, component("a"));

    let asked = realm.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(
        asked[0].path,
        "/token?a=b&service=the+%22service%22&scope=repository%3Aa%3Apull"
    );
    assert_eq!(asked[0].header("authorization"), Some(BASIC));
    let to_registry: Vec<Option<String>> = server
        .asked()
        .iter()
        .map(|asked| asked.header("authorization").map(str::to_owned))
        .collect();
    let token = Some("Bearer abc".to_owned());
    assert_eq!(to_registry, [None, token.clone(), token.clone(), token]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_may_get_a_token_too() {
    let realm = Server::start(|_| ok("{\"access_token\":\"abc\"}")).await;
    let server = registry(realm.url("/token")).await;
    fetched(&server.oci("a:1"), &quick()).await.expect("fetched");
    assert_eq!(realm.asked()[0].header("authorization"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_isnt_good_enough_is_tried_once() {
    let realm = Server::start(|_| ok("{\"token\":\"of-somebody-else\"}")).await;
    let server = registry(realm.url("/token")).await;
    let error = refused(&server.oci("a:1"), &quick()).await;
    assert!(matches!(error, SourceError::Denied { status: 401, .. }), "{error}");
    assert_eq!((server.asked().len(), realm.asked().len()), (2, 1));
    assert!(!error.to_string().contains("of-somebody-else"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_isnt_good_for_the_layers_is_no_reason_for_another() {
    let realm = Server::start(|_| ok("{\"token\":\"abc\"}")).await;
    let to = realm.url("/token");
    let server = Server::start(move |asked| match asked.header("authorization") {
        Some(_) if asked.path.contains("/manifests/") => ok(signed("a").to_string()),
        _ => challenge(&to),
    })
    .await;
    let error = refused(&server.oci("a:1"), &quick()).await;
    assert!(matches!(error, SourceError::Denied { status: 401, .. }), "{error}");
    assert_eq!(realm.asked().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_go_to_no_realm_without_tls() {
    let (_dir, _, options) = operator();
    for realm in ["http://192.0.2.1/token", "ftp://localhost/token"] {
        let server = registry(realm.to_owned()).await;
        let error = refused(&server.oci("a:1"), &options).await;
        assert!(matches!(error, SourceError::Downgrade { .. }), "{realm}: {error}");
    }
    for realm in [
        "",
        "/token",
        "http://user:password@127.0.0.1/token",
        "http://user@127.0.0.1/token",
    ] {
        let server = registry(realm.to_owned()).await;
        let error = refused(&server.oci("a:1"), &options).await;
        assert!(matches!(error, SourceError::Malformed { .. }), "{realm}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_dont_follow_a_redirect_to_another_host() {
    let store = Server::start(|_| ok(component("a"))).await;
    let to = store.url("/blob");
    let server = Server::start(move |asked: &Asked| {
        if asked.header("authorization") != Some(BASIC) {
            with(401, &[("www-authenticate", "Basic realm=\"here\"")], "")
        } else if asked.path.contains("/manifests/") {
            ok(signed("a").to_string())
        } else if asked.path.ends_with(&hex(&component("a"))) {
            redirect(&to)
        } else {
            ok(signature("a"))
        }
    })
    .await;
    let (_dir, _, options) = operator();
    fetched(&server.oci("a:1"), &options).await.expect("fetched");
    assert_eq!(store.asked()[0].header("authorization"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn junk_from_a_token_server_is_refused_and_not_repeated() {
    let answers: [fn() -> Reply; 7] = [
        || ok("secret"),
        || ok("{}"),
        || ok("{\"token\":\"\"}"),
        || ok("{\"token\":\"secret\\r\\nx: y\"}"),
        || ok(format!("{{\"token\":\"{}\"}}", "secret".repeat(4_000))),
        || Reply::Endless,
        || with(403, &[], "secret"),
    ];
    for answer in answers {
        let realm = Server::start(move |_| answer()).await;
        let server = registry(realm.url("/token")).await;
        let error = refused(&server.oci("a:1"), &quick()).await.to_string();
        assert!(error.contains("a token for oci://"), "{error}");
        assert!(!error.contains("secret"), "{error}");
        assert_eq!(server.asked().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_challenge_that_nobody_knows_is_a_denial() {
    for challenge in [
        "",
        "Digest realm=x",
        "Bearer",
        "Bearer realm=\"open",
        &"x".repeat(5_000),
    ] {
        let challenge = challenge.to_owned();
        let server = Server::start(move |_| with(401, &[("www-authenticate", &challenge)], "")).await;
        let error = refused(&server.oci("a:1"), &quick()).await;
        assert!(matches!(error, SourceError::Denied { status: 401, .. }), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_others_can_read_or_that_is_no_line_is_refused() {
    let server = Server::start(|_| with(401, &[("www-authenticate", "Basic")], "")).await;
    let (dir, file, mut options) = operator();
    for mode in [0o640, 0o604] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("changed");
        let error = refused(&server.oci("a:1"), &options).await;
        assert!(matches!(error, SourceError::Credentials { .. }), "{error}");
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("changed");
    for text in ["", "hunter2", ":hunter2", "hunter2:b\nc:d"] {
        std::fs::write(&file, text).expect("written");
        let error = refused(&server.oci("a:1"), &options).await;
        assert!(matches!(error, SourceError::Credentials { .. }), "{text}: {error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
    std::fs::write(&file, "a:".repeat(3_000)).expect("written");
    let error = refused(&server.oci("a:1"), &options).await;
    assert!(matches!(error, SourceError::TooLarge { .. }), "{error}");
    options.registry_auth = Some(dir.path().join("missing"));
    let error = refused(&server.oci("a:1"), &options).await;
    assert!(matches!(error, SourceError::Io { .. }), "{error}");

    let config = dir.path().join("config.json");
    options.registry_auth = None;
    options.docker_config = Some(config.clone());
    for text in [
        "hunter2",
        "{\"auths\":{\"ADDR\":{\"auth\":\"hunter2!\"}}}",
        "{\"auths\":{\"ADDR\":{\"auth\":\"YQ==\"}}}",
    ] {
        std::fs::write(&config, text.replace("ADDR", &server.addr.to_string())).expect("written");
        let error = refused(&server.oci("a:1"), &options).await;
        assert!(matches!(error, SourceError::Credentials { .. }), "{text}: {error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
