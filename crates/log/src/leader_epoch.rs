//! Which leader epoch wrote from which offset on: the leader-epoch cache and its checkpoint file (KIP-101, KIP-279).

use std::fmt::Write as _;

/// The first offset of a leader epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEntry {
    pub epoch: i32,
    pub start_offset: i64,
}

/// All epochs of a log, both columns strictly growing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaderEpochs {
    entries: Vec<EpochEntry>,
}

impl LeaderEpochs {
    /// Records that `epoch` writes from `start_offset` on. True if that is new. Epochs that wrote nothing vanish.
    pub fn assign(&mut self, epoch: i32, start_offset: i64) -> bool {
        if epoch < 0 || self.entries.last().is_some_and(|l| l.epoch >= epoch) {
            return false;
        }
        while self.entries.last().is_some_and(|l| l.start_offset >= start_offset) {
            self.entries.pop();
        }
        self.entries.push(EpochEntry { epoch, start_offset });
        true
    }

    /// The epoch that writes now.
    pub fn latest(&self) -> Option<i32> {
        self.entries.last().map(|e| e.epoch)
    }

    /// The epoch that wrote an offset.
    pub fn epoch_of(&self, offset: i64) -> Option<i32> {
        self.entries.iter().rev().find(|e| e.start_offset <= offset).map(|e| e.epoch)
    }

    /// The largest epoch at or below `epoch` and where it ends; none if it is newer than all, or there is none.
    pub fn end_offset_for(&self, epoch: i32, log_end_offset: i64) -> Option<(i32, i64)> {
        let latest = self.latest()?;
        if epoch == -1 || epoch > latest {
            return None;
        }
        if epoch == latest {
            return Some((epoch, log_end_offset));
        }
        let higher = self.entries.iter().position(|e| e.epoch > epoch)?;
        let end = self.entries.get(higher)?.start_offset;
        Some(match higher.checked_sub(1).and_then(|i| self.entries.get(i)) {
            Some(floor) => (floor.epoch, end),
            None => (epoch, end),
        })
    }

    /// Forgets epochs from `end_offset` on. True if something changed.
    pub fn truncate_from_end(&mut self, end_offset: i64) -> bool {
        let before = self.entries.len();
        self.entries.retain(|e| e.start_offset < end_offset);
        before != self.entries.len()
    }

    /// Forgets epochs that lie wholly before `start_offset`; the one that holds it starts there.
    pub fn truncate_from_start(&mut self, start_offset: i64) -> bool {
        let before = self.entries.clone();
        if let Some(i) = self.entries.iter().rposition(|e| e.start_offset <= start_offset) {
            self.entries.drain(..i);
            if let Some(first) = self.entries.first_mut() {
                first.start_offset = start_offset;
            }
        }
        before != self.entries
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// In order.
    pub fn entries(&self) -> &[EpochEntry] {
        &self.entries
    }

    /// The checkpoint file's text.
    pub fn encode(&self) -> String {
        let mut out = format!("0\n{}\n", self.entries.len());
        for e in &self.entries {
            let _ = writeln!(out, "{} {}", e.epoch, e.start_offset);
        }
        out
    }

    /// From the checkpoint file's text; none if it is damaged.
    pub fn decode(text: &str) -> Option<LeaderEpochs> {
        // without its last line end the last number may be torn
        let mut lines = text.strip_suffix('\n')?.lines();
        if lines.next()? != "0" {
            return None;
        }
        let count: usize = lines.next()?.parse().ok()?;
        let mut out = LeaderEpochs::default();
        for line in lines.by_ref().take(count) {
            let (epoch, offset) = line.split_once(' ')?;
            let e = EpochEntry { epoch: epoch.parse().ok()?, start_offset: offset.trim().parse().ok()? };
            if out.entries.last().is_some_and(|l| l.epoch >= e.epoch || l.start_offset > e.start_offset) {
                return None;
            }
            out.entries.push(e);
        }
        (out.entries.len() == count).then_some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_epochs() {
        let mut e = LeaderEpochs::default();
        assert!(e.assign(1, 0));
        assert!(!e.assign(1, 5));
        assert!(e.assign(3, 10));
        assert!(e.assign(5, 10));
        assert_eq!(e.entries().len(), 2, "epoch 3 wrote nothing");
        assert_eq!(e.end_offset_for(5, 20), Some((5, 20)));
        assert_eq!(e.end_offset_for(4, 20), Some((1, 10)));
        assert_eq!(e.end_offset_for(0, 20), Some((0, 0)));
        assert_eq!(e.end_offset_for(6, 20), None);
        assert_eq!(LeaderEpochs::decode(&e.encode()), Some(e.clone()));
        assert!(e.truncate_from_start(4));
        assert_eq!(e.entries()[0], EpochEntry { epoch: 1, start_offset: 4 });
        assert!(e.truncate_from_end(10));
        assert_eq!(e.latest(), Some(1));
    }
}
