//! Rules as data, their form for the kernel, and their form for comparison.

use std::ffi::CStr;
use std::ptr::NonNull;

use nftnl::expr::{
    Bitwise, Cmp, CmpOp, Conntrack, Expression, Meta, NetworkHeaderField, Payload, TransportHeaderField, Verdict,
};
use nftnl::{Rule, nftnl_sys as sys};

/// One expression of a rule. All data passes through register 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expr {
    Load(Key),
    Cmp(Compare, Vec<u8>),
    /// Masks the 32 bits loaded before.
    And(u32),
    Count {
        from: u64,
    },
    Accept,
    Drop,
}

/// What can be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    AddressFamily,
    Protocol,
    InputInterface,
    OutputInterface,
    ConnectionState,
    DestinationV4,
    DestinationV6,
    DestinationPort,
    IcmpType,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compare {
    Eq,
    Neq,
    Gte,
    Lte,
}

/// An expression of libnftnl's that we own.
pub(crate) struct Owned(NonNull<sys::nftnl_expr>);

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: made by `to_expr`, owned by us alone, freed once.
        unsafe { sys::nftnl_expr_free(self.0.as_ptr()) };
    }
}

impl Expression for Expr {
    fn to_expr(&self, rule: &Rule<'_>) -> NonNull<sys::nftnl_expr> {
        match self {
            Expr::Load(key) => load(*key, rule),
            Expr::Cmp(compare, data) => {
                let op = match compare {
                    Compare::Eq => CmpOp::Eq,
                    Compare::Neq => CmpOp::Neq,
                    Compare::Gte => CmpOp::Gte,
                    Compare::Lte => CmpOp::Lte,
                };
                Cmp::new(op, data.as_slice()).to_expr(rule)
            }
            Expr::And(mask) => Bitwise::new(*mask, 0u32).to_expr(rule),
            Expr::Count { from } => {
                let expr = nftnl::expr::Counter.to_expr(rule);
                // SAFETY: a counter expression, alive, has this attribute.
                unsafe { sys::nftnl_expr_set_u64(expr.as_ptr(), sys::NFTNL_EXPR_CTR_PACKETS as u16, *from) };
                expr
            }
            Expr::Accept => Verdict::Accept.to_expr(rule),
            Expr::Drop => Verdict::Drop.to_expr(rule),
        }
    }
}

fn load(key: Key, rule: &Rule<'_>) -> NonNull<sys::nftnl_expr> {
    let network = |offset_bits, length_bits| {
        Payload::Network(NetworkHeaderField::Raw {
            offset_bits,
            length_bits,
        })
    };
    let transport = |offset_bits, length_bits| {
        Payload::Transport(TransportHeaderField::Raw {
            offset_bits,
            length_bits,
        })
    };
    // The fields called bits are bytes, as everywhere in nf_tables.
    match key {
        Key::AddressFamily => Meta::NfProto.to_expr(rule),
        Key::Protocol => Meta::L4Proto.to_expr(rule),
        Key::InputInterface => Meta::IifName.to_expr(rule),
        Key::OutputInterface => Meta::OifName.to_expr(rule),
        Key::ConnectionState => Conntrack::State.to_expr(rule),
        Key::DestinationV4 => network(16, 4).to_expr(rule),
        Key::DestinationV6 => network(24, 16).to_expr(rule),
        Key::DestinationPort => transport(2, 2).to_expr(rule),
        Key::IcmpType => transport(0, 1).to_expr(rule),
    }
}

/// How a rule reads, in libnftnl's words and without counts: what is asked and what is read are compared so.
pub(crate) fn text_of(exprs: &[Expr], rule: &Rule<'_>) -> String {
    join(exprs.iter().map(|expr| {
        let owned = Owned(expr.to_expr(rule));
        // SAFETY: `owned` is alive over the call.
        unsafe { text(owned.0.as_ptr()) }
    }))
}

pub(crate) fn join(texts: impl Iterator<Item = String>) -> String {
    texts.collect::<Vec<_>>().join("; ")
}

/// # Safety
/// `expr` points to a live expression.
pub(crate) unsafe fn text(expr: *mut sys::nftnl_expr) -> String {
    // SAFETY: as the caller promises; the string is the expression's own and copied at once.
    let name = unsafe { CStr::from_ptr(sys::nftnl_expr_get_str(expr, sys::NFTNL_EXPR_NAME as u16)) };
    if name == c"counter" {
        return "counter".to_owned();
    }
    let mut buffer = [0u8; 512];
    // SAFETY: as the caller promises; the call writes at most `len` bytes, its end included.
    unsafe {
        let (start, len) = (buffer.as_mut_ptr().cast(), buffer.len());
        sys::nftnl_expr_snprintf(start, len, expr, sys::NFTNL_OUTPUT_DEFAULT, 0);
    }
    let detail = CStr::from_bytes_until_nul(&buffer)
        .unwrap_or_default()
        .to_string_lossy();
    format!("{} {}", name.to_string_lossy(), detail.trim())
}

/// # Safety
/// `expr` points to a live expression.
pub(crate) unsafe fn counted(expr: *mut sys::nftnl_expr) -> Option<u64> {
    // SAFETY: as the caller promises; packets are asked only of a counter.
    unsafe {
        let name = CStr::from_ptr(sys::nftnl_expr_get_str(expr, sys::NFTNL_EXPR_NAME as u16));
        (name == c"counter").then(|| sys::nftnl_expr_get_u64(expr, sys::NFTNL_EXPR_CTR_PACKETS as u16))
    }
}
