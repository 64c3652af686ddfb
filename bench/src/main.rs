//! `cargo xtask bench`: the same load on Milena and on Apache Kafka in one run. Owns the order of the rounds: servers take turns, so that what
//! else the machine does meets all of them.

mod load;
mod report;
mod server;
mod usage;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;

use crate::load::Row;
use crate::server::Kind;

/// The same load on Milena and on Apache Kafka, and the ratios.
#[derive(Parser)]
#[command(name = "cargo xtask bench")]
struct Arguments {
    /// Rounds; the medians are shown.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Megabytes that a throughput row produces and consumes.
    #[arg(long, default_value_t = 1000)]
    megabytes: u64,
    /// Seconds that a row of paced requests, or of none, lasts.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Only rows whose name contains this.
    #[arg(long, default_value = "")]
    rows: String,
    /// Servers to compare: milena, milena-page-cache, kafka, kafka-fsync.
    #[arg(long, value_delimiter = ',', default_value = "milena,kafka")]
    servers: Vec<Kind>,
    /// Where the servers keep their data (a folder is made in it and removed).
    #[arg(long, default_value = "/tmp")]
    dir: PathBuf,
    /// The `milena` binary.
    #[arg(long)]
    milena: PathBuf,
    /// The folder with Apache Kafka's jars.
    #[arg(long)]
    kafka: PathBuf,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let rows: Vec<Row> = Row::all().into_iter().filter(|r| r.name().contains(&arguments.rows)).collect();
    eprintln!("touching memory, so that no server pays for its first use");
    usage::touch_memory(4 << 30);
    let mut report = report::Report::default();
    let total = arguments.rounds * arguments.servers.len();
    for round in 0..arguments.rounds {
        for (i, kind) in arguments.servers.iter().enumerate() {
            eprintln!("[{}/{total}] round {} on {kind}", round * arguments.servers.len() + i + 1, round + 1);
            let server = server::Server::start(*kind, &arguments)?;
            report.add(*kind, "start to first answer (ms)", server.start_ms);
            for row in &rows {
                usage::forget_peak(server.pid())?;
                for (name, value) in load::run(*row, &server, &arguments)? {
                    report.add(*kind, &name, value);
                }
                let peak = usage::peak_memory_mb(server.pid())?;
                report.add(*kind, &format!("{}: peak memory (MB)", row.name()), peak);
            }
            server.stop()?;
        }
    }
    println!("{}", report.table(&arguments.servers));
    println!("{}", usage::machine());
    Ok(())
}
