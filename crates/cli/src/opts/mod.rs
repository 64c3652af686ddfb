//! The option parser of Kafka's tools: the grammar and the error texts of the joptsimple library that they are written with.
//!
//! Owns: tokens to options (`--opt v`, `--opt=v`, `-o v`, `--` ends options, optional arguments), late conversion of values and
//! the words of every refusal. Never prints or exits: [`crate::tool`] does. Called by every `cmd/*`.
//!
//! Abbreviations are off, as in Kafka 4.x. Values convert when they are read, not when they are parsed: a tool that never looks at
//! `--partitions` never complains about it. A required argument takes the next token whatever it looks like (`--partitions -1`).

pub(crate) mod argparse;
pub(crate) mod command;
mod help;
mod wrap;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

pub(crate) use help::render;

/// What an option takes after its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arg {
    /// Nothing: a flag.
    None,
    /// One value: type name (`String`, `Integer`, `Long`) and the description shown between `<` and `>` (may be empty).
    Required(&'static str, &'static str),
    /// A value, or none: shown between `[` and `]`.
    Optional(&'static str, &'static str),
}

/// One option: name without dashes, what it takes, what it does, the default that the help shows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opt {
    pub name: &'static str,
    pub arg: Arg,
    pub doc: &'static str,
    pub default: Option<&'static str>,
    /// Whether the command line is refused without it, and the help shows it with a star.
    pub must: bool,
}

/// A flag.
pub(crate) const fn flag(name: &'static str, doc: &'static str) -> Opt {
    Opt { name, arg: Arg::None, doc, default: None, must: false }
}

/// An option with a required value of the type `kind`, described as `what`.
pub(crate) const fn value(name: &'static str, kind: &'static str, what: &'static str, doc: &'static str) -> Opt {
    Opt { name, arg: Arg::Required(kind, what), doc, default: None, must: false }
}

impl Opt {
    /// The same option with a default value.
    pub(crate) const fn or(mut self, default: &'static str) -> Opt {
        self.default = Some(default);
        self
    }

    /// The same option, but one that must be given.
    pub(crate) const fn must(mut self) -> Opt {
        self.must = true;
        self
    }
}

/// A refusal, in joptsimple's words; [`OptError::class`] names the exception that Kafka's stack trace shows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OptError {
    #[error("{0} is not a recognized option")]
    Unrecognized(String),
    #[error("Option {0} requires an argument")]
    MissingArgument(String),
    #[error("Found multiple arguments for option {0}, but you asked for only one")]
    Multiple(String),
    #[error("Missing required option(s) [{0}]")]
    Missing(String),
    #[error("Cannot parse argument '{value}' of option {option}")]
    Conversion { option: String, value: String },
}

impl OptError {
    /// The Java class of the same refusal.
    pub(crate) fn class(&self) -> &'static str {
        match self {
            OptError::Unrecognized(_) => "joptsimple.UnrecognizedOptionException",
            OptError::MissingArgument(_) => "joptsimple.OptionMissingRequiredArgumentException",
            OptError::Multiple(_) => "joptsimple.MultipleArgumentsForOptionException",
            OptError::Missing(_) => "joptsimple.MissingRequiredOptionsException",
            OptError::Conversion { .. } => "joptsimple.OptionArgumentConversionException",
        }
    }
}

/// The options found on a command line.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parsed {
    table: &'static [Opt],
    found: BTreeMap<&'static str, Vec<String>>,
}

/// Reads `args` against `table`. Arguments that are no options are ignored, as Kafka's tools do.
pub(crate) fn parse(table: &'static [Opt], args: &[String]) -> Result<Parsed, OptError> {
    let mut parsed = Parsed { table, found: BTreeMap::new() };
    let mut tokens = args.iter().peekable();
    while let Some(token) = tokens.next() {
        if token == "--" {
            break;
        }
        let (body, long) = match token.strip_prefix("--") {
            Some(body) => (body, true),
            None => match token.strip_prefix('-') {
                Some(body) if !body.is_empty() => (body, false),
                _ => continue,
            },
        };
        let (name, inline) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value.to_string())),
            None => (body, None),
        };
        let Some(opt) = find(table, name) else {
            // a cluster of short options names its first unknown letter
            let unknown = if long { name.to_string() } else { name.chars().take(1).collect() };
            return Err(OptError::Unrecognized(unknown));
        };
        let values = parsed.found.entry(opt.name).or_default();
        match opt.arg {
            Arg::None => {}
            Arg::Required(..) => match inline {
                Some(value) => values.push(value),
                None => match tokens.next() {
                    Some(value) => values.push(value.clone()),
                    None => return Err(OptError::MissingArgument(opt.name.into())),
                },
            },
            Arg::Optional(kind, _) => match inline {
                Some(value) => values.push(value),
                None => {
                    // a number may be negative; what should be one and is not, is left alone
                    let fits = |next: &&String| match kind {
                        "Long" | "Integer" => next.parse::<i64>().is_ok(),
                        _ => !looks_like_option(next),
                    };
                    if let Some(value) = tokens.next_if(fits) {
                        values.push(value.clone());
                    }
                }
            },
        }
    }
    // joptsimple asks for what is missing, unless help is wanted
    let missing: Vec<&str> =
        table.iter().filter(|opt| opt.must && !parsed.found.contains_key(opt.name)).map(|opt| opt.name).collect();
    if !missing.is_empty() && !parsed.found.contains_key("help") && !parsed.found.contains_key("version") {
        return Err(OptError::Missing(missing.join(", ")));
    }
    Ok(parsed)
}

fn looks_like_option(token: &str) -> bool {
    token.len() > 1 && token.starts_with('-')
}

fn find(table: &'static [Opt], name: &str) -> Option<&'static Opt> {
    table.iter().find(|opt| opt.name == name)
}

impl Parsed {
    /// Whether no option was given.
    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Whether the option was given.
    pub(crate) fn has(&self, name: &str) -> bool {
        debug_assert!(find(self.table, name).is_some(), "{name} is not in the table");
        self.found.contains_key(name)
    }

    /// The option's values in their order; empty when it was not given. Defaults do not count.
    pub(crate) fn values(&self, name: &str) -> &[String] {
        debug_assert!(find(self.table, name).is_some(), "{name} is not in the table");
        self.found.get(name).map_or(&[], Vec::as_slice)
    }

    /// The option's one value, or its default.
    ///
    /// # Errors
    /// [`OptError::Multiple`] when it was given twice.
    pub(crate) fn value(&self, name: &str) -> Result<Option<&str>, OptError> {
        match self.values(name) {
            [] => Ok(find(self.table, name).and_then(|opt| opt.default)),
            [one] => Ok(Some(one)),
            _ => Err(OptError::Multiple(name.into())),
        }
    }

    /// The option's one value, converted.
    ///
    /// # Errors
    /// [`OptError::Multiple`], [`OptError::Conversion`].
    pub(crate) fn number<T: FromStr + Display>(&self, name: &str) -> Result<Option<T>, OptError> {
        let Some(text) = self.value(name)? else {
            return Ok(None);
        };
        match text.strip_prefix('+').unwrap_or(text).parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(OptError::Conversion { option: name.into(), value: text.into() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[Opt] = &[
        flag("list", "List."),
        value("topic", "String", "topic", "The topic."),
        value("partitions", "Integer", "# of partitions", "How many."),
        Opt { name: "state", arg: Arg::Optional("String", ""), doc: "", default: None, must: false },
        value("timeout", "Long", "ms", "Wait.").or("30000"),
    ];

    fn args(line: &str) -> Vec<String> {
        line.split_whitespace().map(String::from).collect()
    }

    #[test]
    fn values_come_after_a_space_or_an_equals_sign() {
        let parsed = parse(TABLE, &args("--topic a --topic=b=c --list extra")).unwrap();
        assert_eq!(parsed.values("topic"), ["a", "b=c"]);
        assert!(parsed.has("list") && !parsed.has("partitions"));
        assert_eq!(parsed.value("topic"), Err(OptError::Multiple("topic".into())));
    }

    #[test]
    fn a_required_value_may_look_like_an_option() {
        let parsed = parse(TABLE, &args("--partitions -1")).unwrap();
        assert_eq!(parsed.number::<i32>("partitions"), Ok(Some(-1)));
    }

    #[test]
    fn an_optional_value_may_not() {
        let parsed = parse(TABLE, &args("--state --list")).unwrap();
        assert!(parsed.has("state") && parsed.has("list") && parsed.values("state").is_empty());
        assert_eq!(parse(TABLE, &args("--state a,b")).unwrap().values("state"), ["a,b"]);
    }

    #[test]
    fn refusals_have_joptsimples_words() {
        let words = |line: &str| parse(TABLE, &args(line)).unwrap_err().to_string();
        assert_eq!(words("--nonsense"), "nonsense is not a recognized option");
        assert_eq!(words("--part 2"), "part is not a recognized option");
        assert_eq!(words("-x"), "x is not a recognized option");
        assert_eq!(words("--topic"), "Option topic requires an argument");
        let parsed = parse(TABLE, &args("--partitions abc")).unwrap();
        assert_eq!(
            parsed.number::<i32>("partitions").unwrap_err().to_string(),
            "Cannot parse argument 'abc' of option partitions"
        );
    }

    #[test]
    fn a_default_counts_as_a_value_but_not_as_given() {
        let parsed = parse(TABLE, &[]).unwrap();
        assert_eq!(parsed.number::<i64>("timeout"), Ok(Some(30000)));
        assert!(!parsed.has("timeout"));
    }

    #[test]
    fn two_dashes_end_the_options() {
        assert!(!parse(TABLE, &args("-- --list")).unwrap().has("list"));
    }
}
