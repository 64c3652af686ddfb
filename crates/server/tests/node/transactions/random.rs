//! Random histories of a few transactional ids: what is asked depends on nothing but the seed and the answers.

use milena_protocol::messages::write_txn_markers_request::WritableTxnMarker;

use super::client::{Client, Producer, batch, txn};
use super::steps::offsets;

/// A stream of numbers that is the same everywhere (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// What the producers of one id were told, newest last, and how many records they wrote under that.
struct Id {
    name: String,
    producers: Vec<Producer>,
    sequences: Vec<[i32; 2]>,
}

impl Id {
    fn learn(&mut self, producer: Producer) {
        if producer.0 >= 0 && self.producers.last() != Some(&producer) {
            self.producers.push(producer);
            self.sequences.push([0, 0]);
        }
    }

    /// Mostly who it is, at times who it was, or nobody.
    fn pick(&self, random: &mut Random) -> (usize, Producer) {
        let back = random.of(&[0, 0, 0, 0, 0, 0, 1, 2]);
        let at = (self.producers.len() - 1).saturating_sub(back);
        let (producer_id, epoch) = self.producers[at];
        let off = random.of(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        (at, (producer_id, epoch + off))
    }
}

/// The steps of one seed.
pub fn play_random(c: &mut Client, seed: u64) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let topic = &format!("x{seed}");
    let group = &format!("xg{seed}");
    c.create(topic);
    c.find(0, group);
    let mut ids: Vec<Id> = Vec::new();
    for n in 0..2 {
        let name = format!("x{seed}-{n}");
        let first = c.start(&name);
        ids.push(Id { name, producers: vec![first], sequences: vec![[0, 0]] });
    }
    // A client speaks one of the protocols. (A Kafka that has seen a producer refused in the old one checks it less in the new one.)
    let is_new: [bool; 2] = [random.below(2) == 0, random.below(2) == 0];
    for _ in 0..60 {
        let which = random.below(2);
        let (id, is_new) = (&mut ids[which], is_new[which]);
        let name = id.name.clone();
        let (at, p) = id.pick(&mut random);
        let partition = random.below(2) as i32;
        match random.below(14) {
            0 => {
                let expected = if random.below(3) == 0 { p } else { (-1, -1) };
                let told = c.init("random", random.of(&[3, 4, 5]), Some(&name), 60_000, expected);
                id.learn(told);
                if !c.settles(&name) {
                    return;
                }
            }
            1 | 2 if is_new => c.tell_ends(topic),
            1 | 2 => c.add("random", random.of(&[0, 2, 3]), &name, p, &[(topic, partition)]),
            3 => {
                let verify_only = !is_new || random.below(2) == 0;
                c.add_batched("random", random.of(&[4, 5]), verify_only, &name, p, &[(topic, partition)]);
            }
            4..=7 => {
                let sequence = id.sequences[at][partition as usize] + random.of(&[0, 0, 0, 0, 0, 0, 0, 1]);
                let version = if is_new { 12 } else { random.of(&[8, 9, 10, 11]) };
                let is_transactional = random.below(12) != 0;
                let (records, told_id) = match is_transactional {
                    true => (txn(p, sequence), Some(name.as_str())),
                    // From the first: a Kafka that asked about a transaction holds later numbers against this one too.
                    false => (batch(p, 0, false), None),
                };
                let told = c.produce("random", version, told_id, topic, &[(partition, records)]);
                if told.contains("error=0") {
                    id.sequences[at][partition as usize] = sequence + 1;
                }
            }
            8..=10 => {
                let version = if is_new { 5 } else { random.of(&[1, 3]) };
                let told = c.end("random", version, &name, p, random.below(3) != 0);
                id.learn(told);
                if !c.settles(&name) {
                    return;
                }
                c.settle_group(group);
            }
            11 => {
                let version = if is_new { 5 } else { 3 };
                if version < 5 {
                    c.add_offsets("random", 3, &name, p, group);
                }
                c.txn_offset_commit("random", version, offsets(&name, group, p, random.below(100) as i64));
                c.tell_offset(group);
            }
            12 => {
                let marker = WritableTxnMarker {
                    transaction_result: random.below(2) == 0,
                    coordinator_epoch: 0,
                    transaction_version: random.of(&[0, 2]),
                    ..Default::default()
                };
                c.mark("random", random.of(&[1, 2, 2]), p, marker, &[(topic, partition)]);
            }
            _ => {
                c.tell_state(&name);
                c.tell_ends(topic);
                c.producers(topic);
            }
        }
    }
}
