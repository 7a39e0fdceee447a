//! What the project promises about its own shape, as tests. Each rule is a function from what it looks at to what is
//! wrong with it, and is tried on something that breaks it before it is tried on the project.

#[path = "tidy/binary.rs"]
mod binary;
#[path = "tidy/docs.rs"]
mod docs;
#[path = "tidy/edges.rs"]
mod edges;
#[path = "tidy/sources.rs"]
mod sources;
#[path = "tidy/workspace.rs"]
mod workspace;
