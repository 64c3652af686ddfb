//! The one thing the coordinator reads inside a consumer's metadata: the topics it subscribes to.
//!
//! Clients embed `ConsumerProtocolSubscription` in JoinGroup; newer versions only append fields, so the version is not checked.

/// The topics, or `None` if the bytes are not a subscription.
pub(crate) fn topics(metadata: &[u8]) -> Option<Vec<String>> {
    let (version, rest) = metadata.split_first_chunk::<2>()?;
    if i16::from_be_bytes(*version) < 0 {
        return None;
    }
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    let count = usize::try_from(i32::from_be_bytes(*count)).ok()?;
    let mut topics = Vec::new();
    for _ in 0..count {
        let (len, after) = rest.split_first_chunk::<2>()?;
        let (name, after) = after.split_at_checked(usize::try_from(i16::from_be_bytes(*len)).ok()?)?;
        topics.push(std::str::from_utf8(name).ok()?.to_owned());
        rest = after;
    }
    Some(topics)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_topics_of_any_version_and_refuses_garbage() {
        let subscription = b"\0\x01\0\0\0\x02\0\x01a\0\x02bc\xff\xff\xff\xff\0\0\0\0";
        assert_eq!(topics(subscription), Some(vec!["a".to_owned(), "bc".to_owned()]));
        assert_eq!(topics(b""), None);
        assert_eq!(topics(b"\0\0\x7f\xff\xff\xff\0\x01a"), None);
        assert_eq!(topics(b"\0\0\xff\xff\xff\xff"), None);
        assert_eq!(topics(b"\0\0\0\0\0\x01\0\x05a"), None);
    }
}
