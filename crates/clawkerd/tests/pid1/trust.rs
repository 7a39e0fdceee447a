//! Who may be whose peer: the strict handshake, registration, and files that an image could bring.

use std::sync::{Arc, Mutex};

use clawker_identity::authority::Authority;
use clawker_identity::control::{CaptureSlot, agent_server};
use clawker_wire::agent::agent_service_server::{AgentService, AgentServiceServer};
use clawker_wire::agent::{RegisterRequest, Welcome, WhoAmIRequest, WhoAmIResponse};
use clawker_wire::session::command::Body as Command;
use clawker_wire::session::response::Body;
use clawker_wire::session::{self as pb};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_stream::StreamExt;
use tonic::{Request, Response, Status};

use crate::host::{Container, can_run};
use crate::plane::Plane;
use crate::session::within;

/// Remembers who came; knows one token.
#[derive(Default, Clone)]
struct Registrar(Arc<Mutex<Vec<String>>>);

#[tonic::async_trait]
impl AgentService for Registrar {
    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<Welcome>, Status> {
        let bearer = request
            .metadata()
            .get("authorization")
            .and_then(|v| v.to_str().ok())
            .unwrap_or("")
            .to_owned();
        if bearer != "Bearer good" {
            return Err(Status::permission_denied("refused"));
        }
        self.0.lock().expect("lock").push(request.into_inner().agent);
        Ok(Response::new(Welcome {}))
    }

    async fn who_am_i(&self, _: Request<WhoAmIRequest>) -> Result<Response<WhoAmIResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

struct Conn(tokio_rustls::server::TlsStream<tokio::net::UnixStream>);

impl tonic::transport::server::Connected for Conn {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

macro_rules! delegate {
    ($name:ident($($arg:ident: $type:ty),*) -> $out:ty) => {
        fn $name(
            mut self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
            $($arg: $type),*
        ) -> std::task::Poll<std::io::Result<$out>> {
            std::pin::Pin::new(&mut self.0).$name(cx, $($arg),*)
        }
    };
}

impl AsyncRead for Conn {
    delegate!(poll_read(buf: &mut ReadBuf<'_>) -> ());
}

impl AsyncWrite for Conn {
    delegate!(poll_write(buf: &[u8]) -> usize);
    delegate!(poll_flush() -> ());
    delegate!(poll_shutdown() -> ());
}

async fn serve_registration(plane: &Plane, registrar: Registrar) {
    let listener = tokio::net::UnixListener::bind(plane.dir().join("agent.sock")).expect("bound");
    let config = agent_server(&plane.own, CaptureSlot::default()).expect("config");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let incoming = tokio_stream::wrappers::UnixListenerStream::new(listener).then(move |stream| {
        let acceptor = acceptor.clone();
        async move { acceptor.accept(stream?).await.map(Conn) }
    });
    let server = tonic::transport::Server::builder().add_service(AgentServiceServer::new(registrar));
    server.serve_with_incoming(incoming).await.expect("served");
}

#[tokio::test]
async fn registration_goes_over_the_agent_socket_with_the_token() {
    if !can_run() {
        return;
    }
    let plane = Plane::new();
    let registrar = Registrar::default();
    let container = Container::start(plane.dir(), &[]);
    let test = async {
        let mut session = plane.session().await;
        for (token, ok) in [("bad", false), ("good", true)] {
            let required = pb::RegisterRequired {
                token: token.to_owned(),
            };
            let answer = session.ask(Command::RegisterRequired(required)).await;
            let Body::RegisterDone(done) = answer else {
                panic!("{answer:?}")
            };
            assert_eq!(done.ok, ok, "{token}: {done:?}");
            assert!(ok || done.code == "PermissionDenied", "{done:?}");
        }
    };
    tokio::select! {
        () = serve_registration(&plane, registrar.clone()) => panic!("the registrar left"),
        () = test => {}
    }
    assert_eq!(*registrar.0.lock().expect("lock"), ["test"]);
    drop(container);
}

#[tokio::test]
async fn without_an_agent_socket_registration_says_so() {
    if !can_run() {
        return;
    }
    let plane = Plane::new();
    let _container = Container::start(plane.dir(), &[]);
    let mut session = plane.session().await;
    let required = pb::RegisterRequired { token: "x".to_owned() };
    let answer = session.ask(Command::RegisterRequired(required)).await;
    assert!(
        matches!(&answer, Body::RegisterDone(d) if !d.ok && d.code == "Unavailable"),
        "{answer:?}"
    );
}

#[tokio::test]
async fn another_authoritys_control_plane_fails_and_ours_is_served_after() {
    if !can_run() {
        return;
    }
    let mut plane = Plane::new();
    let _container = Container::start(plane.dir(), &[]);
    let stranger = Authority::ephemeral()
        .expect("authority")
        .control_plane_leaf()
        .expect("leaf");
    let ours = std::mem::replace(&mut plane.own, stranger);
    let refused = within(plane.connected()).await.err();
    assert!(refused.is_some(), "a stranger was served");
    plane.own = ours;
    assert_eq!(plane.session().await.ack.protocol, clawker_wire::PROTOCOL);
}

#[tokio::test]
async fn a_session_begins_with_hello() {
    if !can_run() {
        return;
    }
    let plane = Plane::new();
    let _container = Container::start(plane.dir(), &[]);
    let mut client = within(plane.connected()).await.expect("served");
    let early = pb::Command {
        id: 1,
        body: Some(Command::Lease(pb::Lease { seconds: 0 })),
    };
    let mut responses = client
        .session(tokio_stream::iter([early]))
        .await
        .expect("stream")
        .into_inner();
    let status = within(responses.message()).await.expect_err("refused");
    assert_eq!(status.code(), tonic::Code::FailedPrecondition);
    // The connection ends with it, and another is made.
    plane.session().await;
}
