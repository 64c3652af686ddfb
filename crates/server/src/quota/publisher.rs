//! Brings the metadata's quotas into force, and finds the addresses of hosts that they name.
//!
//! A quota of a host applies from when its address is found, as of the last change of quotas; Java's first address is taken: of IPv4 if there
//! is one. Made by `node.rs`.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;

use hashbrown::HashMap;
use milena_metadata::{MetadataDelta, MetadataImage, MetadataPublisher};

use super::limits::Limits;
use crate::broker::Broker;

/// See the module.
pub(crate) struct QuotaPublisher {
    broker: Arc<Broker>,
}

impl QuotaPublisher {
    pub(crate) fn new(broker: Arc<Broker>) -> QuotaPublisher {
        QuotaPublisher { broker }
    }
}

impl MetadataPublisher for QuotaPublisher {
    fn on_metadata_update(&self, delta: &MetadataDelta, image: &Arc<MetadataImage>) {
        if !delta.quotas_changed {
            return;
        }
        self.broker.quotas.set(&image.quotas);
        let hosts = Limits::hosts(&image.quotas);
        if hosts.is_empty() {
            return;
        }
        let broker = Arc::clone(&self.broker);
        // asking for a name may take long
        tokio::task::spawn_blocking(move || {
            let found: HashMap<_, _> =
                hosts.into_iter().filter_map(|host| Some((address_of(&host)?, host)).map(|(a, h)| (h, a))).collect();
            *broker.quotas.hosts.lock() = found;
            // the newest ones, whichever search ends last
            broker.quotas.set(&broker.metadata.image().quotas);
        });
    }
}

fn address_of(host: &str) -> Option<IpAddr> {
    match (host, 0).to_socket_addrs() {
        Ok(found) => {
            let found: Vec<_> = found.map(|address: SocketAddr| address.ip().to_canonical()).collect();
            found.iter().copied().find(IpAddr::is_ipv4).or_else(|| found.first().copied())
        }
        Err(error) => {
            tracing::warn!(host, %error, "the quota of a host does not apply: it has no address");
            None
        }
    }
}
