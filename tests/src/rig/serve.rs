//! The part of Docker's HTTP API that the control plane and this crate use, on a unix socket.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::{Stream, StreamExt};

use super::answers;
use super::engine::{Container, Engine, Refusal};

/// Most bytes of a request's body.
const MAX_BODY: usize = 4 << 20;
const STOP: Duration = Duration::from_secs(10);

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Serves until SIGTERM or SIGINT, then ends every container.
pub async fn run(socket: &Path, dir: PathBuf) -> Result<()> {
    let engine = Engine::open(dir)?;
    let listener = UnixListener::bind(socket).with_context(|| format!("listening on {}", socket.display()))?;
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted.context("accepting")?.0,
            Some(_) = connections.join_next() => continue,
            _ = term.recv() => break,
            _ = int.recv() => break,
        };
        let engine = engine.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| answer(engine.clone(), request));
            // A client that goes away in the middle is no fault of this.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
    drop(listener);
    connections.shutdown().await;
    engine.end().await;
    Ok(())
}

async fn answer(engine: Arc<Engine>, request: Request<Incoming>) -> Result<Response<Body>, http::Error> {
    match handle(&engine, request).await {
        Ok(response) => Ok(response),
        Err(Refusal { status, message }) => json_answer(status, &json!({"message": message})),
    }
}

fn json_answer(status: u16, body: &Value) -> Result<Response<Body>, http::Error> {
    let bytes = if status == 204 {
        Bytes::new()
    } else {
        Bytes::from(body.to_string())
    };
    Response::builder()
        .status(status)
        .header("Content-Type", "application/json")
        .header("Api-Version", answers::API)
        .body(Full::new(bytes).boxed_unsync())
}

async fn handle(engine: &Arc<Engine>, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    // `/v1.41/…` and `/…` are the same.
    let parts = match parts.split_first() {
        Some((first, rest)) if first.starts_with("v1.") => rest,
        _ => &parts[..],
    };
    let done =
        |status: u16, body: Value| json_answer(status, &body).map_err(|error| Refusal::new(500, error.to_string()));
    match (&method, parts) {
        (&Method::GET | &Method::HEAD, ["_ping"]) => done(200, json!("OK")),
        (&Method::GET, ["version"]) => done(200, answers::version()),
        (&Method::GET, ["info"]) => done(200, answers::info(&engine.dir, engine.all().len())),
        (&Method::GET, ["images", .., "json"]) => done(200, answers::image()),
        (&Method::GET, ["networks"]) => done(200, networks(engine)),
        (&Method::POST, ["networks", "create"]) => {
            let body = body(request).await?;
            let name = body["Name"].as_str().unwrap_or_default().to_owned();
            let network = json!({"Id": name, "Name": name, "Driver": "bridge", "Labels": body["Labels"]});
            lock(&engine.networks).insert(name.clone(), network);
            done(201, json!({"Id": name, "Warning": ""}))
        }
        (&Method::DELETE, ["networks", name]) => {
            lock(&engine.networks).remove(*name);
            done(204, Value::Null)
        }
        (&Method::GET, ["events"]) => Ok(Response::new(events(engine, &query))),
        (&Method::GET, ["containers", "json"]) => done(200, listed(engine, &query)),
        (&Method::POST, ["containers", "create"]) => {
            let name = query.get("name").unwrap_or_default().to_owned();
            let id = engine.create(&name, body(request).await?)?;
            done(201, json!({"Id": id, "Warnings": []}))
        }
        (&Method::GET, ["containers", id, "json"]) => done(200, answers::inspect(&engine.find(id)?)),
        (&Method::POST, ["containers", id, "start"]) => {
            engine.start(id).await?;
            done(204, Value::Null)
        }
        (&Method::POST, ["containers", id, "kill"]) => {
            engine.kill(id, named(query.get("signal").unwrap_or("KILL"))?)?;
            done(204, Value::Null)
        }
        (&Method::POST, ["containers", id, "stop"]) => {
            engine.stop(id, query.seconds("t")).await?;
            done(204, Value::Null)
        }
        (&Method::POST, ["containers", id, "restart"]) => {
            engine.stop(id, query.seconds("t")).await?;
            engine.start(id).await?;
            done(204, Value::Null)
        }
        (&Method::DELETE, ["containers", id]) => {
            engine.remove(id, query.get("force") == Some("true")).await?;
            done(204, Value::Null)
        }
        // Not Docker's: events without an end to whoever asks for so many.
        (&Method::POST, ["rig", "burst"]) => {
            let count = query.get("count").and_then(|count| count.parse().ok()).unwrap_or(0);
            burst(engine, count);
            done(204, Value::Null)
        }
        _ => Err(Refusal::new(501, format!("clawker-rig doesn't do {method} {path}"))),
    }
}

fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn networks(engine: &Engine) -> Value {
    lock(&engine.networks).values().cloned().collect()
}

fn listed(engine: &Engine, query: &Query) -> Value {
    let (labels, ids) = (query.filter("label"), query.filter("id"));
    let all = engine.all();
    let wanted = all.iter().filter(|one| {
        labels.iter().all(|label| bears(one.labels(), label))
            && (ids.is_empty() || ids.iter().any(|id| one.id.starts_with(id.as_str())))
            && (query.get("all").is_some() || one.runs())
    });
    wanted.map(answers::summary).collect()
}

/// `key` or `key=value`.
fn bears(labels: &Value, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((key, value)) => labels[key] == value,
        None => !labels[wanted].is_null(),
    }
}

fn events(engine: &Engine, query: &Query) -> Body {
    let (kinds, labels, actions) = (query.filter("type"), query.filter("label"), query.filter("event"));
    let lines = BroadcastStream::new(engine.listen()).filter_map(move |told| {
        // One that lags has lost events, and isn't told: Docker does the same.
        let told = told.ok()?;
        let wanted = (kinds.is_empty() || kinds.iter().any(|kind| kind == told.kind))
            && (actions.is_empty() || actions.contains(&told.action))
            && labels.iter().all(|label| bears(&told.labels, label));
        wanted.then(|| Ok::<_, Infallible>(Frame::data(Bytes::from(told.line.clone()))))
    });
    stream(lines)
}

fn stream(frames: impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + 'static) -> Body {
    StreamBody::new(frames).boxed_unsync()
}

/// Tells each container's state again, one after the other, until so many events are told.
fn burst(engine: &Engine, count: usize) {
    let all: Vec<Container> = engine.all();
    for (container, _) in all.iter().cycle().zip(0..count) {
        engine.tell(container, "rename", json!({}));
    }
}

async fn body(request: Request<Incoming>) -> Result<Value, Refusal> {
    let read = Limited::new(request.into_body(), MAX_BODY).collect().await;
    let bytes = read.map_err(|error| Refusal::new(400, error.to_string()))?.to_bytes();
    serde_json::from_slice(&bytes).map_err(|error| Refusal::new(400, error.to_string()))
}

fn named(name: &str) -> Result<Signal, Refusal> {
    Ok(match name.trim_start_matches("SIG") {
        "TERM" | "15" => Signal::TERM,
        "KILL" | "9" => Signal::KILL,
        "INT" | "2" => Signal::INT,
        "HUP" | "1" => Signal::HUP,
        "WINCH" | "28" => Signal::WINCH,
        other => return Err(Refusal::new(400, format!("clawker-rig doesn't send {other}"))),
    })
}

/// A query string, decoded.
struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let pair = |pair: &str| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(key), decoded(value))
        };
        Self(pairs.map(pair).collect())
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| known == key)
            .map(|(_, value)| value.as_str())
    }

    fn seconds(&self, key: &str) -> Duration {
        let asked = self.get(key).and_then(|value| value.parse().ok());
        asked.map_or(STOP, Duration::from_secs)
    }

    /// Values of one of Docker's filters: `{"label": ["a", "b"]}`, or the older `{"label": {"a": true}}`.
    fn filter(&self, key: &str) -> Vec<String> {
        let filters: Value = self
            .get("filters")
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default();
        match &filters[key] {
            Value::Array(values) => values
                .iter()
                .filter_map(|value| value.as_str().map(str::to_owned))
                .collect(),
            Value::Object(values) => values.keys().cloned().collect(),
            _ => Vec::new(),
        }
    }
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match (first, hex.and_then(|two| u8::from_str_radix(two, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = after;
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_come_in_both_of_dockers_shapes() {
        for text in [
            "filters=%7B%22label%22%3A%5B%22a%3Db%22%5D%7D&all=true",
            "all=true&filters={\"label\":{\"a=b\":true}}",
        ] {
            let query = Query::parse(text);
            assert_eq!(query.filter("label"), ["a=b"]);
            assert_eq!((query.get("all"), query.filter("id").len()), (Some("true"), 0));
        }
        assert!(bears(&json!({"a": "b"}), "a=b") && bears(&json!({"a": "b"}), "a"));
        assert!(!bears(&json!({"a": "b"}), "a=c") && !bears(&Value::Null, "a"));
    }
}
