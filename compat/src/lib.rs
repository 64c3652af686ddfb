//! Outside clients and tools against a running broker: what starts the broker, and what drives the clients.
//!
//! The tests in `tests/` use real clients of many ages, installed by `cargo xtask test` into the folder that `MILENA_TEST_CACHE` names.
//! Nothing here knows the protocol: a broker is a process with an address, a client is a program that prints what it saw.

pub mod broker;
pub mod clients;
pub mod records;
