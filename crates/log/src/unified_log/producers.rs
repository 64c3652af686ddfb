//! What a log knows of its producers, and the question whether one may begin a transaction here.

use std::sync::atomic::Ordering;

use milena_common::Now;

use super::UnifiedLog;
use crate::error::LogError;
use crate::producer_state::ProducerEntry;

impl UnifiedLog {
    /// What is known of its producers.
    pub fn producers(&self) -> Vec<ProducerEntry> {
        self.inner.lock().producers.producers().cloned().collect()
    }

    /// Forgets producers that wrote nothing for so long and have no open transaction, now and from now on.
    pub fn expire_producers(&self, now: Now, expiration_ms: i64) {
        self.producer_expiration_ms.store(expiration_ms, Ordering::Relaxed);
        self.inner.lock().producers.expire(now.wall_ms, expiration_ms);
    }

    pub(super) fn producer_expiration_ms(&self) -> i64 {
        self.producer_expiration_ms.load(Ordering::Relaxed)
    }

    /// A ticket for a transaction that a batch of this producer would begin; none if it is open already. The coordinator must be asked
    /// after this, and the append be made with the ticket ([`AppendOptions::transaction`]). `bumps_epochs`: the producer gets an
    /// epoch with each transaction (KIP-890).
    ///
    /// # Errors
    /// [`LogError::InvalidProducerEpoch`]: there is nothing to ask about.
    pub fn begin_verification(
        &self,
        producer_id: i64,
        producer_epoch: i16,
        base_sequence: i32,
        bumps_epochs: bool,
    ) -> Result<Option<u64>, LogError> {
        let mut inner = self.inner.lock();
        let partition = &self.topic_partition;
        inner.producers.begin_verification(producer_id, producer_epoch, base_sequence, bumps_epochs, partition)
    }
}
