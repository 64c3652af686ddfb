//! A consumer's part in its group: when it joins, and what follows from what the group gives it or takes from it.
//!
//! Owns the order of things in a rebalance (commit, give up, take over, tell the caller). `group` and `session` speak with the
//! coordinator, of classic groups and of those of the consumer protocol. Called by [`Consumer::poll`].

use milena_common::TopicPartition;
use milena_protocol::ErrorCode;

use super::group::Membership;
use super::session::{ByTopicId, Session};
use super::{Consumer, MAX_UNSEEN_EVENTS, RebalanceEvent, Subscription};
use crate::error::ClientError;

impl Consumer {
    /// Joins the group when the subscription asks for it and the member is not in a stable generation.
    pub(super) async fn join_if_needed(&mut self) -> Result<(), ClientError> {
        if matches!(self.subscription, Subscription::Nothing | Subscription::Partitions) {
            return Ok(());
        }
        if self.config.consumer_protocol {
            return self.follow_session().await;
        }
        if let Some(membership) = &self.membership
            && membership.is_stable()
        {
            return Ok(());
        }
        let group = self.need_group()?.to_string();
        if self.membership.is_some() && self.commits_automatically() {
            // what was handed out belongs to us until the new generation starts
            if let Err(error) = self.commit().await {
                tracing::warn!(target: "org.apache.kafka.clients.consumer.internals.ConsumerCoordinator", "commit before rejoining failed: {error}");
            }
        }
        self.look_at_topics().await?;
        let topics: Vec<String> = match &self.subscription {
            Subscription::Topics(topics) => topics.iter().cloned().collect(),
            _ => self.seen_topics.keys().cloned().collect(),
        };
        let previous = self.membership.take();
        // members keep what they have through the rebalance only if every strategy allows it
        let cooperative = self.config.assignors.iter().all(|assignor| assignor.is_cooperative());
        let mut owned = self.assignment();
        if previous.as_ref().is_some_and(Membership::is_lost) {
            self.revoke_all();
            owned.clear();
        } else if !cooperative && !owned.is_empty() {
            // positions stay: what comes back in this rebalance, nobody else had
            self.tell(RebalanceEvent::Revoked(std::mem::take(&mut owned)));
        }
        let (membership, partitions) =
            Membership::join(&self.client, &self.config, &group, topics, owned.clone(), previous).await?;
        let revoked: Vec<TopicPartition> = owned.iter().filter(|tp| !partitions.contains(tp)).cloned().collect();
        let added = partitions.iter().filter(|tp| !owned.contains(tp)).cloned().collect();
        if !revoked.is_empty() {
            self.tell(RebalanceEvent::Revoked(revoked));
            // what was given up here goes to its new owner in the next rebalance
            membership.rejoin(false);
        }
        self.membership = Some(membership);
        self.set_partitions(&partitions);
        self.tell(RebalanceEvent::Assigned(added));
        Ok(())
    }

    /// Joins a group of the consumer protocol, and reads what its coordinator wants read.
    async fn follow_session(&mut self) -> Result<(), ClientError> {
        if self.session.is_none() {
            let group = self.need_group()?.to_string();
            self.look_at_topics().await?;
            self.session = Some(Session::start(&self.client, &self.config, &group, self.subscribed_topics()));
        }
        let Some(session) = &self.session else { return Ok(()) };
        let news = session.news()?;
        if news.lost {
            self.revoke_all();
        }
        let Some(target) = news.target else { return Ok(()) };
        if self.by_name(&target).is_none() {
            // a topic that the cached metadata do not know yet
            self.look_at_topics().await?;
        }
        if self.by_name(&target).is_some() {
            return self.take_target(target).await;
        }
        if let Some(session) = &self.session {
            session.give_back(target);
        }
        tokio::time::sleep(self.client.config().backoff(0)).await;
        Ok(())
    }

    async fn take_target(&mut self, target: ByTopicId) -> Result<(), ClientError> {
        let partitions = self.by_name(&target).unwrap_or_default();
        let owned = self.assignment();
        let revoked: Vec<TopicPartition> = owned.iter().filter(|tp| !partitions.contains(tp)).cloned().collect();
        let added: Vec<TopicPartition> = partitions.iter().filter(|tp| !owned.contains(tp)).cloned().collect();
        if !revoked.is_empty() {
            if self.commits_automatically()
                && let Err(error) = self.commit().await
            {
                tracing::warn!(target: "org.apache.kafka.clients.consumer.internals.ConsumerCoordinator", "commit before giving up partitions failed: {error}");
            }
            self.tell(RebalanceEvent::Revoked(revoked));
        }
        self.set_partitions(&partitions);
        self.tell(RebalanceEvent::Assigned(added));
        if let Some(session) = &self.session {
            session.acknowledge(target);
        }
        Ok(())
    }

    fn revoke_all(&mut self) {
        let owned = self.assignment();
        if !owned.is_empty() {
            self.tell(RebalanceEvent::Revoked(owned));
            self.set_partitions(&[]);
        }
    }

    /// Whether the error only means that the member has to join again.
    pub(super) fn on_group_error(&mut self, error: &ClientError) -> bool {
        match error.code() {
            Some(ErrorCode::RebalanceInProgress | ErrorCode::IllegalGeneration) => {
                if let Some(membership) = &self.membership {
                    membership.rejoin(false);
                }
                true
            }
            // the next heartbeat brings the epoch, or the news that the member is out
            Some(ErrorCode::StaleMemberEpoch) => true,
            Some(ErrorCode::UnknownMemberId) => {
                if let Some(membership) = &self.membership {
                    membership.rejoin(true);
                }
                true
            }
            _ => false,
        }
    }

    pub(super) fn subscribed_topics(&self) -> Vec<String> {
        match &self.subscription {
            Subscription::Topics(topics) => topics.iter().cloned().collect(),
            _ => self.seen_topics.keys().cloned().collect(),
        }
    }

    /// The partitions by the names of their topics; none if one is not known.
    fn by_name(&self, target: &ByTopicId) -> Option<Vec<TopicPartition>> {
        let picture = self.client.metadata();
        let mut found = Vec::new();
        for (topic_id, partitions) in target {
            let topic = picture.topics.values().find(|topic| topic.topic_id == *topic_id)?;
            found.extend(partitions.iter().map(|partition| TopicPartition::new(topic.name.as_str(), *partition)));
        }
        found.sort();
        Some(found)
    }

    fn tell(&mut self, event: RebalanceEvent) {
        // a caller that never asks has no use for old ones
        if self.events.len() >= MAX_UNSEEN_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}
