//! Reads a component's form without compiling it: what it asks for and which world it implements.
//!
//! A permission is an instance import with at least one function. Type-only imports ask for nothing.

use wasmparser::component_types::ComponentEntityType;
use wasmparser::{Encoding, Parser, Payload, Validator, types::TypesRef};

use crate::limits::MAX_COMPONENT;
use crate::{Kind, LoadError};

const PACKAGE: &str = "clawker:plugin/";
/// Interfaces with functions that each world has.
const POLICY: &[&str] = &["log", "settings"];
const STEP: &[&str] = &["log", "settings", "exec", "write-file", "read-file", "secrets"];

/// What a component is, by its form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    pub kind: Kind,
    /// Permissions that it asks for, e.g. `exec`, sorted.
    pub imports: Vec<String>,
}

/// Reads it. Nothing of it runs.
pub fn inspect(bytes: &[u8]) -> Result<Form, LoadError> {
    if bytes.len() > MAX_COMPONENT {
        return Err(LoadError::TooLarge { len: bytes.len() });
    }
    if !bytes.starts_with(b"\0asm") {
        return Err(LoadError::NotWasm);
    }
    let malformed = |error: wasmparser::BinaryReaderError| LoadError::Malformed(error.to_string());
    // The names have to be collected on the way: the validator keeps types by name, but doesn't list them.
    let (mut imports, mut exports, mut depth) = (Vec::new(), Vec::new(), 0u32);
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(malformed)? {
            Payload::Version {
                encoding: Encoding::Module,
                ..
            } if depth == 0 => return Err(LoadError::CoreModule),
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    imports.push(import.map_err(malformed)?.name.name);
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    exports.push(export.map_err(malformed)?.name.name);
                }
            }
            _ => {}
        }
    }
    let types = Validator::new().validate_all(bytes).map_err(malformed)?;
    let types = types.as_ref();
    let kind = world(types, &exports)?;
    let mut permissions = Vec::new();
    for name in imports {
        if let Some(permission) = permission(types, kind, name)? {
            permissions.push(permission);
        }
    }
    permissions.sort();
    Ok(Form {
        kind,
        imports: permissions,
    })
}

fn world(types: TypesRef<'_>, exports: &[&str]) -> Result<Kind, LoadError> {
    // Functions make a world. Nobody calls what an instance holds: tools leave some, as componentize-py does.
    let is_called = |name: &&str| {
        !matches!(
            types.component_item_for_export(name).map(|item| item.ty),
            Some(ComponentEntityType::Type { .. } | ComponentEntityType::Instance(_))
        )
    };
    let mut names: Vec<&str> = exports.iter().copied().filter(is_called).collect();
    names.sort_unstable();
    match names[..] {
        ["describe", "evaluate"] => Ok(Kind::Policy),
        ["describe", "run"] => Ok(Kind::Step),
        [] => Err(LoadError::WrongWorld {
            found: "nothing".into(),
        }),
        _ => {
            let shown: Vec<String> = names.iter().take(8).map(|name| format!("`{name:.80}`")).collect();
            Err(LoadError::WrongWorld {
                found: shown.join(", "),
            })
        }
    }
}

fn permission(types: TypesRef<'_>, kind: Kind, name: &str) -> Result<Option<String>, LoadError> {
    let shown = || format!("{name:.120}");
    match types.component_item_for_import(name).map(|item| item.ty) {
        Some(ComponentEntityType::Type { .. }) => return Ok(None),
        Some(ComponentEntityType::Instance(id)) => {
            let functions = types.get(id).is_some_and(|instance| {
                instance
                    .exports
                    .values()
                    .any(|item| !matches!(item.ty, ComponentEntityType::Type { .. }))
            });
            if !functions && name.starts_with(PACKAGE) {
                return version(name).map(|_| None);
            }
        }
        _ => return Err(LoadError::ForeignImport { name: shown() }),
    }
    let interface = version(name)?;
    let (world, allowed) = match kind {
        Kind::Policy => ("policy", POLICY),
        Kind::Step => ("step", STEP),
    };
    if !allowed.contains(&interface) {
        return Err(LoadError::ImportNotInWorld { name: shown(), world });
    }
    Ok(Some(interface.to_owned()))
}

/// The interface in `clawker:plugin/<interface>@0.1.<n>`.
fn version(name: &str) -> Result<&str, LoadError> {
    let shown = || format!("{name:.120}");
    let rest = name
        .strip_prefix(PACKAGE)
        .ok_or_else(|| LoadError::ForeignImport { name: shown() })?;
    match rest.split_once('@') {
        Some((interface, version)) if version.starts_with("0.1.") => Ok(interface),
        _ => Err(LoadError::Version { name: shown() }),
    }
}
