//! Registries that lie, stall, never end, or send us elsewhere.

use std::time::{Duration, Instant};

use clawker_plugin_source::{COMPONENT_TYPE, MAX_COMPONENT, SIGNATURE_TYPE, SourceError};
use serde_json::json;

use crate::plugin::{
    component, descriptor, fetched, hex, impatient, manifest, quick, refused, signature, signed, unfit,
};
use crate::served::{Asked, Reply, Server, missing, ok, redirect, with};

/// A registry with the signed plugin `a`, but for what `other` answers.
async fn registry(other: impl Fn(&Asked) -> Option<Reply> + Send + Sync + 'static) -> Server {
    Server::start(move |asked| {
        let blob = |bytes: &[u8]| asked.path == format!("/v2/a/blobs/sha256:{}", hex(bytes));
        match other(asked) {
            Some(reply) => reply,
            None if asked.path.starts_with("/v2/a/manifests/") => ok(signed("a").to_string()),
            None if blob(&component("a")) => ok(component("a")),
            None if blob(&signature("a")) => ok(signature("a")),
            None => missing(),
        }
    })
    .await
}

type Which = fn(&Asked) -> bool;

fn is_manifest(asked: &Asked) -> bool {
    asked.path.contains("/manifests/")
}

fn is_blob_of(asked: &Asked, bytes: &[u8]) -> bool {
    asked.path.contains("/blobs/") && asked.path.ends_with(&hex(bytes))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_does_as_it_should_is_believed() {
    let server = registry(|_| None).await;
    let got = fetched(&server.oci("a:1"), &quick()).await.expect("fetched");
    assert_eq!(got.signature, Some(signature("a")));
    let asked = server.asked();
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|asked| asked.header("authorization").is_none()));
    let accept = asked[0].header("accept").unwrap_or_default();
    assert!(
        accept.contains("application/vnd.oci.image.manifest.v1+json"),
        "{accept}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_stalls_is_left() {
    let stalls: [fn(&Asked) -> Option<Reply>; 4] = [
        |_| Some(Reply::Stall),
        |_| Some(Reply::StallWithin),
        |asked| is_blob_of(asked, &component("a")).then_some(Reply::Stall),
        |asked| is_blob_of(asked, &signature("a")).then_some(Reply::Says(signature("a").len() as u64)),
    ];
    for stall in stalls {
        let server = registry(stall).await;
        let begun = Instant::now();
        let error = refused(&server.oci("a:1"), &impatient()).await;
        assert!(matches!(error, SourceError::Slow { .. }), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_gives_a_little_now_and_then_is_left_in_the_end() {
    let server = registry(|_| Some(Reply::Drip)).await;
    let mut options = quick();
    (options.read, options.all) = (Duration::from_secs(1), Duration::from_millis(1_500));
    let error = refused(&server.oci("a:1"), &options).await;
    // Longer than one read may take: it is the time for all of it that ended.
    assert!(
        matches!(&error, SourceError::Slow { after, .. } if *after > options.read),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stranger_says_moves_no_cursor() {
    let kind = "application/\u{1b}[2J\r\u{7}";
    let server = registry(move |asked| {
        let mut json = signed("a");
        json["artifactType"] = json!(kind);
        is_manifest(asked).then(|| ok(json.to_string()))
    })
    .await;
    let error = refused(&server.oci("a:1"), &quick()).await.to_string();
    assert!(error.contains("application/\u{fffd}[2J\u{fffd}\u{fffd}"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_said() {
    let server = registry(|_| None).await;
    let gone = server.oci("a:1");
    drop(server);
    let error = refused(&gone, &quick()).await;
    assert!(matches!(error, SourceError::Unreachable { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_blob_than_the_digest_says_is_refused() {
    // As long as the one that was promised.
    let server = registry(|asked| is_blob_of(asked, &component("a")).then(|| ok(component("b")))).await;
    let error = refused(&server.oci("a:1"), &quick()).await;
    assert!(matches!(error, SourceError::Digest { .. }), "{error}");
    let said = error.to_string();
    assert!(
        said.contains(&hex(&component("a"))) && said.contains(&hex(&component("b"))),
        "{said}"
    );

    let mut other = signature("a");
    other[0] ^= 1;
    let server = registry(move |asked| is_blob_of(asked, &signature("a")).then(|| ok(other.clone()))).await;
    let error = refused(&server.oci("a:1"), &quick()).await;
    assert!(matches!(error, SourceError::Digest { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_manifest_than_the_digest_says_is_refused() {
    let wanted = hex(signed("b").to_string().as_bytes());
    let server = registry(|_| None).await;
    let error = refused(&server.oci(&format!("a@sha256:{wanted}")), &quick()).await;
    assert!(matches!(error, SourceError::Digest { .. }), "{error}");
    // A tag whose answer isn't what its header says.
    let server = registry(move |asked| {
        let header = format!("sha256:{wanted}");
        is_manifest(asked).then(|| with(200, &[("docker-content-digest", &header)], signed("a").to_string()))
    })
    .await;
    let error = refused(&server.oci("a:1"), &quick()).await;
    assert!(matches!(error, SourceError::Digest { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_without_an_end_end_at_their_limit() {
    let endless: [(Which, u64); 3] = [
        (is_manifest, 1 << 20),
        (|asked| is_blob_of(asked, &component("a")), component("a").len() as u64),
        (|asked| is_blob_of(asked, &signature("a")), signature("a").len() as u64),
    ];
    for (which, limit) in endless {
        let server = registry(move |asked| which(asked).then_some(Reply::Endless)).await;
        let error = refused(&server.oci("a:1"), &quick()).await;
        assert!(
            matches!(&error, SourceError::Endless { max, .. } if *max == limit),
            "{error}"
        );
        // The same with a length that is said is refused before a byte of it.
        let server = registry(move |asked| which(asked).then_some(Reply::Says(limit + 1))).await;
        let error = refused(&server.oci("a:1"), &quick()).await;
        assert!(
            matches!(&error, SourceError::TooLarge { max, .. } if *max == limit),
            "{error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_component_is_fetched_and_one_byte_more_is_not() {
    let mut largest = component("a");
    largest.resize(MAX_COMPONENT as usize, 0);
    for (more, fits) in [(0, true), (1, false)] {
        let mut bytes = largest.clone();
        bytes.resize(largest.len() + more, 0);
        let json = manifest(&[descriptor(COMPONENT_TYPE, &bytes)]).to_string();
        let server = registry(move |asked| {
            is_manifest(asked)
                .then(|| ok(json.clone()))
                .or_else(|| asked.path.contains("/blobs/").then(|| ok(bytes.clone())))
        })
        .await;
        match fetched(&server.oci("a:1"), &quick()).await {
            Ok(got) => assert!(fits && got.component == largest),
            Err(error) => assert!(!fits && matches!(error, SourceError::TooLarge { .. }), "{error}"),
        }
        // What is too large isn't even asked for.
        assert_eq!(server.asked().len(), if fits { 2 } else { 1 });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_of_something_else_are_refused_by_name() {
    for (json, says) in unfit() {
        let about = json.chars().take(300).collect::<String>();
        let server = registry(move |asked| is_manifest(asked).then(|| ok(json.clone()))).await;
        let error = refused(&server.oci("a:1"), &quick()).await.to_string();
        assert!(error.contains(says), "{about}: {error}");
        assert_eq!(server.asked().len(), 1, "{about}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_artifact_type_is_as_good_as_the_configs() {
    let mut json = signed("a");
    json["artifactType"] = json!(clawker_plugin_source::PLUGIN_TYPE);
    json["config"] = descriptor("application/vnd.oci.empty.v1+json", b"{}");
    assert_eq!(json["layers"][1]["mediaType"], json!(SIGNATURE_TYPE));
    let server = registry(move |asked| is_manifest(asked).then(|| ok(json.to_string()))).await;
    fetched(&server.oci("a:1"), &quick()).await.expect("fetched");
}

#[tokio::test(flavor = "multi_thread")]
async fn statuses_are_said() {
    for status in [204, 206, 400, 418, 429, 500, 503] {
        let server = registry(move |_| Some(with(status, &[], ""))).await;
        let error = refused(&server.oci("a:1"), &quick()).await;
        assert!(
            matches!(error, SourceError::Status { status: said, .. } if said == status),
            "{error}"
        );
    }
    let server = registry(|_| Some(with(403, &[], ""))).await;
    let error = refused(&server.oci("a:1"), &quick()).await;
    assert!(matches!(error, SourceError::Denied { status: 403, .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_that_are_elsewhere_are_fetched_there() {
    let store = Server::start(|_| ok(component("a"))).await;
    let to = store.url("/somewhere");
    let server = registry(move |asked| is_blob_of(asked, &component("a")).then(|| redirect(&to))).await;
    let got = fetched(&server.oci("a:1"), &quick()).await.expect("fetched");
    assert_eq!(got.component, component("a"));
}

#[tokio::test(flavor = "multi_thread")]
async fn three_redirects_are_followed_and_a_fourth_is_not() {
    for (times, followed) in [(3, true), (4, false)] {
        let server = Server::start(move |asked| {
            let at: u32 = asked
                .path
                .rsplit('/')
                .next()
                .and_then(|at| at.parse().ok())
                .unwrap_or(0);
            if asked.path.ends_with(".sig") {
                missing()
            } else if at < times {
                redirect(&format!("/{}", at + 1))
            } else {
                ok(component("a"))
            }
        })
        .await;
        let got = fetched(&server.url("/a.wasm"), &quick()).await;
        match got {
            Ok(_) => assert!(followed),
            Err(error) => assert!(!followed && matches!(error, SourceError::Redirects { .. }), "{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_of_another_machine_is_never_asked() {
    for to in [
        "http://192.0.2.1/x",
        "http://localhost.example.org/x",
        "ftp://127.0.0.1/x",
    ] {
        let server = registry(move |_| Some(redirect(to))).await;
        let error = refused(&server.oci("a:1"), &quick()).await;
        assert!(matches!(error, SourceError::Downgrade { .. }), "{to}: {error}");
    }
}
