//! The arithmetic of `kafka-reassign-partitions`: where replicas are proposed to lie, and which of them are throttled. Pure.

use std::collections::{BTreeMap, BTreeSet};

use milena_common::TopicPartition;

use crate::java::JavaError;

/// A broker and its rack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) id: i32,
    pub(super) rack: Option<String>,
}

/// Spreads the replicas of `partitions` partitions over the brokers: leaders in turn from `start`, followers `shift` further on, and
/// racks in turn where brokers have them.
pub(super) fn spread(
    places: &[Place],
    partitions: usize,
    factor: usize,
    start: usize,
    shift: usize,
) -> Result<Vec<Vec<i32>>, JavaError> {
    let count = places.len();
    if factor > count {
        return Err(JavaError {
            class: "org.apache.kafka.common.errors.InvalidReplicationFactorException".into(),
            message: format!("Replication factor: {factor} larger than available brokers: {count}."),
        });
    }
    let order = by_racks(places);
    let racks: BTreeSet<&Option<String>> = order.iter().map(|place| &place.rack).collect();
    let mut shift = shift;
    let mut all = Vec::new();
    for partition in 0..partitions {
        if partition > 0 && partition % count == 0 {
            shift += 1;
        }
        let first = (start + partition) % count;
        let mut chosen: Vec<&Place> = Vec::new();
        // the leader, then the others in turn; a rack has its second replica only when every rack has one
        let others = (0..count.saturating_sub(1)).map(|step| (first + 1 + (shift + step) % (count - 1)) % count);
        let turn: Vec<&Place> = std::iter::once(first).chain(others).filter_map(|index| order.get(index)).collect();
        while chosen.len() < factor {
            let used = |place: &Place| chosen.iter().filter(|c| c.rack == place.rack).count();
            let fewest = chosen.len() / racks.len().max(1);
            let free = |place: &&&Place| !chosen.iter().any(|c| c.id == place.id);
            let next = turn.iter().filter(free).find(|place| used(place) <= fewest && racks.len() > 1);
            let Some(next) = next.or_else(|| turn.iter().find(free)) else {
                break;
            };
            chosen.push(next);
        }
        all.push(chosen.into_iter().map(|place| place.id).collect());
    }
    Ok(all)
}

/// The brokers so that neighbours are in different racks where possible; by their ids if there are no racks.
fn by_racks(places: &[Place]) -> Vec<Place> {
    let mut racks: BTreeMap<&Option<String>, Vec<&Place>> = BTreeMap::new();
    for place in places {
        racks.entry(&place.rack).or_default().push(place);
    }
    racks.values_mut().for_each(|places| places.sort_by_key(|place| place.id));
    let longest = racks.values().map(Vec::len).max().unwrap_or(0);
    (0..longest)
        .flat_map(|row| racks.values().filter_map(move |places| places.get(row)))
        .map(|p| (*p).clone())
        .collect()
}

/// What a reassignment throttles: per topic the replicas that are read from, per topic those that are new, and all brokers in it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Throttled {
    pub(super) leaders: BTreeMap<String, String>,
    pub(super) followers: BTreeMap<String, String>,
    pub(super) brokers: BTreeSet<i32>,
}

/// Finds it: `moves` has partition, replicas now, replicas proposed.
pub(super) fn throttled(moves: &BTreeMap<TopicPartition, (Vec<i32>, Vec<i32>)>) -> Throttled {
    let mut leaders: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut followers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut brokers = BTreeSet::new();
    for (tp, (now, proposed)) in moves {
        let topic = tp.topic.to_string();
        let fresh: Vec<i32> = proposed.iter().copied().filter(|id| !now.contains(id)).collect();
        let named = |id: &i32| format!("{}:{id}", tp.partition);
        leaders.entry(topic.clone()).or_default().extend(now.iter().map(named));
        followers.entry(topic).or_default().extend(fresh.iter().map(named));
        brokers.extend(now.iter().chain(&fresh));
    }
    let text = |map: BTreeMap<String, Vec<String>>| map.into_iter().map(|(t, list)| (t, list.join(","))).collect();
    Throttled { leaders: text(leaders), followers: text(followers), brokers }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(racks: &[(i32, Option<&str>)]) -> Vec<Place> {
        racks.iter().map(|(id, rack)| Place { id: *id, rack: rack.map(String::from) }).collect()
    }

    #[test]
    fn replicas_spread_over_brokers_and_racks() {
        let plain = places(&[(1, None), (2, None), (3, None)]);
        assert_eq!(spread(&plain, 4, 2, 0, 0).unwrap(), [vec![1, 2], vec![2, 3], vec![3, 1], vec![1, 3]]);
        let racked = places(&[(1, Some("a")), (2, Some("a")), (3, Some("b")), (4, Some("b"))]);
        for replicas in spread(&racked, 8, 2, 1, 2).unwrap() {
            assert_ne!(replicas[0] <= 2, replicas[1] <= 2, "{replicas:?} lie in one rack");
        }
        assert!(spread(&plain, 1, 4, 0, 0).is_err());
    }

    #[test]
    fn sources_and_destinations_are_throttled() {
        let moves = BTreeMap::from([(TopicPartition::new("t", 0), (vec![1, 2], vec![2, 3]))]);
        let throttled = throttled(&moves);
        assert_eq!(throttled.leaders.get("t").map(String::as_str), Some("0:1,0:2"));
        assert_eq!(throttled.followers.get("t").map(String::as_str), Some("0:3"));
        assert_eq!(throttled.brokers.into_iter().collect::<Vec<_>>(), [1, 2, 3]);
    }
}
