//! Where an agent may connect to, as an operator writes it: `open`, `none`, or `ADDR:PORT` items.

use std::net::SocketAddr;

use clawker_model::{Egress, EgressRule};

use super::error::Fault;

/// Most rules of one agent.
pub const MAX_RULES: usize = 64;

/// An agent's own egress; `None` when the request leaves it to the control plane.
pub fn egress(items: &[String]) -> Result<Option<Egress>, Fault> {
    match items {
        [] => Ok(None),
        [one] if one == "open" => Ok(Some(Egress::Open)),
        [one] if one == "none" => Ok(Some(Egress::Only { allow: Vec::new() })),
        items => Ok(Some(Egress::Only { allow: rules(items)? })),
    }
}

/// `ADDR:PORT` items, sorted and once each.
pub fn rules(items: &[String]) -> Result<Vec<EgressRule>, Fault> {
    if items.len() > MAX_RULES {
        let count = items.len();
        return Err(Fault::usage(
            format!("{count} egress rules, the limit is {MAX_RULES}"),
            "give fewer",
        ));
    }
    let mut rules = items.iter().map(|item| rule(item)).collect::<Result<Vec<_>, _>>()?;
    rules.sort();
    rules.dedup();
    Ok(rules)
}

fn rule(item: &str) -> Result<EgressRule, Fault> {
    let refuse = |why: &str| {
        let item: String = item.chars().take(100).collect();
        Err(Fault::usage(
            format!("egress rule `{item}`: {why}"),
            "write `ADDR:PORT` or `[ADDR]:PORT` with an address in numbers, or `open` alone",
        ))
    };
    if matches!(item, "open" | "none") {
        return refuse("stands alone or not at all");
    }
    let Ok(addr) = item.parse::<SocketAddr>() else {
        return refuse("not an address and a port; names aren't resolved");
    };
    if item.contains('%') {
        return refuse("an address with an interface isn't taken");
    }
    if addr.port() == 0 {
        return refuse("port 0 is none");
    }
    if addr.ip().is_unspecified() {
        return refuse("that address is nobody's");
    }
    Ok(EgressRule {
        addr: addr.ip().to_canonical(),
        port: addr.port(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(items: &[&str]) -> Result<Option<Egress>, Fault> {
        egress(&items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>())
    }

    fn only(items: &[&str]) -> String {
        match parse(items).expect("good") {
            Some(Egress::Only { allow }) => allow.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn rules_are_addresses_with_ports() {
        assert_eq!(parse(&[]).expect("none"), None);
        assert_eq!(parse(&["open"]).expect("open"), Some(Egress::Open));
        assert_eq!(only(&["none"]), "");
        assert_eq!(
            only(&["10.0.0.2:443", "10.0.0.1:80", "10.0.0.2:443"]),
            "10.0.0.1:80 10.0.0.2:443"
        );
        assert_eq!(
            only(&["[2001:db8::1]:53", "[::ffff:10.0.0.1]:80"]),
            "10.0.0.1:80 [2001:db8::1]:53"
        );
    }

    #[test]
    fn anything_else_is_refused_by_name() {
        for bad in [
            "",
            "example.org:443",
            "10.0.0.1",
            "10.0.0.1:",
            "10.0.0.1:0",
            "10.0.0.1:65536",
            "2001:db8::1:53",
            "[fe80::1%2]:80",
            "0.0.0.0:80",
            "[::]:80",
            "10.0.0.1:80/tcp",
            "10.0.0.0/8:80",
            "*:80",
            " 10.0.0.1:80",
        ] {
            let fault = parse(&[bad]).expect_err(bad);
            assert!(fault.message.contains(bad) && fault.exit == 2, "{bad}: {fault}");
        }
        assert!(parse(&["open", "10.0.0.1:80"]).is_err());
        assert!(parse(&["10.0.0.1:80", "none"]).is_err());
    }

    #[test]
    fn there_is_a_limit() {
        let items: Vec<String> = (1..=MAX_RULES + 1).map(|n| format!("10.0.0.1:{n}")).collect();
        assert!(egress(&items).is_err());
        assert!(egress(&items[1..]).is_ok());
    }
}
