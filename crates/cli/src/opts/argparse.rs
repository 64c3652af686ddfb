//! The other grammar of Kafka's tools: subcommands with options, as the argparse4j library reads them (`kafka-storage`, `kafka-cluster`, ...).
//!
//! Owns tokens to options, the usage text and the words of refusals. Never prints or exits.

use std::collections::BTreeMap;

/// One option of a subcommand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flag {
    /// With its dashes: `--cluster-id`.
    pub long: &'static str,
    pub short: &'static str,
    /// The name of its value in the usage; empty for a switch.
    pub value: &'static str,
    pub required: bool,
    pub doc: &'static str,
}

/// A subcommand and its options.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sub {
    pub name: &'static str,
    pub doc: &'static str,
    pub flags: &'static [Flag],
    /// Options of which only one may be given; they stand last in `flags`.
    pub choice: &'static [&'static str],
}

/// A tool: its name, purpose and subcommands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tool {
    pub name: &'static str,
    pub doc: &'static str,
    pub subs: &'static [Sub],
}

/// What a command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A text for standard output.
    Help(String),
    /// A text for standard error, exit 1.
    Wrong(String),
    Run {
        sub: &'static str,
        found: BTreeMap<&'static str, Vec<String>>,
    },
}

impl Tool {
    /// Reads a command line.
    pub(crate) fn parse(&self, args: &[String]) -> Asked {
        let Some((first, rest)) = args.split_first() else {
            return Asked::Wrong(self.wrong("too few arguments"));
        };
        if first == "-h" || first == "--help" {
            return Asked::Help(self.help());
        }
        if first.starts_with('-') {
            return Asked::Wrong(self.wrong(&format!("unrecognized arguments: '{first}'")));
        }
        let Some(sub) = self.subs.iter().find(|sub| sub.name == first) else {
            let names: Vec<String> = self.subs.iter().map(|sub| format!("'{}'", sub.name)).collect();
            return Asked::Wrong(self.wrong(&format!("invalid choice: '{first}' (choose from {})", names.join(", "))));
        };
        let mut found: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
        let mut tokens = rest.iter();
        while let Some(token) = tokens.next() {
            if token == "-h" || token == "--help" {
                return Asked::Help(sub.help(self.name));
            }
            let (name, inline) = match token.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name, Some(value.to_string())),
                _ => (token.as_str(), None),
            };
            let Some(flag) =
                sub.flags.iter().find(|flag| flag.long == name || (!flag.short.is_empty() && flag.short == name))
            else {
                return Asked::Wrong(sub.wrong(self.name, &format!("unrecognized arguments: '{token}'")));
            };
            let values = found.entry(flag.long).or_default();
            if flag.value.is_empty() {
                continue;
            }
            match inline.or_else(|| tokens.next().cloned()) {
                Some(value) => values.push(value),
                None => {
                    return Asked::Wrong(
                        sub.wrong(self.name, &format!("argument {}: expected one argument", flag.names())),
                    );
                }
            }
        }
        let mut chosen = sub.choice.iter().filter(|long| found.contains_key(*long));
        if let (Some(first), Some(second)) = (chosen.next(), chosen.next()) {
            let names =
                |long: &str| sub.flags.iter().find(|flag| flag.long == long).map(Flag::names).unwrap_or_default();
            let message = format!("argument {}: not allowed with argument {}", names(second), names(first));
            return Asked::Wrong(sub.wrong(self.name, &message));
        }
        if let Some(missing) = sub.flags.iter().find(|flag| flag.required && !found.contains_key(flag.long)) {
            return Asked::Wrong(sub.wrong(self.name, &format!("argument {} is required", missing.names())));
        }
        Asked::Run { sub: sub.name, found }
    }

    fn choices(&self) -> String {
        let names: Vec<&str> = self.subs.iter().map(|sub| sub.name).collect();
        format!("{{{}}}", names.join(","))
    }

    fn usage(&self) -> String {
        let pad = " ".repeat("usage: ".len() + self.name.len() + 1);
        format!("usage: {} [-h]\n{pad}{}\n{pad}...\n", self.name, self.choices())
    }

    fn wrong(&self, message: &str) -> String {
        format!("{}{}: error: {message}\n", self.usage(), self.name)
    }

    fn help(&self) -> String {
        let mut text = format!("{}\n{}\n\npositional arguments:\n  {}\n", self.usage(), self.doc, self.choices());
        for sub in self.subs {
            text.push_str(&format!("    {:<20} {}\n", sub.name, sub.doc));
        }
        text.push_str("\noptional arguments:\n  -h, --help             show this help message and exit\n");
        text
    }
}

impl Flag {
    fn names(&self) -> String {
        if self.short.is_empty() { self.long.to_string() } else { format!("{}/{}", self.long, self.short) }
    }

    fn shown(&self) -> String {
        let text = if self.value.is_empty() { self.long.to_string() } else { format!("{} {}", self.long, self.value) };
        if self.required { text } else { format!("[{text}]") }
    }
}

impl Sub {
    fn usage(&self, tool: &str) -> String {
        let mut text = format!("usage: {tool} {} [-h]", self.name);
        let pad = " ".repeat(21);
        let mut column = text.len();
        for flag in self.flags {
            let mut shown = flag.shown();
            if self.choice.contains(&flag.long) {
                let inner = shown.trim_matches(['[', ']']);
                let open = if self.choice.first() == Some(&flag.long) { "[" } else { "" };
                let close = if self.choice.last() == Some(&flag.long) { "]" } else { " |" };
                shown = format!("{open}{inner}{close}");
            }
            if column + 1 + shown.len() > 75 {
                text.push('\n');
                text.push_str(&pad);
                column = pad.len();
            } else {
                text.push(' ');
                column += 1;
            }
            text.push_str(&shown);
            column += shown.len();
        }
        text.push('\n');
        text
    }

    fn wrong(&self, tool: &str, message: &str) -> String {
        format!("{}{tool}: error: {message}\n", self.usage(tool))
    }

    fn help(&self, tool: &str) -> String {
        let mut text = format!(
            "{}\n{}\n\noptional arguments:\n  -h, --help             show this help message and exit\n",
            self.usage(tool),
            self.doc
        );
        for flag in self.flags {
            let value = if flag.value.is_empty() { String::new() } else { format!(" {}", flag.value) };
            let short = if flag.short.is_empty() { String::new() } else { format!(", {}{value}", flag.short) };
            text.push_str(&format!("  {}{value}{short}\n                         {}\n", flag.long, flag.doc));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOL: Tool = Tool {
        name: "kafka-x",
        doc: "A tool.",
        subs: &[Sub {
            name: "format",
            doc: "Formats.",
            flags: &[
                Flag { long: "--config", short: "-c", value: "CONFIG", required: true, doc: "The file." },
                Flag { long: "--quiet", short: "-q", value: "", required: false, doc: "Says less." },
            ],
            choice: &[],
        }],
    };

    fn parse(line: &str) -> Asked {
        TOOL.parse(&line.split_whitespace().map(String::from).collect::<Vec<_>>())
    }

    #[test]
    fn options_have_two_names_and_two_ways_to_take_a_value() {
        let expected = BTreeMap::from([("--config", vec!["a=b".to_string()]), ("--quiet", vec![])]);
        for line in ["format -c a=b -q", "format --quiet --config=a=b"] {
            assert_eq!(parse(line), Asked::Run { sub: "format", found: expected.clone() });
        }
    }

    #[test]
    fn refusals_name_the_argument() {
        let words = |line: &str| match parse(line) {
            Asked::Wrong(text) => text.lines().last().unwrap_or_default().to_string(),
            other => format!("{other:?}"),
        };
        assert_eq!(words("format"), "kafka-x: error: argument --config/-c is required");
        assert_eq!(words("format -c"), "kafka-x: error: argument --config/-c: expected one argument");
        assert_eq!(words("x"), "kafka-x: error: invalid choice: 'x' (choose from 'format')");
        assert_eq!(words(""), "kafka-x: error: too few arguments");
        assert!(matches!(parse("format -h"), Asked::Help(_)));
    }
}
