//! The layers alone, with a gate that counts who gets to the registry.

use std::convert::Infallible;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use clawker_model::{ContainerId, FullName, Thumbprint};
use tonic::{Code, Status};
use tower::{ServiceBuilder, ServiceExt as _, service_fn};

use super::*;

const REGISTER: &str = "/clawker.agent.v1.AgentService/Register";
const WHO_AM_I: &str = "/clawker.agent.v1.AgentService/WhoAmI";

#[derive(Default)]
struct Door {
    row: Option<RegistryRow>,
    lookups: AtomicUsize,
    refusals: Mutex<Vec<String>>,
}

impl Gate for Door {
    async fn identify(&self) -> Result<RegistryRow, Status> {
        self.lookups.fetch_add(1, Ordering::Relaxed);
        self.row.clone().ok_or_else(refused)
    }

    async fn note_refusal(&self, _reason: UntrustedReason, detail: &str) {
        self.refusals.lock().expect("unpoisoned").push(detail.to_owned());
    }
}

fn row() -> RegistryRow {
    RegistryRow {
        container: ContainerId::parse(&"ab".repeat(32)).expect("id"),
        name: FullName::parse("clawker.demo.a").expect("name"),
        start: 1,
        generation: 1,
        key_hash: String::new(),
        thumbprint: Thumbprint::parse(&"cd".repeat(32)).expect("hex"),
        previous_thumbprint: None,
        registered_at_ms: 0,
    }
}

/// What becomes of a call: the gRPC code, and the name of the entry that reached the handler.
async fn call(door: &Arc<Door>, method: &str, token: Option<&str>) -> (Code, Option<Option<String>>) {
    let seen = Arc::new(Mutex::new(None));
    let handler = {
        let seen = seen.clone();
        service_fn(move |request: http::Request<Body>| {
            let entry = request
                .extensions()
                .get::<Entry>()
                .map(|entry| entry.0.name.to_string());
            *seen.lock().expect("unpoisoned") = Some(entry);
            async { Ok::<_, Infallible>(http::Response::new(Body::empty())) }
        })
    };
    let service = ServiceBuilder::new()
        .layer(CheckLayer::new(Scoped(door.clone())))
        .layer(CheckLayer::new(Identified(door.clone())))
        .service(handler);
    let mut request = http::Request::builder().uri(method);
    if let Some(token) = token {
        request = request.header("authorization", token);
    }
    let request = request.body(Body::empty()).expect("a request");
    let response = service.oneshot(request).await.expect("infallible");
    let code = Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code());
    let seen = seen.lock().expect("unpoisoned").clone();
    (code, seen)
}

#[tokio::test]
async fn a_refused_scope_never_reaches_the_registry() {
    let door = Arc::new(Door {
        row: Some(row()),
        ..Door::default()
    });
    for (method, token) in [
        (REGISTER, None),
        (WHO_AM_I, Some("Bearer whatever")),
        ("/clawker.agent.v1.AgentService/Unheard", None),
        ("/clawker.admin.v1.AdminService/ListAgents", None),
        ("/", Some("Bearer whatever")),
    ] {
        assert_eq!(
            call(&door, method, token).await,
            (Code::PermissionDenied, None),
            "{method}"
        );
    }
    assert_eq!(door.lookups.load(Ordering::Relaxed), 0);
    assert_eq!(
        door.refusals.lock().expect("unpoisoned").len(),
        5,
        "each is accounted for"
    );
}

#[tokio::test]
async fn the_row_of_a_registered_caller_goes_along_to_the_handler() {
    let door = Arc::new(Door {
        row: Some(row()),
        ..Door::default()
    });
    let seen = call(&door, WHO_AM_I, None).await;
    assert_eq!(seen, (Code::Ok, Some(Some("clawker.demo.a".to_owned()))));
}

#[tokio::test]
async fn an_unregistered_caller_is_refused_with_the_same_words() {
    let door = Arc::new(Door::default());
    assert_eq!(call(&door, WHO_AM_I, None).await, (Code::PermissionDenied, None));
    assert_eq!(refused().message(), "refused");
}

#[tokio::test]
async fn register_is_exempt_from_the_identity_layer_and_gets_no_entry() {
    let door = Arc::new(Door::default());
    assert_eq!(
        call(&door, REGISTER, Some("Bearer token")).await,
        (Code::Ok, Some(None))
    );
    assert_eq!(door.lookups.load(Ordering::Relaxed), 0);
}
