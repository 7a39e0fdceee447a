//! The destinations that a restriction lets through, told from the rules that the kernel has.
//!
//! Reads libnftnl's words for a rule (`payload load 4b @ network header + 16 => reg 1; cmp eq reg 1 0x0b00007f; …`).
//! Whoever asks compares the plan of what was told with what is there, so a word misread here is an error there.

use std::net::IpAddr;

use clawker_model::EgressRule;

use crate::policy::Family;
use crate::ruleset::Ruleset;

/// Address and port of each accepting rule of the output chain that has both, sorted.
pub(crate) fn destinations(ruleset: &Ruleset) -> Vec<EgressRule> {
    let output = ruleset.chains.get(&(Family::Inet, "output".to_owned()));
    let rules = output.map(|chain| chain.rules.as_slice()).unwrap_or_default();
    let mut allow: Vec<EgressRule> = rules
        .iter()
        .filter(|rule| rule.ends_with("accept"))
        .filter_map(|rule| destination(rule))
        .collect();
    allow.sort();
    allow.dedup();
    allow
}

fn destination(rule: &str) -> Option<EgressRule> {
    let (mut addr, mut port) = (None, None);
    let words: Vec<&str> = rule.split("; ").collect();
    for pair in words.windows(2) {
        let [load, compared] = pair else { continue };
        let Some(value) = compared.strip_prefix("cmp eq reg 1 ") else {
            continue;
        };
        if load.starts_with("payload load 4b @ network header") {
            addr = bytes::<4>(value).map(IpAddr::from);
        } else if load.starts_with("payload load 16b @ network header") {
            addr = bytes::<16>(value).map(IpAddr::from);
        } else if load.starts_with("payload load 2b @ transport header") {
            port = bytes::<2>(value).map(u16::from_be_bytes);
        }
    }
    Some(EgressRule {
        addr: addr?,
        port: port?,
    })
}

/// The first bytes of data that is written as words of the machine's own order.
fn bytes<const N: usize>(value: &str) -> Option<[u8; N]> {
    let mut bytes = Vec::new();
    for word in value.split_whitespace() {
        let word = u32::from_str_radix(word.strip_prefix("0x")?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    bytes.get(..N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use clawker_model::NetworkState;

    use super::*;
    use crate::policy::plan;
    use crate::ruleset::Transaction;

    fn told(allow: &[&str]) -> Vec<String> {
        let rule = |text: &&str| {
            let to: std::net::SocketAddr = text.parse().expect("a destination");
            EgressRule {
                addr: to.ip(),
                port: to.port(),
            }
        };
        let state = NetworkState::Restricted {
            allow: allow.iter().map(rule).collect(),
        };
        let made = Transaction::new(&plan(&state, &[], 0)).expect("a transaction").makes;
        destinations(&made).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_a_restriction_lets_through_is_told_from_its_rules() {
        assert_eq!(told(&[]), Vec::<String>::new());
        let allow = ["192.0.2.1:80", "192.0.2.1:443", "198.51.100.7:53", "[2001:db8::1]:8080"];
        let mut expected: Vec<&str> = allow.to_vec();
        expected.sort_by_key(|text| (text.starts_with('['), text.len()));
        let mut found = told(&allow);
        found.sort_by_key(|text| (text.starts_with('['), text.len()));
        assert_eq!(found, expected);
    }
}
