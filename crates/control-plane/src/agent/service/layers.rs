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
use tonic::body::Body;
use tonic::codegen::http;
use tower::{Layer, Service};

use super::policy;
use super::refused;

type Answer = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

/// Who stands behind the layers: knows the connection's peer and the registry.
pub trait Gate: Send + Sync + 'static {
    /// The registry row of the leaf that was shown.
    fn identify(&self) -> impl Future<Output = Result<RegistryRow, tonic::Status>> + Send;
    /// Journals why a call is refused.
    fn note_refusal(&self, reason: UntrustedReason, detail: &str) -> impl Future<Output = ()> + Send;
}

/// The caller's registry row, as the identity layer found it.
#[derive(Debug, Clone)]
pub struct Entry(pub RegistryRow);

/// Lets through what the caller's token or leaf has the scope for.
pub struct ScopeLayer<G>(pub Arc<G>);

pub struct Scoped<S, G> {
    inner: S,
    gate: Arc<G>,
}

impl<G> Clone for ScopeLayer<G> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: Clone, G> Clone for Scoped<S, G> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            gate: self.gate.clone(),
        }
    }
}

impl<S, G> Layer<S> for ScopeLayer<G> {
    type Service = Scoped<S, G>;
    fn layer(&self, inner: S) -> Scoped<S, G> {
        Scoped {
            inner,
            gate: self.0.clone(),
        }
    }
}

impl<S, G: Gate> Service<http::Request<Body>> for Scoped<S, G>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Answer {
        let has_token = request.headers().contains_key(http::header::AUTHORIZATION);
        let scopes = if has_token {
            policy::TOKEN_SCOPES
        } else {
            policy::LEAF_SCOPES
        };
        if policy::scope(request.uri().path()).is_some_and(|needed| scopes.contains(&needed)) {
            return Box::pin(self.inner.call(request));
        }
        let gate = self.gate.clone();
        let method: String = request.uri().path().chars().take(100).collect();
        Box::pin(async move {
            let detail = format!("{method} isn't in the scope of the call");
            gate.note_refusal(UntrustedReason::RegisterFailed, &detail).await;
            Ok(refused().into_http())
        })
    }
}

/// Lets through whose leaf is in the registry, for this container; its row goes along as an [`Entry`].
pub struct IdentityLayer<G>(pub Arc<G>);

pub struct Identified<S, G> {
    inner: S,
    gate: Arc<G>,
}

impl<G> Clone for IdentityLayer<G> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: Clone, G> Clone for Identified<S, G> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            gate: self.gate.clone(),
        }
    }
}

impl<S, G> Layer<S> for IdentityLayer<G> {
    type Service = Identified<S, G>;
    fn layer(&self, inner: S) -> Identified<S, G> {
        Identified {
            inner,
            gate: self.0.clone(),
        }
    }
}

impl<S, G: Gate> Service<http::Request<Body>> for Identified<S, G>
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

    fn call(&mut self, mut request: http::Request<Body>) -> Answer {
        if !policy::needs_identity(request.uri().path()) {
            return Box::pin(self.inner.call(request));
        }
        let gate = self.gate.clone();
        // The one that was asked whether it is ready is the one that is called.
        let fresh = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, fresh);
        Box::pin(async move {
            match gate.identify().await {
                Ok(row) => {
                    request.extensions_mut().insert(Entry(row));
                    inner.call(request).await
                }
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}

#[cfg(test)]
mod tests;
