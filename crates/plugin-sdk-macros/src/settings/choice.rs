//! An enum of unit variants: one word of several.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{DataEnum, DeriveInput, Error, Fields, Result};

use super::attributes::{OfType, renamed};

pub fn derive(item: &DeriveInput, of_type: &OfType, data: &DataEnum) -> Result<TokenStream> {
    let name = &item.ident;
    if !of_type.is_empty() {
        let says = "version, migrate and check belong on the struct that the settings are";
        return Err(Error::new_spanned(name, says));
    }
    if data.variants.is_empty() {
        return Err(Error::new_spanned(name, "an enum without variants has no value"));
    }
    let (mut idents, mut words) = (Vec::new(), Vec::new());
    for variant in &data.variants {
        if !matches!(variant.fields, Fields::Unit) {
            let says = "a variant of settings is a word, without fields: take a struct with Option fields instead";
            return Err(Error::new_spanned(&variant.fields, says));
        }
        idents.push(&variant.ident);
        words.push(match renamed(&variant.attrs)? {
            Some(word) => word.value(),
            None => kebab(&variant.ident.to_string()),
        });
    }
    let remote = name.to_string();
    let about = super::documentation(&item.attrs);
    Ok(quote! {
        const _: () = {
            use ::clawker_plugin_sdk::__private::serde;

            #[derive(serde::Serialize, serde::Deserialize)]
            #[serde(crate = "::clawker_plugin_sdk::__private::serde", remote = #remote)]
            enum Written {
                #(#[serde(rename = #words)] #idents,)*
            }

            impl<'de> serde::Deserialize<'de> for #name {
                fn deserialize<D: serde::Deserializer<'de>>(from: D) -> ::core::result::Result<Self, D::Error> {
                    Written::deserialize(from)
                }
            }

            impl serde::Serialize for #name {
                fn serialize<S: serde::Serializer>(&self, to: S) -> ::core::result::Result<S::Ok, S::Error> {
                    Written::serialize(self, to)
                }
            }

            impl ::clawker_plugin_sdk::settings::Shape for #name {
                fn shape() -> ::clawker_plugin_sdk::settings::Schema {
                    ::clawker_plugin_sdk::settings::choice(#about, &[#(#words),*])
                }
            }
        };
    })
}

/// `LockNetwork` is `lock-network`.
fn kebab(name: &str) -> String {
    let mut word = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !word.is_empty() {
            word.push('-');
        }
        word.extend(letter.to_lowercase());
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_are_written_with_dashes() {
        assert_eq!(kebab("LockNetwork"), "lock-network");
        assert_eq!(kebab("Kill"), "kill");
    }
}
