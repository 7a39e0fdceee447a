//! What `--version` says: for a person the build, for a program all that decides whether it can talk to this one.

use serde::Serialize;

use crate::halves;

/// One object on one line. Fields may be added; one that is there keeps its meaning.
#[derive(Debug, Serialize)]
struct Version {
    name: &'static str,
    version: &'static str,
    /// As HelloAck says it.
    build: &'static str,
    protocol: Generations,
    wires: Wires,
    /// As Rust names it: `x86_64`, `aarch64`.
    arch: &'static str,
    /// Whether it runs in an image without any library.
    #[serde(rename = "static")]
    is_static: bool,
}

/// Of the session: the lower newest of both ends is spoken, if it isn't below either's oldest.
#[derive(Debug, Serialize)]
struct Generations {
    oldest: u32,
    newest: u32,
}

/// What PID 1 speaks for as long as it lives, each versioned apart.
#[derive(Debug, Serialize)]
struct Wires {
    preamble: u32,
    halves: u8,
}

/// The text of `--version`.
pub fn text() -> String {
    crate::BUILD.to_owned()
}

/// The line of `--version --json`.
pub fn json() -> Result<String, serde_json::Error> {
    serde_json::to_string(&Version {
        name: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        build: crate::BUILD,
        protocol: Generations {
            oldest: clawker_wire::OLDEST_PROTOCOL,
            newest: clawker_wire::PROTOCOL,
        },
        wires: Wires {
            preamble: clawker_wire::preamble::WIRE,
            halves: halves::VERSION,
        },
        arch: std::env::consts::ARCH,
        is_static: cfg!(target_feature = "crt-static"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_reads_what_is_spoken_and_where_it_runs() {
        let line = json().expect("it serializes");
        assert!(!line.contains('\n'), "{line}");
        let read: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(
            read,
            serde_json::json!({
                "name": "clawkerd",
                "version": env!("CARGO_PKG_VERSION"),
                "build": clawker_wire::CLAWKERD,
                "protocol": { "oldest": clawker_wire::OLDEST_PROTOCOL, "newest": clawker_wire::PROTOCOL },
                "wires": { "preamble": clawker_wire::preamble::WIRE, "halves": halves::VERSION },
                "arch": std::env::consts::ARCH,
                "static": cfg!(target_feature = "crt-static"),
            })
        );
        assert_eq!(text(), read["build"]);
    }
}
