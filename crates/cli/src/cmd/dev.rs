//! `milena dev`: a broker on this machine without any configuration.
//!
//! Chooses a data folder, formats it when it is new, starts broker and controller in one process and says in five lines where
//! everything is. What is written stays for the next run. Not for other machines to reach: it listens on localhost.

use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::serving;
use crate::tool::{err, log_line, out};

const HELP: &str = "milena dev: a broker on localhost, no configuration needed\n\nUsage: milena dev [--port PORT] [--data FOLDER] [--override key=value]...\n\n  --port PORT            where clients connect (9092); 0 chooses a free one\n  --data FOLDER          where topics are kept; the default is shown at start\n  --override key=value   any setting of Kafka's server.properties; may be repeated\n\nStop it with Ctrl-C; the next run finds the same topics. RUST_LOG=info shows the server's log.\n";

struct Wish {
    port: u16,
    data: Option<PathBuf>,
    overrides: Vec<(String, String)>,
}

/// Runs the command; the result is its exit code.
#[allow(clippy::disallowed_methods, reason = "the command says how long it took to start")]
pub(crate) fn run(args: &[String]) -> i32 {
    let begun = Instant::now();
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        out(HELP);
        return 0;
    }
    let wish = match read(args) {
        Ok(wish) => wish,
        Err(message) => {
            err(format_args!("milena dev: {message}\n\n{HELP}"));
            return 1;
        }
    };
    let data = wish.data.clone().unwrap_or_else(|| default_folder(wish.port));
    crate::logging::init_server("warn");
    let prepared = properties(&wish, &data).and_then(|pairs| {
        let fresh = super::storage_format::format_if_new(&pairs)?;
        Ok((super::server_start::check(pairs)?, fresh))
    });
    let (config, fresh) = match prepared {
        Ok(prepared) => prepared,
        Err(message) => {
            log_line("ERROR", message, "milena.dev");
            return 1;
        }
    };
    super::server_start::remark(wish.overrides.iter().map(|(key, _)| key.as_str()));
    serving::run(config, |server| {
        let took = begun.elapsed().as_millis();
        let address = server.address_for_clients();
        let history = if fresh { "new" } else { "as the last run left it" };
        out(format_args!(
            "Kafka Server started: Milena {}, which speaks Apache Kafka {}, ready in {took} ms\n  clients  {address}   (bootstrap.servers; no password, this machine only)\n  data     {}   ({history})\n  try      milena kafka-topics --bootstrap-server {address} --create --topic orders\n  stop     Ctrl-C; what is written stays\n",
            env!("CARGO_PKG_VERSION"),
            crate::tool::KAFKA_VERSION,
            data.display(),
        ));
        crate::tool::flush();
    })
}

fn read(args: &[String]) -> Result<Wish, String> {
    let mut wish = Wish { port: 9092, data: None, overrides: Vec::new() };
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let (name, inline) = match arg.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value.to_string())),
            _ => (arg.as_str(), None),
        };
        if !["--port", "--data", "--override"].contains(&name) {
            return Err(format!("{arg} is not known here"));
        }
        let value = inline.or_else(|| rest.next().cloned()).ok_or_else(|| format!("{name} needs a value"))?;
        match name {
            "--port" => {
                wish.port = value.parse().map_err(|_| format!("--port {value}: a port is a number from 0 to 65535"))?
            }
            "--data" => wish.data = Some(value.into()),
            _ => {
                let (key, value) =
                    value.split_once('=').ok_or_else(|| format!("--override {value}: key=value is needed"))?;
                wish.overrides.push((key.trim().to_string(), value.to_string()));
            }
        }
    }
    Ok(wish)
}

/// The folder that the same user's next run finds again; another port means another broker.
fn default_folder(port: u16) -> PathBuf {
    let home = |name: &str| std::env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    let base = home("XDG_DATA_HOME").or_else(|| home("HOME").map(|home| home.join(".local/share")));
    let name = if port == 9092 { "dev".to_string() } else { format!("dev-{port}") };
    base.unwrap_or_else(std::env::temp_dir).join("milena").join(name)
}

/// The settings of a broker and controller in one, for one machine.
fn properties(wish: &Wish, data: &Path) -> Result<Vec<(String, String)>, String> {
    let data = std::path::absolute(data).map_err(|error| format!("{}: {error}", data.display()))?;
    let port = wish.port;
    let defaults = [
        ("process.roles", "broker,controller".to_string()),
        ("node.id", "1".into()),
        ("listeners", format!("PLAINTEXT://localhost:{port},CONTROLLER://localhost:0")),
        ("controller.listener.names", "CONTROLLER".into()),
        ("controller.quorum.bootstrap.servers", "localhost:0".into()),
        ("log.dirs", data.to_string_lossy().into_owned()),
        ("offsets.topic.replication.factor", "1".into()),
        ("transaction.state.log.replication.factor", "1".into()),
        ("transaction.state.log.min.isr", "1".into()),
        ("share.coordinator.state.topic.replication.factor", "1".into()),
        ("share.coordinator.state.topic.min.isr", "1".into()),
        // a group of one developer need not wait for company
        ("group.initial.rebalance.delay.ms", "0".into()),
    ];
    let defaults = defaults.into_iter().map(|(key, value)| (key.to_string(), value));
    Ok(defaults.chain(wish.overrides.iter().cloned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Vec<String> {
        line.split_whitespace().map(String::from).collect()
    }

    #[test]
    fn arguments_are_read_in_both_spellings() {
        let wish = read(&args("--port=0 --data /d --override a=b --override=c=d=e")).ok().unwrap();
        assert_eq!((wish.port, wish.data), (0, Some("/d".into())));
        assert_eq!(wish.overrides, [("a".into(), "b".into()), ("c".into(), "d=e".into())]);
        for wrong in ["--port x", "--port", "--what", "--override a"] {
            assert!(read(&args(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_settings_are_a_valid_configuration() {
        let wish = read(&args("--override num.partitions=3")).ok().unwrap();
        let pairs = properties(&wish, Path::new("/tmp/d")).unwrap();
        let config = super::super::server_start::check(pairs).unwrap();
        assert_eq!((config.num_partitions, config.data_dirs()), (3, &["/tmp/d".to_string()][..]));
    }
}
