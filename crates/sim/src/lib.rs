//! Simulations on a clock of their own: what takes days on a host, in minutes, decided by the code that decides there.
//!
//! Owns the clock, the crashes and whoever is at the other end. Whatever a host decides is decided by the host's own
//! crates: a simulation that judged by itself would prove nothing.

pub mod clock;
pub mod lifetimes;
