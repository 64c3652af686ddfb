//! Which partition a record goes to: the key's hash, or a sticky choice that changes with each batch (KIP-480).
//!
//! Pure. [`murmur2`] is bit for bit the hash that Java clients use, so that records of a key written from here and from Java meet.

/// The 32-bit MurmurHash2 of Kafka's Java clients (seed 0x9747b28c).
pub fn murmur2(data: &[u8]) -> i32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;
    let mut hash = SEED ^ data.len() as u32;
    let mut chunks = data.chunks_exact(4);
    for chunk in &mut chunks {
        let mut k = chunk.iter().rev().fold(0u32, |word, byte| word << 8 | u32::from(*byte));
        k = k.wrapping_mul(M);
        k ^= k >> R;
        k = k.wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    let tail = chunks.remainder();
    if !tail.is_empty() {
        hash ^= tail.iter().rev().fold(0u32, |word, byte| word << 8 | u32::from(*byte));
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^= hash >> 15;
    hash as i32
}

/// The partition of a record with this key: the hash without its sign, modulo the number of partitions.
///
/// # Panics
/// When `partition_count` is not positive: a topic has at least one partition.
pub fn partition_for_key(key: &[u8], partition_count: i32) -> i32 {
    (murmur2(key) & 0x7fff_ffff) % partition_count
}

/// The sticky choice for records without a key: one partition until its batch is full, then another.
#[derive(Debug, Default)]
pub(super) struct Sticky {
    current: Option<i32>,
    seed: u64,
}

impl Sticky {
    /// A choice that starts from `seed` (any number; it only spreads different producers).
    pub(super) fn new(seed: u64) -> Self {
        Sticky { current: None, seed: seed | 1 }
    }

    /// The partition to use now, of those that have a leader.
    pub(super) fn partition(&mut self, available: &[i32]) -> Option<i32> {
        match self.current {
            Some(partition) if available.contains(&partition) => Some(partition),
            _ => self.advance(available),
        }
    }

    /// Called when a batch was closed: chooses another partition if there is one.
    pub(super) fn advance(&mut self, available: &[i32]) -> Option<i32> {
        if available.is_empty() {
            return None;
        }
        // xorshift: enough to spread, no generator needed
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        let others: Vec<i32> = available.iter().copied().filter(|p| Some(*p) != self.current).collect();
        let choices = if others.is_empty() { available } else { &others };
        self.current = choices.get((self.seed % choices.len() as u64) as usize).copied();
        self.current
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur2_gives_javas_values() {
        // the values that Kafka's own test of its hash lists
        let known: [(&[u8], i32); 7] = [
            (b"21", -973932308),
            (b"foobar", -790332482),
            (b"a-little-bit-long-string", -985981536),
            (b"a-little-bit-longer-string", -1486304829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
            (b"abc", 479470107),
            (b"", 275646681),
        ];
        for (data, hash) in known {
            assert_eq!(murmur2(data), hash, "{}", String::from_utf8_lossy(data));
        }
    }

    #[test]
    fn the_sticky_partition_stays_until_its_batch_closes() {
        let mut sticky = Sticky::new(7);
        let first = sticky.partition(&[0, 1, 2]);
        assert_eq!(sticky.partition(&[0, 1, 2]), first);
        assert_ne!(sticky.advance(&[0, 1, 2]), first);
        assert_eq!(sticky.advance(&[5]), Some(5));
        assert_eq!(sticky.partition(&[]), None);
    }
}
