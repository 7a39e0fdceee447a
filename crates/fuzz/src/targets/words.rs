//! Words that stand in labels, certificates, options and requests, and are parsed once.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use clawker_model::{ContainerId, FullName, OnAbsent, Orphan, Restart, Thumbprint};
use clawker_proc::signal;

use super::{text, texts};
use crate::Target;

pub const WORDS: Target = Target {
    name: "words",
    about: "names, ids, rules of absence and signals; whoever makes a label, a certificate or a request",
    check: words,
    seeds: || {
        texts(&[
            "clawker.web.scout",
            "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            "defaults:86400",
            "freeze:120",
            "on-failure:5",
            "unless-stopped",
            "SIGRTMIN+3",
        ])
    },
    factor: 256,
};

fn words(input: &[u8]) -> bool {
    let text = text(input);
    let mut read = [
        comes_back::<FullName>(&text),
        comes_back::<OnAbsent>(&text),
        comes_back::<Orphan>(&text),
        comes_back::<Restart>(&text),
    ]
    .contains(&true);
    if let Ok(name) = FullName::parse_short(&text) {
        let full = name.to_string();
        assert!(
            full == text || full == format!("clawker.{text}"),
            "`{text}` became `{full}`"
        );
        read = true;
    }
    for id in [
        ContainerId::parse(&text).map(String::from),
        Thumbprint::parse(&text).map(String::from),
    ] {
        assert!(id.is_err() || id.as_deref() == Ok(&text), "another id came out");
        assert!(
            id.is_err() || text.bytes().all(|b| b.is_ascii_hexdigit()),
            "`{text}` is no id"
        );
        read |= id.is_ok();
    }
    if let Some(signo) = signal::parse(&text) {
        assert!((1..=64).contains(&signo), "`{text}` is no signal, and became {signo}");
        read = true;
    }
    read
}

/// Written as it was read, or in a way that reads the same.
fn comes_back<T: FromStr + Display + PartialEq + Debug>(text: &str) -> bool {
    let Ok(read) = text.parse::<T>() else { return false };
    let again = read.to_string().parse::<T>().ok();
    assert_eq!(again.as_ref(), Some(&read), "`{text}` became `{read}`");
    true
}
