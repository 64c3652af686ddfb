//! Lengths that are wrong, and bytes that are no request: the connection is closed, and it costs nothing.

use std::time::Duration;

use anyhow::Result;
use milena_compat::wire::{API_VERSIONS, Body, METADATA};

use super::target::Target;

#[test]
fn lengths_that_no_frame_has_close_the_connection() -> Result<()> {
    let t = Target::start()?;
    let before = t.memory()?;
    for length in [-1, i32::MIN, 100 * 1024 * 1024 + 1, i32::MAX, 0] {
        let mut wire = t.connect()?;
        wire.send_raw(&length.to_be_bytes())?;
        wire.ends_in_silence()?;
    }
    // somebody who took the port for another protocol's: HTTP, TLS, SSH
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"SSH-2.0-x\r\n",
    ] {
        let mut wire = t.connect()?;
        wire.send_raw(bytes)?;
        wire.ends_in_silence()?;
    }
    t.ends_well(before, 32)
}

/// Kafka sets aside what a frame claims; 200 of these would take 18 GB.
#[test]
fn frames_that_never_come_take_no_memory() -> Result<()> {
    let t = Target::start()?;
    if t.broker.is_none() {
        return Ok(());
    }
    let before = t.memory()?;
    let mut open = Vec::new();
    for i in 0..200 {
        let mut wire = t.connect()?;
        wire.send_raw(&(90_000_000i32).to_be_bytes())?;
        wire.send_raw(&[0; 10])?;
        if i % 20 == 0 {
            wire.send_raw(&[0; 100_000])?;
        }
        open.push(wire);
    }
    std::thread::sleep(Duration::from_millis(500));
    t.ends_well(before, 48)
}

#[test]
fn requests_that_nobody_serves_close_the_connection() -> Result<()> {
    let t = Target::start()?;
    let before = t.memory()?;
    // keys: never given, negative, of brokers among themselves in ZooKeeper mode
    for (key, version) in
        [(9999, 0), (-1, 0), (i16::MAX, 0), (4, 5), (5, 0), (6, 0), (7, 0), (METADATA, 99), (METADATA, -1)]
    {
        let mut wire = t.connect()?;
        wire.send(key, version, &[])?;
        wire.ends_in_silence()?;
    }
    t.ends_well(before, 32)
}

#[test]
fn an_unknown_version_of_api_versions_is_answered_with_the_known_ones() -> Result<()> {
    let t = Target::start()?;
    for version in [5, 99, i16::MAX] {
        let mut wire = t.connect()?;
        // a client of that time would send what its time has
        wire.send_flexible(API_VERSIONS, version, &[4, b'a', b'b', b'c', 4, b'1', b'.', b'0', 0])?;
        let mut f = wire.answer()?;
        assert_eq!(f.i16()?, 35, "UNSUPPORTED_VERSION");
        let ranges: Vec<(i16, i16, i16)> =
            (0..f.count()?).map(|_| Ok((f.i16()?, f.i16()?, f.i16()?))).collect::<Result<_>>()?;
        assert_eq!(ranges, [(API_VERSIONS, 0, 4)]);
        assert_eq!(f.left(), 0, "an answer of version 0");
        // the same connection goes on
        let mut f = wire.ask(API_VERSIONS, 0, Body::new())?;
        assert_eq!(f.i16()?, 0);
        assert!(f.count()? > 20);
    }
    Ok(())
}

#[test]
fn bodies_that_end_early_close_the_connection() -> Result<()> {
    let t = Target::start()?;
    let before = t.memory()?;
    let whole = Body::new().i16(METADATA).i16(4).i32(7).string("client").i32(1).string("topic").i8(0).0;
    for length in 1..whole.len() {
        let mut wire = t.connect()?;
        wire.send_frame(&whole[..length])?;
        wire.ends_in_silence()?;
    }
    let mut wire = t.connect()?;
    wire.send_frame(&whole)?;
    assert!(wire.receive()?.is_some(), "the whole is answered");
    t.ends_well(before, 32)
}

#[test]
fn bytes_behind_a_body_are_not_looked_at() -> Result<()> {
    let t = Target::start()?;
    let mut wire = t.connect()?;
    for extra in [1, 100, 10_000] {
        let mut f = wire.ask(METADATA, 4, Body::new().i32(0).i8(0).raw(&vec![0xff; extra]))?;
        assert_eq!(f.i32()?, 0, "no throttling");
        assert_eq!(f.count()?, 1, "one broker");
    }
    Ok(())
}
