//! Where a partition is led, for answers that send a client there at once (KIP-951).
//!
//! Used by the handlers of Produce and Fetch; reads the image and knows no response.

use std::collections::BTreeSet;
use std::sync::Arc;

use milena_metadata::image::{Endpoint, MetadataImage};

/// Gathers the leaders that an answer names.
pub(crate) struct LeaderHints<'a> {
    image: &'a MetadataImage,
    /// The listener the client came by.
    listener: &'a str,
    leaders: BTreeSet<i32>,
}

/// A broker as a client of the listener reaches it.
pub(crate) struct LeaderNode {
    pub(crate) id: i32,
    pub(crate) endpoint: Endpoint,
    pub(crate) rack: Option<String>,
}

impl<'a> LeaderHints<'a> {
    pub(crate) fn new(image: &'a Arc<MetadataImage>, listener: &'a str) -> LeaderHints<'a> {
        LeaderHints { image, listener, leaders: BTreeSet::new() }
    }

    /// Leader and leader epoch; -1 both if there is no such partition.
    pub(crate) fn leader_of(&mut self, topic: &str, partition: i32) -> (i32, i32) {
        let Some(found) = self.image.topics.partition(topic, partition) else { return (-1, -1) };
        self.leaders.insert(found.leader);
        (found.leader, found.leader_epoch)
    }

    /// Where the leaders are that were asked for, as far as they are alive.
    pub(crate) fn nodes(&self) -> Vec<LeaderNode> {
        let node = |id: &i32| {
            let broker = self.image.cluster.broker(*id).filter(|broker| !broker.fenced)?;
            Some(LeaderNode { id: *id, endpoint: broker.endpoint(self.listener)?.clone(), rack: broker.rack.clone() })
        };
        self.leaders.iter().filter_map(node).collect()
    }
}
