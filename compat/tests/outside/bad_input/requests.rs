//! Fields that claim more than there is, or what they cannot be: the connection is closed before anything is set aside for them.

use anyhow::Result;
use milena_compat::wire::{API_VERSIONS, Body, FETCH, METADATA, PRODUCE};

use super::target::Target;

#[test]
fn counts_and_lengths_that_lie_close_the_connection() -> Result<()> {
    let t = Target::start()?;
    let before = t.memory()?;
    let fetch = || Body::new().i32(-1).i32(100).i32(1).i32(1 << 20).i8(0);
    let produce = || Body::new().i16(-1).i16(-1).i32(1000);
    let cases: &[(&str, i16, i16, Body)] = &[
        ("two billion topics", METADATA, 4, Body::new().i32(i32::MAX).i8(0)),
        ("two billion topics and bytes for some", METADATA, 4, Body::new().i32(i32::MAX).raw(&[0; 100_000])),
        ("a null topic name", METADATA, 4, Body::new().i32(1).i16(-1).i8(0)),
        ("a topic name longer than the frame", METADATA, 4, Body::new().i32(1).i16(i16::MAX).raw(b"abc")),
        ("two billion topics to fetch", FETCH, 4, fetch().i32(i32::MAX)),
        ("two billion partitions to fetch", FETCH, 4, fetch().i32(1).string("t").i32(i32::MAX).raw(&[0; 16])),
        ("a count below null's", FETCH, 4, fetch().i32(-2)),
        ("two billion topics to produce to", PRODUCE, 8, produce().i32(i32::MAX)),
        ("records of 2 GB", PRODUCE, 8, produce().i32(1).string("t").i32(1).i32(0).i32(i32::MAX).raw(&[0; 100])),
    ];
    for (what, key, version, body) in cases {
        let mut wire = t.connect()?;
        wire.send(*key, *version, &body.0)?;
        wire.ends_in_silence().map_err(|e| e.context(*what))?;
    }
    t.ends_well(before, 48)
}

#[test]
fn compact_counts_and_tagged_fields_that_lie_close_the_connection() -> Result<()> {
    let t = Target::start()?;
    let before = t.memory()?;
    let cases: &[(&str, i16, i16, Body)] = &[
        ("two billion topics", METADATA, 9, Body::new().uvarint(i32::MAX as u32).raw(&[0; 100])),
        ("a topic name of 2 GB", METADATA, 9, Body::new().uvarint(2).uvarint(i32::MAX as u32).raw(b"abc")),
        ("a count of six bytes", METADATA, 9, Body::new().raw(&[0xff; 6])),
        ("two billion tagged fields", METADATA, 9, Body::new().uvarint(1).raw(&[0, 0, 0]).uvarint(i32::MAX as u32)),
        (
            "a tagged field of 2 GB",
            METADATA,
            9,
            Body::new().uvarint(1).raw(&[0, 0, 0]).uvarint(1).uvarint(9).uvarint(i32::MAX as u32).raw(&[0; 50]),
        ),
        ("a software name of 2 GB", API_VERSIONS, 3, Body::new().uvarint(1 << 31).raw(b"abc")),
    ];
    for (what, key, version, body) in cases {
        let mut wire = t.connect()?;
        wire.send_flexible(*key, *version, &body.0)?;
        wire.ends_in_silence().map_err(|e| e.context(*what))?;
    }
    // in the header
    for tags in [Body::new().uvarint(i32::MAX as u32), Body::new().uvarint(1).uvarint(0).uvarint(i32::MAX as u32)] {
        let mut wire = t.connect()?;
        wire.send_frame(&Body::new().i16(METADATA).i16(9).i32(1).string("c").raw(&tags.0).raw(&[1, 0, 0, 0, 0]).0)?;
        wire.ends_in_silence()?;
    }
    // unknown ones that are what they claim are passed over
    let mut wire = t.connect()?;
    wire.send_flexible(
        METADATA,
        9,
        &Body::new().uvarint(1).raw(&[0, 0, 0]).uvarint(1).uvarint(77).uvarint(3).raw(b"abc").0,
    )?;
    assert!(wire.receive()?.is_some());
    t.ends_well(before, 48)
}

/// A request that is whole and asks for ten thousand things that are not there.
#[test]
fn many_small_questions_are_answered_each() -> Result<()> {
    let t = Target::start()?;
    let before = t.memory()?;
    let count = 10_000;
    let mut body = Body::new().i32(count);
    for i in 0..count {
        body = body.string(&format!("not-there-{i}"));
    }
    let mut wire = t.connect()?;
    let mut f = wire.ask(METADATA, 1, body)?;
    for _ in 0..f.count()? {
        f.i32()?;
        f.string()?;
        f.i32()?;
        f.string()?;
    }
    f.i32()?;
    assert_eq!(f.count()?, 10_000);
    for _ in 0..count {
        assert_eq!(f.i16()?, 3, "UNKNOWN_TOPIC_OR_PARTITION");
        f.string()?;
        f.i8()?;
        assert_eq!(f.count()?, 0);
    }
    t.ends_well(before, 48)
}
