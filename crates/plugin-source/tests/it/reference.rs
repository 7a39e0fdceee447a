//! The forms of a reference.

use clawker_plugin_source::{OciReference, Pick, Source, SourceError};
use proptest::prelude::*;

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn read(text: &str) -> Source {
    let text = text.replace("HEX", HEX);
    let source = Source::parse(&text).unwrap_or_else(|error| panic!("{error}"));
    let again = Source::parse(&source.to_string()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(again, source, "{text}");
    source
}

fn refused(text: &str, says: &str) {
    let text = text.replace("HEX", HEX);
    match Source::parse(&text) {
        Ok(source) => panic!("{text} is {source:?}"),
        Err(error @ SourceError::Reference { .. }) => {
            let said = error.to_string();
            assert!(said.contains(says), "{text}: {said}");
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn each_form_is_read_and_written_back() {
    for text in [
        "a.wasm",
        "./oom-alert",
        "/nix/store/abc-oom/lib/clawker/plugins/oom.wasm",
        "~/é ü.wasm",
        "C:/odd/file.wasm",
        "a.wasm#sha256=HEX",
        "oci-layout:dir",
        "oci-layout:/a:b/dir",
        "oci-layout:./dir:1.0_x-y",
        "oci-layout:dir@sha256:HEX",
        "oci://registry.example.org/a",
        "oci://registry.example.org:5000/team/oom-alert:1.0",
        "oci://localhost:5000/a__b/c.d/e---f@sha256:HEX",
        "oci://127.0.0.1/a:1@sha256:HEX",
        "oci://[::1]:5000/a:latest",
        "https://example.org/a.wasm",
        "https://example.org:8443/x/a.wasm?v=1#sha256=HEX",
        "http://localhost:80/a.wasm",
        "http://127.0.0.1:5000/a.wasm",
        "http://[::1]/a.wasm",
    ] {
        read(text);
    }
}

#[test]
fn the_parts_of_a_reference_are_what_they_look_like() {
    let Source::Oci(oci) = read("oci://h:5000/team/a:1.0@sha256:HEX") else {
        panic!("another form");
    };
    let OciReference {
        registry,
        repository,
        tag,
        digest,
    } = oci;
    assert_eq!((registry.as_str(), repository.as_str()), ("h:5000", "team/a"));
    assert_eq!((tag.as_deref(), digest.expect("a digest").as_str()), (Some("1.0"), HEX));
    let pick = |text: &str| match read(text) {
        Source::Layout(layout) => (layout.dir.display().to_string(), layout.pick),
        other => panic!("{other:?}"),
    };
    assert_eq!(pick("oci-layout:/a:b/c"), ("/a:b/c".to_owned(), Pick::Only));
    assert_eq!(
        pick("oci-layout:/a:b/c:d"),
        ("/a:b/c".to_owned(), Pick::Tag("d".to_owned()))
    );
    // On a path it is a file's name, wherever a colon is.
    assert!(matches!(read("host:5000/a"), Source::Local(_)));
}

#[test]
fn what_is_no_reference_is_refused_by_name() {
    refused("", "it is empty");
    refused(&"a".repeat(4097), "more than 4096 bytes");
    refused("a\0b", "control characters");
    refused("a\nb", "control characters");
    refused("docker://a/b", "`docker` is none of oci, https");
    refused("file:///a.wasm", "a file is its path");
    refused("#sha256=HEX", "no path");
    refused("a.wasm#sha256=HE", "64 of 0-9 and a-f");

    refused("oci-layout:", "no folder");
    refused("oci-layout::tag", "no folder");
    refused("oci-layout:@sha256:HEX", "no folder");
    refused("oci-layout:dir:", "a tag is");
    refused("oci-layout:dir:-a", "a tag is");
    refused("oci-layout:dir@sha256:../x", "64 of 0-9 and a-f");

    refused("oci://", "no repository");
    refused("oci://host", "no repository");
    refused("oci://host:5000", "no repository");
    refused("oci://host/", "a repository is words");
    refused("oci:///a", "host's name");
    refused("oci://host/A", "a repository is words");
    refused("oci://host/a//b", "a repository is words");
    refused("oci://host/../a", "a repository is words");
    refused("oci://host/a.-b", "a repository is words");
    refused("oci://host/a___b", "a repository is words");
    refused("oci://host/-a", "a repository is words");
    refused("oci://host/a?b", "a repository is words");
    refused(&format!("oci://host/{}", "a".repeat(256)), "255 bytes at most");
    refused("oci://host/a:", "a tag is");
    refused("oci://host/a:.b", "a tag is");
    refused("oci://host/a:b/c", "a tag is");
    refused(&format!("oci://host/a:{}", "b".repeat(129)), "a tag is");
    refused("oci://host/a@sha512:HEX", "only digests of sha256");
    refused("oci://host/a@sha256:HEXHEX", "64 of 0-9 and a-f");
    refused("oci://user:password@host/a", "only digests of sha256");
    refused("oci://ho st/a", "host's name");
    refused("oci://-host/a", "host's name");
    refused("oci://host../a", "host's name");
    refused("oci://host:0/a", "port");
    refused("oci://host:65536/a", "port");
    refused("oci://host:+80/a", "port");
    refused("oci://host:/a", "port");
    refused("oci://[::1/a", "`[` without `]`");
    refused("oci://[host]/a", "IPv6");
    refused("oci://[::1]5000/a", "after `]`");
    refused("oci://999.0.0.1/a", "the registry");

    refused("https://", "empty host");
    refused("https://user@host/a.wasm", "credentials don't belong in a URL");
    refused("https://user:password@host/a.wasm", "credentials don't belong in a URL");
    refused("https://host/a.tar", "doesn't end in .wasm");
    refused("https://host/a?b=.wasm", "doesn't end in .wasm");
    refused("https://host/a.wasm#sha512=00", "comes sha256=");
    refused("https://host/a.wasm#sha256=00", "64 of 0-9 and a-f");
    refused("http://example.org/a.wasm", "isn't https");
    refused("http://10.0.0.1/a.wasm", "isn't https");
    refused("http://localhost.example.org/a.wasm", "isn't https");
    refused("http://127.0.0.1@example.org/a.wasm", "credentials");
}

#[test]
fn a_refusal_repeats_no_more_than_a_line() {
    let error = Source::parse(&"oci://x/".repeat(1_000)).expect_err("too long");
    assert!(error.to_string().len() < 400);
}

proptest! {
    #[test]
    fn no_text_is_a_panic(text in "\\PC{0,200}") {
        for begin in ["", "oci://", "oci-layout:", "https://", "http://localhost", "oci://h/a", "oci://["] {
            let _ = Source::parse(&format!("{begin}{text}"));
        }
    }

    #[test]
    fn what_is_read_is_written_back(
        text in "(oci://|oci-layout:|https://|http://127\\.0\\.0\\.1|)[a-z0-9:/@#=.?%\\[\\]_-]{1,30}(\\.wasm|:[a-z0-9]{1,4}|)(@sha256:[0-9a-f]{64}|#sha256=[0-9a-f]{64}|)"
    ) {
        if let Ok(source) = Source::parse(&text) {
            let written = source.to_string();
            prop_assert_eq!(Source::parse(&written).map_err(|error| TestCaseError::fail(error.to_string()))?, source);
        }
    }
}
