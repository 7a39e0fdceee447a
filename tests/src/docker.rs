//! The calls of Docker's API that tests make behind the control plane's back, over the engine's socket.
//!
//! HTTP/1.0, so that an answer ends where the stream ends; no client program is needed.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::bins::SETUP;

/// Most bytes of an answer: logs are the largest.
const MAX_ANSWER: u64 = 64 << 20;

#[derive(Debug, Clone)]
pub struct Docker {
    pub socket: PathBuf,
}

/// An answer of any status.
struct Answer {
    status: u16,
    body: Vec<u8>,
}

impl Docker {
    /// The engine of this machine, or what to do about there being none.
    pub fn of_this_host() -> Result<Self> {
        let named = std::env::var("DOCKER_HOST").ok();
        let socket = named
            .as_deref()
            .and_then(|host| host.strip_prefix("unix://"))
            .unwrap_or("/var/run/docker.sock");
        let docker = Self { socket: socket.into() };
        docker
            .get("/_ping")
            .with_context(|| format!("no Docker engine answers: {SETUP}"))?;
        Ok(docker)
    }

    fn call(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> Result<Answer> {
        let what = || format!("Docker {method} {path}");
        let mut stream = UnixStream::connect(&self.socket).with_context(what)?;
        stream
            .set_read_timeout(Some(Duration::from_secs(120)))
            .with_context(what)?;
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: docker\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream
            .write_all(head.as_bytes())
            .and_then(|()| stream.write_all(body))
            .with_context(what)?;
        let mut bytes = Vec::new();
        stream.take(MAX_ANSWER).read_to_end(&mut bytes).with_context(what)?;
        let end = bytes
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .with_context(what)?;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .with_context(what)?;
        Ok(Answer {
            status,
            body: bytes.split_off(end + 4),
        })
    }

    fn ok(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer> {
        let bytes = body.map(Value::to_string).unwrap_or_default();
        let answer = self.call(method, path, "application/json", bytes.as_bytes())?;
        if answer.status >= 400 {
            bail!(
                "Docker {method} {path}: {} {}",
                answer.status,
                String::from_utf8_lossy(&answer.body).trim()
            );
        }
        Ok(answer)
    }

    fn get(&self, path: &str) -> Result<Vec<u8>> {
        Ok(self.ok("GET", path, None)?.body)
    }

    fn get_json(&self, path: &str) -> Result<Value> {
        serde_json::from_slice(&self.get(path)?).with_context(|| format!("Docker GET {path}"))
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value> {
        // An engine that doesn't read a body resets the connection over it.
        let body = (!body.is_null()).then_some(body);
        Ok(serde_json::from_slice(&self.ok("POST", path, body)?.body).unwrap_or(Value::Null))
    }

    /// Deletes something; that it is gone already is as good.
    fn delete(&self, path: &str) -> Result<()> {
        let answer = self.call("DELETE", path, "application/json", b"")?;
        match answer.status {
            0..400 | 404 => Ok(()),
            // Somebody else is removing it right now.
            409 if String::from_utf8_lossy(&answer.body).contains("already in progress") => Ok(()),
            status => bail!(
                "Docker DELETE {path}: {status} {}",
                String::from_utf8_lossy(&answer.body).trim()
            ),
        }
    }

    /// Any call of the API; what isn't JSON is no answer.
    pub fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        Ok(serde_json::from_slice(&self.ok(method, path, body)?.body).unwrap_or(Value::Null))
    }

    /// The new container's id.
    pub fn create(&self, name: &str, body: &Value) -> Result<String> {
        let made = self.post(&format!("/containers/create?name={name}"), body)?;
        Ok(made["Id"].as_str().context("a container has an id")?.to_owned())
    }

    pub fn start(&self, id: &str) -> Result<()> {
        self.post(&format!("/containers/{id}/start"), &Value::Null).map(drop)
    }

    pub fn stop(&self, id: &str, seconds: u32) -> Result<()> {
        self.post(&format!("/containers/{id}/stop?t={seconds}"), &Value::Null)
            .map(drop)
    }

    pub fn restart(&self, id: &str, seconds: u32) -> Result<()> {
        self.post(&format!("/containers/{id}/restart?t={seconds}"), &Value::Null)
            .map(drop)
    }

    pub fn kill(&self, id: &str) -> Result<()> {
        self.post(&format!("/containers/{id}/kill"), &Value::Null).map(drop)
    }

    /// Holds all of a container, PID 1 too.
    pub fn pause(&self, id: &str) -> Result<()> {
        self.post(&format!("/containers/{id}/pause"), &Value::Null).map(drop)
    }

    pub fn unpause(&self, id: &str) -> Result<()> {
        self.post(&format!("/containers/{id}/unpause"), &Value::Null).map(drop)
    }

    pub fn remove(&self, id: &str) -> Result<()> {
        self.delete(&format!("/containers/{id}?force=true&v=true"))
    }

    /// What Docker knows of a container or of the image; `None` if it doesn't know it.
    pub fn inspect(&self, id: &str) -> Result<Option<Value>> {
        let path = format!("/containers/{id}/json");
        let answer = self.call("GET", &path, "application/json", b"")?;
        match answer.status {
            404 => Ok(None),
            200 => Ok(Some(serde_json::from_slice(&answer.body)?)),
            status => bail!("Docker GET {path}: {status}"),
        }
    }

    /// Every container, running or not, that bears `label` (`key` or `key=value`).
    pub fn containers(&self, label: &str) -> Result<Vec<Value>> {
        let list = self.get_json(&format!("/containers/json?all=true&filters={}", filter(label)))?;
        Ok(list.as_array().cloned().unwrap_or_default())
    }

    /// Every container of this engine.
    pub fn all_containers(&self) -> Result<Vec<Value>> {
        Ok(self
            .get_json("/containers/json?all=true")?
            .as_array()
            .cloned()
            .unwrap_or_default())
    }

    pub fn networks(&self) -> Result<Vec<Value>> {
        Ok(self.get_json("/networks")?.as_array().cloned().unwrap_or_default())
    }

    /// The address that this machine has on a network.
    pub fn gateway(&self, network: &str) -> Result<String> {
        let found = self.get_json(&format!("/networks/{network}"))?;
        let gateway = found["IPAM"]["Config"][0]["Gateway"].as_str();
        gateway.map(str::to_owned).context("a bridge network has a gateway")
    }

    pub fn create_network(&self, name: &str, label: &str) -> Result<()> {
        self.post(
            "/networks/create",
            &json!({"Name": name, "Driver": "bridge", "Labels": {label: "true"}}),
        )
        .map(drop)
    }

    pub fn connect_network(&self, name: &str, container: &str) -> Result<()> {
        self.post(&format!("/networks/{name}/connect"), &json!({"Container": container}))
            .map(drop)
    }

    pub fn remove_network(&self, name: &str) -> Result<()> {
        self.delete(&format!("/networks/{name}"))
    }

    /// All that a container without a terminal has written, both streams together.
    pub fn logs(&self, id: &str) -> Result<String> {
        let raw = self.get(&format!("/containers/{id}/logs?stdout=true&stderr=true"))?;
        let mut text = Vec::new();
        let mut rest = raw.as_slice();
        // Frames of [stream, 0, 0, 0, length of four bytes, bytes].
        while let Some((head, after)) = rest.split_at_checked(8) {
            let len = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
            let (bytes, after) = after.split_at(len.min(after.len()));
            text.extend_from_slice(bytes);
            rest = after;
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    pub fn has_image(&self, tag: &str) -> Result<bool> {
        Ok(self
            .call("GET", &format!("/images/{tag}/json"), "application/json", b"")?
            .status
            == 200)
    }

    /// Makes an image of one layer; `changes` are lines of a Dockerfile.
    pub fn import(&self, repo: &str, tag: &str, changes: &[&str], tar: &[u8]) -> Result<()> {
        let mut path = format!("/images/create?fromSrc=-&repo={repo}&tag={tag}");
        for change in changes {
            path.push_str("&changes=");
            path.push_str(&encoded(change));
        }
        let answer = self.call("POST", &path, "application/x-tar", tar)?;
        let said = String::from_utf8_lossy(&answer.body);
        if answer.status >= 400 || said.contains("\"error\"") {
            bail!("importing {repo}:{tag}: {} {}", answer.status, said.trim());
        }
        Ok(())
    }

    /// `docker exec`, not waited for.
    pub fn exec(&self, id: &str, argv: &[&str]) -> Result<()> {
        let made = self.post(&format!("/containers/{id}/exec"), &json!({"Cmd": argv}))?;
        let exec = made["Id"].as_str().context("an exec has an id")?;
        self.post(&format!("/exec/{exec}/start"), &json!({"Detach": true}))
            .map(drop)
    }

    /// Names of the images that bear `label`.
    pub fn images(&self, label: &str) -> Result<Vec<String>> {
        let list = self.get_json(&format!("/images/json?filters={}", filter(label)))?;
        let tags = list
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|image| image["RepoTags"].as_array().into_iter().flatten());
        Ok(tags.filter_map(|tag| tag.as_str().map(str::to_owned)).collect())
    }

    pub fn remove_image(&self, tag: &str) -> Result<()> {
        self.delete(&format!("/images/{tag}?force=true"))
    }
}

fn filter(label: &str) -> String {
    encoded(&json!({"label": [label]}).to_string())
}

fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
