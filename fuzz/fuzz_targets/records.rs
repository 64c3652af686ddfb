//! Any bytes, as the records of a produce request: header, checksum, decompression and every record.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use milena_protocol::records::{DecompressLimit, batches};

fuzz_target!(|data: &[u8]| {
    for batch in batches(Bytes::copy_from_slice(data)) {
        let Ok(batch) = batch else { return };
        let _ = (batch.crc_valid(), batch.last_offset(), batch.last_sequence(), batch.max_timestamp());
        if let Ok(records) = batch.records(DecompressLimit(1 << 20)) {
            for record in records {
                let Ok(_) = record else { break };
            }
        }
    }
});
