//! Tries what containment needs, one feature after the other, in a namespace made for it.

use clawker_model::{EgressRule, NetworkState};

use crate::Error;
use crate::netlink::Buffer;
use crate::policy::{Family, plan};
use crate::ruleset::Transaction;
use crate::worker::Netns;

/// The first feature that is missing is the error.
pub(crate) fn all(netns: &mut Netns, buffer: &mut Buffer) -> Result<(), Error> {
    let rule = |addr: std::net::IpAddr| EgressRule { addr, port: 1 };
    let to_both = vec![
        rule([192, 0, 2, 1].into()),
        rule([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into()),
    ];
    let lo = ["lo".to_owned()];
    let locked = plan(&NetworkState::Locked, &lo, 0);
    let (inet, netdev): (Vec<_>, Vec<_>) = locked.into_iter().partition(|chain| chain.family == Family::Inet);
    for (chains, feature, hint) in [
        (
            inet,
            "nf_tables",
            "it needs CONFIG_NF_TABLES_INET, and clawker-cp CAP_NET_ADMIN and CAP_SYS_ADMIN",
        ),
        (
            netdev,
            "the netdev egress hook of nf_tables",
            "it needs Linux 5.16 with CONFIG_NETFILTER_EGRESS",
        ),
        (
            plan(&NetworkState::Restricted { allow: to_both.clone() }, &lo, 0),
            "connection tracking or counters in nf_tables",
            "it needs CONFIG_NFT_CT and CONFIG_NF_CONNTRACK",
        ),
    ] {
        netns.replace(&chains, buffer).map_err(|source| Error::Lacking {
            feature,
            hint,
            source: Box::new(source),
        })?;
    }
    for (state, feature) in [
        (
            NetworkState::Restricted { allow: to_both },
            "a restriction that reads back as it was asked",
        ),
        (NetworkState::Locked, "a lock that reads back as it was asked"),
        (NetworkState::Open, "a release that reads back as it was asked"),
    ] {
        let lacking = |source| Error::Lacking {
            feature,
            hint: "please report this kernel",
            source: Box::new(source),
        };
        netns.apply(&state, buffer).map_err(lacking)?;
    }
    Ok(())
}

impl Netns {
    fn replace(&mut self, chains: &[crate::policy::PlannedChain], buffer: &mut Buffer) -> Result<(), Error> {
        let transaction = Transaction::new(chains).ok_or(Error::Gone)?;
        self.send("probing", &transaction, buffer)
    }
}
