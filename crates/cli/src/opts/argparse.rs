//! The other grammar of Kafka's tools: subcommands with options, as the argparse4j library reads them (`kafka-storage`, `kafka-cluster`, ...).
//!
//! Owns tokens to options, the usage text and the words of refusals. Never prints or exits.

use std::collections::BTreeMap;

/// What an option's value must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Int,
    Long,
}

/// One option of a tool or subcommand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flag {
    /// With its dashes: `--cluster-id`.
    pub long: &'static str,
    pub short: &'static str,
    /// The name of its value in the usage; empty for a switch.
    pub value: &'static str,
    pub kind: Kind,
    pub required: bool,
    pub doc: &'static str,
}

/// An option that must be given.
pub(crate) const fn required(long: &'static str, short: &'static str, value: &'static str, doc: &'static str) -> Flag {
    Flag { long, short, value, kind: Kind::Text, required: true, doc }
}

/// An option that may be given.
pub(crate) const fn optional(long: &'static str, short: &'static str, value: &'static str, doc: &'static str) -> Flag {
    Flag { long, short, value, kind: Kind::Text, required: false, doc }
}

impl Flag {
    /// The same option with a 32-bit number as its value.
    pub(crate) const fn int(mut self) -> Flag {
        self.kind = Kind::Int;
        self
    }

    /// The same option with a 64-bit number as its value.
    pub(crate) const fn long(mut self) -> Flag {
        self.kind = Kind::Long;
        self
    }
}

/// Options of which only one may be given, or exactly one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Choice {
    pub flags: &'static [&'static str],
    pub required: bool,
}

/// No choice between options.
pub(crate) const FREE: Choice = Choice { flags: &[], required: false };

/// Options of which at most one may be given; in the list of flags they stand last.
pub(crate) const fn at_most_one(flags: &'static [&'static str]) -> Choice {
    Choice { flags, required: false }
}

/// Options of which one must be given; in the list of flags they stand last.
pub(crate) const fn exactly_one(flags: &'static [&'static str]) -> Choice {
    Choice { flags, required: true }
}

/// A subcommand and its options.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sub {
    pub name: &'static str,
    pub doc: &'static str,
    pub flags: &'static [Flag],
    pub choice: Choice,
}

/// A tool: its name, purpose, the options before the subcommand, and the subcommands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tool {
    pub name: &'static str,
    pub doc: &'static str,
    pub flags: &'static [Flag],
    pub choice: Choice,
    pub subs: &'static [Sub],
    /// How the usage calls the subcommand; empty: by the list of all.
    pub command: &'static str,
}

/// The options found, by their long names; switches have no values.
pub(crate) type Found = BTreeMap<&'static str, Vec<String>>;

/// What a command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A text for standard output.
    Help(String),
    /// A text for standard error, exit 1.
    Wrong(String),
    Run {
        sub: &'static str,
        found: Found,
    },
}

/// A refusal without the usage before it.
pub(crate) fn bare(text: &str) -> &str {
    text.split_once(": error: ").map_or(text, |(_, message)| message).trim_end()
}

/// The one value of an option.
pub(crate) fn one<'a>(found: &'a Found, long: &str) -> Option<&'a str> {
    found.get(long)?.last().map(String::as_str)
}

/// The number of an option; it was checked when the command line was read.
pub(crate) fn number<T: std::str::FromStr>(found: &Found, long: &str) -> Option<T> {
    one(found, long)?.trim_start_matches('+').parse().ok()
}

/// Reads options until the tokens end or one is no option.
struct Reading<'a> {
    flags: &'static [Flag],
    choice: Choice,
    tokens: std::slice::Iter<'a, String>,
    found: Found,
}

/// Where reading stopped.
enum Stopped<'a> {
    End,
    At(&'a str),
    Help,
}

impl<'a> Reading<'a> {
    /// Reads options up to the first token that is none.
    fn options(&mut self) -> Result<Stopped<'a>, String> {
        while let Some(token) = self.tokens.next() {
            if token == "-h" || token == "--help" {
                return Ok(Stopped::Help);
            }
            if !token.starts_with('-') || token.len() == 1 {
                return Ok(Stopped::At(token));
            }
            self.option(token)?;
        }
        Ok(Stopped::End)
    }

    fn option(&mut self, token: &str) -> Result<(), String> {
        let (name, inline) = match token.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value.to_string())),
            _ => (token, None),
        };
        let exact = self.flags.iter().find(|flag| flag.long == name || (!flag.short.is_empty() && flag.short == name));
        let flag = match exact {
            Some(flag) => flag,
            None => {
                let begun: Vec<&Flag> = self
                    .flags
                    .iter()
                    .filter(|flag| name.len() > 2 && name.starts_with("--") && flag.long.starts_with(name))
                    .collect();
                match begun.as_slice() {
                    [flag] => *flag,
                    [] => return Err(format!("unrecognized arguments: '{token}'")),
                    several => {
                        let names: Vec<&str> = several.iter().map(|flag| flag.long).collect();
                        return Err(format!("ambiguous option: {name} could match {}", names.join(", ")));
                    }
                }
            }
        };
        if self.choice.flags.contains(&flag.long)
            && let Some(first) = self.choice.flags.iter().find(|l| **l != flag.long && self.found.contains_key(**l))
        {
            let other = self.flags.iter().find(|other| other.long == *first).map(Flag::names).unwrap_or_default();
            return Err(format!("argument {}: not allowed with argument {other}", flag.names()));
        }
        let values = self.found.entry(flag.long).or_default();
        if flag.value.is_empty() {
            return Ok(());
        }
        // a value may not look like an option, unless it is a negative number
        let value = inline.or_else(|| {
            let next = self.tokens.as_slice().first()?;
            let number = next.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
            if next.starts_with('-') && next.len() > 1 && !number {
                return None;
            }
            self.tokens.next().cloned()
        });
        let Some(value) = value else {
            return Err(format!("argument {}: expected one argument", flag.names()));
        };
        let plain = value.trim_start_matches('+');
        let (fits, kind) = match flag.kind {
            Kind::Text => (true, ""),
            Kind::Int => (plain.parse::<i32>().is_ok(), "Integer"),
            Kind::Long => (plain.parse::<i64>().is_ok(), "Long"),
        };
        if !fits {
            return Err(format!(
                "argument {}: could not convert '{value}' to {kind} (For input string: \"{value}\")",
                flag.names()
            ));
        }
        values.push(value);
        Ok(())
    }

    /// Refuses what is missing.
    fn complete(&self) -> Result<(), String> {
        let missing = self.flags.iter().filter(|flag| flag.required && !self.found.contains_key(flag.long));
        // of several it names the first by the alphabet
        if let Some(missing) = missing.min_by_key(|flag| flag.long) {
            return Err(format!("argument {} is required", missing.names()));
        }
        if self.choice.required && !self.choice.flags.iter().any(|long| self.found.contains_key(long)) {
            let chosen = self.flags.iter().filter(|flag| self.choice.flags.contains(&flag.long));
            let names: Vec<String> = chosen.map(Flag::names).collect();
            return Err(format!("one of the arguments {} is required", names.join(" ")));
        }
        Ok(())
    }
}

impl Tool {
    /// Reads a command line.
    pub(crate) fn parse(&self, args: &[String]) -> Asked {
        let mut upper = Reading { flags: self.flags, choice: self.choice, tokens: args.iter(), found: Found::new() };
        let first = match upper.options() {
            Err(message) => return Asked::Wrong(self.wrong(&message)),
            Ok(Stopped::Help) => return Asked::Help(self.help()),
            Ok(Stopped::End) => return Asked::Wrong(self.wrong("too few arguments")),
            Ok(Stopped::At(token)) => token,
        };
        let Some(sub) = self.subs.iter().find(|sub| sub.name == first) else {
            let names: Vec<String> = self.subs.iter().map(|sub| format!("'{}'", sub.name)).collect();
            return Asked::Wrong(self.wrong(&format!("invalid choice: '{first}' (choose from {})", names.join(", "))));
        };
        let mut inner = Reading {
            flags: sub.flags,
            choice: sub.choice,
            tokens: upper.tokens.clone(),
            found: std::mem::take(&mut upper.found),
        };
        match inner.options() {
            Err(message) => return Asked::Wrong(self.wrong_in(sub, &message)),
            Ok(Stopped::Help) => return Asked::Help(self.help_of(sub)),
            Ok(Stopped::At(token)) => {
                return Asked::Wrong(self.wrong_in(sub, &format!("unrecognized arguments: '{token}'")));
            }
            Ok(Stopped::End) => {}
        }
        if let Err(message) = inner.complete() {
            return Asked::Wrong(self.wrong_in(sub, &message));
        }
        upper.found = inner.found;
        if let Err(message) = upper.complete() {
            return Asked::Wrong(self.wrong(&message));
        }
        Asked::Run { sub: sub.name, found: upper.found }
    }

    fn choices(&self) -> String {
        let names: Vec<&str> = self.subs.iter().map(|sub| sub.name).collect();
        format!("{{{}}}", names.join(","))
    }

    fn usage(&self) -> String {
        let mut words = vec!["[-h]".to_string()];
        words.extend(shown_flags(self.flags, self.choice, |_| true));
        words.push(if self.command.is_empty() { self.choices() } else { self.command.to_string() });
        words.push("...".into());
        self.fit(self.name, &words)
    }

    fn usage_of(&self, sub: &Sub) -> String {
        let mut words = shown_flags(self.flags, self.choice, |required| required);
        words.push(sub.name.to_string());
        words.push("[-h]".into());
        words.extend(shown_flags(sub.flags, sub.choice, |_| true));
        self.fit(self.name, &words)
    }

    /// The usage in lines of 75 columns, indented to where its words begin.
    fn fit(&self, name: &str, words: &[String]) -> String {
        let mut text = format!("usage: {name}");
        let pad = "usage: ".len() + self.name.len() + 1;
        let mut column = text.len();
        // a choice may break after each of its bars
        let parts = words.iter().flat_map(|word| word.split_inclusive(" | ")).map(str::trim_end);
        for part in parts {
            if column + 1 + part.len() > 75 {
                text.push_str(&format!("\n{:pad$}", ""));
                column = pad;
            } else {
                text.push(' ');
                column += 1;
            }
            text.push_str(part);
            column += part.len();
        }
        text.push('\n');
        text
    }

    fn wrong(&self, message: &str) -> String {
        format!("{}{}: error: {message}\n", self.usage(), self.name)
    }

    fn wrong_in(&self, sub: &Sub, message: &str) -> String {
        format!("{}{}: error: {message}\n", self.usage_of(sub), self.name)
    }

    fn help(&self) -> String {
        let mut text = format!("{}\n{}\n\n", self.usage(), self.doc);
        let commands = || {
            let lines = self.subs.iter().map(|sub| two_columns(&format!("  {}", sub.name), sub.doc));
            lines.collect::<String>()
        };
        if self.command.is_empty() {
            text.push_str(&format!("positional arguments:\n  {}\n{}\n", self.choices(), commands()));
        }
        text.push_str(&flags_help(self.flags));
        if !self.command.is_empty() {
            text.push_str(&format!("\ncommands:\n  {}\n{}", self.command, commands()));
        }
        text
    }

    fn help_of(&self, sub: &Sub) -> String {
        format!("{}\n{}\n\n{}", self.usage_of(sub), sub.doc, flags_help(sub.flags))
    }
}

/// The options as the usage shows them: those of the choice last, as one word.
fn shown_flags(flags: &[Flag], choice: Choice, wanted: impl Fn(bool) -> bool) -> Vec<String> {
    let free = flags.iter().filter(|flag| !choice.flags.contains(&flag.long) && wanted(flag.required));
    let mut words: Vec<String> =
        free.map(|flag| if flag.required { flag.shown() } else { format!("[{}]", flag.shown()) }).collect();
    if !choice.flags.is_empty() && wanted(choice.required) {
        let chosen = flags.iter().filter(|flag| choice.flags.contains(&flag.long)).map(Flag::shown);
        let inner = chosen.collect::<Vec<_>>().join(" | ");
        words.push(if choice.required { format!("({inner})") } else { format!("[{inner}]") });
    }
    words
}

fn flags_help(flags: &[Flag]) -> String {
    let mut text = format!("optional arguments:\n{}", two_columns("-h, --help", "show this help message and exit"));
    for flag in flags {
        let value = if flag.value.is_empty() { String::new() } else { format!(" {}", flag.value) };
        let names: Vec<String> =
            [flag.long, flag.short].iter().filter(|n| !n.is_empty()).map(|n| format!("{n}{value}")).collect();
        text.push_str(&two_columns(&names.join(", "), flag.doc));
    }
    text
}

/// A name in the left 25 columns, its explanation in the right 50.
fn two_columns(name: &str, doc: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in doc.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= 50 => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_string()),
        }
    }
    let mut text = format!("  {name}");
    let mut lines = lines.into_iter();
    if name.len() <= 21
        && let Some(first) = lines.next()
    {
        text = format!("  {name:<21}  {first}");
    }
    text.push('\n');
    lines.for_each(|line| text.push_str(&format!("{:25}{line}\n", "")));
    text
}

impl Flag {
    fn names(&self) -> String {
        if self.short.is_empty() { self.long.to_string() } else { format!("{}/{}", self.long, self.short) }
    }

    fn shown(&self) -> String {
        if self.value.is_empty() { self.long.to_string() } else { format!("{} {}", self.long, self.value) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOL: Tool = Tool {
        name: "kafka-x",
        doc: "A tool.",
        flags: &[],
        choice: FREE,
        command: "",
        subs: &[Sub {
            name: "format",
            doc: "Formats.",
            flags: &[required("--config", "-c", "CONFIG", "The file."), optional("--quiet", "-q", "", "Says less.")],
            choice: FREE,
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
