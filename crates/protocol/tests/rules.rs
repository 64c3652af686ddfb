//! Rules that random values do not show: what a version cannot carry, golden bytes, headers, and the wrapping of stored records.

use bytes::Bytes;
use milena_common::Uuid;
use milena_protocol::messages::*;
use milena_protocol::stored::{group, metadata};
use milena_protocol::{
    ApiKey, Decode, DecodeError, Encode, EncodeError, Reader, RequestHeader, Writer, header, response_header_version,
};

fn hex(text: &str) -> Bytes {
    let digits: Vec<u8> =
        text.bytes().filter(|b| !b.is_ascii_whitespace()).map(|b| (b as char).to_digit(16).unwrap() as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn joined(writer: Writer) -> Vec<u8> {
    writer.finish().concat()
}

#[test]
fn a_field_the_version_cannot_carry_is_refused_unless_ignorable() {
    let request = JoinGroupRequest { group_instance_id: Some("static".into()), ..Default::default() };
    assert!(request.encode_to_bytes(5).is_ok());
    assert_eq!(
        request.encode_to_bytes(4),
        Err(EncodeError::FieldNotInVersion { field: "group_instance_id", version: 4 })
    );
    // the throttle time may be left out
    let response = JoinGroupResponse { throttle_time_ms: 7, protocol_name: Some("range".into()), ..Default::default() };
    let old = JoinGroupResponse::decode(&mut Reader::new(response.encode_to_bytes(1).unwrap()), 1).unwrap();
    assert_eq!(old.throttle_time_ms, 0);
    assert_eq!(old.protocol_name.as_deref(), Some("range"));
}

#[test]
fn null_needs_a_version_that_has_it() {
    let all_topics = MetadataRequest { topics: None, ..Default::default() };
    assert!(all_topics.encode_to_bytes(1).is_ok());
    assert_eq!(all_topics.encode_to_bytes(0), Err(EncodeError::Null { field: "topics" }));
    let mut r = Reader::new(hex("ffffffff"));
    assert_eq!(MetadataRequest::decode(&mut r, 0), Err(DecodeError::UnexpectedNull));
    assert_eq!(MetadataRequest::decode(&mut Reader::new(hex("ffffffff")), 1).unwrap().topics, None);
}

#[test]
fn strings_longer_than_their_length_field_are_refused() {
    let request = FindCoordinatorRequest { key: "k".repeat(40_000), ..Default::default() };
    assert_eq!(request.encode_to_bytes(0), Err(EncodeError::TooLong(40_000)));
    assert_eq!(request.encode_to_bytes(3), Err(EncodeError::TooLong(40_000)));
}

#[test]
fn records_pass_through_without_a_copy() {
    let records = Bytes::from(vec![0x5a; 100_000]);
    let partition = produce_request::PartitionProduceData { index: 3, records: Some(records.clone()) };
    let topic =
        produce_request::TopicProduceData { name: "t".into(), partition_data: vec![partition], ..Default::default() };
    let request = ProduceRequest { acks: -1, timeout_ms: 30_000, topic_data: vec![topic], ..Default::default() };
    let mut writer = Writer::new();
    request.encode(&mut writer, 9).unwrap();
    let chunks = writer.finish();
    assert!(chunks.iter().any(|chunk| chunk.as_ptr() == records.as_ptr()), "shared, not copied");
    let frame = Bytes::from(chunks.concat());
    let decoded = ProduceRequest::decode(&mut Reader::new(frame.clone()), 9).unwrap();
    let slice = decoded.topic_data[0].partition_data[0].records.as_ref().unwrap();
    assert!(frame.as_ptr_range().contains(&slice.as_ptr()), "a slice of the frame");
    assert_eq!(decoded, request);
}

#[test]
fn golden_requests_of_three_ages() {
    // Metadata of "test" as a 0.8 client asks for it, and as one of today does: compact, by name, with its flags and tags
    let topic = |name: &str| metadata_request::MetadataRequestTopic { name: Some(name.into()), ..Default::default() };
    let request = MetadataRequest { topics: Some(vec![topic("test")]), ..Default::default() };
    assert_eq!(request.encode_to_bytes(0).unwrap(), hex("00000001 0004 74657374"));
    assert_eq!(
        request.encode_to_bytes(12).unwrap(),
        hex("02 00000000000000000000000000000000 05 74657374 00 01 00 00")
    );
    let fetch = FetchRequest {
        max_wait_ms: 500,
        min_bytes: 1,
        topics: vec![fetch_request::FetchTopic {
            topic: "t".into(),
            partitions: vec![fetch_request::FetchPartition {
                partition: 1,
                fetch_offset: 2,
                partition_max_bytes: 3,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    assert_eq!(
        fetch.encode_to_bytes(0).unwrap(),
        hex("ffffffff 000001f4 00000001 00000001 0001 74 00000001 00000001 0000000000000002 00000003")
    );
}

#[test]
fn headers_follow_key_and_version() {
    let request = |key, version, client: Option<&str>| {
        let mut w = Writer::new();
        let header = RequestHeader {
            request_api_key: ApiKey::code(key),
            request_api_version: version,
            correlation_id: 9,
            client_id: client.map(str::to_string),
        };
        header.encode_for(&mut w, key, version).unwrap();
        let bytes = Bytes::from(joined(w));
        let mut r = Reader::new(bytes.clone());
        let back = RequestHeader::decode_for(&mut r, key, version).unwrap();
        r.finish().unwrap();
        (bytes, back.client_id)
    };
    assert_eq!(request(ApiKey::Metadata, 8, Some("me")), (hex("0003 0008 00000009 0002 6d65"), Some("me".into())));
    // flexible: a tag section, but the client id keeps its two-byte length
    assert_eq!(request(ApiKey::Metadata, 9, None), (hex("0003 0009 00000009 ffff 00"), None));
    assert_eq!(request(ApiKey::ControlledShutdown, 0, Some("left out")).0, hex("0007 0000 00000009"));
    assert_eq!(response_header_version(ApiKey::ApiVersions, 4), 0);
    assert_eq!(response_header_version(ApiKey::Metadata, 9), 1);
    assert_eq!(response_header_version(ApiKey::Metadata, 8), 0);
    let mut w = Writer::new();
    header::put_response_header(&mut w, ApiKey::Metadata, 12, 5);
    let bytes = Bytes::from(joined(w));
    assert_eq!(bytes, hex("00000005 00"));
    assert_eq!(header::get_response_header(&mut Reader::new(bytes), ApiKey::Metadata, 12), Ok(5));
}

#[test]
fn metadata_records_stand_in_their_frame() {
    let topic = metadata::TopicRecord { name: "foo".into(), topic_id: Uuid::from_u128(5) };
    let record = metadata::MetadataRecord::from(topic);
    let bytes = metadata::encode_framed(&record, 0).unwrap();
    assert_eq!(bytes, hex("01 02 00 04 666f6f 00000000000000000000000000000005 00"));
    assert_eq!(metadata::decode_framed(bytes.clone()), Ok(record));
    assert!(metadata::decode_framed(bytes.slice(..bytes.len() - 1)).is_err());
    assert!(metadata::decode_framed(Bytes::from([&bytes[..], &[0]].concat())).is_err(), "a byte too many");
    assert!(metadata::decode_framed(hex("02 02 00 00")).is_err(), "frame version 2");
    assert!(metadata::decode_framed(hex("01 e307 00 00")).is_err(), "type 995");
}

/// The one record that no Kafka jar has a class for, so that no differential test reaches it.
#[test]
fn golden_access_control_record() {
    let record = metadata::AccessControlRecord {
        resource_type: 2,
        resource_name: Some("t".into()),
        pattern_type: 3,
        principal: "User:a".into(),
        host: "*".into(),
        operation: 3,
        permission_type: 2,
    };
    let bytes = hex("02 02 74 03 07 557365723a61 02 2a 03 02 00");
    assert_eq!(record.encode_to_bytes(0).unwrap(), bytes);
    assert_eq!(metadata::AccessControlRecord::decode(&mut Reader::new(bytes), 0), Ok(record));
}

#[test]
fn coordinator_records_stand_behind_type_and_version() {
    let key = group::OffsetCommitKey { group: "g".into(), topic: "t".into(), partition: 7 };
    let bytes = group::encode_key(&key).unwrap();
    assert_eq!(bytes, hex("0001 0001 67 0001 74 00000007"));
    assert_eq!(group::Key::decode(&bytes), Ok(group::Key::OffsetCommit(key)));
    assert_eq!(group::Key::decode(&hex("7fff")), Ok(group::Key::Unknown(0x7fff)));
    let value = group::OffsetCommitValue {
        offset: 3,
        leader_epoch: 2,
        metadata: "m".into(),
        commit_timestamp: 4,
        ..Default::default()
    };
    let bytes = group::encode_value(&value, 3).unwrap();
    assert_eq!(bytes, hex("0003 0000000000000003 00000002 0001 6d 0000000000000004"));
    assert_eq!(group::decode_value(&bytes), Ok(value));
    assert!(group::decode_value::<group::OffsetCommitValue>(&hex("0063")).is_err());
}
