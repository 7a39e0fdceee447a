//! Docker's events, as hints. They are lossy by contract: across an outage, and whenever Docker says so.

use std::collections::{BTreeMap, HashMap};

use bollard::models::{EventActor, EventMessage};
use bollard::query_parameters::EventsOptions;
use clawker_model::ContainerId;
use futures::{Stream, StreamExt as _};

use crate::{Docker, Error};

/// Something happened to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerEvent {
    pub id: ContainerId,
    pub kind: EventKind,
    /// Milliseconds since the Unix epoch, by the engine's clock.
    pub at_ms: u64,
    /// The container's labels, as far as Docker repeats them; empty for network events.
    pub labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    Create,
    Start,
    Die {
        code: i64,
    },
    Oom,
    Destroy,
    Restart,
    Pause,
    Unpause,
    Kill {
        signal: String,
    },
    Stop,
    Rename,
    /// Somebody used `docker exec`.
    ExecCreate {
        command: String,
    },
    ExecStart {
        command: String,
    },
    ExecDie {
        code: i64,
    },
    NetworkConnect {
        network: String,
    },
    NetworkDisconnect {
        network: String,
    },
    Other(String),
}

impl Docker {
    /// Events of containers with the label (`key` or `key=value`), from `since` (ms since the epoch) on; network events
    /// of **any** container, because Docker doesn't say a container's labels there; and starts of any container, which
    /// may be one that joins another's network. An error is the last item.
    pub fn events(
        &self,
        label: &str,
        since_ms: Option<u64>,
    ) -> impl Stream<Item = Result<ContainerEvent, Error>> + Send + use<> {
        let docker = self.clone();
        let since = since_ms.map(|ms| format!("{}.{:03}", ms / 1000, ms % 1000));
        let containers = HashMap::from([
            ("type".to_owned(), vec!["container".to_owned()]),
            ("label".to_owned(), vec![label.to_owned()]),
        ]);
        let starts = HashMap::from([
            ("type".to_owned(), vec!["container".to_owned()]),
            ("event".to_owned(), vec!["start".to_owned()]),
        ]);
        let (key, value) = label
            .split_once('=')
            .map_or((label, None), |(key, value)| (key, Some(value)));
        let (key, value) = (key.to_owned(), value.map(ToOwned::to_owned));
        let networks = HashMap::from([
            ("type".to_owned(), vec!["network".to_owned()]),
            ("event".to_owned(), vec!["connect".to_owned(), "disconnect".to_owned()]),
        ]);
        futures::stream::once(async move {
            let bollard = docker.negotiated().await?;
            let open = |filters| {
                bollard.events(Some(EventsOptions {
                    since: since.clone(),
                    until: None,
                    filters: Some(filters),
                }))
            };
            // One ending ends all: half of the hints would look like peace.
            let ended = || {
                futures::stream::once(async {
                    Err(Error::Transport {
                        call: "events".into(),
                        message: "the stream ended".into(),
                    })
                })
            };
            let failing = docker.clone();
            let read = move |item: Result<EventMessage, _>| match item {
                Ok(message) => ContainerEvent::read(message).map(Ok),
                Err(error) => Some(Err(failing.error("events", error))),
            };
            let (other, foreign) = (read.clone(), read.clone());
            // Those with the label come with the rest of their events.
            let labelled = move |event: &ContainerEvent| match (event.labels.get(&key), &value) {
                (Some(has), Some(wanted)) => has == wanted,
                (has, _) => has.is_some(),
            };
            let starts = open(starts)
                .filter_map(move |item| {
                    let item = foreign(item);
                    std::future::ready(item.filter(|item| !item.as_ref().is_ok_and(&labelled)))
                })
                .chain(ended());
            let containers = open(containers)
                .filter_map(move |item| std::future::ready(read(item)))
                .chain(ended());
            let networks = open(networks)
                .filter_map(move |item| std::future::ready(other(item)))
                .chain(ended());
            Ok::<_, Error>(futures::stream::select_all([
                containers.boxed(),
                networks.boxed(),
                starts.boxed(),
            ]))
        })
        .flat_map(|opened| match opened {
            Ok(events) => events.boxed(),
            Err(error) => futures::stream::iter([Err(error)]).boxed(),
        })
        .scan(false, |failed, item| {
            let after = std::mem::replace(failed, item.is_err());
            std::future::ready((!after).then_some(item))
        })
    }
}

impl ContainerEvent {
    /// `None` for what names no container; that is no error of ours.
    pub(crate) fn read(message: EventMessage) -> Option<Self> {
        let EventActor { id, attributes } = message.actor?;
        let attributes = attributes.unwrap_or_default();
        let action = message.action?;
        let text = |key: &str| attributes.get(key).cloned().unwrap_or_default();
        let code = || {
            attributes
                .get("exitCode")
                .and_then(|code| code.parse().ok())
                .unwrap_or(-1)
        };
        let network = matches!(message.typ, Some(bollard::models::EventMessageTypeEnum::NETWORK));
        let id = if network {
            attributes.get("container").cloned()
        } else {
            id
        };
        let (verb, detail) = action.split_once(": ").unwrap_or((action.as_str(), ""));
        let kind = match (network, verb) {
            (true, "connect") => EventKind::NetworkConnect { network: text("name") },
            (true, "disconnect") => EventKind::NetworkDisconnect { network: text("name") },
            (true, _) => return None,
            (false, "create") => EventKind::Create,
            (false, "start") => EventKind::Start,
            (false, "die") => EventKind::Die { code: code() },
            (false, "oom") => EventKind::Oom,
            (false, "destroy") => EventKind::Destroy,
            (false, "restart") => EventKind::Restart,
            (false, "pause") => EventKind::Pause,
            (false, "unpause") => EventKind::Unpause,
            (false, "kill") => EventKind::Kill { signal: text("signal") },
            (false, "stop") => EventKind::Stop,
            (false, "rename") => EventKind::Rename,
            (false, "exec_create") => EventKind::ExecCreate {
                command: detail.to_owned(),
            },
            (false, "exec_start") => EventKind::ExecStart {
                command: detail.to_owned(),
            },
            (false, "exec_die") => EventKind::ExecDie { code: code() },
            (false, other) => EventKind::Other(other.to_owned()),
        };
        let nanos = message
            .time_nano
            .or(message.time.and_then(|seconds| seconds.checked_mul(1_000_000_000)));
        Some(Self {
            id: ContainerId::parse(&id?).ok()?,
            kind,
            at_ms: nanos
                .and_then(|nanos| u64::try_from(nanos / 1_000_000).ok())
                .unwrap_or_default(),
            labels: if network {
                BTreeMap::new()
            } else {
                attributes.into_iter().collect()
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Option<ContainerEvent> {
        ContainerEvent::read(serde_json::from_str(json).expect("json"))
    }

    #[test]
    fn events_are_read_whatever_they_lack() {
        let id = "cd".repeat(32);
        let container = |action: &str, attributes: &str| {
            read(&format!(
                r#"{{"Type":"container","Action":"{action}","Actor":{{"ID":"{id}","Attributes":{{{attributes}}}}},"timeNano":1500000}}"#
            ))
            .map(|event| event.kind)
        };
        assert_eq!(
            container("die", r#""exitCode":"137""#),
            Some(EventKind::Die { code: 137 })
        );
        assert_eq!(container("die", ""), Some(EventKind::Die { code: -1 }));
        assert_eq!(
            container("exec_create: sh -c x: y", ""),
            Some(EventKind::ExecCreate {
                command: "sh -c x: y".into()
            })
        );
        assert_eq!(container("update", ""), Some(EventKind::Other("update".into())));
        let connect = format!(
            r#"{{"Type":"network","Action":"connect","Actor":{{"ID":"n","Attributes":{{"container":"{id}","name":"web"}}}},"time":2}}"#
        );
        let connect = read(&connect).expect("an event");
        assert_eq!(
            (connect.kind, connect.at_ms),
            (EventKind::NetworkConnect { network: "web".into() }, 2000)
        );
        assert_eq!(connect.id.as_str(), id);
        for none in [
            "{}",
            r#"{"Type":"container","Action":"start"}"#,
            r#"{"Type":"container","Action":"start","Actor":{"ID":"short"}}"#,
            r#"{"Type":"network","Action":"connect","Actor":{"ID":"n","Attributes":{}}}"#,
        ] {
            assert_eq!(read(none), None, "{none}");
        }
    }
}
