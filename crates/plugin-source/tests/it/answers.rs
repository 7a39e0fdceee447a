//! Junk for what reads the answers of strangers; `clawker-fuzz` does the same for longer.

use clawker_plugin_source::fuzzing;
use proptest::prelude::*;

use crate::plugin::{hex, signature, signed};

#[test]
fn the_layers_of_a_plugin_are_read() {
    let layers = fuzzing::manifest(signed("a").to_string().as_bytes()).expect("a plugin's");
    assert_eq!(layers[1].0.as_str(), hex(&signature("a")));
    assert_eq!(layers[1].1, signature("a").len() as u64);
}

#[test]
fn challenges_are_read_in_every_spelling() {
    let realm = |header: &str| fuzzing::challenge(header);
    for bearer in [
        "Bearer realm=\"https://a/token\"",
        "bearer service=\"a, b\",realm=\"https://a/token\" , scope=c",
        "BEARER   realm=https://a/token,service=b",
        "Bearer Realm=\"https://a/to\\ken\"",
    ] {
        assert_eq!(realm(bearer).as_deref(), Some("https://a/token"), "{bearer}");
    }
    assert_eq!(realm("Basic realm=\"x\"").as_deref(), Some(""));
    assert_eq!(realm("basic").as_deref(), Some(""));
    for other in [
        "",
        "Bearer",
        "Bearer service=a",
        "Bearer realm=\"a",
        "Negotiate",
        "Bearer realm=\"a\\",
    ] {
        assert_eq!(realm(other), None, "{other}");
    }
}

proptest! {
    #[test]
    fn no_answer_is_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), text in "\\PC{0,100}") {
        let _ = (fuzzing::manifest(&bytes), fuzzing::index(&bytes), fuzzing::token(&bytes));
        let _ = (fuzzing::manifest(text.as_bytes()), fuzzing::index(text.as_bytes()));
        let _ = (fuzzing::challenge(&text), fuzzing::challenge(&format!("Bearer {text}")));
        let _ = fuzzing::challenge(&format!("Bearer realm=\"{text}"));
    }

    #[test]
    fn a_manifest_with_a_byte_changed_still_keeps_the_limits(at in 0_usize..900, with in any::<u8>()) {
        let mut json = signed("a").to_string().into_bytes();
        let Some(byte) = json.get_mut(at) else { return Ok(()) };
        *byte = with;
        for (layer, max) in fuzzing::manifest(&json).into_iter().flatten().zip([32 << 20, 4 << 10]) {
            prop_assert!(layer.1 <= max);
        }
    }
}
