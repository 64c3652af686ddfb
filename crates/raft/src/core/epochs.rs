//! Where each epoch begins in the log: with it two logs find the point up to which they are the same (KIP-101, KIP-595).

use crate::log::OffsetAndEpoch;

/// Epochs and the offsets at which they begin, oldest first; and where the log begins and ends.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Epochs {
    starts: Vec<(i32, i64)>,
    /// Everything below stands in the snapshot that ends here.
    start: OffsetAndEpoch,
    end: i64,
}

impl Epochs {
    /// Of a log that begins after a snapshot, or at (0, 0), and ends at `end`. `starts` are the epochs of its batches.
    pub fn new(start: OffsetAndEpoch, end: i64, starts: impl IntoIterator<Item = (i32, i64)>) -> Self {
        let mut epochs = Epochs { starts: Vec::new(), start, end: start.offset };
        for (epoch, offset) in starts {
            epochs.begin(epoch, offset.max(start.offset));
        }
        epochs.end = end.max(start.offset);
        epochs
    }

    fn begin(&mut self, epoch: i32, offset: i64) {
        if epoch > self.last() {
            self.starts.push((epoch, offset));
        }
    }

    /// The epoch of the last record.
    pub fn last(&self) -> i32 {
        self.starts.last().map_or(self.start.epoch, |(epoch, _)| *epoch)
    }

    /// Where the log begins: the end of a snapshot.
    pub fn start(&self) -> OffsetAndEpoch {
        self.start
    }

    /// Where the log ends, and the epoch of the record before.
    pub fn end(&self) -> OffsetAndEpoch {
        OffsetAndEpoch { offset: self.end, epoch: self.last() }
    }

    /// Records of an epoch were appended.
    pub fn append(&mut self, epoch: i32, end: i64) {
        self.begin(epoch, self.end);
        self.end = self.end.max(end);
    }

    /// Records at and above the offset are gone.
    pub fn truncate_to(&mut self, offset: i64) {
        self.end = self.end.min(offset.max(self.start.offset));
        let end = self.end;
        self.starts.retain(|(_, start)| *start < end);
    }

    /// The last epoch at or below `epoch`, and where its records end.
    ///
    /// Of what only the snapshot holds no more is known than where it ends.
    pub fn end_of(&self, epoch: i32) -> OffsetAndEpoch {
        if epoch < self.start.epoch {
            return self.start;
        }
        let after = self.starts.partition_point(|(known, _)| *known <= epoch);
        let offset = self.starts.get(after).map_or(self.end, |(_, start)| *start);
        let known = after.checked_sub(1).and_then(|i| self.starts.get(i)).map_or(self.start.epoch, |(known, _)| *known);
        OffsetAndEpoch { offset, epoch: known }
    }

    /// Whether a log that ends at `other` is the beginning of this one.
    pub fn contains_end(&self, other: OffsetAndEpoch) -> bool {
        let end = self.end_of(other.epoch);
        other.offset >= self.start.offset && end.epoch == other.epoch && other.offset <= end.offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: i64, epoch: i32) -> OffsetAndEpoch {
        OffsetAndEpoch { offset, epoch }
    }

    #[test]
    fn finds_where_an_epoch_ends() {
        let mut epochs = Epochs::new(at(0, 0), 0, []);
        for (epoch, end) in [(1, 4), (3, 5), (3, 9)] {
            epochs.append(epoch, end);
        }
        assert_eq!(epochs.end(), at(9, 3));
        for (epoch, end) in [(0, at(0, 0)), (1, at(4, 1)), (2, at(4, 1)), (3, at(9, 3)), (9, at(9, 3))] {
            assert_eq!(epochs.end_of(epoch), end, "{epoch}");
        }
        for same in [at(0, 0), at(1, 1), at(4, 1), at(5, 3), at(9, 3)] {
            assert!(epochs.contains_end(same), "{same:?}");
        }
        for other in [at(5, 1), at(10, 3), at(4, 2), at(1, 0)] {
            assert!(!epochs.contains_end(other), "{other:?}");
        }
        epochs.truncate_to(4);
        assert_eq!(epochs.end(), at(4, 1));
        epochs.truncate_to(0);
        assert_eq!(epochs.end(), at(0, 0));
    }

    #[test]
    fn begins_after_a_snapshot() {
        let epochs = Epochs::new(at(100, 7), 120, [(7, 90), (8, 110)]);
        assert_eq!(epochs.end_of(7), at(110, 7));
        assert_eq!(epochs.end_of(3), at(100, 7), "what came before is not known any more");
        assert!(epochs.contains_end(at(100, 7)));
        assert!(!epochs.contains_end(at(99, 7)));
    }
}
