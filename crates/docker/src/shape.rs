//! What a container is, in a form in which what create writes and what inspect shows can be compared.
//!
//! ```text
//! CreateContainer ─▶ the body that create sends ─▶ what Docker adds of the image ─▶ written ─┐
//!                                                                                            ├─▶ compared elsewhere
//! container's id ─▶ inspect ─▶ what only Docker chooses is left out ─────────────▶ shown ────┘
//! ```
//! Every field of Docker's configuration stands in it, also those that we never set: one that isn't as create leaves it
//! makes a difference, whether or not anybody here has thought of it. What is nothing (null, empty, 0, false) is left
//! out on both sides.

use std::collections::BTreeMap;

use bollard::models::{ContainerCreateBody, ContainerInspectResponse, ImageConfig, MountPoint};
use clawker_model::ContainerId;
use serde_json::{Map, Value, json};

use crate::hostconfig::CreateContainer;
use crate::inspect::plain_name;
use crate::{Docker, EngineInfo, Error};

/// By Docker's name of the field, e.g. `HostConfig.Binds`, its value as JSON.
pub type Shape = BTreeMap<String, String>;

/// What no container may see or write in its `/proc` and `/sys`, of the oldest engine; newer ones have more.
/// (Moby 20.10, oci/defaults.go.)
const MASKED: &[&str] = &[
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const READ_ONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
/// Choices of the engine or of whoever's terminal asked, which give a container nothing.
const IRRELEVANT: &[&str] = &["ConsoleSize", "ShmSize", "OnBuild", "Shell"];
/// Fields whose own members may be empty without being nothing.
const EXACT: &[&str] = &[
    "ExposedPorts",
    "Volumes",
    "Labels",
    "Sysctls",
    "Tmpfs",
    "StorageOpt",
    "Annotations",
];

impl Docker {
    /// What inspect would show of a container right after create had made it, by the engine's image as it is now. The
    /// options are judged as at a create.
    pub async fn written(&self, spec: &CreateContainer, engine: &EngineInfo) -> Result<Shape, Error> {
        let call = format!("inspect image {}", spec.image_id);
        let image = self
            .query(&call, async |docker| docker.inspect_image(&spec.image_id).await)
            .await
            .map_err(|error| match error {
                Error::Engine { status: 404, .. } => Error::NoSuchImage {
                    image: spec.image_id.clone(),
                },
                other => other,
            })?;
        let body = self.body(spec).await?;
        let malformed = |message: String| Error::Malformed { call, message };
        written(spec, body, image.config.unwrap_or_default(), engine).map_err(malformed)
    }

    /// What inspect shows of a container; `None` when there is no such container.
    pub async fn shown(&self, id: &ContainerId) -> Result<Option<Shape>, Error> {
        let call = format!("inspect container {}", id.short());
        let answer = self
            .query(&call, async |docker| docker.inspect_container(id.as_str(), None).await)
            .await;
        match answer {
            Ok(answer) => {
                let malformed = |message: String| Error::Malformed { call, message };
                shown(answer).map(Some).map_err(malformed)
            }
            Err(Error::Engine { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn written(
    spec: &CreateContainer,
    mut body: ContainerCreateBody,
    image: ImageConfig,
    engine: &EngineInfo,
) -> Result<Shape, String> {
    // Docker merges these of the image where the request doesn't say otherwise. (Moby, runconfig merge.)
    let labels = body.labels.get_or_insert_default();
    for (label, value) in image.labels.unwrap_or_default() {
        labels.entry(label).or_insert(value);
    }
    body.env = image.env;
    body.volumes.clone_from(&image.volumes);
    let ports = body.exposed_ports.get_or_insert_default();
    ports.extend(image.exposed_ports.into_iter().flatten());
    ports.sort();
    ports.dedup();
    let anonymous: Vec<String> = image.volumes.into_iter().flatten().collect();

    let mut shape = Shape::new();
    let host = body.host_config.take().unwrap_or_default();
    let mut mounts: Vec<String> = Vec::new();
    for mount in host.mounts.iter().flatten() {
        let kind = mount.typ.as_ref().map(ToString::to_string).unwrap_or_default();
        let source = mount.source.as_deref().unwrap_or_default();
        let target = mount.target.as_deref().unwrap_or_default();
        mounts.push(place(&kind, source, target, !mount.read_only.unwrap_or_default()));
    }
    let covered = |volume: &&String| !host.mounts.iter().flatten().any(|m| m.target.as_ref() == Some(*volume));
    mounts.extend(
        anonymous
            .iter()
            .filter(covered)
            .map(|volume| place("volume", "", volume, true)),
    );
    let network = host.network_mode.clone().unwrap_or_default();

    fields(&mut shape, "Config", members(&body)?);
    let mut host = members(&host)?;
    let runtime = match engine.default_runtime.as_str() {
        "" => "runc",
        named => named,
    };
    host.insert("Runtime".into(), runtime.into());
    host.insert("MaskedPaths".into(), MASKED.into());
    host.insert("ReadonlyPaths".into(), READ_ONLY.into());
    fields(&mut shape, "HostConfig", host);
    rest(
        &mut shape,
        &spec.name.to_string(),
        &spec.image_id,
        mounts,
        vec![network],
    );
    Ok(shape)
}

pub(crate) fn shown(answer: ContainerInspectResponse) -> Result<Shape, String> {
    let mut shape = Shape::new();
    let config = answer.config.unwrap_or_default();
    let anonymous: Vec<String> = config.volumes.iter().flatten().cloned().collect();
    fields(&mut shape, "Config", members(&config)?);
    let host = answer.host_config.unwrap_or_default();
    let named = |target: &str| {
        let mut mounts = host.mounts.iter().flatten();
        mounts.any(|mount| mount.target.as_deref() == Some(target))
    };
    let line = |mount: MountPoint| {
        let kind = mount.typ.as_ref().map(ToString::to_string).unwrap_or_default();
        let target = mount.destination.unwrap_or_default();
        let source = match kind.as_str() {
            // One that Docker made for the image has a name that nobody chose.
            "volume" if anonymous.contains(&target) && !named(&target) && mount.driver.as_deref() == Some("local") => {
                String::new()
            }
            "volume" => mount.name.unwrap_or_default(),
            _ => mount.source.unwrap_or_default(),
        };
        place(&kind, &source, &target, mount.rw.unwrap_or(true))
    };
    let mounts = answer.mounts.unwrap_or_default().into_iter().map(line).collect();
    let mut members = members(&host)?;
    members.entry("Runtime").or_insert("runc".into());
    for (field, least) in [("MaskedPaths", MASKED), ("ReadonlyPaths", READ_ONLY)] {
        let has = |path: &&str| {
            let paths = members.get(field).and_then(Value::as_array);
            paths.is_some_and(|paths| paths.iter().any(|one| one == *path))
        };
        if least.iter().all(has) {
            members.insert(field.into(), least.into());
        }
    }
    // What Docker makes of a memory limit where nothing is said of swap.
    let memory = host.memory.unwrap_or_default();
    if memory > 0
        && host
            .memory_swap
            .is_some_and(|swap| swap == -1 || swap == memory.saturating_mul(2))
    {
        members.remove("MemorySwap");
    }
    if host.memory_swappiness == Some(-1) {
        members.remove("MemorySwappiness");
    }
    if let Some(dropped) = &host.cap_drop {
        let plain = |cap: &String| cap.strip_prefix("CAP_").unwrap_or(cap).to_owned();
        let dropped: Vec<String> = dropped.iter().map(plain).collect();
        members.insert("CapDrop".into(), dropped.into());
    }
    fields(&mut shape, "HostConfig", members);
    let networks = answer.network_settings.and_then(|settings| settings.networks);
    let networks = networks.unwrap_or_default();
    let fixed = networks.iter().filter(|(_, endpoint)| {
        let links = endpoint.links.as_ref().is_some_and(|links| !links.is_empty());
        let options = endpoint.driver_opts.as_ref().is_some_and(|options| !options.is_empty());
        let address = endpoint
            .ipam_config
            .as_ref()
            .is_some_and(|config| *config != Default::default());
        links || options || address
    });
    if let Some((network, _)) = fixed.min_by_key(|(network, _)| *network) {
        shape.insert("NetworkSettings.Endpoint".into(), json!(network).to_string());
    }
    let image = answer.image.unwrap_or_default();
    let name = plain_name(answer.name.as_deref().unwrap_or_default());
    rest(&mut shape, &name, &image, mounts, networks.into_keys().collect());
    Ok(shape)
}

/// What stands outside of the two configurations.
fn rest(shape: &mut Shape, name: &str, image: &str, mut mounts: Vec<String>, mut networks: Vec<String>) {
    mounts.sort();
    networks.sort();
    shape.insert("Name".into(), json!(name).to_string());
    shape.insert("Image".into(), json!(image).to_string());
    shape.insert("Mounts".into(), json!(mounts).to_string());
    shape.insert("NetworkSettings.Networks".into(), json!(networks).to_string());
}

fn place(kind: &str, source: &str, target: &str, writable: bool) -> String {
    let access = if writable { "rw" } else { "ro" };
    format!("{kind} {source} at {target}, {access}")
}

fn members(configuration: &impl serde::Serialize) -> Result<Map<String, Value>, String> {
    match serde_json::to_value(configuration) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(other) => Err(format!("a configuration that is {other}")),
        Err(error) => Err(error.to_string()),
    }
}

fn fields(shape: &mut Shape, of: &str, members: Map<String, Value>) {
    for (field, value) in members {
        let value = match EXACT.contains(&field.as_str()) {
            true => sorted(value),
            false => pruned(value),
        };
        if !is_nothing(&value) && !IRRELEVANT.contains(&field.as_str()) {
            shape.insert(format!("{of}.{field}"), value.to_string());
        }
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(true) => false,
    }
}

/// Without members that are nothing. The items of a list all count: an empty argument is one.
fn pruned(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let members = members.into_iter().map(|(key, value)| (key, pruned(value)));
            let kept: BTreeMap<String, Value> = members.filter(|(_, value)| !is_nothing(value)).collect();
            Value::Object(kept.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(pruned).collect()),
        other => other,
    }
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let kept: BTreeMap<String, Value> = members.into_iter().collect();
            Value::Object(kept.into_iter().collect())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests;
