//! The layers around AgentService's handler, outermost first: scope, then identity.
//!
//! ```text
//!  call ─▶ scope: is the method known, and does token or leaf have its scope? ─▶ identity: is the leaf believed, and is
//!          its row this container's? (not for the methods that are exempt) ─▶ the row goes along ─▶ handler
//! ```
//! A refused scope never reaches the registry. Every refusal is `PermissionDenied` with one text, so that nobody learns
//! which check failed; the reason is in the journal.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use clawker_model::event::{RegistryRow, UntrustedReason};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http;
use tower::{Layer, Service};

use super::policy;
use super::refused;

type Answer = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

/// Who stands behind the layers: knows the connection's peer and the registry.
pub trait Gate: Send + Sync + 'static {
    /// The registry row of the leaf that was shown.
    fn identify(&self) -> impl Future<Output = Result<RegistryRow, Status>> + Send;
    /// Journals why a call is refused.
    fn note_refusal(&self, reason: UntrustedReason, detail: &str) -> impl Future<Output = ()> + Send;
}

/// The caller's registry row, as the identity layer found it.
#[derive(Debug, Clone)]
pub struct Entry(pub RegistryRow);

/// What a layer asks of a call before it goes on, as it came or with more to it.
pub trait Check: Send + Sync + 'static {
    fn check(&self, call: http::Request<Body>) -> impl Future<Output = Result<http::Request<Body>, Status>> + Send;
}

/// Lets through what the caller's token or leaf has the scope for.
pub struct Scoped<G>(pub Arc<G>);

impl<G: Gate> Check for Scoped<G> {
    async fn check(&self, call: http::Request<Body>) -> Result<http::Request<Body>, Status> {
        let has_token = call.headers().contains_key(http::header::AUTHORIZATION);
        let scopes = if has_token {
            policy::TOKEN_SCOPES
        } else {
            policy::LEAF_SCOPES
        };
        if policy::scope(call.uri().path()).is_some_and(|needed| scopes.contains(&needed)) {
            return Ok(call);
        }
        let method: String = call.uri().path().chars().take(100).collect();
        let detail = format!("{method} isn't in the scope of the call");
        self.0.note_refusal(UntrustedReason::RegisterFailed, &detail).await;
        Err(refused())
    }
}

/// Lets through whose leaf is in the registry, for this container; its row goes along as an [`Entry`].
pub struct Identified<G>(pub Arc<G>);

impl<G: Gate> Check for Identified<G> {
    async fn check(&self, mut call: http::Request<Body>) -> Result<http::Request<Body>, Status> {
        if policy::needs_identity(call.uri().path()) {
            let row = self.0.identify().await?;
            call.extensions_mut().insert(Entry(row));
        }
        Ok(call)
    }
}

/// A check as a layer.
pub struct CheckLayer<C>(Arc<C>);

impl<C> CheckLayer<C> {
    pub fn new(check: C) -> Self {
        Self(Arc::new(check))
    }
}

impl<C> Clone for CheckLayer<C> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S, C> Layer<S> for CheckLayer<C> {
    type Service = Checked<S, C>;
    fn layer(&self, inner: S) -> Checked<S, C> {
        Checked {
            inner,
            check: self.0.clone(),
        }
    }
}

/// A service behind a check.
pub struct Checked<S, C> {
    inner: S,
    check: Arc<C>,
}

impl<S: Clone, C> Clone for Checked<S, C> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            check: self.check.clone(),
        }
    }
}

impl<S, C: Check> Service<http::Request<Body>> for Checked<S, C>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: http::Request<Body>) -> Answer {
        let check = self.check.clone();
        // The one that was asked whether it is ready is the one that is called.
        let fresh = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, fresh);
        Box::pin(async move {
            match check.check(call).await {
                Ok(call) => inner.call(call).await,
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}

#[cfg(test)]
mod tests;
