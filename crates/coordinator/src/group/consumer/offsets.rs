//! Who of a consumer group may commit and read offsets: members at their epoch (OffsetCommit and OffsetFetch from version 9 on).
//!
//! A member that has not heard of its new epoch yet may still commit what it has had since an epoch it knows (KIP-1251).

use milena_common::Uuid;
use milena_protocol::ErrorCode;

use super::ConsumerGroup;
use super::member::Owned;

impl ConsumerGroup {
    /// Whether a commit of these `partitions` by this member, or by nobody in particular, is allowed now.
    ///
    /// Errors: UNKNOWN_MEMBER_ID, STALE_MEMBER_EPOCH, ILLEGAL_GENERATION (members of the classic protocol), UNSUPPORTED_VERSION.
    pub(crate) fn validate_offset_commit(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
        member_epoch: i32,
        is_transactional: bool,
        api_version: i16,
        mut partitions: impl Iterator<Item = (Uuid, i32)>,
    ) -> Result<(), ErrorCode> {
        // An administrator, once nobody is left.
        if member_epoch < 0 && self.num_members() == 0 {
            return Ok(());
        }
        let says_nothing = member_epoch < 0 && member_id.is_empty() && instance_id.is_none();
        if is_transactional && says_nothing {
            return Ok(());
        }
        let (id, member) = self.member(member_id).ok_or(ErrorCode::UnknownMemberId)?;
        let is_classic = member.classic_member_metadata.is_some();
        // Older versions do not know what a stale epoch is.
        if !is_transactional && !is_classic && api_version < 9 {
            return Err(ErrorCode::UnsupportedVersion);
        }
        let current = self.current(id);
        let has_had = |(topic, partition)| {
            let since = |owned: &Owned| owned.get(&topic)?.get(&partition).copied();
            since(&current.assigned).or_else(|| since(&current.revoking)).is_some_and(|epoch| epoch <= member_epoch)
        };
        if (0..current.epoch).contains(&member_epoch) && partitions.all(has_had) {
            return Ok(());
        }
        self.validate_epoch(id, member_epoch, is_classic)
    }

    /// Whether offsets may be read by this member (`None` and -1: by anybody).
    ///
    /// Errors: UNKNOWN_MEMBER_ID, STALE_MEMBER_EPOCH, ILLEGAL_GENERATION.
    pub(crate) fn validate_offset_fetch(&self, member_id: Option<&str>, member_epoch: i32) -> Result<(), ErrorCode> {
        let Some(member_id) = member_id else {
            return if member_epoch < 0 { Ok(()) } else { Err(ErrorCode::UnknownServerError) };
        };
        let (id, member) = self.member(member_id).ok_or(ErrorCode::UnknownMemberId)?;
        self.validate_epoch(id, member_epoch, member.classic_member_metadata.is_some())
    }

    fn validate_epoch(&self, member_id: &str, member_epoch: i32, is_classic: bool) -> Result<(), ErrorCode> {
        if member_epoch == self.current(member_id).epoch {
            return Ok(());
        }
        Err(if is_classic { ErrorCode::IllegalGeneration } else { ErrorCode::StaleMemberEpoch })
    }
}
