//! Damaged bytes: no decoder panics, and none allocates more than the bytes it was given justify.
//!
//! The allocator of this test binary counts per thread, so that the tests beside this one do not disturb it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::Bytes;

use crate::wire::{self, Rng};
use crate::{ours, samples, seed};

struct Counting;

thread_local! {
    static LIVE: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

fn grow(bytes: usize) {
    let _ = LIVE.try_with(|live| {
        live.set(live.get().wrapping_add(bytes));
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(live.get())));
    });
}

fn shrink(bytes: usize) {
    let _ = LIVE.try_with(|live| live.set(live.get().saturating_sub(bytes)));
}

#[expect(unsafe_code, reason = "counting allocations needs an allocator")]
// SAFETY: every call goes to the system's allocator unchanged; the counters beside it never allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        shrink(layout.size());
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // old and new live side by side while the bytes move
        grow(size);
        shrink(layout.size());
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes that lived at once while `work` ran.
fn peak(work: impl FnOnce()) -> usize {
    let before = LIVE.with(Cell::get);
    PEAK.with(|peak| peak.set(before));
    work();
    PEAK.with(Cell::get).saturating_sub(before)
}

/// Bytes of memory that a byte of a short input may cost: the largest structure over its smallest form on the wire.
const COST: usize = 40;
const CONSTANT: usize = 4096;

fn check(
    codecs: &std::collections::BTreeMap<&'static str, ours::Codec>,
    name: &str,
    version: i16,
    bytes: Vec<u8>,
) -> f64 {
    let length = bytes.len();
    let bytes = Bytes::from(bytes);
    let peak = peak(|| {
        (codecs[name].decode)(bytes, version);
    });
    assert!(peak <= COST * length + CONSTANT, "{name} v{version}: {peak} bytes for {length}");
    peak as f64 / (length + CONSTANT / COST) as f64
}

#[test]
fn damaged_bytes_neither_panic_nor_cost_much() {
    let codecs = ours::codecs();
    let mut rng = Rng::new(seed() ^ 0xdead);
    for (name, version, wire) in samples(6) {
        for _ in 0..6 {
            let mut bytes = wire.noisy.clone();
            for _ in 0..=rng.below(3) {
                let at = rng.below(bytes.len() + 1);
                match rng.below(6) {
                    0 => bytes.truncate(at),
                    // lengths that lie: billions, as four bytes, two bytes or a varint
                    1 => splice(&mut bytes, at, &[0x7f, 0xff, 0xff, 0xff]),
                    2 => splice(&mut bytes, at, &[0xff, 0xff, 0xff, 0xff, 0x07]),
                    3 => splice(&mut bytes, at, &[0x80, 0, 0, 0]),
                    4 => splice(&mut bytes, at, &[rng.next() as u8, rng.next() as u8]),
                    _ => {
                        if let Some(byte) = bytes.get_mut(at) {
                            *byte = byte.wrapping_add(rng.next() as u8 | 1);
                        }
                    }
                }
            }
            check(&codecs, &name, version, bytes);
        }
        let random: Vec<u8> = (0..rng.below(300)).map(|_| rng.next() as u8).collect();
        check(&codecs, &name, version, random);
    }
}

fn splice(bytes: &mut Vec<u8>, at: usize, with: &[u8]) {
    let end = (at + with.len()).min(bytes.len());
    bytes.splice(at.min(end)..end, with.iter().copied());
}

#[test]
fn a_crowd_of_smallest_elements_costs_what_it_must() {
    let codecs = ours::codecs();
    let mut worst = (0.0, String::new());
    for message in wire::specs() {
        for version in message.all_versions() {
            for innermost in [false, true] {
                let bytes = wire::crowded(&message, version, innermost, 1000).plain;
                assert!(
                    (codecs[message.name()].decode)(bytes.clone().into(), version),
                    "{} v{version}",
                    message.name()
                );
                let cost = check(&codecs, message.name(), version, bytes);
                if cost > worst.0 {
                    worst = (cost, format!("{} v{version}", message.name()));
                }
            }
        }
    }
    println!("worst: {:.1} bytes of memory per byte of input, {}", worst.0, worst.1);
}

/// A frame of many megabytes of smallest elements is refused before it becomes hundreds.
#[test]
fn a_great_crowd_is_refused() {
    const ELEMENTS: usize = 3 << 20;
    // the compact length says one more than there are
    let mut frame = vec![0x81, 0x80, 0xc0, 0x01];
    frame.resize(4 + ELEMENTS, 1);
    frame.extend_from_slice(&[0, 0]);
    let codecs = ours::codecs();
    // the names of DescribeGroups: one byte each on the wire, 24 in memory
    let length = frame.len();
    let mut read = true;
    let peak = peak(|| read = (codecs["DescribeGroupsRequest"].decode)(Bytes::from(frame), 5));
    assert!(!read && peak < length, "{peak} bytes");
}

/// Every prefix of a message is refused or read, byte by byte.
#[test]
fn every_prefix_is_an_error() {
    let codecs = ours::codecs();
    for (name, version, wire) in samples(1) {
        let whole = wire.plain.len();
        for length in (0..whole).step_by(1 + whole / 200) {
            let decoded = (codecs[name.as_str()].decode)(Bytes::copy_from_slice(&wire.plain[..length]), version);
            assert!(!decoded, "{name} v{version}: {length} of {whole} bytes");
        }
    }
}
