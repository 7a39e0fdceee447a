//! Which of a kind's arguments a function takes, told by their types.

use syn::{Error, FnArg, ItemFn, Result, Type};

use super::Kind;

pub enum Parameter {
    Event,
    Facts,
    Request,
    Context,
    Container,
    State(Type),
    Settings { of: Type, by_value: bool },
}

impl Parameter {
    fn word(&self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Facts => "facts",
            Self::Request => "request",
            Self::Context => "context",
            Self::Container => "container",
            Self::State(_) => "state",
            Self::Settings { .. } => "settings",
        }
    }
}

/// In the function's order; each once at most.
pub fn parameters(kind: Kind, function: &ItemFn) -> Result<Vec<Parameter>> {
    let mut found: Vec<Parameter> = Vec::new();
    for argument in &function.sig.inputs {
        let FnArg::Typed(argument) = argument else {
            return Err(Error::new_spanned(argument, "a plugin is a function without `self`"));
        };
        let parameter = parameter(kind, &argument.ty)?;
        if found.iter().any(|earlier| earlier.word() == parameter.word()) {
            let says = format!(
                "a second parameter for the {}: there is one at most\n{}",
                parameter.word(),
                takes(kind)
            );
            return Err(Error::new_spanned(argument, says));
        }
        found.push(parameter);
    }
    Ok(found)
}

fn parameter(kind: Kind, of: &Type) -> Result<Parameter> {
    let Type::Reference(reference) = of else {
        return match kind {
            Kind::Step if !matches!(of, Type::ImplTrait(_)) => Ok(Parameter::Settings {
                of: of.clone(),
                by_value: true,
            }),
            _ => Err(Error::new_spanned(of, takes(kind))),
        };
    };
    let inner = &*reference.elem;
    if reference.mutability.is_some() {
        return match (kind, inner) {
            (Kind::Policy, Type::ImplTrait(_)) | (Kind::Gate, _) => Err(Error::new_spanned(of, takes(kind))),
            (Kind::Policy, _) => Ok(Parameter::State(inner.clone())),
            (Kind::Step, Type::ImplTrait(_)) => Ok(Parameter::Container),
            (Kind::Step, _) => Err(Error::new_spanned(of, takes(kind))),
        };
    }
    Ok(match (kind, last_word(inner).as_str()) {
        (Kind::Policy, "Event") => Parameter::Event,
        (Kind::Policy | Kind::Gate, "Facts") => Parameter::Facts,
        (Kind::Gate, "Request") => Parameter::Request,
        (Kind::Step, "Context") => Parameter::Context,
        _ => Parameter::Settings {
            of: inner.clone(),
            by_value: false,
        },
    })
}

fn takes(kind: Kind) -> &'static str {
    match kind {
        Kind::Policy => {
            "a policy's function takes what it needs of `&Event`, `&Facts`, `&Settings` (any type of yours) and `&mut \
             State` (any type of yours)"
        }
        Kind::Step => {
            "a step's function takes what it needs of `&Context`, `Settings` (any type of yours) and `&mut impl \
             Container`"
        }
        Kind::Gate => {
            "a gate's function takes what it needs of `&Request`, `&Facts` and `&Settings` (any type of yours)"
        }
    }
}

fn last_word(of: &Type) -> String {
    match of {
        Type::Path(path) => path.path.segments.last().map(|segment| segment.ident.to_string()),
        _ => None,
    }
    .unwrap_or_default()
}
