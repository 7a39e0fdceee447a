//! An agent on an engine elsewhere: which start of it runs, where it is, and the connection that the control plane makes.
//!
//! No kernel vouches for the peer here. It is whoever answers at the address that the engine names for this container at
//! that moment, and proves the key that was issued for this start; its join token is asked for when it registers.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use clawker_docker::Inspect;
use clawker_model::ContainerId;
use tokio::net::{TcpStream, UnixStream};

use super::attest::Init;
use crate::core::Core;

/// How long an address may take to answer.
const CONNECT: Duration = Duration::from_secs(5);

/// What came of dialling.
pub enum Dialled {
    Connected {
        stream: UnixStream,
        address: SocketAddr,
    },
    /// The container is there and nobody listens: its PID 1 has no join file.
    Refused {
        address: SocketAddr,
    },
    /// Why there was nobody to dial.
    Nobody(String),
}

/// A start as its engine tells it. Docker's time of it is what tells it from others.
pub fn init(inspect: &Inspect) -> Init {
    Init {
        pid: inspect.pid,
        boot_id: format!("engine {}", inspect.started_at),
        start_time: 0,
        kernel: None,
    }
}

/// Connects to the container, where its engine says that it is now.
pub async fn dial(core: &Core, container: &ContainerId) -> Dialled {
    match try_dial(core, container).await {
        Ok(dialled) => dialled,
        Err(why) => Dialled::Nobody(why),
    }
}

async fn try_dial(core: &Core, container: &ContainerId) -> Result<Dialled, String> {
    let inspect = core
        .docker
        .inspect(container)
        .await
        .map_err(|error| error.to_string())?;
    let inspect = inspect.ok_or("the container doesn't exist")?;
    if !inspect.running || inspect.status == "paused" {
        return Err(format!("the container is {}", inspect.status));
    }
    let record = core.store.agent_by_container(container).await;
    let record = record
        .map_err(|error| error.to_string())?
        .ok_or("the store doesn't know it")?;
    let network = record.spec.network.name(&core.config.network);
    let network = network.ok_or("it has no network")?;
    let port = core.config.engine.session_port;
    let address = match core.config.engine.publish {
        Some(_) => inspect.published.get(&port).copied(),
        None => on_network(&inspect, network).map(|ip| SocketAddr::new(ip, port)),
    };
    let address = address.ok_or_else(|| format!("it has no address on {network}"))?;
    let connecting = tokio::time::timeout(CONNECT, answering(address));
    match connecting.await {
        Err(_) => Err(format!("{address} didn't answer in {} s", CONNECT.as_secs())),
        Ok(Err(error)) if is_refusal(&error) => Ok(Dialled::Refused { address }),
        Ok(Err(error)) => Err(format!("{address}: {error}")),
        Ok(Ok(stream)) => {
            let stream = plain(stream).map_err(|error| format!("{address}: {error}"))?;
            Ok(Dialled::Connected { stream, address })
        }
    }
}

fn on_network(inspect: &Inspect, network: &str) -> Option<IpAddr> {
    inspect.networks.get(network).copied().flatten()
}

/// Connects, and waits for PID 1's first byte: before a published port stands a proxy of Docker's, which accepts for
/// whoever isn't there yet, and then hangs up.
async fn answering(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    match stream.peek(&mut [0]).await? {
        0 => Err(io::ErrorKind::ConnectionReset.into()),
        _ => Ok(stream),
    }
}

/// Nobody listens there, or nobody behind Docker's proxy.
fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset
    )
}

/// As the rest of a session takes it: what is done with a stream socket's descriptor is the same for both families.
fn plain(stream: TcpStream) -> io::Result<UnixStream> {
    stream.set_nodelay(true)?;
    let stream = stream.into_std()?;
    UnixStream::from_std(std::os::fd::OwnedFd::from(stream).into())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_tcp_connection_carries_bytes_both_ways_as_a_session_takes_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("address");
        let (dialled, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (mut ours, mut theirs) = (
            plain(dialled.expect("dialled")).expect("plain"),
            accepted.expect("in").0,
        );
        ours.write_all(b"there").await.expect("written");
        let mut got = [0; 5];
        theirs.read_exact(&mut got).await.expect("read");
        assert_eq!(&got, b"there");
        theirs.write_all(b"back").await.expect("written");
        drop(theirs);
        let mut rest = Vec::new();
        ours.read_to_end(&mut rest).await.expect("read to its end");
        assert_eq!(rest, b"back");
    }

    #[tokio::test]
    async fn nobody_behind_a_proxy_is_nobody() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("address");
        let hangs_up = async { drop(listener.accept().await.expect("in")) };
        let (answer, ()) = tokio::join!(answering(address), hangs_up);
        assert!(is_refusal(&answer.expect_err("nobody")));
        drop(listener);
        assert!(is_refusal(&answering(address).await.expect_err("nobody at all")));
    }
}
