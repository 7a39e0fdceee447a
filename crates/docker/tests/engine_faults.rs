//! What callers see of an engine that is absent, mute or odd. The engine here is a socket of the test's own.

use std::path::PathBuf;
use std::time::Duration;

use clawker_docker::{Docker, Endpoint, Error, Limits, LogOptions, SpecError, StdStream};
use clawker_model::ContainerId;
use futures::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

const VERSION: &str = r#"{"Version":"20.10.24","ApiVersion":"1.41"}"#;

struct Engine {
    socket: PathBuf,
    _folder: tempfile::TempDir,
    _tasks: JoinSet<()>,
}

impl Engine {
    /// Serves every connection with `answer`, which gets the request's head.
    fn new<F>(answer: impl Fn(String, UnixStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let folder = tempfile::tempdir().expect("tempdir");
        let socket = folder.path().join("docker.sock");
        let listener = UnixListener::bind(&socket).expect("bind");
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut serving = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => break,
                    }
                }
                serving.spawn(answer(String::from_utf8_lossy(&head).into_owned(), stream));
            }
        });
        Self {
            socket,
            _folder: folder,
            _tasks: tasks,
        }
    }

    /// Answers the question for its version, and everything else with `response`.
    fn saying(status: &'static str, body: &'static str) -> Self {
        Self::new(move |head, stream| async move {
            if head.contains("/version") {
                reply(stream, "200 OK", VERSION).await;
            } else {
                reply(stream, status, body).await;
            }
        })
    }

    fn docker(&self) -> Docker {
        let limits = Limits {
            query: Duration::from_millis(300),
            change: Duration::from_millis(300),
            pull_silence: Duration::from_millis(300),
        };
        Docker::connect_with(&Endpoint::Unix(self.socket.clone()), limits).expect("socket is there")
    }
}

async fn reply(mut stream: UnixStream, status: &str, body: &str) {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let _ = stream.write_all(head.as_bytes()).await;
}

fn id() -> ContainerId {
    ContainerId::parse(&"ab".repeat(32)).expect("id")
}

#[test]
fn a_socket_that_is_absent_is_named() {
    let error = Docker::connect("/nowhere/docker.sock".as_ref()).expect_err("absent");
    assert!(matches!(error, Error::Absent { .. }), "{error}");
    assert!(error.to_string().contains("/nowhere/docker.sock"));
    assert!(error.hint().contains("cargo xtask setup"));
}

#[tokio::test]
async fn a_socket_without_a_listener_is_told_apart_from_none() {
    let folder = tempfile::tempdir().expect("tempdir");
    let socket = folder.path().join("docker.sock");
    drop(UnixListener::bind(&socket).expect("bind"));
    let docker = Docker::connect(&socket).expect("the file is there");
    let error = docker.engine().await.expect_err("dead");
    assert!(matches!(error, Error::NotListening { .. }), "{error}");
    std::fs::remove_file(&socket).expect("remove");
    let error = docker.engine().await.expect_err("gone");
    assert!(matches!(error, Error::Absent { .. }), "{error}");
}

#[tokio::test]
async fn a_mute_engine_is_a_timeout_that_names_the_call() {
    let engine = Engine::new(|head, stream| async move {
        if head.contains("/version") {
            reply(stream, "200 OK", VERSION).await;
        } else {
            std::future::pending::<()>().await;
        }
    });
    let docker = engine.docker();
    let error = docker.inspect(&id()).await.expect_err("mute");
    assert!(
        matches!(&error, Error::Timeout { call, .. } if call == "inspect container abababababab"),
        "{error}"
    );
    let error = docker.kill(&id(), "SIGTERM").await.expect_err("mute");
    assert!(
        matches!(&error, Error::Timeout { call, .. } if call.starts_with("send SIGTERM")),
        "{error}"
    );
    let error = docker.attach(&id(), false).await.expect_err("mute");
    assert!(
        matches!(&error, Error::Timeout { call, .. } if call.starts_with("attach")),
        "{error}"
    );
    assert!(error.is_outage());
}

#[tokio::test]
async fn answers_that_make_no_sense_are_errors() {
    let garbage = Engine::saying("200 OK", "[1,2}");
    let error = garbage.docker().inspect(&id()).await.expect_err("garbage");
    assert!(matches!(error, Error::Malformed { .. }), "{error}");
    let noise = Engine::saying("\0\0", "");
    let error = noise.docker().inspect(&id()).await.expect_err("noise");
    assert!(matches!(error, Error::Transport { .. }), "{error}");
}

#[tokio::test]
async fn statuses_become_what_they_mean() {
    let missing = Engine::saying("404 Not Found", r#"{"message":"No such container: abababababab"}"#);
    let docker = missing.docker();
    assert!(matches!(docker.inspect(&id()).await, Ok(None)));
    assert!(docker.remove(&id(), true).await.is_ok());
    assert!(matches!(docker.start(&id()).await, Err(Error::NoSuchContainer { .. })));
    assert!(matches!(
        docker.attach(&id(), true).await,
        Err(Error::NoSuchContainer { .. })
    ));
    let logs: Vec<_> = docker.logs(&id(), LogOptions::default()).collect().await;
    assert!(matches!(logs.as_slice(), [Err(Error::NoSuchContainer { .. })]));
    let stopped = Engine::saying("409 Conflict", r#"{"message":"Container abc is not running"}"#);
    assert!(matches!(
        stopped.docker().kill(&id(), "SIGTERM").await,
        Err(Error::NotRunning { .. })
    ));
}

#[tokio::test]
async fn attached_streams_are_whole_and_the_end_of_input_is_passed_on() {
    let engine = Engine::new(|head, mut stream| async move {
        if head.contains("/version") {
            return reply(stream, "200 OK", VERSION).await;
        }
        assert!(head.starts_with("POST /v1.41/containers/"), "{head}");
        // The first frame comes in one packet with the response's head.
        let mut first = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n".to_vec();
        first.extend(b"\x01\0\0\0\0\0\0\x05hello");
        let _ = stream.write_all(&first).await;
        let mut input = Vec::new();
        let _ = stream.read_to_end(&mut input).await;
        let mut echo = vec![2, 0, 0, 0, 0, 0, 0, input.len() as u8];
        echo.extend(input);
        let _ = stream.write_all(&echo).await;
    });
    let (mut reader, mut writer) = engine.docker().attach(&id(), false).await.expect("attached");
    let first = reader.next().await.expect("read").expect("a piece");
    assert_eq!((first.0, first.1.as_ref()), (StdStream::Stdout, b"hello".as_ref()));
    writer.write(b"bye").await.expect("written");
    writer.close().await;
    let second = reader.next().await.expect("read").expect("a piece");
    assert_eq!((second.0, second.1.as_ref()), (StdStream::Stderr, b"bye".as_ref()));
    assert_eq!(reader.next().await.expect("end"), None);
}

/// `linkTarget` is `/.clawker`, as Docker's header has it; the other one is a folder.
const LINK: &str = "eyJuYW1lIjogImIiLCAic2l6ZSI6IDAsICJtb2RlIjogMTM0MjE4MjM5LCAibXRpbWUiOiAiMjAyNi0wMS0wMVQwMDowMDowMFoiLCAibGlua1RhcmdldCI6ICIvLmNsYXdrZXIifQ==";
const FOLDER: &str = "eyJuYW1lIjogImIiLCAic2l6ZSI6IDAsICJtb2RlIjogMjE0NzQ4NDE0MSwgIm10aW1lIjogIjIwMjYtMDEtMDFUMDA6MDA6MDBaIiwgImxpbmtUYXJnZXQiOiAiIn0=";

/// An engine with a stopped container that mounts something at `/a/b`.
fn engine_with_mount(b: &'static str) -> Engine {
    Engine::new(move |head, mut stream| async move {
        let stat = |stat: &str| {
            format!("HTTP/1.1 200 OK\r\nX-Docker-Container-Path-Stat: {stat}\r\nConnection: close\r\n\r\n")
        };
        let line = head.lines().next().unwrap_or_default().to_owned();
        if line.contains("/version") {
            return reply(stream, "200 OK", VERSION).await;
        }
        if line.contains("/json") {
            let inspect = format!(
                r#"{{"Id":"{}","Mounts":[{{"Source":"/s","Destination":"/a/b"}}]}}"#,
                id()
            );
            return reply(stream, "200 OK", &inspect).await;
        }
        if line.contains("/start") {
            let _ = stream
                .write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
                .await;
            return;
        }
        let answer = stat(if line.contains("path=%2Fa%2Fb ") { b } else { FOLDER });
        let _ = stream.write_all(answer.as_bytes()).await;
    })
}

#[tokio::test]
async fn an_agent_cannot_lead_its_mount_over_ours_for_the_next_start() {
    let error = engine_with_mount(LINK)
        .docker()
        .start(&id())
        .await
        .expect_err("led astray");
    assert!(
        matches!(&error, Error::Spec(SpecError::MountTarget { target, .. }) if target == "/a/b"),
        "{error}"
    );
    engine_with_mount(FOLDER)
        .docker()
        .start(&id())
        .await
        .expect("nothing in the way");
}
