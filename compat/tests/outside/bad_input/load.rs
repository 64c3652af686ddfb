//! Readers that do not read, and connections that do nothing: they cost a bounded amount, and those who behave are served.

use anyhow::{Context as _, Result, ensure};
use milena_compat::batch::Batch;
use milena_compat::wire::{API_VERSIONS, Body, FETCH, fetch_body, produce};

use super::target::Target;

/// 100 fetches of 10 MB, of four readers who never read: a gigabyte, if it were prepared.
#[test]
fn readers_that_do_not_read_take_a_bounded_amount() -> Result<()> {
    const FETCH_BYTES: i32 = 10 << 20;
    let t = Target::start()?;
    let topic = t.topic(1, &[])?;
    let batch = Batch::of(&[&vec![b'x'; 1_000_000]]).bytes();
    let mut writer = t.connect()?;
    for i in 0..20 {
        let p = produce(&mut writer, &topic, &[&batch])?;
        ensure!(p[0].base_offset == i, "{p:?}");
    }
    let before = t.memory()?;
    let mut readers = Vec::new();
    for _ in 0..4 {
        let mut wire = t.connect()?;
        for _ in 0..25 {
            wire.send(FETCH, 4, &fetch_body(&topic, 0, 0, FETCH_BYTES).0)?;
        }
        readers.push(wire);
    }
    std::thread::sleep(std::time::Duration::from_secs(3));
    // one reads after all, and gets every answer, in order
    let mut late = readers.pop().context("a reader")?;
    for i in 1..=25 {
        let frame = late.receive()?.context("closed")?;
        let correlation = frame.get(..4).map(|b| i32::from_be_bytes([b[0], b[1], b[2], b[3]]));
        ensure!(correlation == Some(i), "answer {correlation:?} where {i} is due");
        ensure!(frame.len() > 10_000_000, "{} bytes", frame.len());
    }
    t.ends_well(before, 320)
}

/// Requests without end by somebody who reads no answer.
#[test]
fn questions_without_end_are_not_queued_without_end() -> Result<()> {
    let t = Target::start()?;
    let before = t.memory()?;
    let mut wire = t.connect()?;
    wire.stream().set_nonblocking(true)?;
    let frame = Body::new().i16(API_VERSIONS).i16(0).i32(1).string("bad-input").0;
    let frame = Body::new().bytes(&frame).0.repeat(1000);
    let (mut sent, mut refused) = (0, 0);
    // until nothing was taken for a second, at most 500 MB
    while sent < 500 << 20 && refused < 100 {
        match std::io::Write::write(wire.stream(), &frame) {
            Ok(n) => (sent, refused) = (sent + n, 0),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                refused += 1;
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            Err(e) => return Err(e.into()),
        }
    }
    println!("{} MB of requests were taken", sent >> 20);
    ensure!(sent < 500 << 20, "requests are taken without end while their answers are not read");
    t.ends_well(before, 128)
}

#[test]
fn two_thousand_idle_connections_take_little() -> Result<()> {
    let t = Target::start()?;
    // only now: the broker has to raise its own
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit)?;
    let before = t.memory()?;
    let mut idle = Vec::new();
    for i in 0..2000 {
        let mut wire = t.connect().with_context(|| format!("connection {i}"))?;
        if i % 2 == 0 {
            wire.ask(API_VERSIONS, 0, Body::new())?;
        }
        idle.push(wire);
    }
    // all of them still answer
    for wire in &mut idle {
        wire.ask(API_VERSIONS, 0, Body::new())?;
    }
    t.ends_well(before, 64)
}
