//! The targets, by whose bytes they parse.

mod clawkerd;
#[cfg(feature = "host")]
mod docker;
#[cfg(feature = "host")]
mod host;
mod proc;
mod session;
#[cfg(feature = "host")]
mod source;
mod wire;
mod words;

use crate::Target;

/// Every target there is.
pub const TARGETS: &[Target] = &[
    wire::PREAMBLE,
    wire::BUNDLE,
    wire::JOIN,
    wire::DEFAULTS,
    session::COMMAND,
    session::RESPONSE,
    session::IO,
    session::AGENT,
    session::ADMIN,
    clawkerd::HALVES,
    clawkerd::USER,
    clawkerd::OPTIONS,
    proc::STAT,
    proc::FILES,
    words::WORDS,
    #[cfg(feature = "host")]
    docker::STREAM,
    #[cfg(feature = "host")]
    docker::ANSWERS,
    #[cfg(feature = "host")]
    host::NETLINK,
    #[cfg(feature = "host")]
    host::RULES,
    #[cfg(feature = "host")]
    host::CERTIFICATE,
    #[cfg(feature = "host")]
    host::DEFINITION,
    #[cfg(feature = "host")]
    host::BACKUP,
    #[cfg(feature = "host")]
    host::PROJECT,
    #[cfg(feature = "host")]
    source::REFERENCE,
    #[cfg(feature = "host")]
    source::ANSWERS,
];

/// As text, as the programs read it: what isn't UTF-8 is replaced.
fn text(input: &[u8]) -> String {
    String::from_utf8_lossy(input).into_owned()
}

fn texts(seeds: &[&str]) -> Vec<Vec<u8>> {
    seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect()
}
