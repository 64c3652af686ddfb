//! What two runs of one command may not be compared by: ids, times, ports, log lines, stack traces, the prose of help.
//!
//! Applied to both sides before they are compared, and to what is recorded.
#![allow(dead_code, reason = "not every test uses everything")]

use std::fmt::Write as _;

use super::Broker;

/// Takes out what no two runs share, and what is not part of the contract: log lines below ERROR, stack traces, the prose of help.
pub fn blank(text: &str, broker: &Broker) -> String {
    let mut text = text.replace(broker.address(), "SERVER").replace(broker.scratch(), "TMP");
    for (from, to) in broker.blanks() {
        text = text.replace(&from, to);
    }
    let text = in_order(&argparse(&text));
    let mut out = String::new();
    let mut in_help = false;
    for line in text.lines() {
        let stack = line.starts_with("\tat ")
            || line.starts_with("\t... ")
            || line.starts_with("Caused by:")
            || line.starts_with("\tSuppressed:");
        let chatter =
            line.starts_with('[') && ["] WARN ", "] INFO ", "] DEBUG "].iter().any(|level| line.contains(level));
        if stack || chatter {
            continue;
        }
        // we do not speak that protocol's client side, so we do not recommend it
        if line.starts_with("The consumer rebalance protocol (KIP-848) is production-ready!") {
            continue;
        }
        if line.starts_with("-----") {
            // the line under the head of a help, as it was recorded or as it is now
            continue;
        }
        if line.starts_with("Option ") && line.trim_end().ends_with("Description") {
            in_help = true;
        }
        if in_help {
            // the options are part of the contract, how they are explained is not
            let line = line.strip_prefix("* ").unwrap_or(line);
            if let Some(option) = line.split_whitespace().next().filter(|_| line.starts_with("--")) {
                writeln!(out, "{option}").expect("text");
            }
            continue;
        }
        writeln!(out, "{}", blank_line(line)).expect("text");
    }
    out
}

/// The library behind some tools fits its texts into 75 columns with spaces between words. Of its help, the options stay.
fn argparse(text: &str) -> String {
    if !text.starts_with("usage: ") {
        return text.to_string();
    }
    let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let error = regex::Regex::new(r":\s+error:\s+").expect("a pattern");
    if let Some(found) = error.find(text) {
        let usage = squeezed(text.get(..found.start()).unwrap_or_default());
        let message: String = text.get(found.end()..).unwrap_or_default().split_whitespace().collect();
        return format!("{usage}: error: {message}\n");
    }
    // once blanked, the list follows the usage at once
    let (usage, rest, mut in_list) = match text.split_once("\n\n") {
        Some((usage, rest)) => (usage, rest, false),
        None => {
            let (usage, rest) = text.split_once('\n').unwrap_or((text, ""));
            (usage, rest, true)
        }
    };
    let mut out = format!("{}\n", squeezed(usage));
    for line in rest.lines() {
        in_list |= line.ends_with("arguments:") || line == "commands:";
        let deep = line.len() - line.trim_start().len();
        if in_list && (deep == 2 || deep == 4) {
            let line = line.trim_start();
            let name = line.split("  ").next().unwrap_or(line);
            // sentences that head groups of options are prose, too
            if name.starts_with('-') || !name.contains(' ') {
                writeln!(out, "  {name}").expect("text");
            }
        }
    }
    out
}

/// Access rules lie in sets whose order is another in every virtual machine: rules and the resources that they belong to, sorted.
fn in_order(text: &str) -> String {
    if !text.contains("ResourcePattern(") {
        return text.to_string();
    }
    let mut head = Vec::new();
    let mut blocks: Vec<Vec<&str>> = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let opens = line.contains(" ResourcePattern(") || line.contains("`ResourcePattern(");
        match blocks.last_mut() {
            _ if opens || line.starts_with("Acl (") => blocks.push(vec![line]),
            Some(block) if line.starts_with("(principal=") => block.push(line),
            _ => {
                blocks.iter_mut().for_each(|block| block[1..].sort_unstable());
                blocks.sort();
                head.append(&mut blocks);
                blocks.clear();
                head.push(vec![line]);
            }
        }
    }
    blocks.iter_mut().for_each(|block| block[1..].sort_unstable());
    blocks.sort();
    head.append(&mut blocks);
    let lines: Vec<&str> = head.into_iter().flatten().collect();
    format!("{}\n", lines.join("\n"))
}

fn blank_line(line: &str) -> String {
    // sets of Java, in whatever order the virtual machine chose this time
    let sets = [
        "Option combination ",
        "Valid states are: ",
        " of these options: ",
        "the following options: ",
        "Detected group ids: ",
        "of the following scenarios: ",
        "only supports operations ",
    ];
    if let Some((head, set)) = sets.iter().find_map(|mark| line.split_once(mark)) {
        let mut words: Vec<&str> = set.split([' ', ',', '[', ']', '"', '.']).filter(|word| !word.is_empty()).collect();
        words.sort_unstable();
        return format!("{head}... {}", words.join(" "));
    }
    let patterns: [(&str, &str); 18] = [
        (r"directory\.id=[A-Za-z0-9_-]{22}", "directory.id=ID"),
        (r"TopicId: [A-Za-z0-9_-]{22}", "TopicId: ID"),
        (r"(?i)(cluster ?id: +)[A-Za-z0-9_-]{22}", "${1}ID"),
        (r"client metrics config for [A-Za-z0-9_-]{22}\.", "client metrics config for ID."),
        (r"CreateTime:\d+", "CreateTime:N"),
        (r"^\[[^\]]+\] ERROR", "[TIME] ERROR"),
        (r"[a-z-]*console-(consumer|producer)[-0-9a-f]{4,}", "CLIENT"),
        (r#""timestamp":\d+"#, "\"timestamp\":N"),
        (r"Epoch: \d+$", "Epoch: N"),
        (r"HighWatermark: +\d+", "HighWatermark: N"),
        (r"\b1[789]\d{11}\b", "TIME_IN_MILLI"),
        (r"\b\d+ ms ago *", "N ms ago "),
        (r"^(\d+ +\t)[A-Za-z0-9_-]{22}\t\d+ *\t", "${1}DIRECTORY\tOFFSET\t"),
        (r#""size":\d+"#, "\"size\":N"),
        (r"\(Commit:[0-9a-z]+\)", "(Commit:ID)"),
        (r"tries=\d+", "tries=N"),
        (r"after \d+ attempt", "after N attempt"),
        (r"incarnation [A-Za-z0-9_-]{22}", "incarnation ID"),
    ];
    patterns.iter().fold(line.to_string(), |line, (pattern, to)| {
        regex::Regex::new(pattern).expect("a pattern").replace_all(&line, *to).into_owned()
    })
}
