//! What a leader accepts and what it writes: through the public functions, as `UnifiedLog` calls them.

use bytes::{Bytes, BytesMut};
use milena_log::validate::{
    Append, MAX_RECORD_ERRORS, Origin, Rules, TargetCompression, ValidateError, Validated, check_copied,
    check_produce_version, validate_and_assign,
};
use milena_protocol::records::control::EndTxnMarker;
use milena_protocol::records::legacy::MessageSetBuilder;
use milena_protocol::records::{
    ATTRIBUTES_OFFSET, BatchBuilder, BatchView, CRC_OFFSET, Compression, DecompressLimit, Record, TimestampType,
    batches, crc32c,
};
use proptest::prelude::*;

const NOW: i64 = 1_700_000_000_000;
const LIMIT: DecompressLimit = DecompressLimit(1 << 20);

fn append() -> Append {
    Append { origin: Origin::Client, produce_version: Some(11), leader_epoch: 7, next_offset: 500, now_ms: NOW }
}

fn old_producer() -> Append {
    Append { produce_version: Some(2), ..append() }
}

fn three(codec: Compression) -> BatchBuilder {
    let mut batch = BatchBuilder::new(codec).with_producer(9, 1, 30);
    let headers = [(Bytes::from_static(b"h"), None)];
    batch.append(NOW, Some(b"a"), Some(b"1"), &headers).unwrap();
    batch.append(NOW + 9, Some(b"b"), None, &[]).unwrap();
    batch.append(NOW + 9, Some(b""), Some(b"3"), &[]).unwrap();
    batch
}

fn produced(codec: Compression) -> Bytes {
    three(codec).build(0).unwrap()
}

/// Changes header bytes and makes the checksum right again.
fn patched(batch: &Bytes, at: usize, bytes: &[u8]) -> Bytes {
    let mut changed = BytesMut::from(&batch[..]);
    changed[at..at + bytes.len()].copy_from_slice(bytes);
    let crc = crc32c(&changed[ATTRIBUTES_OFFSET..]);
    changed[CRC_OFFSET..ATTRIBUTES_OFFSET].copy_from_slice(&crc.to_be_bytes());
    changed.freeze()
}

fn refusal(records: &Bytes) -> ValidateError {
    validate_and_assign(records, &Rules::default(), &append()).unwrap_err()
}

fn accepted(records: &Bytes, rules: &Rules, append: &Append) -> (Validated, BatchView) {
    let validated = validate_and_assign(records, rules, append).unwrap();
    let bytes = validated.records.clone().into_contiguous();
    let view = consistent(&validated, &bytes, append);
    (validated, view)
}

/// What must hold for whatever is accepted.
fn consistent(validated: &Validated, bytes: &Bytes, append: &Append) -> BatchView {
    let view = BatchView::parse(bytes).unwrap();
    let header = &validated.header;
    assert_eq!(view.size_in_bytes(), bytes.len());
    assert!(view.crc_valid());
    assert_eq!(view.base_offset(), append.next_offset);
    assert_eq!(view.leader_epoch(), append.leader_epoch);
    assert_eq!((view.base_offset(), view.last_offset()), (header.first_offset, header.last_offset));
    assert_eq!(view.record_count(), header.record_count);
    assert_eq!(view.max_timestamp(), header.max_timestamp);
    assert_eq!(view.compression(), Ok(header.compression));
    assert_eq!(view.producer_id(), header.producer_id);
    assert_eq!(view.producer_epoch(), header.producer_epoch);
    assert_eq!(view.base_sequence(), header.base_sequence);
    assert_eq!(view.last_sequence(), header.last_sequence);
    assert_eq!(view.is_transactional(), header.is_transactional);
    assert_eq!(view.is_control(), header.is_control);
    let records: Vec<Record> = view.records(LIMIT).unwrap().map(Result::unwrap).collect();
    let offsets: Vec<i64> = records.iter().map(|record| record.offset).collect();
    let dense: Vec<i64> = (header.first_offset..=header.last_offset).collect();
    assert_eq!(offsets, dense);
    let newest = records.iter().map(|record| record.timestamp).max().unwrap().max(-1);
    assert_eq!(newest, header.max_timestamp);
    if newest > -1 {
        let first = records.iter().find(|record| record.timestamp == newest);
        assert_eq!(first.unwrap().offset, validated.offset_of_max_timestamp);
    }
    view
}

fn contents(bytes: &Bytes) -> Vec<Record> {
    let mut records = Vec::new();
    for batch in batches(bytes.clone()) {
        for record in batch.unwrap().records(LIMIT).unwrap() {
            let mut record = record.unwrap();
            record.offset = records.len() as i64;
            records.push(record);
        }
    }
    records
}

#[test]
fn a_good_batch_is_stamped_and_not_copied() {
    for codec in Compression::ALL {
        let input = produced(codec);
        let (validated, view) = accepted(&input, &Rules::default(), &append());
        assert!(!validated.rewritten);
        assert_eq!(validated.log_append_time_ms, None);
        assert_eq!(validated.offset_of_max_timestamp, 501);
        assert_eq!(view.last_sequence(), 32);
        let [head, body] = validated.records.chunks();
        assert_eq!(head.len(), 61);
        assert_eq!(body.as_ptr(), input[61..].as_ptr());
        assert_eq!(contents(view.bytes()), contents(&input));
    }
}

#[test]
fn a_topic_with_its_own_codec_gets_it() {
    for source in Compression::ALL {
        for target in Compression::ALL {
            let rules = Rules { compression: TargetCompression::Codec(target, Some(3)), ..Rules::default() };
            let input = produced(source);
            let (validated, view) = accepted(&input, &rules, &append());
            assert_eq!(validated.rewritten, source != target);
            assert_eq!(view.compression(), Ok(target));
            assert_eq!(contents(view.bytes()), contents(&input));
        }
    }
}

#[test]
fn append_time_is_the_brokers() {
    let rules = Rules {
        timestamp_type: TimestampType::LogAppendTime,
        timestamp_before_max_ms: 0,
        timestamp_after_max_ms: 0,
        ..Rules::default()
    };
    for target in [TargetCompression::Producer, TargetCompression::Codec(Compression::Gzip, None)] {
        let rules = Rules { compression: target, ..rules.clone() };
        let (validated, view) = accepted(&produced(Compression::Lz4), &rules, &append());
        assert_eq!(validated.log_append_time_ms, Some(NOW));
        assert_eq!(view.timestamp_type(), TimestampType::LogAppendTime);
        assert_eq!(view.max_timestamp(), NOW);
    }
}

#[test]
fn a_lying_maximum_timestamp_is_put_right() {
    let input = patched(&produced(Compression::Zstd), 35, &i64::MAX.to_be_bytes());
    let (validated, view) = accepted(&input, &Rules::default(), &append());
    assert!(!validated.rewritten);
    assert_eq!(view.max_timestamp(), NOW + 9);
}

#[test]
fn offsets_with_gaps_are_made_dense() {
    for codec in [Compression::None, Compression::Snappy] {
        let mut batch = BatchBuilder::new(codec).with_last_offset_delta(1);
        batch.append_at(4, NOW, None, Some(b"x"), &[]).unwrap();
        batch.append_at(9, NOW, None, Some(b"y"), &[]).unwrap();
        let (validated, _) = accepted(&batch.build(0).unwrap(), &Rules::default(), &append());
        assert!(validated.rewritten);
    }
}

#[test]
fn lies_of_the_header_are_refused() {
    use ValidateError as E;
    let good = produced(Compression::None);
    let invalid = |records: &Bytes, word: &str| match refusal(records) {
        E::InvalidRecord { message, record_errors } => {
            assert!(record_errors.is_empty());
            assert!(message.contains(word), "{message}");
        }
        other => panic!("{other:?}"),
    };
    invalid(&Bytes::new(), "one whole record batch");
    for cut in 1..good.len() {
        invalid(&good.slice(..cut), "one whole record batch");
    }
    invalid(&patched(&good, 0, &3_i64.to_be_bytes()), "base offset");
    invalid(&patched(&good, 23, &(-1_i32).to_be_bytes()), "negative");
    invalid(&patched(&good, 23, &5_i32.to_be_bytes()), "claims 3");
    invalid(&patched(&good, 57, &0_i32.to_be_bytes()), "positive");
    invalid(&patched(&good, 57, &(-3_i32).to_be_bytes()), "positive");
    let both = patched(&good, 23, &3_i32.to_be_bytes());
    invalid(&patched(&both, 57, &4_i32.to_be_bytes()), "ends before");
    let both = patched(&good, 23, &1_i32.to_be_bytes());
    invalid(&patched(&both, 57, &2_i32.to_be_bytes()), "after the last");
    let both = patched(&good, 23, &(i32::MAX - 1).to_be_bytes());
    invalid(&patched(&both, 57, &i32::MAX.to_be_bytes()), "ends before");
    invalid(&patched(&good, 53, &(-1_i32).to_be_bytes()), "sequence");
    invalid(&patched(&good, 21, &[0, 0x20]), "control");
    invalid(&patched(&good, 61, &[0x7f]), "length");
    invalid(&patched(&good, 21, &[0, 1]), "gzip");
    invalid(&[&good[..], &good[..]].concat().into(), "exactly one");
    let codec = patched(&good, 21, &[0, 7]);
    assert!(matches!(refusal(&codec), E::UnsupportedCompression(_)));

    let corrupt = |records: &[u8]| {
        let error = refusal(&Bytes::copy_from_slice(records));
        assert!(matches!(error, E::Corrupt(_)), "{error:?}");
    };
    // The leader epoch may be anything; a larger length is that of a batch which is not whole.
    for at in 16..good.len() {
        let mut flipped = good.to_vec();
        flipped[at] ^= 1;
        corrupt(&flipped);
    }
    let length = good.len() as i32 - 12;
    corrupt(&patched(&good, 8, &(length - 1).to_be_bytes()));
    invalid(&patched(&good, 8, &(length + 1).to_be_bytes()), "one whole record batch");
    // As in Kafka, what begins another batch and does not end it is passed over.
    accepted(&[&good[..], &good[..20]].concat().into(), &Rules::default(), &append());
}

#[test]
fn control_batches_are_the_coordinators() {
    let marker = EndTxnMarker { committed: false, coordinator_epoch: 3 };
    let batch = marker.to_batch(0, NOW, 9, 1, 0).unwrap();
    let coordinator = Append { origin: Origin::Coordinator, produce_version: None, ..append() };
    let rules = Rules { compression: TargetCompression::Codec(Compression::Zstd, None), ..Rules::default() };
    let (_, view) = accepted(&batch, &rules, &coordinator);
    assert!(view.is_control());
    assert_eq!(view.compression(), Ok(Compression::None));
}

#[test]
fn refused_records_are_named() {
    let rules =
        Rules { compacted: true, timestamp_before_max_ms: 1000, timestamp_after_max_ms: 10, ..Rules::default() };
    let mut batch = BatchBuilder::new(Compression::Gzip);
    for (key, timestamp) in [(Some(&b"k"[..]), NOW), (None, NOW), (Some(b"k"), -1), (Some(b"k"), NOW - 1000)] {
        batch.append(timestamp, key, None, &[]).unwrap();
    }
    let error = validate_and_assign(&batch.clone().build(0).unwrap(), &rules, &append());
    let error = error.unwrap_err();
    assert!(matches!(error, ValidateError::InvalidRecord { .. }));
    assert_eq!(error.record_errors().len(), 1);
    assert_eq!(error.record_errors()[0].batch_index, 1);
    for late in [NOW - 1001, NOW + 11, i64::MIN, i64::MAX] {
        let mut batch = batch.clone();
        batch.append(late, Some(b"k"), None, &[]).unwrap();
        let error = validate_and_assign(&batch.build(0).unwrap(), &rules, &append());
        let error = error.unwrap_err();
        assert!(matches!(error, ValidateError::InvalidTimestamp { .. }));
        let places: Vec<_> = error.record_errors().iter().map(|e| e.batch_index).collect();
        assert_eq!(places, [1, 4]);
    }
    let mut many = BatchBuilder::new(Compression::None);
    for _ in 0..5000 {
        many.append(NOW, None, None, &[]).unwrap();
    }
    let error = validate_and_assign(&many.build(0).unwrap(), &rules, &append()).unwrap_err();
    assert_eq!(error.record_errors().len(), MAX_RECORD_ERRORS);

    let appended = three(Compression::None).with_log_append_time(NOW).build(0).unwrap();
    assert!(matches!(refusal(&appended), ValidateError::InvalidTimestamp { .. }));
}

#[test]
fn sizes_are_bounded() {
    let input = produced(Compression::None);
    let size = input.len();
    let rules = |max_message_bytes: usize, segment_bytes: usize| Rules {
        max_message_bytes: max_message_bytes as i32,
        segment_bytes: segment_bytes as i32,
        ..Rules::default()
    };
    assert!(validate_and_assign(&input, &rules(size, size), &append()).is_ok());
    assert_eq!(
        validate_and_assign(&input, &rules(size - 1, size), &append()),
        Err(ValidateError::MessageTooLarge { size, limit: size - 1 })
    );
    assert_eq!(
        validate_and_assign(&input, &rules(size, size - 1), &append()),
        Err(ValidateError::RecordListTooLarge { size, limit: size - 1 })
    );
    // Small as it came, too large as it would be stored.
    let mut batch = BatchBuilder::new(Compression::Gzip);
    batch.append(NOW, None, Some(&[0; 5000]), &[]).unwrap();
    let rules = Rules { compression: TargetCompression::Codec(Compression::None, None), ..rules(1000, 10_000) };
    let error = validate_and_assign(&batch.build(0).unwrap(), &rules, &append()).unwrap_err();
    assert!(matches!(error, ValidateError::MessageTooLarge { .. }));
}

#[test]
fn a_request_version_promises_a_format() {
    let (plain, zstd) = (produced(Compression::None), produced(Compression::Zstd));
    let mut old = MessageSetBuilder::new(1, Compression::None, TimestampType::CreateTime).unwrap();
    old.append(0, NOW, None, Some(b"x")).unwrap();
    let old = old.build().unwrap();
    for version in 0..=13 {
        assert!(check_produce_version(&plain, version).is_ok());
        assert_eq!(check_produce_version(&old, version).is_ok(), version < 3);
        assert_eq!(check_produce_version(&Bytes::new(), version).is_ok(), version < 3);
        let result = check_produce_version(&zstd, version);
        assert_eq!(result.is_ok(), !(3..7).contains(&version));
        if let Err(error) = result {
            assert!(matches!(error, ValidateError::UnsupportedCompression(_)));
        }
        let twice = Bytes::from([&plain[..], &plain[..]].concat());
        assert_eq!(check_produce_version(&twice, version).is_ok(), version < 3);
    }
}

#[test]
fn old_message_sets_become_batches() {
    let golden = include_str!("../../protocol/tests/golden/records.txt");
    let mut seen = 0;
    for line in golden.lines().filter(|line| line.contains(" m0-") || line.contains(" m1-")) {
        let words: Vec<&str> = line.split(' ').collect();
        let input: Bytes =
            (0..words[2].len() / 2).map(|i| u8::from_str_radix(&words[2][2 * i..2 * i + 2], 16).unwrap()).collect();
        let rules = Rules { timestamp_before_max_ms: i64::MAX, ..Rules::default() };
        if words[1].contains("-1-small") {
            // Append time, which a producer must not claim.
            let error = validate_and_assign(&input, &rules, &old_producer()).unwrap_err();
            assert!(matches!(error, ValidateError::InvalidTimestamp { .. }), "{line}");
            continue;
        }
        let (validated, view) = accepted(&input, &rules, &old_producer());
        assert!(validated.rewritten);
        assert_eq!(view.compression().unwrap().id().to_string(), words[1][3..4]);
        assert_eq!(contents(view.bytes()), contents(&input));
        assert_eq!(view.record_count(), 5);
        seen += 1;
    }
    assert!(seen >= 8);
}

#[test]
fn old_message_sets_are_checked() {
    let set = |magic, codec, base: i64| {
        let mut set = MessageSetBuilder::new(magic, codec, TimestampType::CreateTime).unwrap();
        for offset in 0..3 {
            set.append(base + offset, NOW, Some(b"k"), Some(b"value")).unwrap();
        }
        set.build().unwrap()
    };
    let rules = Rules::default();
    // Wrappers one after the other, and beside plain messages.
    let mixed = [set(1, Compression::Gzip, 0), set(1, Compression::None, 0), set(1, Compression::Lz4, 9)];
    let (_, view) = accepted(&mixed.concat().into(), &rules, &old_producer());
    assert_eq!(view.record_count(), 9);
    assert_eq!(view.compression(), Ok(Compression::Lz4));
    let mixed = [set(1, Compression::None, 0), set(0, Compression::None, 0)].concat();
    let error = validate_and_assign(&mixed.into(), &rules, &old_producer()).unwrap_err();
    assert!(matches!(error, ValidateError::InvalidRecord { .. }));
    // As some versions of librdkafka send it: offset 0 on the wrapper.
    let mut wrapper = set(1, Compression::Snappy, 0).to_vec();
    wrapper[..8].fill(0);
    accepted(&wrapper.into(), &rules, &old_producer());
    for magic in [0, 1] {
        for codec in [Compression::None, Compression::Gzip] {
            let good = set(magic, codec, 0);
            let first = good.len() / if codec == Compression::None { 3 } else { 1 };
            for at in 12..first {
                let mut bad = good.to_vec();
                bad[at] ^= 0x40;
                let error = validate_and_assign(&bad.into(), &rules, &old_producer());
                assert!(matches!(error, Err(ValidateError::Corrupt(_))), "{at}: {error:?}");
            }
            let error = validate_and_assign(&good.slice(..good.len() - 1), &rules, &old_producer());
            assert!(matches!(error, Err(ValidateError::Corrupt(_))));
        }
    }
}

#[test]
fn copied_batches_must_continue_the_log() {
    let batch = |base: i64| three(Compression::None).with_leader_epoch(4).build(base).unwrap();
    let bytes = Bytes::from([&batch(10)[..], &batch(20)[..], &batch(23)[..40]].concat());
    let copied = check_copied(&bytes, 8).unwrap();
    assert_eq!(copied.valid_bytes, batch(10).len() * 2);
    assert_eq!((copied.first_offset, copied.last_offset), (Some(10), 22));
    assert_eq!((copied.last_leader_epoch, copied.batch_count), (4, 2));
    assert_eq!(copied.max_timestamp, NOW + 9);
    assert_eq!(check_copied(&bytes, 11), Err(ValidateError::OutOfOrder { expected: 11, found: 10 }));
    let crossed = Bytes::from([&batch(10)[..], &batch(12)[..]].concat());
    assert!(matches!(check_copied(&crossed, 0), Err(ValidateError::OutOfOrder { .. })));
    assert_eq!(check_copied(&Bytes::new(), 5).unwrap().last_offset, 4);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

    /// Whatever is done to a batch behind a right checksum: it is refused, or what is written holds together.
    #[test]
    fn what_is_accepted_is_readable(
        codec in prop::sample::select(Compression::ALL.to_vec()),
        changes in prop::collection::vec((21_usize..200, any::<u8>()), 0..4),
        target in prop::sample::select(vec![TargetCompression::Producer, TargetCompression::Codec(Compression::Lz4, None)]),
        old in any::<bool>(),
        cut in prop::option::of(0_usize..150),
    ) {
        let mut input = produced(codec);
        for (at, byte) in changes {
            input = patched(&input, at % (input.len() - 21) + 21, &[byte]);
        }
        if let Some(cut) = cut {
            input.truncate(cut);
        }
        let append = if old { old_producer() } else { append() };
        let rules = Rules { compression: target, ..Rules::default() };
        if let Ok(validated) = validate_and_assign(&input, &rules, &append) {
            consistent(&validated, &validated.records.clone().into_contiguous(), &append);
        }
    }

    #[test]
    fn old_sets_never_panic(
        codec in prop::sample::select(Compression::ALL[..4].to_vec()),
        magic in 0_i8..2,
        changes in prop::collection::vec((12_usize..200, any::<u8>()), 0..4),
    ) {
        let mut set = MessageSetBuilder::new(magic, codec, TimestampType::CreateTime).unwrap();
        for offset in 0..3 {
            set.append(offset, NOW, Some(b"k"), Some(&[7; 40])).unwrap();
        }
        let mut input = set.build().unwrap().to_vec();
        for (at, byte) in changes {
            let at = at % (input.len() - 12) + 12;
            input[at] = byte;
        }
        if codec != Compression::None {
            let crc = crc32fast_of(&input[16..]);
            input[12..16].copy_from_slice(&crc.to_be_bytes());
        }
        let append = old_producer();
        if let Ok(validated) = validate_and_assign(&input.into(), &Rules::default(), &append) {
            consistent(&validated, &validated.records.clone().into_contiguous(), &append);
        }
    }
}

/// CRC-32 (IEEE), bit by bit.
fn crc32fast_of(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (0_u32.wrapping_sub(crc & 1))))
    })
}
