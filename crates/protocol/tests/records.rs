//! Record batches: what is built is read back, and nothing that comes from outside panics or allocates without measure.

use bytes::{Bytes, BytesMut};
use milena_protocol::records::control::{ControlType, EndTxnMarker};
use milena_protocol::records::{
    BatchBuilder, BatchView, Compression, DecompressLimit, HEADER_LEN, Header, Record, RecordsError, TimestampType,
    batches, set_base_offset, set_leader_epoch, set_timestamps,
};
use proptest::prelude::*;

const LIMIT: DecompressLimit = DecompressLimit(8 << 20);

fn some_bytes(most: usize) -> impl Strategy<Value = Option<Bytes>> {
    prop_oneof![
        1 => Just(None),
        3 => prop::collection::vec(any::<u8>(), 0..most).prop_map(|bytes| Some(Bytes::from(bytes))),
        1 => (any::<u8>(), 0..most * 20).prop_map(|(byte, len)| Some(Bytes::from(vec![byte; len]))),
    ]
}

fn header() -> impl Strategy<Value = Header> {
    ("[a-z]{0,8}", some_bytes(20)).prop_map(|(name, value)| (Bytes::from(name), value))
}

fn record() -> impl Strategy<Value = Record> {
    (-1_i64..1 << 50, some_bytes(50), some_bytes(3000), prop::collection::vec(header(), 0..4))
        .prop_map(|(timestamp, key, value, headers)| Record { offset: 0, timestamp, key, value, headers })
}

fn codec() -> impl Strategy<Value = Compression> {
    prop::sample::select(Compression::ALL.to_vec())
}

fn build(codec: Compression, base_offset: i64, records: &mut [Record]) -> Bytes {
    let mut builder = BatchBuilder::new(codec).with_leader_epoch(7).with_producer(11, 2, 100);
    for (index, record) in records.iter_mut().enumerate() {
        record.offset = base_offset + index as i64;
        builder.append_record(base_offset, record).unwrap();
    }
    builder.build(base_offset).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_built_is_read_back(codec in codec(), base_offset in 0..i64::MAX / 2, mut records in prop::collection::vec(record(), 1..20)) {
        let bytes = build(codec, base_offset, &mut records);
        let view = BatchView::parse(&bytes).unwrap();
        prop_assert!(view.crc_valid());
        prop_assert_eq!(view.magic(), 2);
        prop_assert_eq!(view.compression().unwrap(), codec);
        prop_assert_eq!(view.base_offset(), base_offset);
        prop_assert_eq!(view.last_offset(), base_offset + records.len() as i64 - 1);
        prop_assert_eq!(view.record_count() as usize, records.len());
        prop_assert_eq!(view.max_timestamp(), records.iter().map(|record| record.timestamp).max().unwrap());
        prop_assert_eq!((view.producer_id(), view.producer_epoch(), view.base_sequence()), (11, 2, 100));
        prop_assert_eq!(view.last_sequence(), 99 + records.len() as i32);
        let read: Vec<Record> = view.records(LIMIT).unwrap().collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(&read, &records);

        let mut scan = view.scan(LIMIT).unwrap();
        for (index, record) in records.iter().enumerate() {
            let scanned = scan.next_record().unwrap().unwrap();
            prop_assert_eq!(scanned.offset_delta as usize, index);
            prop_assert_eq!(view.base_timestamp() + scanned.timestamp_delta, record.timestamp);
            prop_assert_eq!(scanned.key_size, record.key.as_ref().map(Bytes::len));
            prop_assert_eq!(scanned.value_size, record.value.as_ref().map(Bytes::len));
        }
        prop_assert_eq!(scan.next_record().unwrap(), None);
    }

    #[test]
    fn a_damaged_batch_is_an_error_and_never_a_panic(
        codec in codec(),
        mut records in prop::collection::vec(record(), 1..10),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1_u8..), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let bytes = build(codec, 0, &mut records);
        let mut damaged = BytesMut::from(&bytes[..]);
        for (at, flip) in flips {
            let at = at.index(damaged.len());
            damaged[at] ^= flip;
        }
        if cut.index(4) == 0 {
            damaged.truncate(cut.index(bytes.len()));
        }
        read_everything(damaged.freeze());
    }

    #[test]
    fn random_bytes_after_a_header_are_an_error_and_never_a_panic(attributes in 0_u8..16, count: i32, body: Vec<u8>) {
        let mut bytes = BytesMut::from(&BatchBuilder::new(Compression::None).build(0).unwrap()[..]);
        bytes.extend_from_slice(&body);
        let length = (bytes.len() as i32 - 12).to_be_bytes();
        bytes[8..12].copy_from_slice(&length);
        bytes[22] = attributes;
        bytes[57..61].copy_from_slice(&count.to_be_bytes());
        read_everything(bytes.freeze());
    }

    #[test]
    fn random_bytes_are_an_error_and_never_a_panic(bytes: Vec<u8>) {
        read_everything(Bytes::from(bytes));
    }

    #[test]
    fn random_bytes_decompress_to_an_error_or_within_the_limit(codec in codec(), framed: bool, mut bytes: Vec<u8>) {
        if framed {
            let mut start = milena_protocol::records::compress::compress(codec, None, b"abcabcabcabcabcabcabcabc").unwrap();
            start.truncate(start.len() / 2);
            start.append(&mut bytes);
            bytes = start;
        }
        if let Ok(out) = milena_protocol::records::compress::decompress(codec, &bytes, DecompressLimit(1000)) {
            prop_assert!(out.len() <= 1000);
        }
    }
}

/// Everything a reader asks of a batch.
fn read_everything(bytes: Bytes) {
    for batch in batches(bytes) {
        let Ok(batch) = batch else { return };
        let _ = (
            batch.last_offset(),
            batch.next_offset(),
            batch.last_sequence(),
            batch.crc_valid(),
            batch.delete_horizon_ms(),
        );
        if let Ok(records) = batch.records(LIMIT) {
            for record in records.flatten() {
                let _ = (ControlType::of(&record), EndTxnMarker::parse(&record));
            }
        }
        if let Ok(mut scan) = batch.scan(LIMIT) {
            while let Ok(Some(_)) = scan.next_record() {}
        }
    }
}

#[test]
fn the_walk_stops_before_a_batch_that_is_not_whole() {
    let one = build(Compression::None, 0, &mut [Record::default()]);
    let two = build(Compression::Lz4, 1, &mut [Record::default()]);
    let mut all = BytesMut::from(&one[..]);
    all.extend_from_slice(&two);
    let whole = all.len();
    for cut in 0..=whole {
        let mut walk = batches(all.clone().freeze().slice(..cut));
        let sizes: Vec<usize> = walk.by_ref().map(|batch| batch.unwrap().size_in_bytes()).collect();
        let expected = if cut == whole {
            vec![one.len(), two.len()]
        } else if cut >= one.len() {
            vec![one.len()]
        } else {
            vec![]
        };
        assert_eq!(sizes, expected);
        assert_eq!(walk.position() + walk.remaining(), cut);
        assert_eq!(walk.position(), expected.iter().sum::<usize>());
    }
}

#[test]
fn stamps_are_outside_the_checksum_except_timestamps() {
    let batch = build(Compression::Gzip, 0, &mut [Record { timestamp: 5, ..Record::default() }]);
    let crc = BatchView::parse(&batch).unwrap().crc();
    let mut stamped = BytesMut::from(&batch[..]);
    set_base_offset(&mut stamped, 4242);
    set_leader_epoch(&mut stamped, 9);
    let view = BatchView::parse(&stamped.clone().freeze()).unwrap();
    assert_eq!((view.base_offset(), view.leader_epoch(), view.crc(), view.crc_valid()), (4242, 9, crc, true));
    set_timestamps(&mut stamped, TimestampType::LogAppendTime, 77);
    let view = BatchView::parse(&stamped.freeze()).unwrap();
    assert!(view.crc_valid());
    assert_eq!(
        (view.timestamp_type(), view.max_timestamp(), view.base_timestamp()),
        (TimestampType::LogAppendTime, 77, 5)
    );
    let records: Vec<Record> = view.records(LIMIT).unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!((records[0].timestamp, records[0].offset), (77, 4242));
}

#[test]
fn bombs_are_refused() {
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let mut builder = BatchBuilder::new(codec);
        builder.append(0, None, Some(&vec![0; 9 << 20]), &[]).unwrap();
        let view = BatchView::parse(&builder.build(0).unwrap()).unwrap();
        let refused = Err(RecordsError::DecompressLimit { limit: LIMIT.0 });
        assert_eq!(view.records(LIMIT).map(|_| ()), refused);
        let mut scan = view.scan(LIMIT).unwrap();
        assert_eq!(scan.next_record().map(|_| ()), refused);
        assert!(view.records(DecompressLimit(10 << 20)).is_ok());
    }
}

#[test]
fn lying_counts_are_refused() {
    for codec in Compression::ALL {
        let bytes = build(codec, 0, &mut [Record::default(), Record::default(), Record::default()]);
        for count in [-1, 0, 2, 4, i32::MAX] {
            let mut lying = BytesMut::from(&bytes[..]);
            lying[HEADER_LEN - 4..HEADER_LEN].copy_from_slice(&count.to_be_bytes());
            let view = BatchView::parse(&lying.freeze()).unwrap();
            assert!(view.records(LIMIT).unwrap().any(|record| record.is_err()), "{codec:?} {count}");
            let mut scan = view.scan(LIMIT).unwrap();
            let end = loop {
                match scan.next_record() {
                    Ok(Some(_)) => continue,
                    other => break other,
                }
            };
            assert!(end.is_err(), "{codec:?} {count}");
        }
    }
}

#[test]
fn sequences_wrap() {
    let mut builder = BatchBuilder::new(Compression::None).with_producer(1, 0, i32::MAX - 1);
    for _ in 0..4 {
        builder.append(0, None, None, &[]).unwrap();
    }
    assert_eq!(BatchView::parse(&builder.build(0).unwrap()).unwrap().last_sequence(), 1);
}

#[test]
fn transaction_markers() {
    for committed in [true, false] {
        let marker = EndTxnMarker { committed, coordinator_epoch: 12 };
        let view = BatchView::parse(&marker.to_batch(5, 1000, 77, 3, 1).unwrap()).unwrap();
        assert!(view.is_control() && view.is_transactional());
        let record = view.records(LIMIT).unwrap().next().unwrap().unwrap();
        assert_eq!(EndTxnMarker::parse(&record).unwrap(), Some(marker));
    }
}
