//! What checking a batch costs in memory: nothing per record, and a bounded amount for one that would decompress without
//! end. Counted by an allocator of this test's own, so the tests run one after the other in one function.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use milena_common::limits::MAX_DECOMPRESSED_BATCH_BYTES;
use milena_log::validate::{
    Append, MAX_REWRITTEN_BYTES, Origin, Rules, TargetCompression, ValidateError, validate_and_assign,
};
use milena_protocol::records::legacy::MessageSetBuilder;
use milena_protocol::records::{BatchBuilder, Compression, TimestampType};

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
static COUNT: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[expect(unsafe_code, reason = "an allocator that counts has no safe form")]
// SAFETY: everything is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Relaxed);
        let now = NOW.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(now, Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// The result, how often it allocated, and the most it held at once beyond what was there.
fn measured<T>(work: impl FnOnce() -> T) -> (T, usize, usize) {
    let (count, before) = (COUNT.load(Relaxed), NOW.load(Relaxed));
    PEAK.store(before, Relaxed);
    let result = work();
    (result, COUNT.load(Relaxed) - count, PEAK.load(Relaxed) - before)
}

fn append(produce_version: i16) -> Append {
    Append {
        origin: Origin::Client,
        produce_version: Some(produce_version),
        leader_epoch: 0,
        next_offset: 0,
        now_ms: 0,
    }
}

fn bomb(codec: Compression, size: usize) -> Bytes {
    let mut batch = BatchBuilder::new(codec);
    batch.append(0, None, Some(&vec![0; size]), &[]).unwrap();
    batch.build(0).unwrap()
}

#[test]
fn checking_is_cheap_and_bounded() {
    let rules = Rules { max_message_bytes: 100 << 20, ..Rules::default() };

    for codec in Compression::ALL {
        let mut batch = BatchBuilder::new(codec);
        let header = [(Bytes::from_static(b"trace"), Some(Bytes::from_static(b"1")))];
        for i in 0..20_000_u32 {
            batch.append(0, Some(&i.to_be_bytes()), Some(&[7; 100]), &header).unwrap();
        }
        let batch = batch.build(0).unwrap();
        let (result, count, peak) = measured(|| validate_and_assign(&batch, &rules, &append(11)));
        assert!(!result.unwrap().rewritten);
        assert!(count < 40, "{codec:?}: {count} allocations");
        assert!(peak < 1 << 20, "{codec:?}: {peak} bytes");
    }

    for codec in &Compression::ALL[1..] {
        let batch = bomb(*codec, MAX_DECOMPRESSED_BATCH_BYTES + 1);
        let (result, _, peak) = measured(|| validate_and_assign(&batch, &rules, &append(11)));
        assert!(matches!(result, Err(ValidateError::MessageTooLarge { .. })), "{codec:?}");
        assert!(peak < 8 << 20, "{codec:?}: {peak} bytes");

        // Written anew, it may take the room of the records, of the batch and of its growth.
        let other = Rules { compression: TargetCompression::Codec(Compression::None, None), ..rules.clone() };
        let batch = bomb(*codec, MAX_REWRITTEN_BYTES + 1);
        let (result, _, peak) = measured(|| validate_and_assign(&batch, &other, &append(11)));
        assert!(matches!(result, Err(ValidateError::MessageTooLarge { .. })), "{codec:?}");
        assert!(peak < 3 * MAX_REWRITTEN_BYTES, "{codec:?}: {peak} bytes");
    }

    for codec in &Compression::ALL[1..4] {
        let mut set = MessageSetBuilder::new(1, *codec, TimestampType::CreateTime).unwrap();
        for offset in 0..3 {
            set.append(offset, 0, None, Some(&vec![0; MAX_REWRITTEN_BYTES / 2])).unwrap();
        }
        let set = set.build().unwrap();
        let (result, _, peak) = measured(|| validate_and_assign(&set, &rules, &append(2)));
        assert!(matches!(result, Err(ValidateError::MessageTooLarge { .. })), "{codec:?}");
        assert!(peak < 3 * MAX_REWRITTEN_BYTES, "{codec:?}: {peak} bytes");
    }
}
