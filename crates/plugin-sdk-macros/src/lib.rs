//! Macros of the plugin SDK: what they write is the SDK's traits, nothing that one couldn't write by hand.
//!
//! Each has its documentation and its tests where it is offered, in `clawker_plugin_sdk`.
//!
//! ```text
//! #[policy(…)] fn f   ──plugin.rs──►  f, and a type `f` that is a Policy, exported
//! #[derive(Settings)] ──settings.rs──► serde's traits, a JSON Schema, Default where every field has one
//! ```
//!
//! May not: read files or the environment, or write code that names anything but `clawker_plugin_sdk` and `core`.

mod plugin;
mod settings;

use proc_macro::TokenStream;
use syn::{DeriveInput, ItemFn, parse_macro_input};

use plugin::Kind;

#[proc_macro_attribute]
pub fn policy(arguments: TokenStream, item: TokenStream) -> TokenStream {
    attribute(Kind::Policy, arguments, item)
}

#[proc_macro_attribute]
pub fn step(arguments: TokenStream, item: TokenStream) -> TokenStream {
    attribute(Kind::Step, arguments, item)
}

#[proc_macro_attribute]
pub fn gate(arguments: TokenStream, item: TokenStream) -> TokenStream {
    attribute(Kind::Gate, arguments, item)
}

#[proc_macro_derive(Settings, attributes(settings))]
pub fn derive_settings(item: TokenStream) -> TokenStream {
    let item = parse_macro_input!(item as DeriveInput);
    settings::derive(&item)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

fn attribute(kind: Kind, arguments: TokenStream, item: TokenStream) -> TokenStream {
    let arguments = parse_macro_input!(arguments as plugin::Arguments);
    let function = parse_macro_input!(item as ItemFn);
    plugin::expand(kind, &arguments, &function)
        // The function stays, so that one mistake isn't reported a second time where it is called.
        .unwrap_or_else(|error| {
            let error = error.into_compile_error();
            quote::quote!(#function #error)
        })
        .into()
}
