//! Everything that needs a node, in one program: a node in this process on real files, asked over its sockets.
//!
//! A test starts a node of its own; how it is formatted, started, asked and ended stands in `support`, and nowhere else.

#![allow(clippy::disallowed_methods, reason = "tests touch files, clocks and tasks")]

mod support;

mod admin_apis;
mod cluster_apis;
mod data_plane;
mod kafka_metadata;
mod log_dirs;
mod quorum;
mod transactions;
mod voters;
