//! Bytes to structs and back: Kafka's wire protocol and stored records, nothing else.
//!
//! - [`messages`] and [`stored`] are generated from `spec/*.kdef` by `cargo xtask codegen`: every request, response and stored
//!   record at every version that Kafka 3.3 or 4.3 knows.
//! - [`ApiKey`] is the table of APIs, [`header`] and [`frame`] what stands around a message, [`ErrorCode`] what an answer can say.
//! - [`records`] are the record batches inside Produce, Fetch and the log.
//!
//! No time, task, file or rule of a broker lives here. Decoding allocates no more than the bytes it was given justify, and
//! `records` and `bytes` fields stay slices of the frame they came in.

mod api;
mod errors;
pub mod frame;
pub mod framing;
pub mod header;
mod json;
#[rustfmt::skip]
#[allow(clippy::all, unused_imports, unused_variables, redundant_semicolons, unused_mut)]
pub mod messages;
mod primitives;
pub mod records;
#[rustfmt::skip]
#[allow(clippy::all, unused_imports, unused_variables, redundant_semicolons, unused_mut)]
pub mod stored;

pub use api::Listeners;
pub use errors::ErrorCode;
pub use header::{Preamble, request_header_version, response_header_version};
pub use json::ToJson;
pub use messages::{ApiKey, RequestHeader, ResponseHeader};
pub use primitives::{Decode, DecodeError, Encode, EncodeError, Message, Reader, Request, Response, Writer};
