//! Tables of ours in a form in which asked and read can be compared, and the batch that makes them.

use std::collections::BTreeMap;
use std::ffi::CString;

use nftnl::{Batch, Chain, ChainType, MsgType, Policy, ProtoFamily, Rule, Table};

use crate::expr::text_of;
use crate::policy::{Family, Hook, PRIORITY, PlannedChain, TABLE};

/// Everything of ours in a namespace.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Ruleset {
    /// With their flags: a dormant table drops nothing.
    pub(crate) tables: BTreeMap<Family, u32>,
    pub(crate) chains: BTreeMap<(Family, String), ChainForm>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ChainForm {
    pub(crate) hook: u32,
    pub(crate) priority: i32,
    pub(crate) policy: u32,
    pub(crate) device: Option<String>,
    pub(crate) rules: Vec<String>,
}

/// One transaction that replaces whatever is there.
pub(crate) struct Transaction {
    pub(crate) bytes: Vec<u8>,
    pub(crate) seqs: std::ops::Range<u32>,
    pub(crate) makes: Ruleset,
}

impl Transaction {
    /// `None` for a name that holds a NUL, which no interface has.
    pub(crate) fn new(chains: &[PlannedChain]) -> Option<Self> {
        let mut batch = Batch::new();
        let mut makes = Ruleset::default();
        for family in [Family::Inet, Family::Netdev] {
            let table = Table::new(TABLE, protocol(family));
            // A table that is absent can't be deleted, so it is made first. All of it happens at once.
            batch.add(&table, MsgType::Add);
            batch.add(&table, MsgType::Del);
            let mut of_family = chains.iter().filter(|chain| chain.family == family).peekable();
            if of_family.peek().is_none() {
                continue;
            }
            batch.add(&table, MsgType::Add);
            makes.tables.insert(family, 0);
            for planned in of_family {
                let form = add_chain(&mut batch, &table, planned)?;
                makes.chains.insert((family, planned.name.clone()), form);
            }
        }
        let batch = batch.finalize();
        Some(Self {
            bytes: batch.iter().collect::<Vec<_>>().concat(),
            seqs: batch.sequence_numbers(),
            makes,
        })
    }
}

fn add_chain(batch: &mut Batch, table: &Table, planned: &PlannedChain) -> Option<ChainForm> {
    let name = CString::new(planned.name.as_str()).ok()?;
    let mut chain = Chain::new(&name, table);
    chain.set_type(ChainType::Filter);
    chain.set_hook(hook(planned.hook), PRIORITY);
    chain.set_policy(Policy::Drop);
    if let Some(device) = &planned.device {
        chain.set_device(CString::new(device.as_str()).ok()?);
    }
    batch.add(&chain, MsgType::Add);
    let mut rules = Vec::with_capacity(planned.rules.len());
    for exprs in &planned.rules {
        let mut rule = Rule::new(&chain);
        exprs.iter().for_each(|expr| rule.add_expr(expr));
        batch.add(&rule, MsgType::Add);
        rules.push(text_of(exprs, &rule));
    }
    Some(ChainForm {
        hook: planned.hook.number(),
        priority: PRIORITY,
        policy: Policy::Drop as u32,
        device: planned.device.clone(),
        rules,
    })
}

fn protocol(family: Family) -> ProtoFamily {
    match family {
        Family::Inet => ProtoFamily::Inet,
        Family::Netdev => ProtoFamily::NetDev,
    }
}

/// nftnl has no word for netdev egress; its number is that of inet input.
fn hook(hook: Hook) -> nftnl::Hook {
    match hook {
        Hook::Input | Hook::Egress => nftnl::Hook::In,
        Hook::Forward => nftnl::Hook::Forward,
        Hook::Output => nftnl::Hook::Out,
    }
}

impl Ruleset {
    /// The first thing in which what is there differs from what was asked.
    pub(crate) fn difference(&self, read: &Ruleset) -> Option<String> {
        if self.tables != read.tables {
            return Some(format!("tables {:?} instead of {:?}", read.tables, self.tables));
        }
        for (key, asked) in &self.chains {
            match read.chains.get(key) {
                None => return Some(format!("no chain {}", key.1)),
                Some(there) if there != asked => return Some(format!("chain {}: {}", key.1, asked.difference(there))),
                Some(_) => {}
            }
        }
        let extra = read.chains.keys().find(|key| !self.chains.contains_key(*key));
        extra.map(|key| format!("a chain {} too many", key.1))
    }
}

impl ChainForm {
    fn difference(&self, read: &ChainForm) -> String {
        let head = |form: &ChainForm| (form.hook, form.priority, form.policy, form.device.clone());
        if head(self) != head(read) {
            return format!(
                "(hook, priority, policy, device) {:?} instead of {:?}",
                head(read),
                head(self)
            );
        }
        if self.rules.len() != read.rules.len() {
            return format!("{} rules instead of {}", read.rules.len(), self.rules.len());
        }
        let (asked, there) = self.rules.iter().zip(&read.rules).find(|(a, b)| a != b).unzip();
        format!(
            "rule `{}` instead of `{}`",
            there.map_or("", |s| s),
            asked.map_or("", |s| s)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::plan;
    use clawker_model::{EgressRule, NetworkState};

    fn made(state: &NetworkState, interfaces: &[&str]) -> Ruleset {
        let interfaces: Vec<String> = interfaces.iter().map(ToString::to_string).collect();
        Transaction::new(&plan(state, &interfaces, 0))
            .expect("names are clean")
            .makes
    }

    #[test]
    fn every_difference_is_seen() {
        let locked = || made(&NetworkState::Locked, &["eth0"]);
        let spoiled: [fn(&mut Ruleset); 6] = [
            |r| r.tables.values_mut().for_each(|flags| *flags = 1),
            |r| r.tables.retain(|family, _| *family == Family::Inet),
            |r| drop(r.chains.remove(&(Family::Netdev, "egress-eth0".into()))),
            |r| r.chains.values_mut().for_each(|c| c.policy = 1),
            |r| r.chains.values_mut().for_each(|c| c.rules.push("accept".into())),
            |r| drop(r.chains.insert((Family::Inet, "more".into()), ChainForm::default())),
        ];
        assert_eq!(locked().difference(&locked()), None);
        for (i, spoil) in spoiled.iter().enumerate() {
            let mut read = locked();
            spoil(&mut read);
            assert!(locked().difference(&read).is_some(), "{i}");
        }
    }

    #[test]
    fn the_text_of_a_rule_tells_one_destination_from_another() {
        let to = |port| {
            let allow = vec![EgressRule {
                addr: "192.0.2.1".parse().expect("address"),
                port,
            }];
            made(&NetworkState::Restricted { allow }, &[])
        };
        assert_eq!(to(80).difference(&to(80)), None);
        let difference = to(80).difference(&to(81)).expect("they differ");
        assert!(difference.contains("chain output"), "{difference}");
    }
}
