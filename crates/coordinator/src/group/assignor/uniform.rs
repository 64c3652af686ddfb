//! `uniform`: members get as many partitions as each other, and keep what they had as far as that allows.
//!
//! If all members read the same topics their numbers differ by one at most. Else nobody has two partitions more than another
//! member who could take one of them.

use std::collections::{BTreeMap, BTreeSet};

use milena_common::Uuid;

use super::{GroupSpec, Partitions};

pub(super) fn assign(group: &GroupSpec) -> Vec<Partitions> {
    let mut kept = keep(group);
    let is_homogeneous = group.members.windows(2).all(|pair| matches!(pair, [a, b] if a.topics == b.topics));
    if is_homogeneous {
        assign_evenly(group, &mut kept);
    } else {
        assign_by_topic(group, &mut kept);
        balance(group, &mut kept);
    }
    kept
}

/// What members had of topics that they still read and partitions that still exist, no partition twice.
fn keep(group: &GroupSpec) -> Vec<Partitions> {
    let mut seen: BTreeMap<Uuid, BTreeSet<i32>> = BTreeMap::new();
    let mut kept = Vec::with_capacity(group.members.len());
    for member in &group.members {
        let mut partitions = Partitions::new();
        for (&topic, previous) in member.previous.iter().filter(|(topic, _)| member.topics.contains(topic)) {
            let seen = seen.entry(topic).or_default();
            let exists = 0..group.num_partitions(topic);
            let still: BTreeSet<i32> = previous
                .iter()
                .copied()
                .filter(|partition| exists.contains(partition) && seen.insert(*partition))
                .collect();
            if !still.is_empty() {
                partitions.insert(topic, still);
            }
        }
        kept.push(partitions);
    }
    kept
}

fn count(partitions: &Partitions) -> usize {
    partitions.values().map(BTreeSet::len).sum()
}

/// Partitions of `topic` that nobody has.
fn free_of(group: &GroupSpec, assigned: &[Partitions], topic: Uuid) -> Vec<i32> {
    let mut taken = BTreeSet::new();
    for partitions in assigned.iter().filter_map(|partitions| partitions.get(&topic)) {
        taken.extend(partitions.iter().copied());
    }
    (0..group.num_partitions(topic)).filter(|partition| !taken.contains(partition)).collect()
}

fn assign_evenly(group: &GroupSpec, assigned: &mut [Partitions]) {
    let Some(topics) = group.members.first().map(|member| &member.topics) else {
        return;
    };
    let total: usize = topics.iter().map(|&topic| usize::try_from(group.num_partitions(topic)).unwrap_or(0)).sum();
    let quota = total / group.members.len();
    let mut extra = total % group.members.len();
    let mut free: Vec<(Uuid, i32)> = (topics.iter())
        .flat_map(|&topic| free_of(group, assigned, topic).into_iter().map(move |partition| (topic, partition)))
        .collect();
    // Whoever has more than the quota keeps the one extra first: that moves least.
    let mut quotas = vec![quota; assigned.len()];
    for pass_has_more in [true, false] {
        for (mine, partitions) in quotas.iter_mut().zip(assigned.iter()) {
            if extra > 0 && *mine == quota && (count(partitions) > quota) == pass_has_more {
                *mine += 1;
                extra -= 1;
            }
        }
    }
    for (partitions, &quota) in assigned.iter_mut().zip(&quotas) {
        let mut surplus = count(partitions).saturating_sub(quota);
        while surplus > 0 {
            let Some(mut last) = partitions.last_entry() else { break };
            let topic = *last.key();
            while surplus > 0
                && let Some(partition) = last.get_mut().pop_last()
            {
                free.push((topic, partition));
                surplus -= 1;
            }
            if last.get().is_empty() {
                last.remove();
            }
        }
    }
    let mut free = free.into_iter();
    for (partitions, &quota) in assigned.iter_mut().zip(&quotas) {
        let missing = quota.saturating_sub(count(partitions));
        for (topic, partition) in free.by_ref().take(missing) {
            partitions.entry(topic).or_default().insert(partition);
        }
    }
}

/// Topics by their readers, those with the fewest first: they have the least choice.
fn readers_by_topic(group: &GroupSpec) -> Vec<(Uuid, Vec<usize>)> {
    let mut readers: BTreeMap<Uuid, Vec<usize>> = BTreeMap::new();
    for (index, member) in group.members.iter().enumerate() {
        for &topic in member.topics.iter() {
            readers.entry(topic).or_default().push(index);
        }
    }
    let mut topics: Vec<(Uuid, Vec<usize>)> = readers.into_iter().collect();
    topics.sort_by_key(|(_, readers)| readers.len());
    topics
}

/// Gives each free partition to the reader of its topic that has least.
fn assign_by_topic(group: &GroupSpec, assigned: &mut [Partitions]) {
    let mut loads: Vec<usize> = assigned.iter().map(count).collect();
    for (topic, readers) in readers_by_topic(group) {
        let free = free_of(group, assigned, topic);
        if free.is_empty() {
            continue;
        }
        let mut by_load: BTreeSet<(usize, usize)> =
            readers.iter().filter_map(|&index| Some((*loads.get(index)?, index))).collect();
        for partition in free {
            let Some((load, index)) = by_load.pop_first() else { break };
            by_load.insert((load + 1, index));
            if let (Some(partitions), Some(load)) = (assigned.get_mut(index), loads.get_mut(index)) {
                partitions.entry(topic).or_default().insert(partition);
                *load += 1;
            }
        }
    }
}

/// Moves partitions to readers of their topic that have at least two fewer, until there is none. Each move lowers the sum of the
/// squares of the loads, so it ends.
fn balance(group: &GroupSpec, assigned: &mut [Partitions]) {
    let topics = readers_by_topic(group);
    let mut loads: Vec<usize> = assigned.iter().map(count).collect();
    loop {
        let mut moved = false;
        for (topic, readers) in &topics {
            let load_of = |index: usize| loads.get(index).copied().unwrap_or(0);
            let mut takers: BTreeSet<(usize, usize)> = readers.iter().map(|&index| (load_of(index), index)).collect();
            let has_any = |&index: &usize| assigned.get(index).is_some_and(|of| of.contains_key(topic));
            let mut givers: BTreeSet<(usize, usize)> =
                readers.iter().copied().filter(has_any).map(|index| (load_of(index), index)).collect();
            while let (Some(&(most, from)), Some(&(least, to))) = (givers.last(), takers.first()) {
                if most < least + 2 {
                    break;
                }
                let Some(partition) = take_last(assigned, from, topic) else { break };
                moved = true;
                if let Some(partitions) = assigned.get_mut(to) {
                    partitions.entry(*topic).or_default().insert(partition);
                }
                for (index, before, after) in [(from, most, most - 1), (to, least, least + 1)] {
                    takers.remove(&(before, index));
                    takers.insert((after, index));
                    givers.remove(&(before, index));
                    if assigned.get(index).is_some_and(|of| of.contains_key(topic)) {
                        givers.insert((after, index));
                    }
                    if let Some(load) = loads.get_mut(index) {
                        *load = after;
                    }
                }
            }
        }
        if !moved {
            return;
        }
    }
}

fn take_last(assigned: &mut [Partitions], from: usize, topic: &Uuid) -> Option<i32> {
    let partitions = assigned.get_mut(from)?;
    let of_topic = partitions.get_mut(topic)?;
    let partition = of_topic.pop_last();
    if of_topic.is_empty() {
        partitions.remove(topic);
    }
    partition
}
