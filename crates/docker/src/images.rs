//! Images: what one says of its command, and pulling one.

use bollard::models::{HealthConfig, ImageInspect};
use bollard::query_parameters::CreateImageOptions;
use clawker_model::agent::HealthSpec;
use futures::{Stream, StreamExt as _};

use crate::hostconfig::shown;
use crate::{Docker, Error};

/// An image's defaults for its containers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    /// `sha256:…`
    pub id: String,
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    pub env: Vec<String>,
    pub user: String,
    pub workdir: String,
    pub stop_signal: Option<String>,
    pub health: Option<HealthSpec>,
    pub architecture: String,
    pub os: String,
}

impl Docker {
    /// `None` when the engine doesn't have it.
    pub async fn image(&self, reference: &str) -> Result<Option<Image>, Error> {
        check_reference(reference)?;
        let call = format!("inspect image {reference}");
        let answer = self
            .query(&call, async |docker| docker.inspect_image(reference).await)
            .await;
        match answer {
            Ok(answer) => Ok(Some(Image::read(answer))),
            Err(Error::Engine { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Pulls an image: lines for people, then the end, or an error as the last item.
    pub fn pull(&self, reference: &str) -> impl Stream<Item = Result<String, Error>> + Send + use<> {
        let docker = self.clone();
        let reference = reference.to_owned();
        futures::stream::once(async move {
            check_reference(&reference)?;
            let (name, tag) = split_tag(&reference);
            let options = CreateImageOptions {
                from_image: Some(name),
                tag: Some(tag),
                ..Default::default()
            };
            let stream = docker.negotiated().await?.create_image(Some(options), None, None);
            Ok::<_, Error>(lines(docker.clone(), reference, stream))
        })
        .flat_map(|started| match started {
            Ok(lines) => lines.boxed(),
            Err(error) => futures::stream::iter([Err(error)]).boxed(),
        })
    }
}

fn lines<S>(docker: Docker, image: String, stream: S) -> impl Stream<Item = Result<String, Error>> + Send
where
    S: Stream<Item = Result<bollard::models::CreateImageInfo, bollard::errors::Error>> + Send + 'static,
{
    let silence = docker.limits().pull_silence;
    futures::stream::unfold(Some(Box::pin(stream)), move |stream| {
        let (docker, image) = (docker.clone(), image.clone());
        async move {
            let mut stream = stream?;
            let failed = |message: String| Error::PullFailed {
                image: image.clone(),
                message,
            };
            match tokio::time::timeout(silence, stream.next()).await {
                Err(_) => Some((Err(failed(format!("nothing for {} s", silence.as_secs()))), None)),
                Ok(None) => None,
                Ok(Some(Ok(info))) => {
                    let id = info.id.map(|id| format!("{id}: ")).unwrap_or_default();
                    Some((Ok(format!("{id}{}", info.status.unwrap_or_default())), Some(stream)))
                }
                Ok(Some(Err(error))) => Some(match docker.error(&format!("pull {image}"), error) {
                    Error::Engine { message, .. } | Error::Conflict { message, .. } => (Err(failed(message)), None),
                    other => (Err(other), None),
                }),
            }
        }
    })
}

/// Only what a reference may hold gets into a request's path.
fn check_reference(reference: &str) -> Result<(), Error> {
    let refuse = |why| {
        Err(Error::BadImage {
            image: shown(reference),
            why,
        })
    };
    if reference.is_empty() {
        return refuse("it is empty");
    }
    if reference.len() > 512 {
        return refuse("longer than 512 characters");
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/' | b':' | b'@');
    if !reference.bytes().all(allowed) {
        return refuse("it may hold letters, digits and `._-/:@`");
    }
    if reference
        .split('/')
        .any(|part| part.is_empty() || part.bytes().all(|b| b == b'.'))
    {
        return refuse("a part between slashes is empty or only dots");
    }
    Ok(())
}

/// Name and tag (or digest) of a reference; without a tag it is `latest`, not every tag there is.
fn split_tag(reference: &str) -> (String, String) {
    if let Some((name, digest)) = reference.split_once('@') {
        return (name.to_owned(), digest.to_owned());
    }
    match reference.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name.to_owned(), tag.to_owned()),
        _ => (reference.to_owned(), "latest".to_owned()),
    }
}

impl Image {
    pub(crate) fn read(answer: ImageInspect) -> Self {
        let config = answer.config.unwrap_or_default();
        Self {
            id: answer.id.unwrap_or_default(),
            entrypoint: config.entrypoint.unwrap_or_default(),
            cmd: config.cmd.unwrap_or_default(),
            env: config.env.unwrap_or_default(),
            user: config.user.unwrap_or_default(),
            workdir: config.working_dir.unwrap_or_default(),
            stop_signal: config.stop_signal.filter(|signal| !signal.is_empty()),
            health: config.healthcheck.and_then(|health| health_check(health, config.shell)),
            architecture: answer.architecture.unwrap_or_default(),
            os: answer.os.unwrap_or_default(),
        }
    }
}

/// Docker's health check as an argv, with Docker's defaults (30 s, 30 s, no start period, 3) for what is 0.
fn health_check(health: HealthConfig, shell: Option<Vec<String>>) -> Option<HealthSpec> {
    let test = health.test.unwrap_or_default();
    let (kind, rest) = test.split_first()?;
    let argv = match kind.as_str() {
        "CMD" => rest.to_vec(),
        "CMD-SHELL" => {
            let shell = shell.filter(|shell| !shell.is_empty());
            let mut argv = shell.unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into()]);
            argv.push(rest.join(" "));
            argv
        }
        _ => return None,
    };
    if argv.is_empty() {
        return None;
    }
    let ms = |nanos: Option<i64>, default: u64| match nanos {
        Some(nanos) if nanos > 0 => (nanos as u64 / 1_000_000).max(1),
        _ => default,
    };
    Some(HealthSpec {
        argv,
        interval_ms: ms(health.interval, 30_000),
        timeout_ms: ms(health.timeout, 30_000),
        start_period_ms: ms(health.start_period, 0),
        retries: health
            .retries
            .and_then(|n| u32::try_from(n).ok())
            .filter(|n| *n > 0)
            .unwrap_or(3),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_can_only_name_an_image() {
        for good in ["busybox", "a.b:5000/c/d_e:1.0-x", "x@sha256:00ff", "sha256:00ff"] {
            assert!(check_reference(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "../containers/json",
            "a/../b",
            "a//b",
            "a?x=1",
            "a b",
            "a%2e",
            "ä",
            "/a",
            &"x".repeat(513),
        ] {
            assert!(check_reference(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn a_tag_is_what_follows_the_last_colon_unless_it_is_a_port() {
        for (reference, name, tag) in [
            ("a", "a", "latest"),
            ("a:1", "a", "1"),
            ("h:5000/a", "h:5000/a", "latest"),
            ("h:5000/a:2", "h:5000/a", "2"),
            ("a@sha256:ff", "a", "sha256:ff"),
        ] {
            assert_eq!(split_tag(reference), (name.to_owned(), tag.to_owned()), "{reference}");
        }
    }

    #[test]
    fn health_checks_come_with_dockers_defaults() {
        let read = |json: &str| Image::read(serde_json::from_str(json).expect("json")).health;
        assert_eq!(read("{}"), None);
        assert_eq!(read(r#"{"Config":{"Healthcheck":{"Test":["NONE"]}}}"#), None);
        assert_eq!(read(r#"{"Config":{"Healthcheck":{"Test":["CMD"]}}}"#), None);
        let shell =
            read(r#"{"Config":{"Healthcheck":{"Test":["CMD-SHELL","curl x"],"Interval":5000000000,"Retries":2}}}"#)
                .expect("a check");
        assert_eq!(shell.argv, ["/bin/sh", "-c", "curl x"]);
        assert_eq!((shell.interval_ms, shell.timeout_ms, shell.retries), (5_000, 30_000, 2));
        let own =
            read(r#"{"Config":{"Shell":["/bin/ash","-ec"],"Healthcheck":{"Test":["CMD-SHELL","x"],"Timeout":-1}}}"#)
                .expect("a check");
        assert_eq!(
            (own.argv.join(" ").as_str(), own.timeout_ms),
            ("/bin/ash -ec x", 30_000)
        );
    }
}
