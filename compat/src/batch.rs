//! Record batches of magic 2 by hand, whole or wrong on purpose. Owns their layout and checksum; sends nothing.

use crate::wire::Body;

/// No compression.
pub const NONE: i16 = 0;
pub const GZIP: i16 = 1;
pub const SNAPPY: i16 = 2;
pub const LZ4: i16 = 3;
pub const ZSTD: i16 = 4;

/// Where the fields of a batch stand.
pub const LENGTH_AT: usize = 8;
pub const MAGIC_AT: usize = 16;
pub const CRC_AT: usize = 17;
const CRC_FROM: usize = 21;

/// The fields of a batch that tests lie in. The defaults are true for one record without a key.
#[derive(Clone)]
pub struct Batch {
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub count: i32,
    /// The records as they stand in the batch, compressed or not.
    pub records: Vec<u8>,
}

impl Batch {
    /// A true batch of these values.
    pub fn of(values: &[&[u8]]) -> Batch {
        let mut records = Vec::new();
        for (delta, value) in values.iter().enumerate() {
            records.extend(record(delta as i32, None, value));
        }
        Batch::around(values.len() as i32, NONE, records)
    }

    /// A batch that claims `count` records around these bytes.
    pub fn around(count: i32, codec: i16, records: Vec<u8>) -> Batch {
        let now =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
        Batch {
            attributes: codec,
            last_offset_delta: count.wrapping_sub(1),
            base_timestamp: now,
            max_timestamp: now,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            count,
            records,
        }
    }

    /// The bytes, with a true length and checksum.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Body::new()
            .i64(0)
            .i32(0)
            .i32(-1)
            .i8(2)
            .i32(0)
            .i16(self.attributes)
            .i32(self.last_offset_delta)
            .i64(self.base_timestamp)
            .i64(self.max_timestamp)
            .i64(self.producer_id)
            .i16(self.producer_epoch)
            .i32(self.base_sequence)
            .i32(self.count)
            .raw(&self.records)
            .0;
        let length = (out.len() - LENGTH_AT - 4) as i32;
        put(&mut out, LENGTH_AT, &length.to_be_bytes());
        seal(&mut out);
        out
    }
}

/// One record: its offset delta, key and value.
pub fn record(delta: i32, key: Option<&[u8]>, value: &[u8]) -> Vec<u8> {
    let mut body = Body::new().i8(0).varint(0).varint(delta);
    body = match key {
        None => body.varint(-1),
        Some(k) => body.varint(k.len() as i32).raw(k),
    };
    framed(&body.varint(value.len() as i32).raw(value).varint(0).0)
}

/// A record's bytes behind their length.
pub fn framed(body: &[u8]) -> Vec<u8> {
    Body::new().varint(body.len() as i32).raw(body).0
}

/// Overwrites bytes.
pub fn put(batch: &mut [u8], at: usize, bytes: &[u8]) {
    batch[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Makes the checksum true.
pub fn seal(batch: &mut [u8]) {
    let crc = crc32c(&batch[CRC_FROM..]);
    put(batch, CRC_AT, &crc.to_be_bytes());
}

/// CRC-32C (Castagnoli), by a table of bytes.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut table = [0u32; 256];
    for (i, entry) in table.iter_mut().enumerate() {
        let mut c = i as u32;
        for _ in 0..8 {
            c = if c & 1 == 1 { (c >> 1) ^ 0x82f6_3b78 } else { c >> 1 };
        }
        *entry = c;
    }
    !bytes.iter().fold(!0u32, |c, b| (c >> 8) ^ table[((c ^ u32::from(*b)) & 0xff) as usize])
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_checksum_is_castagnolis() {
        assert_eq!(super::crc32c(b"123456789"), 0xe306_9283);
    }
}
