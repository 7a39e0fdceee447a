//! The templates of new projects are plugins of this SDK; their own tests run here too.

#[path = "../templates/policy/lib.rs.in"]
mod policy;
#[path = "../templates/step/lib.rs.in"]
mod step;
