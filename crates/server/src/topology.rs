//! The cluster as clients of one listener see it: who is up, where, and who leads.
//!
//! A view over one image; keeps nothing. Called by the handlers that answer with brokers and partitions.

use milena_metadata::MetadataImage;
use milena_metadata::image::{BrokerRegistration, Endpoint, PartitionImage};
use milena_protocol::ErrorCode;

/// See the module.
pub(crate) struct Topology<'a> {
    image: &'a MetadataImage,
    listener: &'a str,
}

impl<'a> Topology<'a> {
    pub(crate) fn new(image: &'a MetadataImage, listener: &'a str) -> Topology<'a> {
        Topology { image, listener }
    }

    /// The brokers that are up and have this listener, by id.
    pub(crate) fn brokers(&self) -> impl Iterator<Item = (&'a BrokerRegistration, &'a Endpoint)> {
        self.registered().filter(|(broker, _)| !broker.fenced)
    }

    /// The brokers that have this listener, up or not, by id.
    pub(crate) fn registered(&self) -> impl Iterator<Item = (&'a BrokerRegistration, &'a Endpoint)> {
        let listener = self.listener;
        let brokers = self.image.cluster.brokers.values();
        brokers.filter_map(move |broker| Some((&**broker, broker.endpoint(listener)?)))
    }

    /// Where a registered broker is reached by this listener.
    pub(crate) fn endpoint(&self, id: i32) -> Option<&'a Endpoint> {
        self.image.cluster.broker(id)?.endpoint(self.listener)
    }

    /// A broker that is up; -1 if none is. Clients send it what is for the controller, and it sees to it.
    pub(crate) fn some_broker(&self) -> i32 {
        self.image.cluster.unfenced_brokers().next().map_or(-1, |broker| broker.id)
    }

    /// The leader of a partition.
    ///
    /// # Errors
    /// LEADER_NOT_AVAILABLE; LISTENER_NOT_FOUND if it does not have this listener.
    pub(crate) fn leader(&self, partition: &PartitionImage) -> Result<i32, ErrorCode> {
        match self.image.cluster.broker(partition.leader) {
            None => Err(ErrorCode::LeaderNotAvailable),
            Some(broker) if broker.endpoint(self.listener).is_none() => Err(ErrorCode::ListenerNotFound),
            Some(broker) => Ok(broker.id),
        }
    }

    /// The replicas that are down: their broker, its listener or their directory.
    pub(crate) fn offline(&self, partition: &PartitionImage) -> Vec<i32> {
        let up = |id: i32| {
            self.image.cluster.broker(id).is_some_and(|broker| {
                !broker.fenced
                    && broker.endpoint(self.listener).is_some()
                    && broker.has_online_dir(partition.directory_of(id))
            })
        };
        partition.replicas.iter().copied().filter(|&id| !up(id)).collect()
    }
}
