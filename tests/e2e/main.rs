//! End to end, on a real engine: each test has a supervised host of its own and leaves nothing behind.
//!
//! Needs root and Docker; without them a test fails and says so. A test that is named after a hole shows that the
//! hole is closed.

mod absent;
mod contain;
mod crash;
mod daemon;
mod forged;
mod freeze;
mod hostile;
mod identity;
mod journal;
mod lost;
mod plugins;
mod policy;
mod prepare;
mod project;
mod restarts;
mod resume;
mod rig;
mod run;
mod starts;
mod steps;
mod tcp;
mod trust;
mod upgrade;
mod world;
