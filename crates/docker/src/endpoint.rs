//! Where an engine is: a socket of this host, or an address of another.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use tokio::net::{TcpStream, UnixStream};

/// `unix:///path` or `tcp://address:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    Unix(PathBuf),
    /// Plain, without TLS: whoever can reach it owns that host. Meant for what a tunnel brings here.
    Tcp(SocketAddr),
}

/// It is neither of both.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("write `unix:///path/of/the/socket` or `tcp://address:port`, with an address of numbers")]
pub struct BadEndpoint;

impl Endpoint {
    /// The path of the engine's socket, if it has one here.
    pub fn socket(&self) -> Option<&Path> {
        match self {
            Endpoint::Unix(path) => Some(path),
            Endpoint::Tcp(_) => None,
        }
    }

    /// A connection of our own.
    pub(crate) async fn connect(&self) -> std::io::Result<UnixStream> {
        match self {
            Endpoint::Unix(path) => UnixStream::connect(path).await,
            Endpoint::Tcp(address) => {
                let stream = TcpStream::connect(address).await?.into_std()?;
                // What is done with a stream socket's descriptor from here on is the same for both families.
                UnixStream::from_std(std::os::fd::OwnedFd::from(stream).into())
            }
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Unix(path) => write!(f, "unix://{}", path.display()),
            Endpoint::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

impl FromStr for Endpoint {
    type Err = BadEndpoint;

    fn from_str(text: &str) -> Result<Self, BadEndpoint> {
        if let Some(path) = text.strip_prefix("unix://").filter(|path| path.starts_with('/')) {
            return Ok(Endpoint::Unix(path.into()));
        }
        let address = text.strip_prefix("tcp://").and_then(|address| address.parse().ok());
        address.map(Endpoint::Tcp).ok_or(BadEndpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_socket_or_an_address_of_numbers() {
        for text in ["unix:///run/docker.sock", "tcp://10.0.0.2:2375", "tcp://[fd00::2]:2375"] {
            assert_eq!(text.parse::<Endpoint>().expect("good").to_string(), text);
        }
        for text in [
            "",
            "unix://docker.sock",
            "tcp://engine:2375",
            "tcp://10.0.0.2",
            "ssh://x",
            "/run/docker.sock",
        ] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }
}
