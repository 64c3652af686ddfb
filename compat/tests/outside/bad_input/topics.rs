//! Topics that are not there, cannot be named so, or cannot be configured so.

use anyhow::Result;
use milena_compat::batch::Batch;
use milena_compat::wire::{FETCH, PRODUCE, fetch_body};
use milena_compat::wire::{create_topic, fetch, produce, produce_body, produced, topic_error};

use super::target::{Target, name};

#[test]
fn a_topic_that_is_not_there_is_unknown() -> Result<()> {
    let mut t = Target::start()?;
    let mut wire = t.connect()?;
    let unknown = name("unknown");
    for create in [true, false] {
        assert_eq!(topic_error(&mut wire, &unknown, create)?, 3, "UNKNOWN_TOPIC_OR_PARTITION");
    }
    let batch = Batch::of(&[b"x"]).bytes();
    assert_eq!(produce(&mut wire, &unknown, &[&batch])?[0].error, 3);
    assert_eq!(fetch(&mut wire, &unknown, 0, 0)?.0, 3);
    // a partition that is not there, beside one that is
    let known = t.topic(1, &[])?;
    let both = produce(&mut wire, &known, &[&batch, &batch])?;
    assert_eq!((both[0].error, both[0].base_offset, both[1].error), (0, 0, 3), "{both:?}");
    assert_eq!(fetch(&mut wire, &known, 1, 0)?.0, 3);
    assert_eq!(fetch(&mut wire, &known, -1, 0)?.0, 3);
    assert_eq!(fetch(&mut wire, &known, i32::MAX, 0)?.0, 3);
    // offsets that are not there
    assert_eq!(fetch(&mut wire, &known, 0, 99)?.0, 1, "OFFSET_OUT_OF_RANGE");
    assert_eq!(fetch(&mut wire, &known, 0, -5)?.0, 1, "OFFSET_OUT_OF_RANGE");
    t.serves()
}

#[test]
fn names_that_no_topic_has_are_refused() -> Result<()> {
    let mut t = Target::start()?;
    let mut wire = t.connect()?;
    let long = "x".repeat(250);
    for bad in ["", ".", "..", "a/b", "../a", "with space", "ümlaut", "new\nline", "nul\0", &long] {
        let (error, message) = create_topic(&mut wire, bad, 1, 1, &[])?;
        assert_eq!(error, 17, "INVALID_TOPIC_EXCEPTION for {bad:?}: {message:?}");
        assert_eq!(topic_error(&mut wire, bad, false)?, 17, "metadata of {bad:?}");
    }
    assert_eq!(create_topic(&mut wire, &format!("{:x<249}", name("long")), 1, 1, &[])?.0, 0);
    t.serves()
}

#[test]
fn topics_that_cannot_be_so_are_refused_with_what_is_wrong() -> Result<()> {
    let mut t = Target::start()?;
    let mut wire = t.connect()?;
    for (key, value) in [
        ("retention.ms", "soon"),
        ("retention.ms", "-2"),
        ("cleanup.policy", "sweep"),
        ("compression.type", "rar"),
        ("segment.bytes", "1"),
        ("min.insync.replicas", "0"),
        ("max.message.bytes", "99999999999"),
        ("no.such.key", "1"),
    ] {
        let (error, message) = create_topic(&mut wire, &name("config"), 1, 1, &[(key, value)])?;
        assert_eq!(error, 40, "INVALID_CONFIG for {key}={value}: {message:?}");
        let message = message.unwrap_or_default();
        assert!(message.contains(key), "{key}={value}: {message}");
        assert!(message.contains(value) || key == "no.such.key", "{key}={value}: {message}");
    }
    for (partitions, replication_factor, expected) in [(0, 1, 37), (-2, 1, 37), (1, 2, 38), (1, 0, 38), (1, -2, 38)] {
        let (error, message) = create_topic(&mut wire, &name("shape"), partitions, replication_factor, &[])?;
        assert_eq!(error, expected, "{partitions} partitions, {replication_factor} replicas: {message:?}");
    }
    let there = t.topic(1, &[])?;
    assert_eq!(create_topic(&mut wire, &there, 1, 1, &[])?.0, 36, "TOPIC_ALREADY_EXISTS");
    t.serves()
}

#[test]
fn acks_that_nobody_asks_for_are_refused() -> Result<()> {
    let mut t = Target::start()?;
    let topic = t.topic(1, &[])?;
    let batch = Batch::of(&[b"x"]).bytes();
    let mut wire = t.connect()?;
    for acks in [2, -2, i16::MAX] {
        let p = produced(&mut wire.ask(PRODUCE, 8, produce_body(&topic, acks, &[&batch]))?)?;
        assert_eq!(p[0].error, 21, "INVALID_REQUIRED_ACKS");
    }
    assert_eq!(fetch(&mut wire, &topic, 0, 0)?.1, 0, "nothing was written");
    // acks=0: no answer; when it fails the connection is closed instead
    wire.send(PRODUCE, 8, &produce_body(&topic, 0, &[&batch]).0)?;
    while fetch(&mut wire, &topic, 0, 0)?.1 == 0 {}
    wire.send(PRODUCE, 8, &produce_body(&name("unknown"), 0, &[&batch]).0)?;
    wire.ends_in_silence()?;
    t.serves()
}

#[test]
fn sizes_that_make_no_sense_fetch_nothing_or_one_batch() -> Result<()> {
    let mut t = Target::start()?;
    let topic = t.topic(1, &[])?;
    let mut wire = t.connect()?;
    let batch = Batch::of(&[&[b'x'; 1000]]).bytes();
    produce(&mut wire, &topic, &[&batch])?;
    for max_bytes in [i32::MAX, 1, 0] {
        wire.send(FETCH, 4, &fetch_body(&topic, 0, 0, max_bytes).0)?;
        let length = wire.answer()?.left();
        if max_bytes > 0 {
            assert!(length > batch.len(), "{max_bytes}: {length} bytes");
        }
    }
    t.serves()
}
