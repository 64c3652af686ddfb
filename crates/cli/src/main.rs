//! The one binary: Kafka's scripts by their names, the server, and `milena dev`.
//!
//! The command is the name that the program was called by (`kafka-topics.sh`), or the first argument (`milena kafka-topics`).

mod client_keys;
mod cmd;
mod java;
mod json;
mod logging;
mod opts;
mod progress;
mod serving;
mod tool;
mod topic_filter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let args: Vec<String> = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect();
    std::process::exit(dispatch(&args));
}

fn dispatch(args: &[String]) -> i32 {
    let (called, rest) = args.split_first().map_or(("", &[][..]), |(called, rest)| (called.as_str(), rest));
    if let Some(run) = cmd::find(called) {
        return run(rest);
    }
    match rest.split_first() {
        None => help(),
        Some((first, _)) if ["--help", "-h", "help"].contains(&first.as_str()) => help(),
        Some((first, _)) if ["--version", "-V", "version"].contains(&first.as_str()) => {
            tool::out(format_args!("milena {} (Apache Kafka {})\n", env!("CARGO_PKG_VERSION"), tool::KAFKA_VERSION));
            0
        }
        Some((first, rest)) => match cmd::find(first) {
            Some(run) => run(rest),
            None => {
                tool::err(format_args!(
                    "milena: '{first}' is not a command. Commands: {}\n",
                    cmd::names().collect::<Vec<_>>().join(", ")
                ));
                1
            }
        },
    }
}

fn help() -> i32 {
    tool::out(
        "Milena: Apache Kafka, re-implemented in Rust.\n\nUsage: milena COMMAND [ARGUMENTS]\n\nStart here:\n  milena dev                                  a broker on localhost:9092, no configuration needed\n  milena kafka-server-start server.properties a broker as configured\n  milena adopt --check server.properties      can it take over what Apache Kafka wrote?\n\nKafka's tools (each answers to --help; also as bin/NAME.sh):\n",
    );
    for name in cmd::names() {
        tool::out(format_args!("  milena {name}\n"));
    }
    tool::out(
        "\nExample:\n  milena kafka-topics --bootstrap-server localhost:9092 --create --topic orders --partitions 6\n",
    );
    0
}
