//! The few calls of Docker's API that set-up and the look for leftovers need, over its unix socket. No client is
//! needed that might not be installed yet, and HTTP/1.0 keeps answers simple: the body ends where the stream ends.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::run::unmet;

/// The answers that we ask for are lists of our own things and short reports.
const ANSWER_MAX: u64 = 16 << 20;

#[derive(Clone)]
pub struct Api {
    pub socket: PathBuf,
}

/// What Docker answered: a status that isn't success comes with its message.
#[derive(Debug)]
pub struct Refused {
    pub status: u16,
    pub message: String,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Docker answered {}: {}", self.status, self.message)
    }
}

impl std::error::Error for Refused {}

impl Api {
    /// The engine that `DOCKER_HOST` names, else the usual socket.
    pub fn of_this_host() -> Result<Self> {
        let socket = match std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty()) {
            None => PathBuf::from("/var/run/docker.sock"),
            Some(host) => match host.strip_prefix("unix://") {
                Some(path) => PathBuf::from(path),
                None => {
                    return Err(unmet(format!(
                        "DOCKER_HOST is `{host}`: a control plane supervises the engine of its own host, over a unix \
                         socket. Unset it, or set it to unix:///path/to/docker.sock"
                    )));
                }
            },
        };
        Ok(Self { socket })
    }

    /// Whether an engine answers now.
    pub fn answers(&self) -> bool {
        self.get("/_ping").is_ok()
    }

    pub fn get(&self, path: &str) -> Result<Value> {
        self.call("GET", path, "application/json", b"", Duration::from_secs(30))
    }

    /// Null is no body: an engine that doesn't read one resets the connection over it.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        self.call(
            "POST",
            path,
            "application/json",
            body.as_bytes(),
            Duration::from_secs(60),
        )
    }

    pub fn post_tar(&self, path: &str, tar: &[u8]) -> Result<Value> {
        self.call("POST", path, "application/x-tar", tar, Duration::from_secs(60))
    }

    /// Removes something; that it is gone already is as good.
    pub fn delete(&self, path: &str) -> Result<()> {
        match self.call("DELETE", path, "application/json", b"", Duration::from_secs(60)) {
            Ok(_) => Ok(()),
            Err(error)
                if error
                    .downcast_ref::<Refused>()
                    .is_some_and(|refused| refused.status == 404) =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn call(&self, method: &str, path: &str, kind: &str, body: &[u8], deadline: Duration) -> Result<Value> {
        let asked = || format!("asking the engine on {}: {method} {path}", self.socket.display());
        let mut stream = UnixStream::connect(&self.socket).with_context(asked)?;
        stream.set_read_timeout(Some(deadline)).with_context(asked)?;
        stream.set_write_timeout(Some(deadline)).with_context(asked)?;
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: docker\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .and_then(|()| stream.write_all(body))
        .with_context(asked)?;
        let mut answer = Vec::new();
        stream.take(ANSWER_MAX).read_to_end(&mut answer).with_context(asked)?;
        let (status, body) = split(&answer).with_context(asked)?;
        if status >= 400 {
            let message = serde_json::from_slice::<Value>(body)
                .ok()
                .and_then(|value| value["message"].as_str().map(str::to_owned))
                .unwrap_or_else(|| String::from_utf8_lossy(body).trim().to_owned());
            return Err(Refused { status, message }.into());
        }
        // Streams of progress (images/create) are several objects: the last one tells how it ended.
        let last = body
            .split(|byte| *byte == b'\n')
            .rfind(|line| !line.trim_ascii().is_empty())
            .unwrap_or(b"null");
        Ok(serde_json::from_slice(last).unwrap_or(Value::Null))
    }
}

fn split(answer: &[u8]) -> Result<(u16, &[u8])> {
    let end = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .context("an answer without an end of its head")?;
    let head = std::str::from_utf8(&answer[..end]).context("an answer whose head is not text")?;
    let status = head
        .split_whitespace()
        .nth(1)
        .and_then(|word| word.parse().ok())
        .context("an answer without a status")?;
    Ok((status, &answer[end + 4..]))
}

/// A filter on a label, as it stands in a path.
pub fn label_filter(label: &str) -> String {
    let filter = serde_json::json!({ "label": [label] }).to_string();
    filter
        .bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() {
                char::from(byte).into()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

/// A tar archive of one executable file.
pub fn tar_of_one(name: &str, file: &Path) -> Result<Vec<u8>> {
    let content = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    let mut header = [0_u8; 512];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000755");
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{:011o}", content.len()));
    put(136, "00000000000");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\u{0}00");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut tar = header.to_vec();
    tar.extend_from_slice(&content);
    tar.resize(tar.len().next_multiple_of(512) + 1024, 0);
    Ok(tar)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_split_into_status_and_body() {
        assert_eq!(
            split(b"HTTP/1.0 404 Not Found\r\nA: b\r\n\r\n{}").unwrap(),
            (404, &b"{}"[..])
        );
        assert!(split(b"HTTP/1.0 200 OK\r\n").is_err());
        assert!(split(b"nothing\r\n\r\n").is_err());
    }

    #[test]
    fn a_tar_is_what_tar_reads() {
        let dir = std::env::temp_dir().join(format!("clawker-xtask-tar-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("in");
        std::fs::write(&file, b"hello").unwrap();
        let archive = dir.join("a.tar");
        std::fs::write(&archive, tar_of_one("out", &file).unwrap()).unwrap();
        let listed = std::process::Command::new("tar")
            .arg("-xOf")
            .arg(&archive)
            .arg("out")
            .output()
            .unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(listed.stdout, b"hello", "{}", String::from_utf8_lossy(&listed.stderr));
    }

    #[test]
    fn a_label_filter_is_encoded() {
        assert_eq!(label_filter("a.b"), "%7B%22label%22%3A%5B%22a%2Eb%22%5D%7D");
    }
}
