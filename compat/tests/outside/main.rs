//! Every test against a running broker, in one program: so they share the machine's cores, and the slowest, which mostly sleeps, costs nothing.
//!
//! A test starts brokers of its own. With MILENA_TEST_BOOTSTRAP those that need only an address use that one: real Kafka, to check the tests.

mod a_slow_producer;
mod admin_methods;
mod adoption;
mod bad_input;
mod c_interfaces;
mod clients;
mod consumer_groups;
mod crash;
mod differential;
mod figures;
mod files;
mod quotas;
mod scripts;
mod telemetry;
mod transactions;
