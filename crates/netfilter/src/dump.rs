//! Reads a namespace: its interfaces, and the tables, chains and rules of ours.

use std::ffi::{CStr, c_char};

use nftnl::nftnl_sys as sys;

use crate::expr::{counted, join, text};
use crate::netlink::{Buffer, Message, Socket, attributes};
use crate::policy::{Family, TABLE};
use crate::ruleset::{ChainForm, Ruleset};
use crate::{Error, MAX_INTERFACES};

/// What one look showed.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) ruleset: Ruleset,
    pub(crate) denied: u64,
}

const NFTABLES: u16 = (libc::NFNL_SUBSYS_NFTABLES as u16) << 8;
/// Length of struct ifinfomsg.
const IFINFOMSG: usize = 16;
/// Attempts at a dump that isn't interrupted by a change.
const ATTEMPTS: u32 = 8;

/// Every interface's name, sorted.
pub(crate) fn interfaces(route: &mut Socket, buffer: &mut Buffer) -> Result<Vec<String>, Error> {
    // struct ifinfomsg, all zero: any interface of any kind.
    retrying(|| {
        let mut names = Vec::new();
        route.dump(
            "listing interfaces",
            libc::RTM_GETLINK,
            &[0; IFINFOMSG],
            buffer,
            |message| {
                names.push(interface(message)?);
                Ok(())
            },
        )?;
        if names.len() > MAX_INTERFACES {
            return Err(Error::TooMany {
                what: "interfaces",
                n: names.len(),
                max: MAX_INTERFACES,
            });
        }
        names.sort();
        Ok(names)
    })
}

/// The name in an answer to RTM_GETLINK.
pub(crate) fn interface(message: &Message<'_>) -> Result<String, Error> {
    let rest = message.payload().get(IFINFOMSG..).unwrap_or_default();
    let name = attributes(rest)
        .find(|(kind, _)| *kind == libc::IFLA_IFNAME)
        .map(|(_, value)| value);
    let name = name.and_then(|name| CStr::from_bytes_until_nul(name).ok()?.to_str().ok());
    name.map(str::to_owned).ok_or_else(|| Error::Malformed {
        what: "listing interfaces",
        problem: "an interface without a readable name".to_owned(),
    })
}

/// All that is ours.
pub(crate) fn look(nft: &mut Socket, buffer: &mut Buffer) -> Result<Seen, Error> {
    retrying(|| {
        let mut seen = Seen::default();
        get(
            nft,
            "reading tables",
            libc::NFT_MSG_GETTABLE,
            libc::NFPROTO_UNSPEC,
            buffer,
            |m| table(m, &mut seen),
        )?;
        if seen.ruleset.tables.is_empty() {
            return Ok(seen);
        }
        get(
            nft,
            "reading chains",
            libc::NFT_MSG_GETCHAIN,
            libc::NFPROTO_UNSPEC,
            buffer,
            |m| chain(m, &mut seen),
        )?;
        for family in [libc::NFPROTO_INET, libc::NFPROTO_NETDEV] {
            get(nft, "reading rules", libc::NFT_MSG_GETRULE, family, buffer, |m| {
                rule(m, &mut seen)
            })?;
        }
        Ok(seen)
    })
}

/// Only the count of dropped output packets.
pub(crate) fn denied(nft: &mut Socket, buffer: &mut Buffer) -> Result<u64, Error> {
    retrying(|| {
        let mut seen = Seen::default();
        get(
            nft,
            "reading counters",
            libc::NFT_MSG_GETRULE,
            libc::NFPROTO_INET,
            buffer,
            |m| rule(m, &mut seen),
        )?;
        Ok(seen.denied)
    })
}

fn retrying<T>(mut look: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    let mut left = ATTEMPTS;
    loop {
        match look() {
            Err(Error::Netlink { source, .. }) if source.kind() == std::io::ErrorKind::Interrupted && left > 1 => {
                left -= 1;
            }
            other => return other,
        }
    }
}

fn get(
    nft: &mut Socket,
    what: &'static str,
    kind: i32,
    family: i32,
    buffer: &mut Buffer,
    each: impl FnMut(&Message<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    // struct nfgenmsg: family, version 0, resource id 0.
    let nfgenmsg = [family as u8, 0, 0, 0];
    nft.dump(what, NFTABLES | kind as u16, &nfgenmsg, buffer, each)
}

fn family_of(number: u32) -> Option<Family> {
    match number.cast_signed() {
        libc::NFPROTO_INET => Some(Family::Inet),
        libc::NFPROTO_NETDEV => Some(Family::Netdev),
        _ => None,
    }
}

pub(crate) fn is_ours(message: &Message<'_>) -> Option<Family> {
    // Every table, chain and rule names its table in attribute 1 (NFTA_*_TABLE, NFTA_TABLE_NAME).
    let payload = message.payload();
    let family = family_of(u32::from(*payload.first()?))?;
    let name = attributes(payload.get(4..)?).find(|(kind, _)| *kind == 1)?.1;
    (name == TABLE.to_bytes_with_nul()).then_some(family)
}

fn table(message: &Message<'_>, seen: &mut Seen) -> Result<(), Error> {
    let Some(family) = is_ours(message) else { return Ok(()) };
    // SAFETY: the object lives from alloc to free here; the message is whole and aligned to 4 in its buffer.
    let flags = unsafe {
        let table = sys::nftnl_table_alloc();
        let parsed = if table.is_null() {
            -1
        } else {
            sys::nftnl_table_nlmsg_parse(message.bytes.as_ptr().cast(), table)
        };
        let flags = (parsed >= 0).then(|| sys::nftnl_table_get_u32(table, sys::NFTNL_TABLE_FLAGS as u16));
        if !table.is_null() {
            sys::nftnl_table_free(table);
        }
        flags
    };
    let flags = flags.ok_or_else(|| unreadable("reading tables"))?;
    seen.ruleset.tables.insert(family, flags);
    Ok(())
}

fn chain(message: &Message<'_>, seen: &mut Seen) -> Result<(), Error> {
    let Some(family) = is_ours(message) else { return Ok(()) };
    // SAFETY: as in `table`; strings are copied before the object is freed.
    let form = unsafe {
        let chain = sys::nftnl_chain_alloc();
        let parsed = if chain.is_null() {
            -1
        } else {
            sys::nftnl_chain_nlmsg_parse(message.bytes.as_ptr().cast(), chain)
        };
        let word = |attribute: u32| string(sys::nftnl_chain_get_str(chain, attribute as u16));
        let number = |attribute: u32| sys::nftnl_chain_get_u32(chain, attribute as u16);
        let form = (parsed >= 0).then(|| {
            let form = ChainForm {
                hook: number(sys::NFTNL_CHAIN_HOOKNUM),
                priority: sys::nftnl_chain_get_s32(chain, sys::NFTNL_CHAIN_PRIO as u16),
                policy: number(sys::NFTNL_CHAIN_POLICY),
                device: word(sys::NFTNL_CHAIN_DEV),
                rules: Vec::new(),
            };
            (word(sys::NFTNL_CHAIN_NAME), form)
        });
        if !chain.is_null() {
            sys::nftnl_chain_free(chain);
        }
        form
    };
    let Some((Some(name), form)) = form else {
        return Err(unreadable("reading chains"));
    };
    seen.ruleset.chains.insert((family, name), form);
    Ok(())
}

fn rule(message: &Message<'_>, seen: &mut Seen) -> Result<(), Error> {
    let Some(family) = is_ours(message) else { return Ok(()) };
    // SAFETY: as in `table`; the iterator and its expressions live as long as the rule.
    let read = unsafe {
        let rule = sys::nftnl_rule_alloc();
        let parsed = if rule.is_null() {
            -1
        } else {
            sys::nftnl_rule_nlmsg_parse(message.bytes.as_ptr().cast(), rule)
        };
        let read = (parsed >= 0).then(|| {
            let (mut texts, mut count) = (Vec::new(), 0);
            let iter = sys::nftnl_expr_iter_create(rule);
            while !iter.is_null() {
                let expr = sys::nftnl_expr_iter_next(iter);
                if expr.is_null() {
                    sys::nftnl_expr_iter_destroy(iter);
                    break;
                }
                texts.push(text(expr));
                count += counted(expr).unwrap_or(0);
            }
            (
                string(sys::nftnl_rule_get_str(rule, sys::NFTNL_RULE_CHAIN as u16)),
                join(texts.into_iter()),
                count,
            )
        });
        if !rule.is_null() {
            sys::nftnl_rule_free(rule);
        }
        read
    };
    let Some((Some(name), text, count)) = read else {
        return Err(unreadable("reading rules"));
    };
    if family == Family::Inet && name == "output" {
        seen.denied = seen.denied.saturating_add(count);
    }
    // Without its chain the rule is only looked at for its count.
    if let Some(chain) = seen.ruleset.chains.get_mut(&(family, name)) {
        chain.rules.push(text);
    }
    Ok(())
}

fn unreadable(what: &'static str) -> Error {
    Error::Malformed {
        what,
        problem: "an object that libnftnl can't read".to_owned(),
    }
}

/// # Safety
/// `text` is null or a NUL-terminated string that lives over the call.
unsafe fn string(text: *const c_char) -> Option<String> {
    // SAFETY: as the caller promises.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}
