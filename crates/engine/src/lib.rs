//! Pure decisions. Does no I/O, reads no clock, spawns nothing: time and outcomes come in as input.

pub mod adopt;
pub mod containment;
pub mod reconcile;
pub mod register;
pub mod renewal;
pub mod restart;
pub mod rotation;
pub mod worldview;
