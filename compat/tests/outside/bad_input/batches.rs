//! Batches that are damaged, lie about themselves or hold what no log may: each is refused with Kafka's error, the one beside it is not.

use anyhow::{Context as _, Result, ensure};
use milena_compat::batch::{
    self, Batch, CRC_AT, GZIP, LENGTH_AT, LZ4, MAGIC_AT, SNAPPY, ZSTD, framed, put, record, seal,
};
use milena_compat::wire::{Body, Produced, fetch, produce};

use super::target::Target;

/// The error that a batch is to get, of us and of Kafka.
#[derive(Clone, Copy)]
struct Expected {
    ours: i16,
    kafka: i16,
}

const fn both(error: i16) -> Expected {
    Expected { ours: error, kafka: error }
}

const ACCEPTED: Expected = both(0);
const CORRUPT_MESSAGE: Expected = both(2);
const MESSAGE_TOO_LARGE: Expected = both(10);
const INVALID_TIMESTAMP: Expected = both(32);
const INVALID_RECORD: Expected = both(87);
/// Where Kafka runs into what it did not expect it says UNKNOWN_SERVER_ERROR, for which producers give up as well.
const UNREADABLE: Expected = Expected { ours: 87, kafka: -1 };
const UNKNOWN_CODEC: Expected = Expected { ours: 76, kafka: -1 };

/// Produces the batch beside a good one; what its partition says. Nothing of a refused batch is in the log.
fn beside_a_good_one(t: &Target, topic: &str, bad: &[u8]) -> Result<Produced> {
    let good = Batch::of(&[b"good"]).bytes();
    let mut wire = t.connect()?;
    let before = [fetch(&mut wire, topic, 0, 0)?.1, fetch(&mut wire, topic, 1, 0)?.1];
    let mut both = produce(&mut wire, topic, &[bad, &good])?;
    both.sort_by_key(|p| p.partition);
    let [bad, good] = both.try_into().ok().context("two partitions")?;
    // where a batch does not even say its size or format Kafka refuses the whole request
    if t.broker.is_some() || good.error == 0 {
        ensure!((good.error, good.base_offset) == (0, before[1]), "the good one: {good:?}");
    }
    let after = fetch(&mut wire, topic, 0, 0)?.1;
    ensure!(bad.error == 0 || (bad.base_offset == -1 && after == before[0]), "{bad:?}; the log ends at {after}");
    Ok(bad)
}

/// Sends every case and lists all that are answered otherwise.
fn expect(t: &Target, topic: &str, cases: Vec<(&str, Vec<u8>, Expected)>) -> Result<()> {
    let mut wrong = Vec::new();
    for (what, bytes, expected) in cases {
        let expected = if t.broker.is_some() { expected.ours } else { expected.kafka };
        match beside_a_good_one(t, topic, &bytes) {
            Ok(p) if p.error == expected => {}
            Ok(p) => wrong.push(format!("{what}: {} instead of {expected}: {p:?}", p.error)),
            Err(e) => wrong.push(format!("{what}: {e:#}")),
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// A good batch with a few bytes overwritten, and its checksum made true again.
fn altered(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut b = Batch::of(&[b"one", b"two"]).bytes();
    put(&mut b, at, bytes);
    seal(&mut b);
    b
}

#[test]
fn damaged_batches_are_corrupt() -> Result<()> {
    let t = Target::start()?;
    let before = t.memory()?;
    let topic = t.topic(2, &[])?;
    let whole = Batch::of(&[b"one", b"two"]).bytes();
    let mut crc = whole.clone();
    put(&mut crc, CRC_AT, &[0; 4]);
    let mut flipped = whole.clone();
    *flipped.last_mut().context("bytes")? ^= 1;
    let mut old = whole.clone();
    put(&mut old, MAGIC_AT, &[1]);
    expect(
        &t,
        &topic,
        vec![
            ("a wrong checksum", crc, CORRUPT_MESSAGE),
            ("a bit flipped in a record", flipped, CORRUPT_MESSAGE),
            ("magic 1 at a version that carries magic 2", old, INVALID_RECORD),
            ("magic 3", altered(MAGIC_AT, &[3]), CORRUPT_MESSAGE),
            ("magic 255", altered(MAGIC_AT, &[255]), CORRUPT_MESSAGE),
            ("no bytes", Vec::new(), INVALID_RECORD),
            ("a few bytes", whole[..7].to_vec(), INVALID_RECORD),
            ("a few zeros", vec![0; 12], CORRUPT_MESSAGE),
            ("half a header", whole[..40].to_vec(), INVALID_RECORD),
            ("half a batch", whole[..whole.len() - 5].to_vec(), INVALID_RECORD),
            ("two batches", [whole.clone(), whole.clone()].concat(), INVALID_RECORD),
            ("a batch and some bytes", [whole.clone(), vec![0; 5]].concat(), ACCEPTED),
            ("a length of 0", altered(LENGTH_AT, &[0; 4]), CORRUPT_MESSAGE),
            ("a length below 0", altered(LENGTH_AT, &[0xff; 4]), CORRUPT_MESSAGE),
            ("a length of 2 GB", altered(LENGTH_AT, &i32::MAX.to_be_bytes()), UNREADABLE),
            (
                "a length too short by one",
                altered(LENGTH_AT, &(whole.len() as i32 - 13).to_be_bytes()),
                CORRUPT_MESSAGE,
            ),
        ],
    )?;
    t.ends_well(before, 48)
}

#[test]
fn batches_that_lie_about_their_records_are_refused() -> Result<()> {
    let t = Target::start()?;
    let before = t.memory()?;
    let topic = t.topic(2, &[])?;
    let two = Batch::of(&[b"one", b"two"]);
    let with = |change: &dyn Fn(&mut Batch)| {
        let mut b = two.clone();
        change(&mut b);
        b.bytes()
    };
    let around = |records: Vec<u8>| Batch::around(1, batch::NONE, records).bytes();
    let body = |b: Body| around(framed(&b.0));
    expect(
        &t,
        &topic,
        vec![
            (
                "fewer than there are",
                with(&|b| {
                    b.count = 1;
                    b.last_offset_delta = 0
                }),
                INVALID_RECORD,
            ),
            (
                "more than there are",
                with(&|b| {
                    b.count = 3;
                    b.last_offset_delta = 2
                }),
                INVALID_RECORD,
            ),
            (
                "two billion",
                with(&|b| {
                    b.count = i32::MAX;
                    b.last_offset_delta = i32::MAX - 1
                }),
                INVALID_RECORD,
            ),
            (
                "none",
                with(&|b| {
                    b.count = 0;
                    b.last_offset_delta = -1
                }),
                INVALID_RECORD,
            ),
            (
                "fewer than none",
                with(&|b| {
                    b.count = -1;
                    b.last_offset_delta = -2
                }),
                INVALID_RECORD,
            ),
            ("a last delta that is not the count's", with(&|b| b.last_offset_delta = 7), INVALID_RECORD),
            ("a last delta below 0", with(&|b| b.last_offset_delta = -1), INVALID_RECORD),
            ("a control batch", with(&|b| b.attributes = 0x20), INVALID_RECORD),
            ("a record of nothing", around(vec![0]), INVALID_RECORD),
            ("a record longer than the batch", around(Body::new().varint(1000).raw(&[0; 20]).0), INVALID_RECORD),
            ("a record of 2 GB", around(Body::new().varint(i32::MAX).raw(&[0; 20]).0), INVALID_RECORD),
            ("a record below 0", around(Body::new().varint(-5).raw(&[0; 20]).0), INVALID_RECORD),
            ("a length of six bytes", around(vec![0xff; 6]), UNREADABLE),
            ("a key of 2 GB", body(Body::new().i8(0).varint(0).varint(0).varint(i32::MAX)), INVALID_RECORD),
            (
                "a value of 2 GB",
                body(Body::new().i8(0).varint(0).varint(0).varint(-1).varint(i32::MAX)),
                INVALID_RECORD,
            ),
            (
                "two billion headers",
                body(Body::new().i8(0).varint(0).varint(0).varint(-1).varint(0).varint(i32::MAX)),
                INVALID_RECORD,
            ),
            (
                "headers below 0",
                body(Body::new().i8(0).varint(0).varint(0).varint(-1).varint(0).varint(-3)),
                INVALID_RECORD,
            ),
            (
                "a header without a name",
                body(Body::new().i8(0).varint(0).varint(0).varint(-1).varint(0).varint(1).varint(-1).varint(-1)),
                INVALID_RECORD,
            ),
            (
                "offsets that jump",
                Batch::around(2, batch::NONE, [record(0, None, b"a"), record(5, None, b"b")].concat()).bytes(),
                ACCEPTED,
            ),
            (
                "offsets that fall",
                Batch::around(2, batch::NONE, [record(1, None, b"a"), record(0, None, b"b")].concat()).bytes(),
                ACCEPTED,
            ),
            (
                "tomorrow's timestamp",
                with(&|b| {
                    b.base_timestamp += 86_400_000;
                    b.max_timestamp += 86_400_000
                }),
                INVALID_TIMESTAMP,
            ),
        ],
    )?;
    t.ends_well(before, 48)
}

#[test]
fn codecs_that_are_not_what_they_say_are_refused() -> Result<()> {
    let t = Target::start()?;
    let before = t.memory()?;
    let topic = t.topic(2, &[])?;
    let mut cases = Vec::new();
    for (name, codec) in [("gzip", GZIP), ("snappy", SNAPPY), ("lz4", LZ4), ("zstd", ZSTD)] {
        let good = compress(codec, &record(0, None, &[b'x'; 1000]))?;
        let mut cut = good.clone();
        cut.truncate(good.len() / 2);
        for (what, payload) in
            [("plain bytes", record(0, None, b"plain")), ("half of it", cut), ("nothing", Vec::new())]
        {
            let expected = if (what, codec) == ("nothing", ZSTD) { INVALID_RECORD } else { UNREADABLE };
            let what: &str = Box::leak(format!("{what} as {name}").into_boxed_str());
            cases.push((what, Batch::around(1, codec, payload).bytes(), expected));
        }
        let what: &str = Box::leak(format!("{name} of garbage").into_boxed_str());
        cases.push((what, Batch::around(1, codec, compress(codec, &[0xff; 100])?).bytes(), INVALID_RECORD));
    }
    for codec in [5, 6, 7] {
        cases.push(("a codec that is none", Batch::around(1, codec, record(0, None, b"x")).bytes(), UNKNOWN_CODEC));
    }
    // snappy's own length is a number of the sender's
    let lie = Body::new().uvarint(u32::MAX).raw(&[0; 20]).0;
    cases.push(("snappy of 4 GB", Batch::around(1, SNAPPY, lie).bytes(), UNREADABLE));
    expect(&t, &topic, cases)?;
    t.ends_well(before, 64)
}

/// A megabyte that becomes as much as its codec can make of it. Kafka walks through it all and takes it; it may as well be refused as too large.
/// It must not take the memory that it claims.
#[test]
fn bombs_do_not_go_off() -> Result<()> {
    let t = Target::start()?;
    let before = t.memory()?;
    let topic = t.topic(2, &[])?;
    for (name, codec, size) in
        [("gzip", GZIP, 900 << 20), ("snappy", SNAPPY, 18 << 20), ("lz4", LZ4, 200 << 20), ("zstd", ZSTD, 2000 << 20)]
    {
        let compressed = compress_zeros(codec, size)?;
        ensure!(compressed.len() < 1_000_000, "{name}: {} bytes", compressed.len());
        let batch = Batch::around(1, codec, compressed).bytes();
        // several at once
        std::thread::scope(|s| {
            let threads: Vec<_> = (0..3).map(|_| s.spawn(|| produce(&mut t.connect()?, &topic, &[&batch]))).collect();
            for thread in threads {
                let p = thread.join().map_err(|_| anyhow::anyhow!("panicked"))??.remove(0);
                println!("{name}: {} MB from {} KB: {}", size >> 20, batch.len() / 1000, p.error);
                ensure!([ACCEPTED, MESSAGE_TOO_LARGE].iter().any(|e| e.ours == p.error), "{name}: {p:?}");
            }
            Ok(())
        })?;
    }
    t.ends_well(before, 128)
}

#[test]
fn too_large_a_batch_is_too_large() -> Result<()> {
    let t = Target::start()?;
    let before = t.memory()?;
    let topic = t.topic(2, &[])?;
    let small = t.topic(2, &[("max.message.bytes", "1000")])?;
    let of = |bytes: usize| Batch::of(&[&vec![b'x'; bytes]]).bytes();
    expect(
        &t,
        &topic,
        vec![("1.1 MB", of(1_100_000), MESSAGE_TOO_LARGE), ("20 MB", of(20_000_000), MESSAGE_TOO_LARGE)],
    )?;
    expect(&t, &small, vec![("2 KB", of(2000), MESSAGE_TOO_LARGE), ("900 B", of(900), ACCEPTED)])?;
    t.ends_well(before, 128)
}

#[test]
fn a_compacted_topic_takes_no_record_without_a_key() -> Result<()> {
    let t = Target::start()?;
    let topic = t.topic(2, &[("cleanup.policy", "compact")])?;
    let keyed = |delta| record(delta, Some(b"k"), b"v");
    let batch = Batch::around(3, batch::NONE, [keyed(0), record(1, None, b"v"), keyed(2)].concat()).bytes();
    let mut p = produce(&mut t.connect()?, &topic, &[&batch])?;
    let p = p.remove(0);
    ensure!(p.error == INVALID_RECORD.ours && p.record_errors == [1], "{p:?}");
    Ok(())
}

fn compress(codec: i16, bytes: &[u8]) -> Result<Vec<u8>> {
    compressor(codec, |w| Ok(w.write_all(bytes)?))
}

/// A record whose value is so many zeros.
fn compress_zeros(codec: i16, size: usize) -> Result<Vec<u8>> {
    let body = Body::new().i8(0).varint(0).varint(0).varint(-1).varint(size as i32).0;
    let head = Body::new().varint((body.len() + size + 1) as i32).raw(&body).0;
    compressor(codec, |w| {
        w.write_all(&head)?;
        let zeros = vec![0; 1 << 20];
        for _ in 0..size >> 20 {
            w.write_all(&zeros)?;
        }
        Ok(w.write_all(&[0])?)
    })
}

fn compressor(codec: i16, fill: impl FnOnce(&mut dyn std::io::Write) -> Result<()>) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    match codec {
        GZIP => {
            let mut w = flate2::write::GzEncoder::new(&mut out, flate2::Compression::best());
            fill(&mut w)?;
            w.finish()?;
        }
        SNAPPY => {
            let mut plain = Vec::new();
            fill(&mut plain)?;
            out = snap::raw::Encoder::new().compress_vec(&plain)?;
        }
        LZ4 => {
            let mut w = lz4_flex::frame::FrameEncoder::new(&mut out);
            fill(&mut w)?;
            w.finish()?;
        }
        _ => {
            let mut w = zstd::Encoder::new(&mut out, 1)?;
            fill(&mut w)?;
            w.finish()?;
        }
    }
    Ok(out)
}
