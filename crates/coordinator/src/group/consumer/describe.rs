//! ConsumerGroupDescribe v0-1: a group with its members, what each has and is to have. Version 1 tells members of the classic protocol apart.

use milena_common::Uuid;
use milena_metadata::image::MetadataImage;
use milena_protocol::ErrorCode;
use milena_protocol::messages::consumer_group_describe_response::{
    Assignment, DescribedGroup, Member, TopicPartitions,
};

use super::member::{Owned, Partitions};
use super::steps::preferred_assignor;
use crate::group::GroupShard;

/// `member_type` on the wire.
const CLASSIC_MEMBER: i8 = 0;
const CONSUMER_MEMBER: i8 = 1;

impl GroupShard {
    /// Errors: GROUP_ID_NOT_FOUND, also for a group of another kind.
    pub fn describe_consumer_group(&self, group_id: &str) -> DescribedGroup {
        let described = DescribedGroup { group_id: group_id.to_owned(), ..Default::default() };
        let Some(group) = self.hard.consumer_group(group_id) else {
            let text = if self.exists(group_id) {
                format!("Group {group_id} is not a consumer group.")
            } else {
                format!("Group {group_id} not found.")
            };
            let error_code = ErrorCode::GroupIdNotFound.code();
            return DescribedGroup { error_code, error_message: Some(text), ..described };
        };
        let image = self.cluster.load().image;
        let members = group.members().map(|(id, member)| {
            let current = group.current(id);
            Member {
                member_id: id.to_string(),
                instance_id: member.instance_id.clone(),
                rack_id: member.rack_id.clone(),
                member_epoch: current.epoch,
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                subscribed_topic_names: member.subscribed_topic_names.clone(),
                subscribed_topic_regex: member.subscribed_topic_regex.clone(),
                assignment: assignment(&everything(&[&current.assigned, &current.revoking]), &image),
                target_assignment: group.target(id).map(|target| assignment(target, &image)).unwrap_or_default(),
                member_type: match member.classic_member_metadata {
                    Some(_) => CLASSIC_MEMBER,
                    None => CONSUMER_MEMBER,
                },
            }
        });
        DescribedGroup {
            group_state: group.state().name().to_owned(),
            group_epoch: group.epoch(),
            assignment_epoch: group.target_epoch(),
            assignor_name: preferred_assignor(group, &self.config).name().to_owned(),
            members: members.collect(),
            ..described
        }
    }
}

fn everything(parts: &[&Owned]) -> Partitions {
    let mut all = Partitions::new();
    for (&topic, partitions) in parts.iter().flat_map(|owned| owned.iter()) {
        all.entry(topic).or_default().extend(partitions.keys());
    }
    all
}

/// Topics that are gone are left out.
fn assignment(partitions: &Partitions, image: &MetadataImage) -> Assignment {
    let topic = |(&topic_id, partitions): (&Uuid, &std::collections::BTreeSet<i32>)| {
        Some(TopicPartitions {
            topic_id,
            topic_name: image.topics.name_of(topic_id)?.to_string(),
            partitions: partitions.iter().copied().collect(),
        })
    };
    Assignment { topic_partitions: partitions.iter().filter_map(topic).collect() }
}
