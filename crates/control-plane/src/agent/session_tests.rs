//! What the other end of a session may make the control plane keep.

use tonic::transport::Endpoint;

use super::*;

/// A session whose other end is the test.
fn session() -> (Session, mpsc::Receiver<Command>) {
    let (commands, outgoing) = mpsc::channel(4);
    let channel = Endpoint::from_static("http://nobody").connect_lazy();
    let inner = Inner {
        commands,
        next_id: AtomicU64::new(1),
        state: Mutex::default(),
        client: SessionServiceClient::new(channel),
    };
    (Session { inner: Arc::new(inner) }, outgoing)
}

/// Says Hello and is answered with so many execs.
async fn greeted(execs: usize) -> (Session, Result<proto::HelloAck, SessionError>) {
    let (session, mut outgoing) = session();
    let ack = proto::HelloAck {
        execs: (0..execs)
            .map(|number| proto::ExecState {
                exec_id: format!("e/{number}"),
                ..proto::ExecState::default()
            })
            .collect(),
        ..proto::HelloAck::default()
    };
    let answer = async {
        let command = outgoing.recv().await.expect("a Hello");
        let waiting = session.inner.lock().waiting.remove(&command.id).expect("it waits");
        assert!(waiting.send(response::Body::HelloAck(ack)).is_ok(), "it waits no more");
    };
    let (heard, ()) = tokio::join!(session.hello(proto::Hello::default()), answer);
    (session.clone(), heard)
}

fn exited(id: &str) -> proto::Exited {
    proto::Exited {
        exec_id: id.to_owned(),
        code: 3,
        ..proto::Exited::default()
    }
}

#[tokio::test]
async fn more_execs_than_clawkerd_keeps_are_not_taken_from_a_hello() {
    let (session, heard) = greeted(MAX_EXECS).await;
    assert_eq!(heard.expect("so many may be").execs.len(), MAX_EXECS);
    assert_eq!(session.inner.lock().execs.len(), MAX_EXECS);

    let (session, heard) = greeted(MAX_EXECS + 1).await;
    assert!(
        matches!(heard, Err(SessionError::Confused { what: "Hello" })),
        "{heard:?}"
    );
    assert!(session.inner.lock().execs.is_empty());
}

#[tokio::test]
async fn an_exit_of_an_exec_that_nobody_asked_for_takes_no_room() {
    let (session, heard) = greeted(1).await;
    heard.expect("one exec");
    for number in 0..1000 {
        let made_up = exited(&format!("x/{number}"));
        session
            .inner
            .note(&made_up.exec_id.clone(), |exec| exec.exited = Some(made_up));
    }
    let known = exited("e/0");
    session.inner.note("e/0", |exec| exec.exited = Some(known));
    let state = session.inner.lock();
    assert_eq!(state.execs.len(), 1);
    assert_eq!(state.execs["e/0"].borrow().exited, Some(exited("e/0")));
}
