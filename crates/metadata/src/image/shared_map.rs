//! `SharedMap`: a map whose copies share what did not change.
//!
//! Keys are spread over a fixed number of ordered shards, each behind an `Arc`: a copy costs one reference count per
//! shard, a change copies one shard, and comparing two versions skips the shards they share.
//! Used by the images of topics and configurations, which may hold many thousands of entries.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

const SHARDS: usize = 64;

/// A map with cheap copies; iteration order is the same for equal content.
#[derive(Debug, Clone)]
pub struct SharedMap<K, V> {
    shards: Vec<Arc<BTreeMap<K, V>>>,
    len: usize,
}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> Self {
        let empty = Arc::new(BTreeMap::new());
        SharedMap { shards: vec![empty; SHARDS], len: 0 }
    }
}

impl<K: PartialEq, V: PartialEq> PartialEq for SharedMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.shards.iter().zip(&other.shards).all(|(a, b)| Arc::ptr_eq(a, b) || a == b)
    }
}

fn shard_of<Q: Hash + ?Sized>(key: &Q) -> usize {
    // Fixed keys: the same content lies in the same shards in every process.
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    (hasher.finish() as usize) % SHARDS
}

impl<K: Ord + Hash + Clone, V: Clone> SharedMap<K, V> {
    pub fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Ord + Hash + ?Sized,
    {
        self.shards[shard_of(key)].get(key)
    }

    pub fn contains_key<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Ord + Hash + ?Sized,
    {
        self.get(key).is_some()
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All entries, in an order that depends only on the content.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }

    /// The value, to be changed: only this copy of the map sees it.
    pub(crate) fn get_mut<Q>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
        Q: Ord + Hash + ?Sized,
    {
        let shard = &mut self.shards[shard_of(key)];
        if !shard.contains_key(key) {
            return None;
        }
        Arc::make_mut(shard).get_mut(key)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let old = Arc::make_mut(&mut self.shards[shard_of(&key)]).insert(key, value);
        self.len += usize::from(old.is_none());
        old
    }

    pub(crate) fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Ord + Hash + ?Sized,
    {
        let shard = &mut self.shards[shard_of(key)];
        if !shard.contains_key(key) {
            return None;
        }
        let old = Arc::make_mut(shard).remove(key);
        self.len -= usize::from(old.is_some());
        old
    }

    /// Keys whose values differ between two versions, with the old and the new value.
    pub(crate) fn changes<'a>(&'a self, newer: &'a Self) -> Vec<(&'a K, Option<&'a V>, Option<&'a V>)>
    where
        V: PartialEq,
    {
        let mut changes = Vec::new();
        for (old, new) in self.shards.iter().zip(&newer.shards) {
            if Arc::ptr_eq(old, new) {
                continue;
            }
            for (key, value) in old.iter() {
                match new.get(key) {
                    None => changes.push((key, Some(value), None)),
                    Some(now) if now != value => changes.push((key, Some(value), Some(now))),
                    Some(_) => {}
                }
            }
            changes.extend(
                new.iter().filter(|(key, _)| !old.contains_key(*key)).map(|(key, value)| (key, None, Some(value))),
            );
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against a plain map; an older copy never sees later changes, and `changes` is exactly their difference.
        #[test]
        fn agrees_with_a_plain_map(first in proptest::collection::vec((0u8..60, proptest::option::of(0u8..4)), 0..80),
                                   then in proptest::collection::vec((0u8..60, proptest::option::of(0u8..4)), 0..30)) {
            let apply = |map: &mut SharedMap<u8, u8>, model: &mut BTreeMap<u8, u8>, steps: &[(u8, Option<u8>)]| {
                for &(key, value) in steps {
                    match value {
                        Some(value) if key % 2 == 0 && map.contains_key(&key) => {
                            assert_eq!(map.get_mut(&key).map(|old| std::mem::replace(old, value)), model.insert(key, value));
                        }
                        Some(value) => assert_eq!(map.insert(key, value), model.insert(key, value)),
                        None => assert_eq!(map.remove(&key), model.remove(&key)),
                    }
                }
            };
            let (mut map, mut model) = (SharedMap::default(), BTreeMap::new());
            apply(&mut map, &mut model, &first);
            let (old_map, old_model) = (map.clone(), model.clone());
            apply(&mut map, &mut model, &then);
            for (map, model) in [(&map, &model), (&old_map, &old_model)] {
                prop_assert_eq!(map.len(), model.len());
                prop_assert_eq!(&map.iter().map(|(k, v)| (*k, *v)).collect::<BTreeMap<_, _>>(), model);
            }
            let mut rebuilt = old_model;
            for (key, old, new) in old_map.changes(&map) {
                prop_assert_eq!(rebuilt.get(key), old);
                match new {
                    Some(new) => rebuilt.insert(*key, *new),
                    None => rebuilt.remove(key),
                };
            }
            prop_assert_eq!(rebuilt, model);
        }
    }
}
