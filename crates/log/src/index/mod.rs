//! The indexes beside a segment. While a segment is active its indexes live in memory; they are written once, when it is closed, and read
//! from the file after that. A missing or damaged index is made anew from the segment.

pub mod offset;
pub mod time;
pub mod txn;

pub use offset::OffsetEntry;
pub use time::TimeEntry;
pub use txn::AbortedTransaction;
