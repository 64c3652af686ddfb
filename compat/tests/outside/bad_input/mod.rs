//! What goes wrong outside: wrong bytes, wrong requests, wrong readers, full disks, wrong starts.
//!
//! Every test says wrong things on one connection while a [`target::Neighbour`] on another is served all along, and watches what the broker
//! takes of memory. The expectations are Apache Kafka 4.3's: with MILENA_TEST_BOOTSTRAP the same bytes go to a real one, started with
//! auto.create.topics.enable=false (and what only our own broker can be asked is left out).

mod batches;
mod disk;
mod frames;
mod load;
mod requests;
mod start;
mod target;
mod topics;
