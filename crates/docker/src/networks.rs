//! The control plane's own bridge.

use std::collections::HashMap;

use bollard::models::{Network, NetworkConnectRequest, NetworkCreateRequest, NetworkDisconnectRequest};
use bollard::query_parameters::ListNetworksOptions;

use clawker_model::ContainerId;

use crate::hostconfig::shown;
use crate::mounts::is_docker_name;
use crate::{Docker, Error, SpecError};

impl Docker {
    /// Makes the network if there is none of that name. `label` is `key` or `key=value`.
    pub async fn ensure_network(&self, name: &str, label: &str) -> Result<(), Error> {
        if self.network_exists(name).await? {
            return Ok(());
        }
        let call = format!("create network {name}");
        let (key, value) = label.split_once('=').unwrap_or((label, ""));
        let request = NetworkCreateRequest {
            name: name.to_owned(),
            driver: Some("bridge".into()),
            labels: Some(HashMap::from([(key.to_owned(), value.to_owned())])),
            ..Default::default()
        };
        let made = match self
            .change(&call, async move |docker| docker.create_network(request).await)
            .await
        {
            Ok(made) => made.id,
            Err(Error::Conflict { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        // Engines before 25 make a second network of the same name when two ask at once, and then refuse both
        // as ambiguous. The smallest id stays.
        let mut ids: Vec<String> = self
            .named(name)
            .await?
            .into_iter()
            .filter_map(|network| network.id)
            .collect();
        ids.sort();
        if ids.len() > 1 && ids.first() != Some(&made) {
            let call = format!("remove network {made}");
            self.change(&call, async |docker| docker.remove_network(&made).await)
                .await?;
        }
        Ok(())
    }

    pub async fn network_exists(&self, name: &str) -> Result<bool, Error> {
        Ok(!self.named(name).await?.is_empty())
    }

    /// Puts a container into a network; one that is in it is fine.
    pub async fn connect_network(&self, network: &str, id: &ContainerId) -> Result<(), Error> {
        let call = format!("connect container {} to network {network}", id.short());
        let request = NetworkConnectRequest {
            container: id.to_string(),
            endpoint_config: None,
        };
        let connected = self
            .change(&call, async move |docker| {
                docker.connect_network(network, request).await
            })
            .await;
        match connected {
            Err(Error::Engine { message, .. } | Error::Conflict { message, .. })
                if message.contains("already exists in network") =>
            {
                Ok(())
            }
            other => other,
        }
    }

    /// Takes a container out of a network; one that isn't in it is fine.
    pub async fn disconnect_network(&self, network: &str, id: &ContainerId) -> Result<(), Error> {
        let call = format!("disconnect container {} from network {network}", id.short());
        let request = NetworkDisconnectRequest {
            container: id.to_string(),
            force: Some(false),
        };
        let disconnected = self
            .change(&call, async move |docker| {
                docker.disconnect_network(network, request).await
            })
            .await;
        match disconnected {
            Err(Error::Engine { message, .. } | Error::Conflict { message, .. })
                if message.contains("is not connected to") =>
            {
                Ok(())
            }
            other => other,
        }
    }

    async fn named(&self, name: &str) -> Result<Vec<Network>, Error> {
        if !is_docker_name(name) {
            return Err(Error::Spec(SpecError::Network {
                network: shown(name),
                why: "not a network's name",
            }));
        }
        let call = format!("list networks named {name}");
        let options = ListNetworksOptions {
            filters: Some(HashMap::from([("name".to_owned(), vec![name.to_owned()])])),
        };
        // Docker's filter matches parts of names.
        let mut networks = self
            .query(&call, async move |docker| docker.list_networks(Some(options)).await)
            .await?;
        networks.retain(|network| network.name.as_deref() == Some(name));
        Ok(networks)
    }
}
