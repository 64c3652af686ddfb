//! Log lines as log4j writes them for Kafka: `[time] LEVEL message (logger)`; tools on standard error, the server on standard output.

use std::fmt;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

struct Log4j;

/// For tools: warnings and errors on standard error.
pub(crate) fn init_tool() {
    let subscriber =
        tracing_subscriber::fmt().with_max_level(Level::WARN).with_writer(std::io::stderr).event_format(Log4j).finish();
    // a second call (tests) keeps the first subscriber
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// For the server: `RUST_LOG` if set, else from the level `default` on, on standard output.
pub(crate) fn init_server(default: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stdout).event_format(Log4j).finish();
    let _ = tracing::subscriber::set_global_default(subscriber);
}

impl<S, N> FormatEvent<S, N> for Log4j
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let time = jiff::ZonedDateTime::now().strftime("%Y-%m-%d %H:%M:%S,%3f").to_string();
        let mut line = Line::default();
        event.record(&mut line);
        let metadata = event.metadata();
        writeln!(writer, "[{time}] {} {}{} ({})", metadata.level(), line.message, line.fields, metadata.target())
    }
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        } else {
            self.fields.push_str(&format!(" {}={value:?}", field.name()));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message = value.to_string();
        } else {
            self.fields.push_str(&format!(" {}={value}", field.name()));
        }
    }
}
