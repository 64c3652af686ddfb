//! Milena beside Apache Kafka 4.3.1: the same requests to both, answers and errors compared.
//!
//! `MILENA_DIFF_SEED=n` begins at another seed, `MILENA_DIFF_SEQUENCES=n` runs so many random sequences, and `MILENA_DIFF_FIELDS=n` tries
//! every n-th wrong value of every field (1: all). `MILENA_DIFF_API=Name` keeps to one API. `MILENA_DIFF_TEXTS=1` compares the words of messages too, and `MILENA_DIFF_SHRINK=0` leaves
//! long sequences as they are.

mod dice;
mod fields;
#[path = "../../../../xtask/src/codegen/kdef.rs"]
#[allow(dead_code, reason = "the code generator needs more of it")]
mod kdef;
mod listed;
mod mutate;
mod normal;
mod pair;
mod random;
mod requests;
mod schema;
mod side;

/// A number from the environment.
fn setting(name: &str, standard: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(standard)
}
