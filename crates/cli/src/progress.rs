//! A progress bar for work that takes long: on a terminal only, and never between lines of output.
//!
//! Drawn on standard error when that is a terminal and standard output is not: whoever reads the output there needs no bar.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar over `total` units (`bytes` or `records`), or nothing to see.
pub(crate) fn bar(total: u64, what: &str) -> ProgressBar {
    if std::io::stdout().is_terminal() { hidden(total) } else { bar_for_silent(total, what) }
}

/// A bar for work that prints nothing on standard output.
pub(crate) fn bar_for_silent(total: u64, what: &str) -> ProgressBar {
    let bar = hidden(total);
    if !std::io::stderr().is_terminal() {
        return bar;
    }
    let count = match what {
        "bytes" => "{bytes}/{total_bytes} {bytes_per_sec}".to_string(),
        _ => format!("{{human_pos}}/{{human_len}} {what} {{per_sec}}"),
    };
    if let Ok(style) = ProgressStyle::with_template(&format!("{{wide_bar}} {count} {{eta}}")) {
        bar.set_style(style);
    }
    bar.set_draw_target(ProgressDrawTarget::stderr());
    bar
}

fn hidden(total: u64) -> ProgressBar {
    ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden())
}
