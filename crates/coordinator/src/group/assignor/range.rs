//! `range`: each topic is cut into stretches, one per member that reads it, so that topics with as many partitions and as many
//! readers are cut alike and their partitions of one number meet at one member.
//!
//! Static members come first, in the order of their instance ids, so that who is restarted gets the same stretch.

use std::collections::BTreeMap;

use milena_common::Uuid;

use super::{GroupSpec, Partitions};

pub(super) fn assign(group: &GroupSpec) -> Vec<Partitions> {
    let mut order: Vec<usize> = (0..group.members.len()).collect();
    order.sort_by_key(|&index| {
        let member = group.members.get(index);
        let instance_id = member.and_then(|member| member.instance_id.as_deref());
        (instance_id.is_none(), instance_id, member.map(|member| &member.id))
    });
    let mut readers: BTreeMap<Uuid, Vec<usize>> = BTreeMap::new();
    for &index in &order {
        for &topic in group.members.get(index).iter().flat_map(|member| member.topics.iter()) {
            readers.entry(topic).or_default().push(index);
        }
    }
    let mut assigned = vec![Partitions::new(); group.members.len()];
    for (topic, readers) in readers {
        let num_partitions = group.num_partitions(topic);
        let num_readers = i32::try_from(readers.len()).unwrap_or(i32::MAX);
        let (quota, extra) = (num_partitions / num_readers, num_partitions % num_readers);
        let mut next = 0;
        for (position, &index) in (0..).zip(&readers) {
            let end = next + quota + i32::from(position < extra);
            if let Some(partitions) = assigned.get_mut(index).filter(|_| end > next) {
                partitions.insert(topic, (next..end).collect());
            }
            next = end;
        }
    }
    assigned
}
