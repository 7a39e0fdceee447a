//! A component that a web server has, with its signature beside it.

use crate::file::aside;
use crate::http::{Get, Http};
use crate::options::{expect_digest, fetched};
use crate::reference::UrlReference;
use crate::{COMPONENT_TYPE, Fetched, MAX_COMPONENT, MAX_SIGNATURE, Options, SourceError};

pub(crate) async fn fetch(reference: &UrlReference, options: &Options) -> Result<Fetched, SourceError> {
    let (asked, to) = (options.clone(), reference.url.clone());
    let roots = options.extra_roots.clone().unwrap_or_default();
    let http = aside(roots, move |_| Http::new(&asked, &to)).await?;
    let what = reference.url.to_string();
    let get = |url, what, accept| {
        let authorization = None;
        http.get(Get {
            url,
            what,
            accept,
            authorization,
        })
    };
    let answer = get(reference.url.clone(), &what, COMPONENT_TYPE).await?.ok()?;
    let component = answer.body(MAX_COMPONENT).await?;
    if let Some(wanted) = &reference.sha256 {
        expect_digest(&what, &component, wanted)?;
    }
    let mut beside = reference.url.clone();
    beside.set_path(&format!("{}.sig", reference.url.path()));
    let what_beside = beside.to_string();
    let answer = get(beside, &what_beside, "application/json").await?.ok();
    let signature = match answer {
        Ok(answer) => Some(answer.body(MAX_SIGNATURE).await?),
        Err(error) if error.is_absent() => None,
        Err(error) => return Err(error),
    };
    fetched(&what, component, signature, |digest| {
        let sha256 = Some(digest.clone());
        UrlReference {
            url: reference.url.clone(),
            sha256,
        }
        .to_string()
    })
}
