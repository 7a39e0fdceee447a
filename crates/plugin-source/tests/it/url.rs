//! Components that web servers have.

use clawker_plugin_source::{MAX_COMPONENT, SourceError};

use crate::plugin::{component, fetched, hex, impatient, quick, refused, signature};
use crate::served::{Reply, Server, missing, ok, with};

async fn server() -> Server {
    Server::start(|asked| match asked.path.as_str() {
        "/a.wasm" => ok(component("a")),
        "/a.wasm.sig" => ok(signature("a")),
        "/bare.wasm?v=1" => ok(component("bare")),
        "/page.wasm" => ok("<html>not found</html>"),
        "/endless.wasm" => Reply::Endless,
        "/large.wasm" => Reply::Says(MAX_COMPONENT + 1),
        "/stalls.wasm" => Reply::StallWithin,
        "/odd.wasm" | "/large-sig.wasm" | "/gone.wasm" => ok(component("odd")),
        "/odd.wasm.sig" => with(500, &[], ""),
        "/full-sig.wasm" | "/over-sig.wasm" => Reply::Unsaid(component("odd")),
        "/full-sig.wasm.sig" => Reply::Unsaid(vec![b' '; 4096]),
        "/over-sig.wasm.sig" => Reply::Unsaid(vec![b' '; 4097]),
        "/large-sig.wasm.sig" => Reply::Endless,
        "/gone.wasm.sig" => with(410, &[], ""),
        _ => missing(),
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_comes_with_the_signature_beside_it() {
    let server = server().await;
    let a = fetched(&server.url("/a.wasm"), &quick()).await.expect("fetched");
    assert_eq!(
        (a.component.clone(), a.signature.clone()),
        (component("a"), Some(signature("a")))
    );
    assert_eq!(
        a.resolved,
        server.url(&format!("/a.wasm#sha256={}", hex(&component("a"))))
    );
    assert_eq!(fetched(&a.resolved, &quick()).await.expect("pinned"), a);

    let bare = fetched(&server.url("/bare.wasm?v=1"), &quick()).await.expect("fetched");
    assert_eq!(bare.signature, None);
    assert_eq!(server.asked().last().expect("asked").path, "/bare.wasm.sig?v=1");
    let gone = fetched(&server.url("/gone.wasm"), &quick()).await.expect("fetched");
    assert_eq!(gone.signature, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_digest_than_was_typed_is_refused() {
    let server = server().await;
    let url = server.url(&format!("/a.wasm#sha256={}", hex(&component("b"))));
    let error = refused(&url, &quick()).await;
    assert!(matches!(error, SourceError::Digest { .. }), "{error}");
    assert_eq!(server.asked().len(), 1, "its signature isn't asked for");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_web_server_can_do_wrong_is_named() {
    let server = server().await;
    let error = |path: &'static str| {
        let url = server.url(path);
        async move { refused(&url, &quick()).await }
    };
    let is = error("/none.wasm").await;
    assert!(matches!(is, SourceError::NotFound { .. }), "{is}");
    let is = error("/page.wasm").await;
    assert!(matches!(is, SourceError::NotAComponent { .. }), "{is}");
    let is = error("/endless.wasm").await;
    assert!(matches!(is, SourceError::Endless { max: MAX_COMPONENT, .. }), "{is}");
    let is = error("/large.wasm").await;
    assert!(matches!(is, SourceError::TooLarge { .. }), "{is}");
    let is = refused(&server.url("/stalls.wasm"), &impatient()).await;
    assert!(matches!(is, SourceError::Slow { .. }), "{is}");
    // A signature that can't be had isn't one that is missing.
    let is = error("/odd.wasm").await;
    assert!(matches!(is, SourceError::Status { status: 500, .. }), "{is}");
    let full = fetched(&server.url("/full-sig.wasm"), &quick()).await.expect("just so");
    assert_eq!(full.signature.map(|signature| signature.len()), Some(4096));
    let is = error("/over-sig.wasm").await;
    assert!(matches!(is, SourceError::Endless { max: 4096, .. }), "{is}");
    let is = error("/large-sig.wasm").await;
    assert!(matches!(is, SourceError::Endless { max: 4096, .. }), "{is}");
}
