//! Tools of one command in the grammar of the argparse4j library: `kafka-producer-perf-test`, `kafka-verifiable-producer`, ...
//!
//! Owns tokens to options, usage, help and the words of refusals. Values convert while they are read. Never prints or exits.

use std::collections::BTreeMap;
use std::str::FromStr;

use super::wrap::{WIDTH, justified};

/// Names further from an unknown one than this are not suggested.
const MOST_DISTANCE: usize = 6;

/// What an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    Nothing,
    Text,
    Int,
    Long,
    Double,
    /// One or more values, up to the next option.
    Many,
}

/// One option.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Argument {
    /// With its dashes.
    pub long: &'static str,
    /// The other name, or nothing.
    pub short: &'static str,
    pub takes: Takes,
    /// The name of its value in the usage.
    pub value: &'static str,
    pub required: bool,
    pub doc: &'static str,
}

/// An option that need not be given.
pub(crate) const fn option(long: &'static str, takes: Takes, value: &'static str, doc: &'static str) -> Argument {
    Argument { long, short: "", takes, value, required: false, doc }
}

impl Argument {
    /// The same option, but it must be given.
    pub(crate) const fn required(mut self) -> Argument {
        self.required = true;
        self
    }

    fn names(&self) -> String {
        if self.short.is_empty() { self.long.to_string() } else { format!("{}/{}", self.long, self.short) }
    }

    fn bare(&self) -> String {
        match self.takes {
            Takes::Nothing => self.long.to_string(),
            Takes::Many => format!("{} {value} [{value} ...]", self.long, value = self.value),
            _ => format!("{} {}", self.long, self.value),
        }
    }
}

/// A tool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Command {
    pub name: &'static str,
    pub doc: &'static str,
    pub arguments: &'static [Argument],
    /// Options that stand under a title of their own, after the others: title, description, options.
    pub group: Option<(&'static str, &'static str, &'static [Argument])>,
    /// Options of which exactly one (if `true`) or at most one may be given.
    pub choice: Option<(bool, &'static [Argument])>,
}

/// What a command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A text for standard output.
    Help(String),
    /// A text for standard error, exit 1.
    Wrong(String),
    Run(Given),
}

/// The options given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Given(BTreeMap<&'static str, Vec<String>>);

impl Given {
    pub(crate) fn has(&self, long: &str) -> bool {
        self.0.contains_key(long)
    }

    /// The option's last value.
    pub(crate) fn text(&self, long: &str) -> Option<&str> {
        self.0.get(long)?.last().map(String::as_str)
    }

    pub(crate) fn all(&self, long: &str) -> &[String] {
        self.0.get(long).map_or(&[], Vec::as_slice)
    }

    /// The option's number, which was checked while it was read.
    pub(crate) fn number<T: FromStr>(&self, long: &str) -> Option<T> {
        self.text(long)?.parse().ok()
    }
}

impl Command {
    fn every(&self) -> impl Iterator<Item = &'static Argument> + '_ {
        self.arguments
            .iter()
            .chain(self.group.iter().flat_map(|(_, _, arguments)| arguments.iter()))
            .chain(self.choice.iter().flat_map(|(_, arguments)| arguments.iter()))
    }

    /// Reads a command line.
    pub(crate) fn parse(&self, args: &[String]) -> Asked {
        match self.read(args) {
            Ok(Some(given)) => Asked::Run(given),
            Ok(None) => Asked::Help(self.help()),
            Err(message) => Asked::Wrong(self.wrong(&message)),
        }
    }

    fn read(&self, args: &[String]) -> Result<Option<Given>, String> {
        let mut given = Given::default();
        let mut tokens = args.iter().peekable();
        while let Some(token) = tokens.next() {
            if token == "-h" || token == "--help" {
                return Ok(None);
            }
            let (name, inline) = match token.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name, Some(value.to_string())),
                _ => (token.as_str(), None),
            };
            let argument = self.find(name, token)?;
            if let Some((_, choice)) = self.choice
                && choice.iter().any(|one| one.long == argument.long)
                && let Some(other) = choice.iter().find(|one| one.long != argument.long && given.has(one.long))
            {
                return Err(format!("argument {}: not allowed with argument {}", argument.names(), other.names()));
            }
            let mut values = Vec::new();
            let mut take = |values: &mut Vec<String>| {
                if let Some(value) = tokens.next_if(|next| !self.is_option(next)) {
                    values.push(value.clone());
                }
            };
            match (argument.takes, inline) {
                (Takes::Nothing, None) => {}
                (Takes::Nothing, Some(value)) => {
                    return Err(format!("argument {}: ignore implicit argument '{value}'", argument.names()));
                }
                (_, Some(value)) => values.push(value),
                (Takes::Many, None) => loop {
                    let before = values.len();
                    take(&mut values);
                    if values.len() == before {
                        break;
                    }
                },
                (_, None) => take(&mut values),
            }
            if values.is_empty() && argument.takes != Takes::Nothing {
                let expected = match argument.takes {
                    Takes::Many => "expected at least one argument",
                    _ => "expected one argument",
                };
                return Err(format!("argument {}: {expected}", argument.names()));
            }
            for value in &values {
                let kind = match argument.takes {
                    Takes::Int if value.parse::<i32>().is_err() => "Integer",
                    Takes::Long if value.parse::<i64>().is_err() => "Long",
                    Takes::Double if value.parse::<f64>().is_err() => "Double",
                    _ => continue,
                };
                return Err(format!(
                    "argument {}: could not convert '{value}' to {kind} (For input string: \"{value}\")",
                    argument.names()
                ));
            }
            given.0.entry(argument.long).or_default().extend(values);
        }
        // of several that are missing, Kafka's tools name the last
        if let Some(missing) = self.arguments.iter().rfind(|argument| argument.required && !given.has(argument.long)) {
            return Err(format!("argument {} is required", missing.names()));
        }
        let grouped = self.group.iter().flat_map(|(_, _, arguments)| arguments.iter());
        if let Some(missing) = grouped.into_iter().find(|argument| argument.required && !given.has(argument.long)) {
            return Err(format!("one of the arguments {} is required", missing.names()));
        }
        if let Some((true, choice)) = self.choice
            && !choice.iter().any(|one| given.has(one.long))
        {
            let names: Vec<String> = choice.iter().map(Argument::names).collect();
            return Err(format!("one of the arguments {} is required", names.join(" ")));
        }
        Ok(Some(given))
    }

    /// The option of that name, or the only one whose name begins so.
    fn find(&self, name: &str, token: &str) -> Result<&'static Argument, String> {
        let known = |argument: &&Argument| argument.long == name || (!name.is_empty() && argument.short == name);
        if let Some(argument) = self.every().find(known) {
            return Ok(argument);
        }
        let begun: Vec<&Argument> = match name.len() > 2 && name.starts_with("--") {
            true => self.every().filter(|argument| argument.long.starts_with(name)).collect(),
            false => Vec::new(),
        };
        match begun.as_slice() {
            [] => Err(format!("unrecognized arguments: '{token}'")),
            [one] => Ok(one),
            many => {
                let names: Vec<&str> = many.iter().map(|argument| argument.long).collect();
                Err(format!("ambiguous option: {name} could match {}", names.join(", ")))
            }
        }
    }

    /// Options whose names are like that of an unknown one.
    fn alike(&self, message: &str) -> String {
        let Some(name) = message.strip_prefix("unrecognized arguments: '--").and_then(|rest| rest.strip_suffix('\''))
        else {
            return String::new();
        };
        let name = name.split('=').next().unwrap_or_default();
        let mut found: Vec<(usize, &str)> = self
            .every()
            .map(|argument| (distance(name, argument.long.trim_start_matches('-')), argument.long))
            .collect();
        found.sort_by_key(|(distance, _)| *distance);
        let Some((least, _)) = found.first().copied().filter(|(distance, _)| *distance <= MOST_DISTANCE) else {
            return String::new();
        };
        let names = found.iter().take_while(|(distance, _)| *distance == least);
        names.fold("\nDid you mean:\n".into(), |text, (_, name)| format!("{text}\t{name}\n"))
    }

    /// A token that begins with a dash and is no negative number.
    fn is_option(&self, token: &str) -> bool {
        token.len() > 1 && token.starts_with('-') && token.parse::<f64>().is_err()
    }

    fn usage(&self) -> String {
        let head = format!("usage: {}", self.name);
        let (mut text, indent) = if head.len() > 28 {
            (format!("{head}\n{}", " ".repeat(7)), 7)
        } else {
            (format!("{head} "), head.len() + 1)
        };
        let mut pieces = vec!["[-h]".to_string()];
        let shown = |argument: &Argument| match argument.required {
            true => argument.bare(),
            false => format!("[{}]", argument.bare()),
        };
        pieces.extend(self.arguments.iter().map(shown));
        pieces.extend(self.group.iter().flat_map(|(_, _, arguments)| arguments.iter().map(shown)));
        if let Some((required, choice)) = self.choice {
            let (open, close) = if required { ("(", ")") } else { ("[", "]") };
            let last = choice.len().saturating_sub(1);
            pieces.extend(choice.iter().enumerate().map(|(index, argument)| {
                let before = if index == 0 { open } else { "" };
                let after = if index == last { close } else { " |" };
                format!("{before}{}{after}", argument.bare())
            }));
        }
        let mut column = indent;
        let mut first = true;
        for piece in pieces {
            if !first && column + 1 + piece.len() > WIDTH {
                text.push('\n');
                text.push_str(&" ".repeat(indent));
                column = indent;
            } else if !first {
                text.push(' ');
                column += 1;
            }
            column += piece.len();
            text.push_str(&piece);
            first = false;
        }
        text.push('\n');
        text
    }

    /// The usage and a refusal, for standard error.
    pub(crate) fn wrong(&self, message: &str) -> String {
        let line = justified(&format!("{}: error: {message}", self.name), WIDTH, 0, 0);
        format!("{}{line}\n{}", self.usage(), self.alike(message))
    }

    /// The help text.
    pub(crate) fn help(&self) -> String {
        let mut text = format!("{}\n{}\n\noptional arguments:\n", self.usage(), justified(self.doc, WIDTH, 0, 0));
        text.push_str("  -h, --help             show this help message and exit\n");
        self.arguments.iter().for_each(|argument| describe(&mut text, argument));
        if let Some((title, doc, arguments)) = self.group {
            text.push_str(&format!("\n{title}:\n  {doc}\n\n"));
            arguments.iter().for_each(|argument| describe(&mut text, argument));
        }
        if let Some((_, choice)) = self.choice {
            text.push('\n');
            choice.iter().for_each(|argument| describe(&mut text, argument));
        }
        text
    }
}

/// How far one name is from another: 2 for a letter changed, 1 for one more, 3 for one less, nothing for two in the wrong order.
fn distance(from: &str, to: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut next = vec![(i + 1) * 3];
        for j in 0..b.len() {
            let mut cost = row[j] + 2 * usize::from(a[i] != b[j]);
            if i > 0 && j > 0 && a[i - 1] == b[j] && a[i] == b[j - 1] {
                cost = cost.min(before[j - 1]);
            }
            next.push(cost.min(row[j + 1] + 3).min(next[j] + 1));
        }
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or_default()
}

fn describe(text: &mut String, argument: &Argument) {
    const INDENT: usize = 25;
    let mut head = format!("  {}", argument.bare());
    if !argument.short.is_empty() {
        head.push_str(&format!(", {}", argument.bare().replacen(argument.long, argument.short, 1)));
    }
    if head.len() + 1 < INDENT {
        text.push_str(&format!("{head:<INDENT$}"));
    } else {
        text.push_str(&format!("{head}\n{:INDENT$}", ""));
    }
    text.push_str(&justified(argument.doc, WIDTH, INDENT, INDENT));
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMAND: Command = Command {
        name: "kafka-x",
        doc: "A tool.",
        arguments: &[
            option("--topic", Takes::Text, "TOPIC", "The topic.").required(),
            option("--count", Takes::Int, "COUNT", "How many."),
            option("--props", Takes::Many, "P", "Settings."),
        ],
        group: None,
        choice: Some((true, &[option("--a", Takes::Text, "A", "One."), option("--b", Takes::Nothing, "", "Other.")])),
    };

    fn parse(line: &str) -> Result<Option<Given>, String> {
        COMMAND.read(&line.split_whitespace().map(String::from).collect::<Vec<_>>())
    }

    #[test]
    fn options_take_what_they_take() {
        let given = parse("--topic t --count -1 --props a=b c=d --b").unwrap().unwrap();
        assert_eq!((given.text("--topic"), given.number::<i32>("--count")), (Some("t"), Some(-1)));
        assert_eq!(given.all("--props"), ["a=b", "c=d"]);
        assert_eq!(parse("-h"), Ok(None));
    }

    #[test]
    fn refusals_name_the_argument() {
        let words = |line: &str| parse(line).unwrap_err();
        assert_eq!(words("--count 1"), "argument --topic is required");
        assert_eq!(words("--topic t"), "one of the arguments --a --b is required");
        assert_eq!(words("--a 1 --b"), "argument --b: not allowed with argument --a");
        assert_eq!(words("--nope"), "unrecognized arguments: '--nope'");
        assert_eq!(
            words("--topic t --coun x --b"),
            "argument --count: could not convert 'x' to Integer (For input string: \"x\")"
        );
    }

    #[test]
    fn names_that_are_alike_are_suggested() {
        let alike = |name: &str| COMMAND.alike(&format!("unrecognized arguments: '{name}'"));
        assert_eq!(alike("--topicc"), "\nDid you mean:\n\t--topic\n");
        assert_eq!(alike("--zzzzzzzz"), "");
        assert_eq!(alike("--countt"), "\nDid you mean:\n\t--count\n");
    }

    #[test]
    fn the_usage_names_all_options_in_lines_of_75() {
        assert_eq!(
            COMMAND.usage(),
            "usage: kafka-x [-h] --topic TOPIC [--count COUNT] [--props P [P ...]]\n               (--a A | --b)\n"
        );
    }
}
