//! `#[policy]`, `#[step]` and `#[gate]`: a function into a type that implements the trait.
//!
//! The type has the function's name, which is free: a struct with braces is a type and no value.

mod arguments;
mod parameters;

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Error, ItemFn, Result};

pub use arguments::Arguments;
use arguments::EventKind;
use parameters::{Parameter, parameters};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Policy,
    Step,
    Gate,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Step => "step",
            Self::Gate => "gate",
        }
    }
}

pub fn expand(kind: Kind, arguments: &Arguments, function: &ItemFn) -> Result<TokenStream> {
    check(kind, arguments, function)?;
    let parameters = parameters(kind, function)?;
    let (name, visibility) = (&function.sig.ident, &function.vis);
    let about = format!("`{name}` as a type, for tests.");
    let body = body(kind, arguments, function, &parameters);
    Ok(quote! {
        #function

        #[doc = #about]
        #[allow(non_camel_case_types, reason = "it has the function's name")]
        #visibility struct #name {}

        #body
    })
}

fn check(kind: Kind, arguments: &Arguments, function: &ItemFn) -> Result<()> {
    let word = kind.word();
    let signature = &function.sig;
    if let Some(word_async) = &signature.asyncness {
        let says = format!("a {word} is no async function: it has nothing to wait for");
        return Err(Error::new_spanned(word_async, says));
    }
    if !signature.generics.params.is_empty() {
        let says =
            format!("a {word}'s function has no generic parameters; write `&mut impl Container` for the container");
        return Err(Error::new_spanned(&signature.generics, says));
    }
    if kind == Kind::Policy && arguments.events.is_empty() {
        let says = "say which events it is asked about: `#[policy(events(ExecExited))]`";
        return Err(Error::new_spanned(&signature.ident, says));
    }
    let for_policies = arguments
        .events
        .first()
        .or(arguments.windows.first().map(|(kind, _)| kind));
    match for_policies {
        Some(event) if kind != Kind::Policy => {
            let says = format!("a {word} is asked about no events: only a policy has `events` and `windows`");
            Err(Error::new(event.span(), says))
        }
        _ => Ok(()),
    }
}

fn body(kind: Kind, arguments: &Arguments, function: &ItemFn, parameters: &[Parameter]) -> TokenStream {
    let name = &function.sig.ident;
    let common = common(arguments, parameters);
    let given = parameters.iter().map(|parameter| match parameter {
        Parameter::Event => quote!(event),
        Parameter::Facts => quote!(facts),
        Parameter::Request => quote!(request),
        Parameter::Context => quote!(context),
        Parameter::Container => quote!(container),
        Parameter::State(_) => quote!(state),
        Parameter::Settings { by_value: true, .. } => quote!(settings),
        Parameter::Settings { by_value: false, .. } if kind == Kind::Step => quote!(&settings),
        Parameter::Settings { by_value: false, .. } => quote!(settings),
    });
    match kind {
        Kind::Policy => {
            let events = arguments.events.iter().map(EventKind::name);
            let windows = arguments.windows.iter().map(|(kind, seconds)| {
                let kind = kind.name();
                quote!(::clawker_plugin_sdk::policy::Window { kind: #kind, seconds: #seconds })
            });
            let state = parameters.iter().find_map(|parameter| match parameter {
                Parameter::State(state) => Some(quote!(#state)),
                _ => None,
            });
            let state = state.unwrap_or_else(|| quote!(()));
            // Where an answer that is none is reported.
            let span = function.sig.output.span();
            let answer = quote_spanned!(span=> ::clawker_plugin_sdk::policy::Answer::verdicts(#name(#(#given),*)));
            quote! {
                impl ::clawker_plugin_sdk::policy::Policy for #name {
                    #common
                    const EVENTS: &[&str] = &[#(#events),*];
                    const WINDOWS: &[::clawker_plugin_sdk::policy::Window] = &[#(#windows),*];
                    type State = #state;

                    #[allow(unused_variables, reason = "a function takes what it needs")]
                    fn evaluate(
                        event: &::clawker_plugin_sdk::policy::Event,
                        facts: &::clawker_plugin_sdk::policy::Facts,
                        settings: &Self::Settings,
                        state: &mut Self::State,
                    ) -> ::core::result::Result<
                        ::std::vec::Vec<::clawker_plugin_sdk::policy::Verdict>,
                        ::clawker_plugin_sdk::policy::Fault,
                    > {
                        #answer
                    }
                }
                ::clawker_plugin_sdk::export_policy!(#name);
            }
        }
        Kind::Step => quote! {
            impl ::clawker_plugin_sdk::step::Step for #name {
                #common

                #[allow(unused_variables, reason = "a function takes what it needs")]
                fn run(
                    context: &::clawker_plugin_sdk::step::Context,
                    settings: Self::Settings,
                    container: &mut impl ::clawker_plugin_sdk::step::Container,
                ) -> ::core::result::Result<::std::string::String, ::clawker_plugin_sdk::step::Failure> {
                    #name(#(#given),*)
                }
            }
            ::clawker_plugin_sdk::export_step!(#name);
        },
        Kind::Gate => quote! {
            impl ::clawker_plugin_sdk::gate::Gate for #name {
                #common

                #[allow(unused_variables, reason = "a function takes what it needs")]
                fn decide(
                    request: &::clawker_plugin_sdk::gate::Request,
                    facts: &::clawker_plugin_sdk::gate::Facts,
                    settings: &Self::Settings,
                ) -> ::core::result::Result<
                    ::clawker_plugin_sdk::gate::Decision,
                    ::clawker_plugin_sdk::policy::Fault,
                > {
                    #name(#(#given),*)
                }
            }
            ::clawker_plugin_sdk::export_gate!(#name);
        },
    }
}

/// What all kinds have: name, version, settings.
fn common(arguments: &Arguments, parameters: &[Parameter]) -> TokenStream {
    let or = |given: &Option<syn::Expr>, else_: TokenStream| given.as_ref().map_or(else_, |given| quote!(#given));
    let name = or(&arguments.name, quote!(::core::env!("CARGO_PKG_NAME")));
    let version = or(&arguments.version, quote!(::core::env!("CARGO_PKG_VERSION")));
    let settings = parameters.iter().find_map(|parameter| match parameter {
        Parameter::Settings { of, .. } => Some(of),
        _ => None,
    });
    let settings = match (settings, &arguments.schema) {
        (None, None) => quote!(
            type Settings = ();
        ),
        (None, Some(schema)) => quote! {
            const SETTINGS_SCHEMA: &str = #schema;
            type Settings = ();
        },
        (Some(settings), Some(schema)) => quote! {
            const SETTINGS_SCHEMA: &str = #schema;
            type Settings = #settings;
        },
        (Some(settings), None) => quote! {
            type Settings = #settings;

            fn settings_schema() -> ::std::string::String {
                <#settings as ::clawker_plugin_sdk::settings::SettingsSchema>::schema()
            }

            fn read_settings(
                json: &str,
            ) -> ::core::result::Result<#settings, ::clawker_plugin_sdk::policy::Fault> {
                <#settings as ::clawker_plugin_sdk::settings::SettingsSchema>::read(json)
            }
        },
    };
    quote! {
        const NAME: &str = #name;
        const VERSION: &str = #version;
        #settings
    }
}
