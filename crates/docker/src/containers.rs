//! A container's life: create, start, kill, remove, and the size of its terminal.

use bollard::models::{ContainerCreateBody, Mount, MountType};
use bollard::query_parameters::{
    CreateContainerOptions, KillContainerOptions, RemoveContainerOptions, ResizeContainerTTYOptions,
};
use clawker_model::ContainerId;

use crate::hostconfig::{self, CreateContainer, SpecError};
use crate::{Docker, Error, mounts};

impl Docker {
    /// Makes the container, stopped. Refused options make nothing.
    pub async fn create(&self, spec: &CreateContainer) -> Result<ContainerId, Error> {
        let call = format!("create container {}", spec.name);
        let body = self.body(spec).await?;
        let options = CreateContainerOptions {
            name: Some(spec.name.to_string()),
            ..Default::default()
        };
        let made = self
            .change(&call, async move |docker| {
                docker.create_container(Some(options), body).await
            })
            .await
            .map_err(|error| match error {
                Error::Conflict { .. } => Error::NameInUse {
                    name: spec.name.to_string(),
                },
                Error::Engine {
                    status: 404, message, ..
                } if message.to_ascii_lowercase().contains("image") => Error::NoSuchImage {
                    image: spec.image_id.clone(),
                },
                other => other,
            })?;
        let id = ContainerId::parse(&made.id).map_err(|error| Error::Malformed {
            call,
            message: error.to_string(),
        })?;
        // Only now can Docker say where the image's links lead.
        let placed = async {
            match self.inspect(&id).await? {
                Some(inspect) => self.check_places(&inspect).await,
                None => Err(no_such(&id)),
            }
        };
        if let Err(error) = placed.await {
            self.remove(&id, true).await?;
            return Err(error);
        }
        Ok(id)
    }

    /// What create sends, or why the options are refused.
    pub(crate) async fn body(&self, spec: &CreateContainer) -> Result<ContainerCreateBody, Error> {
        let (owned, endpoint) = (spec.clone(), self.endpoint().clone());
        let binds = tokio::task::spawn_blocking(move || mounts::check(&owned, endpoint.socket()))
            .await
            .map_err(|error| Error::Transport {
                call: format!("check the mounts of {}", spec.name),
                message: error.to_string(),
            })??;
        for bind in &binds {
            self.refuse_dressed_volume(bind).await?;
        }
        Ok(hostconfig::body(spec, binds)?)
    }

    /// Starts it; one that runs already is fine. Refused if what it left behind would put a mount over ours.
    pub async fn start(&self, id: &ContainerId) -> Result<(), Error> {
        let inspect = self.inspect(id).await?.ok_or_else(|| no_such(id))?;
        if inspect.running {
            return Ok(());
        }
        self.check_places(&inspect).await?;
        let call = format!("start container {}", id.short());
        self.change(&call, async |docker| docker.start_container(id.as_str(), None).await)
            .await
            .map_err(|error| match error {
                Error::Engine {
                    status: 404, message, ..
                } if message.contains("No such container") => no_such(id),
                Error::Engine { message, .. } | Error::Conflict { message, .. } => Error::NotStarted {
                    id: id.short().to_owned(),
                    message,
                },
                other => other,
            })
    }

    /// Sends a signal (`SIGTERM`, `9`, …) to its init.
    pub async fn kill(&self, id: &ContainerId, signal: &str) -> Result<(), Error> {
        let call = format!("send {signal} to container {}", id.short());
        let options = KillContainerOptions {
            signal: signal.to_owned(),
        };
        self.change(&call, async move |docker| {
            docker.kill_container(id.as_str(), Some(options)).await
        })
        .await
        .map_err(|error| match error {
            Error::Engine { status: 404, .. } => no_such(id),
            // Engines before 25 answer 500 where newer ones say 409.
            Error::Conflict { message, .. } | Error::Engine { message, .. } if message.contains("is not running") => {
                Error::NotRunning {
                    id: id.short().to_owned(),
                }
            }
            other => other,
        })
    }

    /// Freezes all of it, its init too; one that is paused already is fine.
    pub async fn pause(&self, id: &ContainerId) -> Result<(), Error> {
        let call = format!("pause container {}", id.short());
        let paused = self
            .change(&call, async |docker| docker.pause_container(id.as_str()).await)
            .await;
        thawed_or_frozen(paused, id, "already paused")
    }

    /// Thaws it; one that isn't paused is fine.
    pub async fn unpause(&self, id: &ContainerId) -> Result<(), Error> {
        let call = format!("unpause container {}", id.short());
        let unpaused = self
            .change(&call, async |docker| docker.unpause_container(id.as_str()).await)
            .await;
        thawed_or_frozen(unpaused, id, "is not paused")
    }

    /// Removes it with its anonymous volumes; one that is gone, or going, is fine.
    pub async fn remove(&self, id: &ContainerId, force: bool) -> Result<(), Error> {
        let call = format!("remove container {}", id.short());
        let options = RemoveContainerOptions {
            v: true,
            force,
            link: false,
        };
        let removed = self
            .change(&call, async move |docker| {
                docker.remove_container(id.as_str(), Some(options)).await
            })
            .await;
        match removed {
            Err(Error::Engine { status: 404, .. }) => Ok(()),
            Err(Error::Conflict { message, .. }) if message.contains("already in progress") => Ok(()),
            other => other,
        }
    }

    pub async fn resize_tty(&self, id: &ContainerId, rows: u16, cols: u16) -> Result<(), Error> {
        let call = format!("resize the terminal of container {}", id.short());
        let options = ResizeContainerTTYOptions {
            h: i32::from(rows),
            w: i32::from(cols),
        };
        self.change(&call, async move |docker| {
            docker.resize_container_tty(id.as_str(), options).await
        })
        .await
        .map_err(|error| match error {
            Error::Engine { status: 404, .. } => no_such(id),
            other => other,
        })
    }

    /// A volume made with options (`o=bind,device=/`) is a bind by another name.
    async fn refuse_dressed_volume(&self, mount: &Mount) -> Result<(), Error> {
        let (Some(MountType::VOLUME), Some(name)) = (&mount.typ, &mount.source) else {
            return Ok(());
        };
        let call = format!("inspect volume {name}");
        match self
            .query(&call, async |docker| docker.inspect_volume(name).await)
            .await
        {
            Ok(volume) if volume.driver == "local" && volume.options.is_empty() => Ok(()),
            Ok(_) => Err(SpecError::Volume { volume: name.clone() }.into()),
            // Docker makes it, plain.
            Err(Error::Engine { status: 404, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// What pause or unpause came to; `fine` is how Docker says that there was nothing to do.
fn thawed_or_frozen(result: Result<(), Error>, id: &ContainerId, fine: &str) -> Result<(), Error> {
    match result {
        Err(Error::Engine { status: 404, .. }) => Err(no_such(id)),
        Err(Error::Conflict { message, .. } | Error::Engine { message, .. }) if message.contains(fine) => Ok(()),
        Err(Error::Conflict { message, .. } | Error::Engine { message, .. }) if message.contains("is not running") => {
            Err(Error::NotRunning {
                id: id.short().to_owned(),
            })
        }
        other => other,
    }
}

fn no_such(id: &ContainerId) -> Error {
    Error::NoSuchContainer {
        id: id.short().to_owned(),
    }
}
