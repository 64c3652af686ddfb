//! The last offset of each key, in a table of fixed size: what a round of cleaning knows of the dirty part of a log.
//!
//! Keys are kept as 128-bit hashes only, under seeds that differ from run to run, so that nobody can choose keys that meet. Pure; never grows.

use std::hash::{BuildHasher as _, RandomState};

/// Bytes of one slot: two hashes and an offset.
pub(crate) const SLOT_BYTES: usize = 24;

/// See the module.
pub(crate) struct OffsetMap {
    /// Hash, hash, offset + 1; all zero is free.
    slots: Vec<[u64; 3]>,
    entries: usize,
    max_entries: usize,
    latest_offset: i64,
    seeds: [RandomState; 2],
}

impl OffsetMap {
    /// A table of `slots`, filled at most to `load_factor`.
    pub fn new(slots: usize, load_factor: f64) -> OffsetMap {
        let slots = slots.max(1);
        // one slot stays free, or a search for what is not there would not end
        let max_entries = ((slots as f64 * load_factor.clamp(0.0, 1.0)) as usize).min(slots - 1);
        OffsetMap {
            slots: vec![[0; 3]; slots],
            entries: 0,
            max_entries,
            latest_offset: -1,
            seeds: [RandomState::new(), RandomState::new()],
        }
    }

    /// Enters a record; false, and nothing is changed, if its key is new and there is no room.
    pub fn put(&mut self, key: &[u8], offset: i64) -> bool {
        let hash = self.hash(key);
        let at = self.find(hash);
        let full = self.entries >= self.max_entries;
        let Some(slot) = self.slots.get_mut(at) else { return false };
        if slot[2] == 0 {
            if full {
                return false;
            }
            self.entries += 1;
        }
        *slot = [hash[0], hash[1], offset.unsigned_abs() + 1];
        self.latest_offset = self.latest_offset.max(offset);
        true
    }

    /// The offset of the key's last record.
    pub fn get(&self, key: &[u8]) -> Option<i64> {
        let slot = self.slots.get(self.find(self.hash(key)))?;
        i64::try_from(slot[2].checked_sub(1)?).ok()
    }

    /// Everything up to this offset has been entered.
    pub fn latest_offset(&self) -> i64 {
        self.latest_offset
    }

    /// What was read without anything to enter counts, too.
    pub fn advance_to(&mut self, offset: i64) {
        self.latest_offset = self.latest_offset.max(offset);
    }

    /// How full it is, of what it may be, in percent.
    pub fn utilization_percent(&self) -> i64 {
        (self.entries * 100 / self.max_entries.max(1)) as i64
    }

    fn hash(&self, key: &[u8]) -> [u64; 2] {
        let [a, b] = &self.seeds;
        [a.hash_one(key), b.hash_one(key)]
    }

    /// The slot that holds the hash, or the free one where it belongs.
    fn find(&self, hash: [u64; 2]) -> usize {
        let len = self.slots.len();
        let mut at = (hash[0] % len as u64) as usize;
        while let Some(slot) = self.slots.get(at) {
            if slot[2] == 0 || (slot[0] == hash[0] && slot[1] == hash[1]) {
                break;
            }
            at = (at + 1) % len;
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_the_last_offset_of_each_key_until_it_is_full() {
        let mut map = OffsetMap::new(100, 0.9);
        for i in 0..90u32 {
            assert!(map.put(&i.to_be_bytes(), i64::from(i)));
        }
        assert!(!map.put(b"one more", 90));
        assert!(map.put(&7u32.to_be_bytes(), 91), "a known key needs no room");
        assert_eq!(map.get(&7u32.to_be_bytes()), Some(91));
        assert_eq!(map.get(&8u32.to_be_bytes()), Some(8));
        assert_eq!(map.get(b"one more"), None);
        assert_eq!((map.latest_offset(), map.utilization_percent()), (91, 100));
    }
}
