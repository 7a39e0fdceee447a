//! Published ports: `[[addr:]port:]port[/proto]` as Docker's command line has it, one port each.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bollard::models::{PortBinding, PortMap};

use crate::hostconfig::{SpecError, shown};

const MAX_PUBLISH: usize = 64;

pub(crate) fn bindings(publish: &[String]) -> Result<PortMap, SpecError> {
    if publish.len() > MAX_PUBLISH {
        return Err(SpecError::TooMany {
            what: "published ports",
            count: publish.len(),
            max: MAX_PUBLISH,
        });
    }
    let mut map: BTreeMap<String, Vec<PortBinding>> = BTreeMap::new();
    for text in publish {
        let (port, binding) = parse(text).map_err(|why| SpecError::Publish {
            publish: shown(text),
            why,
        })?;
        map.entry(port).or_default().push(binding);
    }
    Ok(map.into_iter().map(|(port, bindings)| (port, Some(bindings))).collect())
}

fn parse(text: &str) -> Result<(String, PortBinding), &'static str> {
    let (ports, proto) = text.rsplit_once('/').unwrap_or((text, "tcp"));
    if !matches!(proto, "tcp" | "udp" | "sctp") {
        return Err("the protocol is none of tcp, udp, sctp");
    }
    let (rest, container) = match ports.rsplit_once(':') {
        Some((rest, container)) => (Some(rest), container),
        None => (None, ports),
    };
    let container = port(container)?;
    let (addr, host) = match rest {
        None => (None, ""),
        Some(rest) => match rest.rsplit_once(':') {
            // An IPv6 address stands in brackets, so a colon before them is the one before the host's port.
            Some((addr, host)) if !host.ends_with(']') => (Some(addr), host),
            _ if rest.ends_with(']') => return Err("an address needs a host port or an empty one after it"),
            _ => (None, rest),
        },
    };
    let host_ip = match addr {
        None => None,
        Some(addr) => {
            let bare = addr.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(addr);
            Some(bare.parse::<IpAddr>().map_err(|_| "the address isn't one")?.to_string())
        }
    };
    let host_port = if host.is_empty() {
        None
    } else {
        Some(port(host)?.to_string())
    };
    Ok((format!("{container}/{proto}"), PortBinding { host_ip, host_port }))
}

fn port(text: &str) -> Result<u16, &'static str> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err("a port is one number; ranges aren't taken");
    }
    match text.parse::<u16>() {
        Ok(0) | Err(_) => Err("a port is between 1 and 65535"),
        Ok(port) => Ok(port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_as_docker_reads_them() {
        let cases = [
            ("80", "80/tcp", None, None),
            ("8080:80", "80/tcp", None, Some("8080")),
            ("127.0.0.1:8080:80/udp", "80/udp", Some("127.0.0.1"), Some("8080")),
            ("127.0.0.1::80", "80/tcp", Some("127.0.0.1"), None),
            ("[::1]:8080:80", "80/tcp", Some("::1"), Some("8080")),
        ];
        for (text, port, ip, host) in cases {
            let (got, binding) = parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!(
                (got.as_str(), binding.host_ip.as_deref(), binding.host_port.as_deref()),
                (port, ip, host),
                "{text}"
            );
        }
        for bad in [
            "",
            ":",
            "0",
            "65536",
            "80-90:80-90",
            "a:80",
            "80/icmp",
            "1.2.3:80:80",
            "[::1]:80",
            "+80",
            "80:",
        ] {
            assert!(parse(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn there_is_a_limit() {
        assert!(bindings(&vec!["80".to_owned(); MAX_PUBLISH + 1]).is_err());
    }
}
