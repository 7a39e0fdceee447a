//! An artifact of an OCI registry: the part of the distribution specification that pulls.
//!
//! Done here and not by a client of the whole specification, because those read a manifest of any length and follow
//! redirects to anywhere.
//!
//! ```text
//! GET /v2/<repository>/manifests/<tag|digest> ──401──► token of the realm, or user and password ──► once more
//! manifest ──► artifact ──► GET /v2/<repository>/blobs/<digest> of the component, of the signature
//! ```

use clawker_model::PluginDigest;
use reqwest::header::HeaderValue;
use reqwest::{StatusCode, Url};

use crate::answers::{self, Blob, Challenge, INDEX_TYPE, MANIFEST_TYPE};
use crate::credentials::Credentials;
use crate::file::aside;
use crate::http::{Answer, Get, Http, is_downgrade, is_loopback};
use crate::layout::artifact;
use crate::options::{digest_of, expect_digest, fetched};
use crate::reference::OciReference;
use crate::{Fetched, MAX_MANIFEST, Options, SourceError};

/// Bytes of a token server's answer.
const MAX_TOKEN_ANSWER: u64 = 64 << 10;

pub(crate) async fn fetch(reference: &OciReference, options: &Options) -> Result<Fetched, SourceError> {
    let mut registry = Registry::new(reference, options).await?;
    let what = reference.to_string();
    let accept = format!("{MANIFEST_TYPE}, {INDEX_TYPE}");
    let manifest = registry
        .get(&format!("manifests/{}", reference.wanted()), &what, &accept)
        .await?;
    let said: Vec<String> = manifest.headers("docker-content-digest").map(str::to_owned).collect();
    let manifest = manifest.body(MAX_MANIFEST).await?;
    if let Some(wanted) = &reference.digest {
        expect_digest(&what, &manifest, wanted)?;
    }
    // A registry that says another digest than its answer has is broken, or somebody is between.
    for wanted in said.iter().filter_map(|said| answers::sha256(said)) {
        expect_digest(&what, &manifest, &wanted)?;
    }
    let artifact = artifact(&what, &manifest)?;
    let component = registry.blob(&artifact.component, "the component of", &what).await?;
    let signature = match &artifact.signature {
        Some(blob) => Some(registry.blob(blob, "the signature of", &what).await?),
        None => None,
    };
    let pinned = OciReference {
        digest: Some(digest_of(&manifest)),
        ..reference.clone()
    };
    fetched(&what, component, signature, |_: &PluginDigest| pinned.to_string())
}

struct Registry {
    http: Http,
    /// `https://host/v2/<repository>/`
    base: Url,
    repository: String,
    credentials: Option<Credentials>,
    /// What it was content with.
    authorization: Option<HeaderValue>,
}

impl Registry {
    async fn new(reference: &OciReference, options: &Options) -> Result<Self, SourceError> {
        let url = |scheme: &str| {
            let text = format!("{scheme}://{}/v2/{}/", reference.registry, reference.repository);
            Url::parse(&text).map_err(|error| SourceError::malformed(&text, error))
        };
        let secure = url("https")?;
        let base = if is_loopback(&secure) { url("http")? } else { secure };
        let (registry, options) = (reference.registry.clone(), options.clone());
        let about = options.registry_auth.clone().unwrap_or_default();
        let to = base.clone();
        let (credentials, http) = aside(about, move |_| {
            Ok((Credentials::of(&registry, &options)?, Http::new(&options, &to)?))
        })
        .await?;
        Ok(Self {
            http,
            base,
            repository: reference.repository.clone(),
            credentials,
            authorization: None,
        })
    }

    /// Asks, and where it is denied asks once more as somebody.
    async fn get(&mut self, path: &str, what: &str, accept: &str) -> Result<Answer, SourceError> {
        let url = self
            .base
            .join(path)
            .map_err(|error| SourceError::malformed(what, error))?;
        let get = |authorization| Get {
            url: url.clone(),
            what,
            accept,
            authorization,
        };
        let answer = self.http.get(get(self.authorization.clone())).await?;
        if answer.status() != StatusCode::UNAUTHORIZED || self.authorization.is_some() {
            return answer.ok();
        }
        let challenge = answer.headers("www-authenticate").find_map(Challenge::parse);
        match self.authorize(challenge, what).await? {
            Some(authorization) => self.authorization = Some(authorization),
            None => return answer.ok(),
        }
        self.http.get(get(self.authorization.clone())).await?.ok()
    }

    async fn authorize(&self, challenge: Option<Challenge>, what: &str) -> Result<Option<HeaderValue>, SourceError> {
        let (realm, service) = match challenge {
            None => return Ok(None),
            Some(Challenge::Basic) => return self.basic(what),
            Some(Challenge::Bearer { realm, service }) => (realm, service),
        };
        let unfit = |problem: &str| SourceError::malformed(what, format!("its registry's token realm {problem}"));
        let mut realm = Url::parse(&realm).map_err(|_| unfit("is no URL"))?;
        // Our credentials go there.
        if is_downgrade(&self.base, &realm) {
            return Err(SourceError::Downgrade {
                what: what.to_owned(),
                to: format!("{}://{}", realm.scheme(), realm.host_str().unwrap_or_default()),
            });
        }
        if !realm.username().is_empty() || realm.password().is_some() {
            return Err(unfit("has credentials in it"));
        }
        {
            let mut query = realm.query_pairs_mut();
            if let Some(service) = &service {
                query.append_pair("service", service);
            }
            // Not the challenge's scope: a token for anything else is none of the registry's business.
            query.append_pair("scope", &format!("repository:{}:pull", self.repository));
        }
        let what = format!("a token for {what}");
        let answer = self
            .http
            .get(Get {
                url: realm,
                what: &what,
                accept: "application/json",
                authorization: self.basic(&what)?,
            })
            .await?;
        let json = answer.ok()?.body(MAX_TOKEN_ANSWER).await?;
        let token = answers::token(&json).map_err(|problem| SourceError::malformed(&what, problem))?;
        secret(&format!("Bearer {token}"), &what).map(Some)
    }

    fn basic(&self, what: &str) -> Result<Option<HeaderValue>, SourceError> {
        let credentials = self.credentials.as_ref().map(Credentials::basic);
        credentials.map(|basic| secret(&basic, what)).transpose()
    }

    async fn blob(&mut self, blob: &Blob, layer: &str, of: &str) -> Result<Vec<u8>, SourceError> {
        let what = format!("{layer} {of}");
        let path = format!("blobs/sha256:{}", blob.digest);
        let bytes = self.get(&path, &what, "*/*").await?.body(blob.size).await?;
        expect_digest(&what, &bytes, &blob.digest)?;
        Ok(bytes)
    }
}

/// A header that no log shows.
fn secret(value: &str, what: &str) -> Result<HeaderValue, SourceError> {
    let mut header = HeaderValue::from_str(value)
        .map_err(|_| SourceError::malformed(what, "the credentials aren't ones that a header can carry"))?;
    header.set_sensitive(true);
    Ok(header)
}
