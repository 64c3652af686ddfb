//! `cargo xtask COMMAND`: the chores of this repository. Owns the list of commands; each is a module of its own.

mod apis;
mod bench;
mod codegen;
mod docs;
mod golden;
mod needs;
mod suite;
mod test;
mod tidy;

use anyhow::{Result, bail};

/// A command: its name, what it does, and its entry, which gets the arguments after the name.
type Command = (&'static str, &'static str, fn(&[String]) -> Result<()>);

const COMMANDS: &[Command] = &[
    ("bench", "the same load on Milena and on Apache Kafka", bench::run),
    ("codegen", "make the messages of crates/protocol from spec/ (--check: only compare)", codegen::run),
    ("docs", "make the reference pages that follow from tables (--check: only compare)", docs::run),
    ("golden", "the same command lines for Kafka's tools and ours (--record: ask Kafka's again)", golden::run),
    ("test", "install what the tests need and run them all", test::run),
    ("suite", "the tests that outside clients bring along, and how Milena and Apache Kafka fare in them", suite::run),
    ("tidy", "crate edges, file headers and sizes, marks of configuration keys", tidy::run),
];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let name = arguments.first().map_or("help", String::as_str);
    if let Some((_, _, entry)) = COMMANDS.iter().find(|(n, ..)| *n == name) {
        return entry(&arguments[1..]);
    }
    println!("usage: cargo xtask COMMAND [ARGUMENTS]\n");
    for (name, what, _) in COMMANDS {
        println!("  {name:<10} {what}");
    }
    if !["help", "--help", "-h"].contains(&name) {
        bail!("no such command: {name}");
    }
    Ok(())
}

/// The root of the repository.
fn repository() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask/ has a parent").to_path_buf()
}
