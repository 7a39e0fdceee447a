//! A struct: an object with these keys and no others.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::ext::IdentExt;
use syn::{DeriveInput, Expr, Field, FieldsNamed, Ident, Result, Type};

use super::attributes::{Initial, OfField, OfType};

struct Key<'a> {
    ident: &'a Ident,
    of: &'a Type,
    name: String,
    about: String,
    said: OfField,
}

pub fn derive(item: &DeriveInput, of_type: &OfType, fields: &FieldsNamed) -> Result<TokenStream> {
    let keys = fields.named.iter().filter_map(key).collect::<Result<Vec<_>>>()?;
    let name = &item.ident;
    let twin = twin(name, &keys);
    let serde = super::serde(name, checks(of_type, &keys));
    let shape = shape(item, &keys);
    let default = default(name, &keys);
    let schema = schema(name, of_type);
    Ok(quote! {
        const _: () = {
            use ::clawker_plugin_sdk::__private::serde;
            #twin
            #serde
            #shape
            #default
            #schema
        };
    })
}

fn key(field: &Field) -> Option<Result<Key<'_>>> {
    let ident = field.ident.as_ref()?;
    Some(OfField::of(&field.attrs).map(|said| Key {
        ident,
        of: &field.ty,
        name: match &said.rename {
            Some(name) => name.value(),
            None => ident.unraw().to_string(),
        },
        about: super::documentation(&field.attrs),
        said,
    }))
}

impl Key<'_> {
    fn default_fn(&self) -> Ident {
        format_ident!("default_{}", self.ident.unraw())
    }

    fn is_option(&self) -> bool {
        match self.of {
            Type::Path(path) => path.path.segments.last().is_some_and(|last| last.ident == "Option"),
            _ => false,
        }
    }

    fn bounds(&self) -> TokenStream {
        let number = |bound: &Option<Expr>| match bound {
            Some(bound) => quote!(::core::option::Option::Some((#bound) as f64)),
            None => quote!(::core::option::Option::None),
        };
        let length = |bound: &Option<Expr>| match bound {
            Some(bound) => quote!(::core::option::Option::Some(#bound)),
            None => quote!(::core::option::Option::None),
        };
        let OfField {
            min,
            max,
            min_len,
            max_len,
            ..
        } = &self.said;
        let (min, max, min_len, max_len) = (number(min), number(max), length(min_len), length(max_len));
        quote!(::clawker_plugin_sdk::settings::Bounds {
            min: #min, max: #max, min_len: #min_len, max_len: #max_len,
        })
    }
}

fn twin(of: &Ident, keys: &[Key<'_>]) -> TokenStream {
    let remote = of.to_string();
    let fields = keys.iter().map(|key| {
        let Key { ident, of, name, .. } = key;
        let default = key.said.default.as_ref().map(|_| {
            let path = key.default_fn().to_string();
            quote!(#[serde(default = #path)])
        });
        quote!(#[serde(rename = #name)] #default #ident: #of,)
    });
    let defaults = keys.iter().filter_map(|key| {
        let value = key.said.default.as_ref()?.value();
        let (name, of) = (key.default_fn(), key.of);
        Some(quote!(fn #name() -> #of { #value }))
    });
    quote! {
        #[derive(serde::Serialize, serde::Deserialize)]
        #[serde(
            crate = "::clawker_plugin_sdk::__private::serde",
            remote = #remote,
            deny_unknown_fields,
        )]
        struct Written { #(#fields)* }
        #(#defaults)*
    }
}

fn checks(of_type: &OfType, keys: &[Key<'_>]) -> TokenStream {
    let bounds = keys.iter().map(|key| {
        let (ident, name, bounds) = (key.ident, &key.name, key.bounds());
        let OfField {
            min,
            max,
            min_len,
            max_len,
            ..
        } = &key.said;
        let check =
            |method: TokenStream| quote!(#bounds.#method(#name, &read.#ident).map_err(serde::de::Error::custom)?;);
        let number = [min, max]
            .iter()
            .any(|bound| bound.is_some())
            .then(|| check(quote!(number)));
        let length = [min_len, max_len]
            .iter()
            .any(|bound| bound.is_some())
            .then(|| check(quote!(length)));
        quote!(#number #length)
    });
    let check = of_type.check.as_ref().map(|check| {
        quote! {
            let checked: ::core::result::Result<(), ::std::string::String> = #check(&read);
            checked.map_err(serde::de::Error::custom)?;
        }
    });
    quote!(#(#bounds)* #check)
}

fn shape(item: &DeriveInput, keys: &[Key<'_>]) -> TokenStream {
    let name = &item.ident;
    let about = super::documentation(&item.attrs);
    let fields = keys.iter().map(|key| {
        let Key {
            name, about, of, said, ..
        } = key;
        let bounds = key.bounds();
        let secret = said.secret_name;
        let default = match &said.default {
            Some(_) => {
                let default = key.default_fn();
                quote!(::core::option::Option::Some(#default()))
            }
            None => quote!(::core::option::Option::None),
        };
        quote!(object.key::<#of>(#name, #about, #default, &#bounds, #secret);)
    });
    quote! {
        impl ::clawker_plugin_sdk::settings::Shape for #name {
            fn shape() -> ::clawker_plugin_sdk::__private::serde_json::Value {
                let mut object = ::clawker_plugin_sdk::settings::Object::new(#about);
                #(#fields)*
                object.shape()
            }
        }
    }
}

/// Only where nothing has to be written.
fn default(name: &Ident, keys: &[Key<'_>]) -> Option<TokenStream> {
    let fields: Option<Vec<TokenStream>> = keys
        .iter()
        .map(|key| {
            let ident = key.ident;
            match &key.said.default {
                Some(Initial::OfType | Initial::Value(_)) => {
                    let default = key.default_fn();
                    Some(quote!(#ident: #default(),))
                }
                None if key.is_option() => Some(quote!(#ident: ::core::option::Option::None,)),
                None => None,
            }
        })
        .collect();
    let fields = fields?;
    Some(quote! {
        impl ::core::default::Default for #name {
            fn default() -> Self {
                Self { #(#fields)* }
            }
        }
    })
}

fn schema(name: &Ident, of_type: &OfType) -> TokenStream {
    let version = of_type
        .version
        .as_ref()
        .map(|version| quote!(const VERSION: u32 = #version;));
    let migrate = of_type.migrate.as_ref().map(|migrate| {
        quote! {
            fn migrate(
                from: u32,
                old: ::clawker_plugin_sdk::__private::serde_json::Value,
            ) -> ::core::result::Result<
                ::clawker_plugin_sdk::__private::serde_json::Value,
                ::clawker_plugin_sdk::policy::Fault,
            > {
                #migrate(from, old)
            }
        }
    });
    quote! {
        impl ::clawker_plugin_sdk::settings::SettingsSchema for #name {
            #version
            #migrate
        }
    }
}
