//! Who of a consumer group may commit and read offsets: members at their epoch (OffsetCommit and OffsetFetch from version 9 on).

use milena_protocol::ErrorCode;

use super::ConsumerGroup;

impl ConsumerGroup {
    /// Whether a commit by this member, or by nobody in particular, is allowed now.
    ///
    /// Errors: UNKNOWN_MEMBER_ID, STALE_MEMBER_EPOCH, ILLEGAL_GENERATION (members of the classic protocol), UNSUPPORTED_VERSION.
    pub(crate) fn validate_offset_commit(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
        member_epoch: i32,
        is_transactional: bool,
        api_version: i16,
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
