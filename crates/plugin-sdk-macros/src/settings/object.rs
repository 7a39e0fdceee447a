//! A struct: an object with these keys and no others.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{DeriveInput, Field, FieldsNamed, Ident, LitInt, Result, Type};

use super::attributes::{Figure, Initial, OfField, OfType};

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
    let serde = serde(name, of_type, &keys);
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
        let figure = |bound: &Option<Figure>| match bound {
            Some(Figure { text, .. }) => quote!(::core::option::Option::Some(#text)),
            None => quote!(::core::option::Option::None),
        };
        let length = |bound: &Option<LitInt>| match bound {
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
        let (min, max, min_len, max_len) = (figure(min), figure(max), length(min_len), length(max_len));
        quote!(::clawker_plugin_sdk::settings::Bounds {
            min: #min, max: #max, min_len: #min_len, max_len: #max_len,
        })
    }

    /// What of its bounds a value is held to, and the words for it.
    fn checks(&self) -> TokenStream {
        let Self { ident, name, said, .. } = self;
        let OfField {
            min,
            max,
            min_len,
            max_len,
            ..
        } = said;
        let span = self.of.span();
        let number = (min.is_some() || max.is_some()).then(|| {
            let figure = |bound: &Option<Figure>, or: TokenStream| {
                bound.as_ref().map_or(or, |Figure { value, .. }| quote!(#value))
            };
            let least = figure(min, quote!(::core::primitive::f64::NEG_INFINITY));
            let most = figure(max, quote!(::core::primitive::f64::INFINITY));
            let text = |bound: &Option<Figure>| bound.as_ref().map(|Figure { text, .. }| text.clone());
            let says = words(name, "be", "", text(min), text(max));
            quote_spanned! {span=>
                if !::clawker_plugin_sdk::settings::Number::is_within(&read.#ident, #least, #most) {
                    return ::core::result::Result::Err(serde::de::Error::custom(#says));
                }
            }
        });
        let length = (min_len.is_some() || max_len.is_some()).then(|| {
            let figure = |bound: &Option<LitInt>, or: TokenStream| bound.as_ref().map_or(or, |bound| quote!(#bound));
            let (least, most) = (
                figure(min_len, quote!(0)),
                figure(max_len, quote!(::core::primitive::usize::MAX)),
            );
            let text = |bound: &Option<LitInt>| bound.as_ref().map(|bound| bound.base10_digits().to_owned());
            let says = words(name, "have", " characters, items or keys", text(min_len), text(max_len));
            quote_spanned! {span=>
                if !::clawker_plugin_sdk::settings::Length::has_length(&read.#ident, #least, #most) {
                    return ::core::result::Result::Err(serde::de::Error::custom(#says));
                }
            }
        });
        quote!(#number #length)
    }
}

/// "`failures` must be at least 1 and at most 100"
fn words(key: &str, verb: &str, of: &str, least: Option<String>, most: Option<String>) -> String {
    let least = least.map(|least| format!("at least {least}"));
    let most = most.map(|most| format!("at most {most}"));
    let bounds: Vec<String> = least.into_iter().chain(most).collect();
    format!("`{key}` must {verb} {}{of}", bounds.join(" and "))
}

/// One twin to read, which knows the key of the version too; one to write.
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
    let written = keys.iter().map(|key| {
        let Key { ident, of, name, .. } = key;
        quote!(#[serde(rename = #name)] #ident: #of,)
    });
    let defaults = keys.iter().filter_map(|key| {
        let value = key.said.default.as_ref()?.value();
        let (name, of) = (key.default_fn(), key.of);
        Some(quote!(fn #name() -> #of { #value }))
    });
    quote! {
        #[derive(serde::Deserialize)]
        #[serde(crate = "::clawker_plugin_sdk::__private::serde", deny_unknown_fields)]
        struct Read {
            #(#fields)*
            #[serde(rename = "$version", default)]
            _version: ::core::option::Option<serde::de::IgnoredAny>,
        }

        #[derive(serde::Serialize)]
        #[serde(crate = "::clawker_plugin_sdk::__private::serde", remote = #remote)]
        struct Written { #(#written)* }

        #(#defaults)*
    }
}

fn serde(of: &Ident, of_type: &OfType, keys: &[Key<'_>]) -> TokenStream {
    let checks = keys.iter().map(Key::checks);
    let idents: Vec<&Ident> = keys.iter().map(|key| key.ident).collect();
    let check = of_type.check.as_ref().map(|check| {
        quote! {
            let checked: ::core::result::Result<(), ::std::string::String> = #check(&read);
            checked.map_err(serde::de::Error::custom)?;
        }
    });
    quote! {
        impl<'de> serde::Deserialize<'de> for #of {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> ::core::result::Result<Self, D::Error> {
                let read = Read::deserialize(from)?;
                #(#checks)*
                let read = Self { #(#idents: read.#idents,)* };
                #check
                ::core::result::Result::Ok(read)
            }
        }

        impl serde::Serialize for #of {
            fn serialize<S: serde::Serializer>(&self, to: S) -> ::core::result::Result<S::Ok, S::Error> {
                Written::serialize(self, to)
            }
        }
    }
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
        quote_spanned!(of.span()=> object.key::<#of>(#name, #about, #default, #bounds, #secret);)
    });
    quote! {
        impl ::clawker_plugin_sdk::settings::Shape for #name {
            fn shape() -> ::clawker_plugin_sdk::settings::Schema {
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
