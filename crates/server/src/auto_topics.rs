//! Topics that are made because somebody asked for them: a client's (`auto.create.topics.enable`) and the broker's own.
//!
//! Owns which are being made now, so that a hundred clients who ask for the same topic make one request to the controller, and
//! what an internal topic is configured with. Never decides whether a topic may be made. Called by Metadata and FindCoordinator.

use std::time::Duration;

use hashbrown::HashSet;
use milena_common::config::BrokerConfig;
use milena_protocol::ErrorCode;
use milena_protocol::messages::CreateTopicsRequest;
use milena_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::controller_channel::ControllerChannel;

/// Where groups and their offsets are stored.
pub(crate) const GROUP_METADATA_TOPIC: &str = "__consumer_offsets";
/// Where the state of transactions is stored.
pub(crate) const TRANSACTION_STATE_TOPIC: &str = "__transaction_state";
/// Where the state of share groups is stored.
pub(crate) const SHARE_GROUP_STATE_TOPIC: &str = "__share_group_state";

/// A topic that belongs to the brokers: clients see it marked and consumers of patterns leave it out.
pub(crate) fn is_internal(topic: &str) -> bool {
    matches!(topic, GROUP_METADATA_TOPIC | TRANSACTION_STATE_TOPIC | SHARE_GROUP_STATE_TOPIC)
}

/// How long an answer waits for topics; their creation goes on after that.
const PATIENCE: Duration = Duration::from_secs(5);

/// See the module.
pub(crate) struct AutoTopics {
    controllers: ControllerChannel,
    making: Mutex<HashSet<String>>,
    made: Notify,
}

impl AutoTopics {
    pub(crate) fn new(controllers: ControllerChannel) -> AutoTopics {
        AutoTopics { controllers, making: Mutex::default(), made: Notify::new() }
    }

    /// Makes the topics, or waits for who is making them. Afterwards they are in this broker's metadata, unless the controller
    /// refused or it took too long: the log says why, and the caller looks for itself.
    pub(crate) async fn create(&self, config: &BrokerConfig, topics: Vec<String>) {
        if tokio::time::timeout(PATIENCE, self.create_all(config, topics)).await.is_err() {
            tracing::warn!("topics that were asked for are not there in time");
        }
    }

    async fn create_all(&self, config: &BrokerConfig, topics: Vec<String>) {
        let (mine, others): (Vec<_>, Vec<_>) = {
            let mut making = self.making.lock();
            topics.into_iter().partition(|topic| making.insert(topic.clone()))
        };
        if !mine.is_empty() {
            let mine = Making { topics: mine, of: self };
            let topics = mine.topics.iter().map(|topic| creatable(config, topic)).collect();
            let timeout_ms = config.request_timeout_ms;
            let request = CreateTopicsRequest { topics, timeout_ms, ..Default::default() };
            match self.controllers.ask(request, async |c, request| c.create_topics(request).await).await {
                Ok(response) => {
                    // another broker or client was first: what was asked for is there
                    let fine = [ErrorCode::None, ErrorCode::TopicAlreadyExists].map(ErrorCode::code);
                    for topic in response.topics.iter().filter(|topic| !fine.contains(&topic.error_code)) {
                        tracing::warn!(
                            topic = topic.name,
                            error = topic.error_code,
                            reason = topic.error_message,
                            "cannot create topic"
                        );
                    }
                }
                Err(error) => tracing::warn!(%error, "cannot create topics"),
            }
        }
        loop {
            let made = self.made.notified();
            tokio::pin!(made);
            made.as_mut().enable();
            if others.iter().all(|topic| !self.making.lock().contains(topic)) {
                return;
            }
            made.await;
        }
    }
}

/// The topics that one request makes; forgotten when it ends, however it ends.
struct Making<'a> {
    topics: Vec<String>,
    of: &'a AutoTopics,
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        let mut making = self.of.making.lock();
        self.topics.iter().for_each(|topic| {
            making.remove(topic);
        });
        drop(making);
        self.of.made.notify_waiters();
    }
}

fn creatable(config: &BrokerConfig, topic: &str) -> CreatableTopic {
    let (num_partitions, replication_factor, configs): (i32, i16, Vec<(&str, String)>) = match topic {
        GROUP_METADATA_TOPIC => (
            config.offsets_topic_num_partitions,
            config.offsets_topic_replication_factor,
            vec![
                ("cleanup.policy", "compact".to_owned()),
                ("compression.type", "producer".to_owned()),
                ("segment.bytes", config.offsets_topic_segment_bytes.to_string()),
            ],
        ),
        TRANSACTION_STATE_TOPIC => (
            config.transaction_state_log_num_partitions,
            config.transaction_state_log_replication_factor,
            vec![
                ("cleanup.policy", "compact".to_owned()),
                ("compression.type", "uncompressed".to_owned()),
                ("min.insync.replicas", config.transaction_state_log_min_isr.to_string()),
                ("segment.bytes", config.transaction_state_log_segment_bytes.to_string()),
                ("unclean.leader.election.enable", "false".to_owned()),
            ],
        ),
        SHARE_GROUP_STATE_TOPIC => (
            config.share_coordinator_state_topic_num_partitions,
            config.share_coordinator_state_topic_replication_factor,
            vec![
                ("cleanup.policy", "delete".to_owned()),
                ("compression.type", "producer".to_owned()),
                ("min.insync.replicas", config.share_coordinator_state_topic_min_isr.to_string()),
                ("retention.ms", "-1".to_owned()),
                ("segment.bytes", config.share_coordinator_state_topic_segment_bytes.to_string()),
            ],
        ),
        // The controller's defaults are this broker's too.
        _ => (-1, -1, Vec::new()),
    };
    CreatableTopic {
        name: topic.to_owned(),
        num_partitions,
        replication_factor,
        configs: configs
            .into_iter()
            .map(|(name, value)| CreatableTopicConfig { name: name.to_owned(), value: Some(value) })
            .collect(),
        ..Default::default()
    }
}
