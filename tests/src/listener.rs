//! Something that agents try to reach: an HTTP server in a plain container of the test's own.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use serde_json::json;

use crate::cleanup::FIXTURE;
use crate::host::Host;
use crate::wait::{PATIENCE, until};

const PORT: u16 = 8080;

#[derive(Debug, Clone)]
pub struct Listener {
    pub container: String,
    pub ip: String,
}

impl Listener {
    /// Listens on `network`. It bears the host's fixture label and goes with the host.
    pub fn start(host: &Host, name: &str, network: &str) -> Result<Self> {
        let body = json!({
            "Image": host.busybox()?,
            "User": "0:0",
            "Entrypoint": ["/bin/sh", "-c"],
            "Cmd": [format!("mkdir -p /www && echo {name} >/www/index.html && exec httpd -f -p {PORT} -h /www")],
            "Labels": {format!("{}.{FIXTURE}", host.prefix()): "listener"},
            "HostConfig": {"NetworkMode": network, "Init": true},
        });
        let docker = &host.docker;
        let container = docker.create(&format!("{}-{name}", host.network()), &body)?;
        docker.start(&container)?;
        let inspected = docker.inspect(&container)?.context("a listener that was started")?;
        let ip = inspected["NetworkSettings"]["Networks"][network]["IPAddress"]
            .as_str()
            .unwrap_or_default();
        let listener = Self {
            ip: ip.to_owned(),
            container,
        };
        // From its own side, because the way there may be what a test cuts.
        until("a listener", PATIENCE, || {
            let pid = docker
                .inspect(&listener.container)?
                .and_then(|i| i["State"]["Pid"].as_i64())
                .unwrap_or(0);
            let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp6")).unwrap_or_default()
                + &std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap_or_default();
            // State 0A is LISTEN (proc(5)).
            let port = format!(":{PORT:04X} ");
            Ok(table
                .lines()
                .any(|line| line.contains(&port) && line.contains(" 0A "))
                .then_some(()))
        })?;
        Ok(listener)
    }

    /// `ADDR:PORT`
    pub fn address(&self) -> String {
        format!("{}:{PORT}", self.ip)
    }
}

/// The cheapest thing to reach: a thread of the test that accepts on the gateway of its own network.
#[derive(Debug)]
pub struct Reachable {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
}

impl Reachable {
    pub fn start(gateway: &str) -> Result<Self> {
        let listener = TcpListener::bind((gateway, 0)).with_context(|| format!("listening on {gateway}"))?;
        let address = listener.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        std::thread::spawn(move || {
            // Accepting is all: whoever is connected has reached it.
            while listener.accept().is_ok() && !stopped.load(Ordering::Relaxed) {}
        });
        Ok(Self { address, stop })
    }

    /// `ADDR:PORT`
    pub fn address(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for Reachable {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the thread; if that fails it ends with the test.
        let _ = TcpStream::connect(self.address);
    }
}
