//! How fast a leader checks and stamps produced batches: `cargo run --release -p milena-log --example validate_speed`.
//! Prints, for each codec and record size, megabytes of records per second and nanoseconds per record, on one core.

#![allow(clippy::disallowed_methods, reason = "tests touch files, clocks and tasks")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use milena_log::validate::{Append, Origin, Rules, validate_and_assign};
use milena_protocol::records::{BatchBuilder, BatchView, Compression};

const ROUND: Duration = Duration::from_millis(300);

#[expect(clippy::disallowed_methods, reason = "measures real time")]
fn seconds_per_run(mut work: impl FnMut()) -> f64 {
    work();
    let (begin, mut runs) = (Instant::now(), 0_u32);
    while begin.elapsed() < ROUND {
        work();
        runs += 1;
    }
    begin.elapsed().as_secs_f64() / f64::from(runs)
}

/// Half text, half noise.
fn value(size: usize, seed: u32) -> Vec<u8> {
    let mut x = seed;
    (0..size)
        .map(|i| {
            x = x.wrapping_mul(1_103_515_245).wrapping_add(12345);
            if i % 2 == 0 { (x >> 16) as u8 } else { b'a' }
        })
        .collect()
}

fn batch(codec: Compression, size: usize, count: u32) -> Bytes {
    let mut batch = BatchBuilder::new(codec);
    for i in 0..count {
        let _ = batch.append(1_000, None, Some(&value(size, i)), &[]);
    }
    batch.build(0).unwrap_or_default()
}

fn main() {
    let rules = Rules { max_message_bytes: 16 << 20, ..Rules::default() };
    let append = Append {
        origin: Origin::Client,
        produce_version: Some(11),
        leader_epoch: 3,
        next_offset: 1 << 40,
        now_ms: 1_000,
    };
    println!("{:>8} {:>6} {:>10} {:>10} {:>10}", "codec", "bytes", "MB/s", "ns/record", "crc ns/rec");
    for (size, count) in [(100, 9_000), (1_000, 900), (100, 1)] {
        for codec in Compression::ALL {
            let input = batch(codec, size, count);
            let whole = seconds_per_run(|| {
                black_box(validate_and_assign(black_box(&input), &rules, &append).is_ok());
            });
            let crc = seconds_per_run(|| {
                black_box(BatchView::parse(black_box(&input)).is_ok_and(|view| view.crc_valid()));
            });
            let per_record = 1e9 / f64::from(count);
            println!(
                "{:>8} {:>6} {:>10.0} {:>10.1} {:>10.1}",
                codec.name(),
                format!("{size}x{count}"),
                size as f64 * f64::from(count) / whole / 1e6,
                whole * per_record,
                crc * per_record
            );
        }
    }
}
