//! Which chains and rules a network state is. Pure.
//!
//! ```text
//!             inet clawker, priority -300                               netdev clawker
//! open        absent                                                    absent
//! restricted  output   ─ 127.0.0.11 ─► count, drop                      absent
//!                      ─ lo: 127.0.0.53 accept; port 53 ─► count, drop; rest accept
//!                      ─ neighbour discovery accept (with an IPv6 destination)
//!                      ─ multicast housekeeping of the kernel ─► drop
//!                      ─ each destination accept; else ─► count, drop
//!             input    ─ lo, established, related accept; else drop
//!             forward  ─ drop
//! locked      output   ─ count, drop; input, forward ─ drop             egress drop, one chain an interface
//! ```
//!
//! Docker's resolver at 127.0.0.11 forwards from the host's namespace, so it would be a tunnel; Docker rewrites its
//! port 53 to another, so all its ports are closed. The kernel's own membership reports are dropped uncounted:
//! the count is what the agent tried.

use std::net::IpAddr;

use clawker_model::{EgressRule, NetworkState};

use crate::expr::{Compare, Expr, Key};

pub(crate) const TABLE: &std::ffi::CStr = c"clawker";
pub(crate) const PRIORITY: i32 = -300;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    Inet,
    Netdev,
}

/// Hook numbers of the two families (`NF_INET_*`, `NF_NETDEV_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    Input,
    Forward,
    Output,
    Egress,
}

impl Hook {
    pub(crate) fn number(self) -> u32 {
        match self {
            Hook::Input | Hook::Egress => 1,
            Hook::Forward => 2,
            Hook::Output => 3,
        }
    }
}

/// A base chain with policy drop.
#[derive(Debug)]
pub(crate) struct PlannedChain {
    pub(crate) family: Family,
    pub(crate) name: String,
    pub(crate) hook: Hook,
    pub(crate) device: Option<String>,
    pub(crate) rules: Vec<Vec<Expr>>,
}

const TCP: u8 = 6;
const UDP: u8 = 17;
const IGMP: u8 = 2;
const ICMPV6: u8 = 58;
const RESOLVER_OF_DOCKER: [u8; 4] = [127, 0, 0, 11];
const RESOLVER_OF_OURS: [u8; 4] = [127, 0, 0, 53];

/// The chains of `state`; empty for open. `denied` is what the count goes on from.
pub(crate) fn plan(state: &NetworkState, interfaces: &[String], denied: u64) -> Vec<PlannedChain> {
    match state {
        NetworkState::Open => Vec::new(),
        NetworkState::Restricted { allow } => {
            let ipv6 = allow.iter().any(|rule| rule.addr.to_canonical().is_ipv6());
            vec![
                inet("input", Hook::Input, restricted_input(ipv6)),
                inet("forward", Hook::Forward, Vec::new()),
                inet("output", Hook::Output, restricted_output(allow, ipv6, denied)),
            ]
        }
        NetworkState::Locked => {
            let mut chains = vec![
                inet("input", Hook::Input, Vec::new()),
                inet("forward", Hook::Forward, Vec::new()),
                inet("output", Hook::Output, vec![counted_drop(Vec::new(), denied)]),
            ];
            chains.extend(interfaces.iter().map(|name| PlannedChain {
                family: Family::Netdev,
                name: format!("egress-{name}"),
                hook: Hook::Egress,
                device: Some(name.clone()),
                rules: Vec::new(),
            }));
            chains
        }
    }
}

fn inet(name: &str, hook: Hook, rules: Vec<Vec<Expr>>) -> PlannedChain {
    PlannedChain {
        family: Family::Inet,
        name: name.to_owned(),
        hook,
        device: None,
        rules,
    }
}

fn restricted_input(ipv6: bool) -> Vec<Vec<Expr>> {
    const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
    let mut rules = vec![
        then(on_lo(Key::InputInterface), Expr::Accept),
        vec![
            Expr::Load(Key::ConnectionState),
            Expr::And(ESTABLISHED_OR_RELATED),
            Expr::Cmp(Compare::Neq, 0u32.to_ne_bytes().to_vec()),
            Expr::Accept,
        ],
    ];
    if ipv6 {
        rules.push(then(icmpv6(133, 136), Expr::Accept));
    }
    rules
}

fn restricted_output(allow: &[EgressRule], ipv6: bool, denied: u64) -> Vec<Vec<Expr>> {
    let lo = || on_lo(Key::OutputInterface);
    let mut rules = vec![
        counted_drop(destination(RESOLVER_OF_DOCKER.into()), 0),
        then([lo(), destination(RESOLVER_OF_OURS.into())].concat(), Expr::Accept),
        counted_drop([lo(), port(TCP, 53)].concat(), 0),
        counted_drop([lo(), port(UDP, 53)].concat(), 0),
        then(lo(), Expr::Accept),
    ];
    if ipv6 {
        rules.push(then(icmpv6(133, 136), Expr::Accept));
    }
    rules.extend([
        then(icmpv6(130, 137), Expr::Drop),
        then(icmpv6(143, 143), Expr::Drop),
        then(protocol(IGMP), Expr::Drop),
    ]);
    let mut allow = allow.to_vec();
    allow.sort();
    allow.dedup();
    for rule in allow {
        for protocol in [TCP, UDP] {
            let to = [destination(rule.addr.to_canonical()), port(protocol, rule.port)].concat();
            rules.push(then(to, Expr::Accept));
        }
    }
    rules.push(counted_drop(Vec::new(), denied));
    rules
}

fn then(mut matches: Vec<Expr>, verdict: Expr) -> Vec<Expr> {
    matches.push(verdict);
    matches
}

fn counted_drop(mut matches: Vec<Expr>, from: u64) -> Vec<Expr> {
    matches.extend([Expr::Count { from }, Expr::Drop]);
    matches
}

fn on_lo(key: Key) -> Vec<Expr> {
    // The kernel compares the whole of IFNAMSIZ, so that `lo` isn't taken for a prefix.
    let mut name = vec![0u8; libc::IFNAMSIZ];
    name[..2].copy_from_slice(b"lo");
    vec![Expr::Load(key), Expr::Cmp(Compare::Eq, name)]
}

fn protocol(number: u8) -> Vec<Expr> {
    vec![Expr::Load(Key::Protocol), Expr::Cmp(Compare::Eq, vec![number])]
}

fn port(number: u8, port: u16) -> Vec<Expr> {
    let matches = [
        Expr::Load(Key::DestinationPort),
        Expr::Cmp(Compare::Eq, port.to_be_bytes().to_vec()),
    ];
    [protocol(number), matches.to_vec()].concat()
}

fn icmpv6(first: u8, last: u8) -> Vec<Expr> {
    let mut matches = protocol(ICMPV6);
    matches.extend([
        Expr::Load(Key::IcmpType),
        Expr::Cmp(Compare::Gte, vec![first]),
        Expr::Cmp(Compare::Lte, vec![last]),
    ]);
    matches
}

fn destination(addr: IpAddr) -> Vec<Expr> {
    let (family, key, octets) = match addr {
        IpAddr::V4(addr) => (libc::NFPROTO_IPV4 as u8, Key::DestinationV4, addr.octets().to_vec()),
        IpAddr::V6(addr) => (libc::NFPROTO_IPV6 as u8, Key::DestinationV6, addr.octets().to_vec()),
    };
    vec![
        Expr::Load(Key::AddressFamily),
        Expr::Cmp(Compare::Eq, vec![family]),
        Expr::Load(key),
        Expr::Cmp(Compare::Eq, octets),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(state: &NetworkState, interfaces: &[&str]) -> Vec<String> {
        let interfaces: Vec<String> = interfaces.iter().map(ToString::to_string).collect();
        plan(state, &interfaces, 0)
            .into_iter()
            .map(|chain| chain.name)
            .collect()
    }

    #[test]
    fn a_lock_has_a_chain_for_every_interface() {
        assert_eq!(names(&NetworkState::Open, &["lo"]), Vec::<String>::new());
        assert_eq!(names(&NetworkState::Locked, &[]), ["input", "forward", "output"]);
        let locked = names(&NetworkState::Locked, &["eth0", "eth1", "lo"]);
        assert_eq!(locked[3..], ["egress-eth0", "egress-eth1", "egress-lo"]);
    }

    #[test]
    fn the_last_word_of_output_is_a_counted_drop() {
        for state in [NetworkState::Locked, NetworkState::Restricted { allow: Vec::new() }] {
            let chains = plan(&state, &[], 5);
            let output = chains
                .iter()
                .find(|chain| chain.name == "output")
                .expect("there is one");
            let last = output.rules.last().expect("there is a rule");
            assert_eq!(last[..], [Expr::Count { from: 5 }, Expr::Drop]);
        }
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address_that_goes_out() {
        let rule = |addr: &str| EgressRule {
            addr: addr.parse().expect("address"),
            port: 80,
        };
        let of = |addr| restricted_output(&[rule(addr)], false, 0);
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }
}
