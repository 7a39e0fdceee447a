//! Fetching, from the outside: Debian's registry, servers that lie, stall and never end, folders of strangers.

mod plugin;
mod served;

mod answers;
mod hostile;
mod layout;
mod local;
mod reference;
mod registry;
mod tls;
mod token;
mod url;
