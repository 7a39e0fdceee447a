//! `#[derive(Settings)]`: serde's traits, a JSON Schema and bounds, from one definition.
//!
//! ```text
//! struct ──► a hidden twin with serde's derives, so that reading, defaults and names are serde's
//!        ──► Deserialize = the twin's, then each field's bounds, then `check`
//!        ──► Shape (its JSON Schema), SettingsSchema (version, migration), Default if every field has one
//! enum   ──► such a twin, and a Shape that lists the words
//! ```

mod attributes;
mod choice;
mod object;

use proc_macro2::TokenStream;
use syn::{Attribute, Data, DeriveInput, Error, Expr, ExprLit, Fields, Lit, Meta, Result};

use attributes::OfType;

pub fn derive(item: &DeriveInput) -> Result<TokenStream> {
    if !item.generics.params.is_empty() {
        return Err(Error::new_spanned(
            &item.generics,
            "settings have no generic parameters",
        ));
    }
    let of_type = OfType::of(&item.attrs)?;
    match &item.data {
        Data::Struct(data) => match &data.fields {
            Fields::Named(fields) => object::derive(item, &of_type, fields),
            _ => Err(Error::new_spanned(
                &item.ident,
                "settings are a struct with named fields",
            )),
        },
        Data::Enum(data) => choice::derive(item, &of_type, data),
        Data::Union(_) => Err(Error::new_spanned(&item.ident, "settings are a struct or an enum")),
    }
}

/// The doc comment: lines of a paragraph joined, paragraphs apart.
fn documentation(attributes: &[Attribute]) -> String {
    let mut text = String::new();
    for line in attributes.iter().filter_map(doc) {
        let line = line.trim();
        if line.is_empty() {
            text.push_str("\n\n");
        } else {
            if !text.is_empty() && !text.ends_with('\n') {
                text.push(' ');
            }
            text.push_str(line);
        }
    }
    text.trim().to_owned()
}

fn doc(attribute: &Attribute) -> Option<String> {
    match &attribute.meta {
        Meta::NameValue(meta) if meta.path.is_ident("doc") => match &meta.value {
            Expr::Lit(ExprLit {
                lit: Lit::Str(line), ..
            }) => Some(line.value()),
            _ => None,
        },
        _ => None,
    }
}
