//! Outside clients and tools against a running broker: what starts the broker, and what drives the clients.
//!
//! The tests in `tests/` use real clients of many ages, installed by `cargo xtask test` into the folder that `MILENA_TEST_CACHE` names.
//! To those a broker is a process with an address, a client a program that prints what it saw. What no client would say is said by hand,
//! with `wire` and `batch`.

pub mod batch;
pub mod broker;
pub mod clients;
pub mod installation;
pub mod records;
pub mod wire;
