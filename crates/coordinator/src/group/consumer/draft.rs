//! A group as it will be once the records of an operation are replayed.
//!
//! An operation that takes several steps writes each record here, so that the next step sees it; recorded state itself stays as it
//! is. The group is copied on the first write only.

use std::borrow::Cow;
use std::sync::Arc;

use milena_protocol::ErrorCode;

use super::record::ConsumerRecord;
use super::{ConsumerGroup, Refusal};
use crate::group::record::GroupRecord;

pub(super) struct Draft<'a> {
    id: Arc<str>,
    group: Cow<'a, ConsumerGroup>,
    records: Vec<GroupRecord>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(id: Arc<str>, group: &'a ConsumerGroup) -> Self {
        Draft { id, group: Cow::Borrowed(group), records: Vec::new() }
    }

    /// A group that does not exist yet. `first` goes before its records.
    pub(super) fn new_group(id: Arc<str>, first: Option<GroupRecord>) -> Self {
        Draft { id, group: Cow::Owned(ConsumerGroup::default()), records: first.into_iter().collect() }
    }

    pub(super) fn id(&self) -> &Arc<str> {
        &self.id
    }

    pub(super) fn group(&self) -> &ConsumerGroup {
        &self.group
    }

    pub(super) fn push(&mut self, record: ConsumerRecord) {
        self.group.to_mut().replay(&record);
        self.push_last(record);
    }

    /// As `push`, for a record whose effect no later step looks at.
    pub(super) fn push_last(&mut self, record: ConsumerRecord) {
        self.records.push(GroupRecord::Consumer { group: self.id.clone(), record });
    }

    /// That each record fits into a batch: a record that the log refuses would cost the whole partition a load.
    ///
    /// Errors: UNKNOWN_SERVER_ERROR, as a Kafka whose log refused it.
    pub(super) fn check_sizes(&self, max_record_bytes: usize) -> Result<(), Refusal> {
        let is_too_large = |record: &GroupRecord| matches!(record, GroupRecord::Consumer { record, .. } if record.size_in_bytes() > max_record_bytes);
        if self.records.iter().any(is_too_large) {
            return Err((ErrorCode::UnknownServerError, String::new()));
        }
        Ok(())
    }

    pub(super) fn into_records(self) -> Vec<GroupRecord> {
        self.records
    }
}
