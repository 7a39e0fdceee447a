//! What stands in the attribute's parentheses.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Error, Expr, ExprLit, Ident, Lit, LitStr, Result, Token, parenthesized};

/// As the host's.
const MAX_WINDOWS: usize = 16;
const MAX_WINDOW_SECONDS: u32 = 86_400;

/// `name = …, version = …, schema = …, events(…), windows(… = …)`, each once at most.
#[derive(Default)]
pub struct Arguments {
    pub name: Option<Expr>,
    pub version: Option<Expr>,
    /// A JSON Schema by hand, for settings that don't derive theirs.
    pub schema: Option<Expr>,
    pub events: Vec<EventKind>,
    pub windows: Vec<(EventKind, Expr)>,
}

/// A kind of event: one that the SDK has a type of, which is checked, or the name of one that is newer.
pub enum EventKind {
    Typed(Ident),
    Named(LitStr),
}

impl EventKind {
    /// The kind's name, as an expression.
    pub fn name(&self) -> TokenStream {
        match self {
            Self::Typed(kind) => {
                quote!(<::clawker_plugin_sdk::events::#kind as ::clawker_plugin_sdk::events::Kind>::KIND)
            }
            Self::Named(kind) => quote!(#kind),
        }
    }

    pub fn span(&self) -> Span {
        match self {
            Self::Typed(kind) => kind.span(),
            Self::Named(kind) => kind.span(),
        }
    }
}

impl Parse for EventKind {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        if input.peek(LitStr) {
            return Ok(Self::Named(input.parse()?));
        }
        input.parse().map(Self::Typed).map_err(|error| {
            Error::new(
                error.span(),
                "an event's kind is expected, e.g. `ExecExited` or \"ExecExited\"",
            )
        })
    }
}

struct Counted(EventKind, Expr);

impl Parse for Counted {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let kind = input.parse()?;
        input
            .parse::<Token![=]>()
            .map_err(|error| Error::new(error.span(), "a window has a length in seconds: `ExecExited = 60`"))?;
        let seconds: Expr = input.parse()?;
        if let Expr::Lit(ExprLit {
            lit: Lit::Int(number), ..
        }) = &seconds
        {
            if !(1..=MAX_WINDOW_SECONDS).contains(&number.base10_parse().unwrap_or(0)) {
                return Err(Error::new(number.span(), "a window is 1 to 86400 seconds long"));
            }
        }
        Ok(Self(kind, seconds))
    }
}

impl Parse for Arguments {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut arguments = Self::default();
        let mut seen: Vec<Ident> = Vec::new();
        while !input.is_empty() {
            let word: Ident = input.parse()?;
            if seen.contains(&word) {
                return Err(Error::new(word.span(), format!("`{word}` is there twice")));
            }
            match word.to_string().as_str() {
                "name" => arguments.name = Some(value(input)?),
                "version" => arguments.version = Some(value(input)?),
                "schema" => arguments.schema = Some(value(input)?),
                "events" => {
                    let inside;
                    parenthesized!(inside in input);
                    arguments.events = Punctuated::<EventKind, Token![,]>::parse_terminated(&inside)?
                        .into_iter()
                        .collect();
                }
                "windows" => {
                    let inside;
                    parenthesized!(inside in input);
                    arguments.windows = Punctuated::<Counted, Token![,]>::parse_terminated(&inside)?
                        .into_iter()
                        .map(|Counted(kind, seconds)| (kind, seconds))
                        .collect();
                    if arguments.windows.len() > MAX_WINDOWS {
                        let says = format!("{} windows, the limit is {MAX_WINDOWS}", arguments.windows.len());
                        return Err(Error::new(word.span(), says));
                    }
                }
                other => {
                    let says = format!("there is no `{other}`; known are events, windows, name, version and schema");
                    return Err(Error::new(word.span(), says));
                }
            }
            seen.push(word);
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(arguments)
    }
}

fn value(input: ParseStream<'_>) -> Result<Expr> {
    input.parse::<Token![=]>()?;
    input.parse()
}
