//! `#[settings(…)]` on a type, a field and a variant.

use syn::meta::ParseNestedMeta;
use syn::parse::{Parse, ParseStream};
use syn::{Attribute, Expr, Lit, LitInt, LitStr, Path, Result, Token};

/// On the type.
#[derive(Default)]
pub struct OfType {
    pub version: Option<LitInt>,
    pub migrate: Option<Path>,
    pub check: Option<Path>,
}

impl OfType {
    pub fn of(attributes: &[Attribute]) -> Result<Self> {
        let mut found = Self::default();
        each(attributes, |meta| {
            if meta.path.is_ident("version") {
                let version: LitInt = meta.value()?.parse()?;
                if version.base10_parse::<u32>()? == 0 {
                    return Err(syn::Error::new(version.span(), "versions count from 1"));
                }
                found.version = Some(version);
            } else if meta.path.is_ident("migrate") {
                found.migrate = Some(meta.value()?.parse()?);
            } else if meta.path.is_ident("check") {
                found.check = Some(meta.value()?.parse()?);
            } else {
                return Err(meta.error("known on a type are version, migrate and check"));
            }
            Ok(())
        })?;
        let first = found
            .version
            .as_ref()
            .is_none_or(|version| version.base10_digits() == "1");
        match &found.migrate {
            Some(migrate) if first => Err(syn::Error::new_spanned(
                migrate,
                "nothing is older than version 1: say `version = 2` beside `migrate`",
            )),
            _ => Ok(found),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.version.is_none() && self.migrate.is_none() && self.check.is_none()
    }
}

/// On a field.
#[derive(Default)]
pub struct OfField {
    pub default: Option<Initial>,
    pub rename: Option<LitStr>,
    pub min: Option<Figure>,
    pub max: Option<Figure>,
    pub min_len: Option<LitInt>,
    pub max_len: Option<LitInt>,
    pub secret_name: bool,
}

/// A number as it is written, e.g. `-1.5`.
pub struct Figure {
    pub text: String,
    pub value: f64,
}

impl Parse for Figure {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let minus = input.parse::<Option<Token![-]>>()?.is_some();
        let literal: Lit = input.parse()?;
        let digits = match &literal {
            Lit::Int(number) => number.base10_digits(),
            Lit::Float(number) => number.base10_digits(),
            _ => {
                return Err(syn::Error::new(
                    literal.span(),
                    "a number is expected, e.g. `1` or `-0.5`",
                ));
            }
        };
        let text = if minus { format!("-{digits}") } else { digits.to_owned() };
        let value = text.parse().map_err(|error| syn::Error::new(literal.span(), error))?;
        Ok(Self { text, value })
    }
}

/// What a field is where nothing is written.
pub enum Initial {
    /// `Default::default()`
    OfType,
    Value(Expr),
}

impl OfField {
    pub fn of(attributes: &[Attribute]) -> Result<Self> {
        let mut found = Self::default();
        each(attributes, |meta| {
            let word = meta.path.get_ident().map(ToString::to_string).unwrap_or_default();
            match word.as_str() {
                "default" if !meta.input.peek(Token![=]) => found.default = Some(Initial::OfType),
                "default" => found.default = Some(Initial::Value(meta.value()?.parse()?)),
                "rename" => found.rename = Some(meta.value()?.parse()?),
                "min" => found.min = Some(meta.value()?.parse()?),
                "max" => found.max = Some(meta.value()?.parse()?),
                "min_len" => found.min_len = Some(meta.value()?.parse()?),
                "max_len" => found.max_len = Some(meta.value()?.parse()?),
                "secret_name" => found.secret_name = true,
                _ => {
                    let known = "known on a field are default, rename, min, max, min_len, max_len and secret_name";
                    return Err(meta.error(known));
                }
            }
            Ok(())
        })?;
        Ok(found)
    }
}

/// A variant's own name, if it has one.
pub fn renamed(attributes: &[Attribute]) -> Result<Option<LitStr>> {
    let mut found = None;
    each(attributes, |meta| {
        if !meta.path.is_ident("rename") {
            return Err(meta.error("known on a variant is rename"));
        }
        found = Some(meta.value()?.parse()?);
        Ok(())
    })?;
    Ok(found)
}

impl Initial {
    /// The value as an expression; a text becomes whatever the field is.
    pub fn value(&self) -> proc_macro2::TokenStream {
        match self {
            Self::OfType => quote::quote!(::core::default::Default::default()),
            Self::Value(Expr::Lit(literal)) if matches!(literal.lit, Lit::Str(_)) => {
                quote::quote!(::core::convert::Into::into(#literal))
            }
            Self::Value(value) => quote::quote!(#value),
        }
    }
}

fn each(attributes: &[Attribute], mut read: impl FnMut(ParseNestedMeta<'_>) -> Result<()>) -> Result<()> {
    attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("settings"))
        .try_for_each(|attribute| attribute.parse_nested_meta(&mut read))
}
