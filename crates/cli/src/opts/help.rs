//! The help table of Kafka's tools: two columns in 80 characters, options sorted, long cells wrapped with an indent of two.
//!
//! Owns the layout only; the texts stand in each tool's option table. Pure: returns the text.

use super::{Arg, Opt};

const WIDTH: usize = 80;
const SEPARATOR: usize = 2;
const INDENT: &str = "  ";

/// The table of `options`, with a final line break after each row.
pub(crate) fn render(options: &[Opt]) -> String {
    let mut sorted: Vec<&Opt> = options.iter().collect();
    sorted.sort_by_key(|opt| opt.name);
    let head = if options.iter().any(|opt| opt.must) { "Option (* = required)" } else { "Option" };
    let mut rows = vec![(head.to_string(), "Description".to_string()), ("-".repeat(head.len()), "-----------".into())];
    rows.extend(sorted.iter().map(|opt| (left(opt), right(opt))));

    let widest = |cells: &mut dyn Iterator<Item = &String>| cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
    let option_width = widest(&mut rows.iter().map(|row| &row.0)).min((WIDTH - SEPARATOR) / 2);
    let description_width = widest(&mut rows.iter().map(|row| &row.1)).min(WIDTH - option_width - SEPARATOR);

    let fitted: Vec<(String, String)> = rows.iter().flat_map(|row| fit(row, option_width, description_width)).collect();
    // the widths are taken again from the wrapped cells
    let option_width = widest(&mut fitted.iter().map(|row| &row.0)).min((WIDTH - SEPARATOR) / 2);
    let description_width = widest(&mut fitted.iter().map(|row| &row.1)).min(WIDTH - option_width - SEPARATOR);
    let mut text = String::new();
    for (option, description) in fitted {
        text.push_str(&format!("{option:<option_width$}{:SEPARATOR$}{description:<description_width$}\n", ""));
    }
    text
}

fn left(opt: &Opt) -> String {
    let dashes = match (opt.must, opt.name.len() == 1) {
        (false, true) => "-",
        (false, false) => "--",
        (true, true) => "* -",
        (true, false) => "* --",
    };
    match opt.arg {
        Arg::None => format!("{dashes}{}", opt.name),
        Arg::Required(kind, "") => format!("{dashes}{} <{kind}>", opt.name),
        Arg::Required(kind, what) => format!("{dashes}{} <{kind}: {what}>", opt.name),
        Arg::Optional(kind, "") => format!("{dashes}{} [{kind}]", opt.name),
        Arg::Optional(kind, what) => format!("{dashes}{} [{kind}: {what}]", opt.name),
    }
}

fn right(opt: &Opt) -> String {
    match opt.default {
        Some(default) => format!("{} (default: {default})", opt.doc),
        None => opt.doc.to_string(),
    }
}

fn fit(row: &(String, String), option_width: usize, description_width: usize) -> Vec<(String, String)> {
    let mut options = wrap(&row.0, option_width).into_iter();
    let mut descriptions = wrap(&row.1, description_width).into_iter();
    let mut lines = Vec::new();
    loop {
        match (options.next(), descriptions.next()) {
            (None, None) => return lines,
            (option, description) => lines.push((option.unwrap_or_default(), description.unwrap_or_default())),
        }
    }
}

fn wrap(cell: &str, width: usize) -> Vec<String> {
    let mut pieces = Vec::new();
    for line in cell.trim().split('\n') {
        let mut piece = String::new();
        for word in words(line) {
            if piece.chars().count() + word.chars().count() > width {
                pieces.push(piece.trim_end().to_string());
                piece = format!("{INDENT}{word}");
            } else {
                piece.push_str(word);
            }
        }
        if !piece.is_empty() {
            pieces.push(piece);
        }
    }
    pieces
}

/// Splits where a line may break: after a run of spaces, after a hyphen between letters, after a dot before a letter.
fn words(line: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut start = 0;
    let bytes = line.as_bytes();
    for at in 1..bytes.len() {
        let (before, here) = (bytes[at - 1], bytes[at]);
        let breaks = (before == b' ' && here != b' ')
            || (before == b'-' && here.is_ascii_alphabetic())
            || (before == b'.' && here.is_ascii_alphabetic());
        if breaks {
            words.push(&line[start..at]);
            start = at;
        }
    }
    words.push(&line[start..]);
    words
}

#[cfg(test)]
mod tests {
    use super::super::{flag, value};
    use super::*;

    #[test]
    fn columns_align_and_wrap_as_in_kafkas_help() {
        let table = [
            value(
                "bootstrap-server",
                "String",
                "server to connect to",
                "REQUIRED: the servers to connect to, as a list of host:port.",
            ),
            flag("alter", "Change a topic."),
            flag("wide", "A description that is as wide as it gets in any of these tables."),
        ];
        let text = render(&table);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], format!("{:<39}{:<36}", "Option", "Description"));
        assert_eq!(lines[2], format!("{:<39}{:<36}", "--alter", "Change a topic."));
        assert_eq!(
            lines[3],
            format!("{:<39}{:<36}", "--bootstrap-server <String: server to", "REQUIRED: the servers to connect to,")
        );
        assert_eq!(lines[4], format!("{:<39}{:<36}", "  connect to>", "  as a list of host:port."));
        assert!(lines.iter().all(|line| line.len() == lines[0].len() && line.len() <= 80));
    }
}
