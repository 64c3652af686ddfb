//! What a group's topics look like, as one number: when it changes, the group needs a new assignment.
//!
//! XXH3 (64 bits, seed 0) over id, name, number of partitions and the racks of their replicas, so that Kafka 4.3 comes to the
//! same number. Strings count as UTF-16 units, two bytes each, followed by how many there are; numbers are little-endian.

use milena_metadata::image::{MetadataImage, TopicImage};
use twox_hash::XxHash3_64;

/// Version of the layout.
const LAYOUT: u8 = 0;

/// The number for the topics among `names` (sorted) that exist; 0 if none does.
pub(super) fn metadata_hash<'a>(names: impl Iterator<Item = &'a str>, image: &MetadataImage) -> i64 {
    let mut names: Vec<&str> = names.filter(|name| image.topics.by_name(name).is_some()).collect();
    // As Java sorts, by UTF-16 units.
    names.sort_unstable_by(|a, b| a.encode_utf16().cmp(b.encode_utf16()));
    let mut bytes = Vec::with_capacity(8 * names.len());
    for topic in names.iter().filter_map(|name| image.topics.by_name(name)) {
        bytes.extend(topic_hash(topic, image).to_le_bytes());
    }
    if bytes.is_empty() { 0 } else { XxHash3_64::oneshot(&bytes) as i64 }
}

fn topic_hash(topic: &TopicImage, image: &MetadataImage) -> u64 {
    let mut bytes = Vec::with_capacity(64 + 4 * topic.partitions.len());
    let put_i32 = |bytes: &mut Vec<u8>, value: usize| {
        bytes.extend(i32::try_from(value).unwrap_or(i32::MAX).to_le_bytes());
    };
    bytes.push(LAYOUT);
    let id = topic.id.to_u128();
    bytes.extend(((id >> 64) as u64).to_le_bytes());
    bytes.extend((id as u64).to_le_bytes());
    put_string(&mut bytes, &topic.name);
    put_i32(&mut bytes, topic.partitions.len());
    for (&partition, replicas) in &topic.partitions {
        bytes.extend(partition.to_le_bytes());
        let mut racks: Vec<&str> =
            (replicas.replicas.iter()).filter_map(|&id| image.cluster.broker(id)?.rack.as_deref()).collect();
        racks.sort_unstable_by(|a, b| a.encode_utf16().cmp(b.encode_utf16()));
        for rack in racks {
            put_i32(&mut bytes, rack.encode_utf16().count());
            put_string(&mut bytes, rack);
        }
    }
    XxHash3_64::oneshot(&bytes)
}

fn put_string(bytes: &mut Vec<u8>, text: &str) {
    let mut units = 0i32;
    for unit in text.encode_utf16() {
        bytes.extend(unit.to_le_bytes());
        units += 1;
    }
    bytes.extend(units.to_le_bytes());
}
