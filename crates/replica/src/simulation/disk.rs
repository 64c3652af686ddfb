//! A model of one partition's log: what a crash leaves of it, and what it knows of leader epochs.

/// A record: the epoch of the leader that wrote it, and its value.
pub(super) type Entry = (i32, u64);

#[derive(Debug, Clone, Default)]
pub(super) struct Disk {
    pub entries: Vec<Entry>,
    /// Epochs and where they begin, both growing.
    epochs: Vec<(i32, i64)>,
    pub durable_end: i64,
    /// Grows when the log is cut: a sync that began before says nothing.
    pub cuts: u64,
    /// As it was written down last.
    pub checkpointed_high_watermark: i64,
}

impl Disk {
    pub fn end(&self) -> i64 {
        self.entries.len() as i64
    }

    pub fn last_epoch(&self) -> i32 {
        self.epochs.last().map_or(-1, |(epoch, _)| *epoch)
    }

    /// A leader's epoch begins.
    pub fn begin_epoch(&mut self, epoch: i32) {
        if self.last_epoch() < epoch {
            let end = self.end();
            self.epochs.retain(|(_, start)| *start < end);
            self.epochs.push((epoch, end));
        }
    }

    pub fn append(&mut self, (epoch, value): Entry) {
        self.begin_epoch(epoch);
        self.entries.push((epoch, value));
    }

    pub fn truncate(&mut self, end: i64) {
        self.entries.truncate(end as usize);
        let end = self.end();
        self.epochs.retain(|(_, start)| *start < end);
        self.durable_end = self.durable_end.min(end);
        self.cuts += 1;
    }

    /// Power is lost: what was not synced is gone, all of it or a part.
    pub fn crash(&mut self, kept_of_the_rest: i64) {
        let end = (self.durable_end + kept_of_the_rest).min(self.end());
        self.truncate(end);
        // what is found at the start is synced before it counts
        self.durable_end = self.end();
        self.checkpointed_high_watermark = self.checkpointed_high_watermark.min(self.end());
    }

    /// The largest epoch at or below `epoch`, and where it ends; (-1, -1) if that is not known.
    pub fn end_offset_for_epoch(&self, epoch: i32) -> (i32, i64) {
        if epoch < 0 || epoch > self.last_epoch() {
            return (-1, -1);
        }
        if epoch == self.last_epoch() {
            return (epoch, self.end());
        }
        let higher = self.epochs.iter().position(|(e, _)| *e > epoch).expect("there is a later one");
        let end = self.epochs[higher].1;
        match higher.checked_sub(1) {
            Some(floor) => (self.epochs[floor].0, end),
            None => (epoch, end),
        }
    }
}
