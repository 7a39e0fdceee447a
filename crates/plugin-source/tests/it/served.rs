//! A server that says what a test wants, over plain TCP or TLS, one request a connection.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// What was asked.
#[derive(Debug, Clone)]
pub struct Asked {
    /// With the query.
    pub path: String,
    /// As it came, names in lower case.
    pub head: String,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        let line = self.head.lines().find(|line| line.starts_with(&format!("{name}:")))?;
        line.split_once(':').map(|(_, value)| value.trim())
    }
}

pub enum Reply {
    Bytes {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: Vec<u8>,
    },
    /// 200, a body whose length isn't said.
    Unsaid(Vec<u8>),
    /// 200, a body without an end.
    Endless,
    /// 200, a length that it never sends.
    Says(u64),
    /// Not a byte.
    Stall,
    /// 200, and a byte now and then.
    Drip,
    /// 200, a few bytes, then none.
    StallWithin,
}

pub fn ok(body: impl Into<Vec<u8>>) -> Reply {
    with(200, &[], body)
}

pub fn missing() -> Reply {
    with(404, &[], "")
}

pub fn redirect(to: &str) -> Reply {
    with(307, &[("location", to)], "")
}

pub fn with(status: u16, headers: &[(&'static str, &str)], body: impl Into<Vec<u8>>) -> Reply {
    Reply::Bytes {
        status,
        headers: headers
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect(),
        body: body.into(),
    }
}

pub struct Server {
    pub addr: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    _tasks: JoinSet<()>,
}

impl Server {
    pub async fn start(reply: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen(None, reply).await
    }

    pub async fn start_tls(
        config: rustls::ServerConfig,
        reply: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::listen(Some(TlsAcceptor::from(Arc::new(config))), reply).await
    }

    async fn listen(tls: Option<TlsAcceptor>, reply: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("its address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, reply) = (asked.clone(), Arc::new(reply));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (log, reply, tls) = (log.clone(), reply.clone(), tls.clone());
                connections.spawn(async move {
                    match tls {
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, &log, &*reply).await;
                            }
                        }
                        None => serve(stream, &log, &*reply).await,
                    }
                });
            }
        });
        Self {
            addr,
            asked,
            _tasks: tasks,
        }
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("the log").clone()
    }

    /// An `oci://` reference to it.
    pub fn oci(&self, rest: &str) -> String {
        format!("oci://{}/{rest}", self.addr)
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    log: &Mutex<Vec<Asked>>,
    reply: &(impl Fn(&Asked) -> Reply + ?Sized),
) {
    let Some(asked) = head(&mut stream).await else {
        return;
    };
    log.lock().expect("the log").push(asked.clone());
    let mut out = Vec::new();
    let mut then_endless = false;
    let mut then_stall = false;
    let mut then_drip = false;
    match reply(&asked) {
        Reply::Bytes { status, headers, body } => {
            out.extend(format!("HTTP/1.1 {status} x\r\nconnection: close\r\n").into_bytes());
            for (name, value) in headers {
                out.extend(format!("{name}: {value}\r\n").into_bytes());
            }
            out.extend(format!("content-length: {}\r\n\r\n", body.len()).into_bytes());
            out.extend(body);
        }
        Reply::Unsaid(body) => {
            out.extend(b"HTTP/1.1 200 x\r\nconnection: close\r\n\r\n");
            out.extend(body);
        }
        Reply::Endless => {
            out.extend(b"HTTP/1.1 200 x\r\nconnection: close\r\n\r\n");
            then_endless = true;
        }
        Reply::Says(len) => {
            out.extend(format!("HTTP/1.1 200 x\r\ncontent-length: {len}\r\n\r\n").into_bytes());
            then_stall = true;
        }
        Reply::Drip => {
            out.extend(b"HTTP/1.1 200 x\r\ncontent-length: 1000\r\n\r\n");
            then_drip = true;
        }
        Reply::Stall => then_stall = true,
        Reply::StallWithin => {
            out.extend(b"HTTP/1.1 200 x\r\ncontent-length: 100\r\n\r\nabc");
            then_stall = true;
        }
    }
    // Who was refused has gone away already.
    let mut sent = stream.write_all(&out).await;
    while then_endless && sent.is_ok() {
        sent = stream.write_all(&[b'a'; 1 << 16]).await;
    }
    let mut now_and_then = tokio::time::interval(Duration::from_millis(50));
    while then_drip && sent.is_ok() {
        now_and_then.tick().await;
        sent = stream.write_all(b"a").await;
    }
    if then_stall && stream.flush().await.is_ok() {
        pending::<()>().await;
    }
    let _ = stream.shutdown().await;
}

async fn head(stream: &mut (impl AsyncRead + Unpin)) -> Option<Asked> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let path = head.split(' ').nth(1)?.to_owned();
    Some(Asked { path, head })
}
