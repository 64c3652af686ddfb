//! The machinery under every table of configuration keys: what a key is, how its text becomes a value, and `config_def!`,
//! which makes one typed struct and one table out of one list.
//!
//! Owns the parsing and checking of single values, in Kafka's error words. Never knows a particular key and never
//! looks at two keys at once (that is `validate.rs`). Used by the tables beside it and by whoever alters configurations.

use std::collections::BTreeMap;

use crate::ConfigError;

/// Type of a key's value; the numbers are those of DescribeConfigs responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub enum Type {
    Boolean = 1,
    String = 2,
    Int = 3,
    Short = 4,
    Long = 5,
    Double = 6,
    List = 7,
    Class = 8,
    Password = 9,
}

impl Type {
    /// Kafka's name of the type, as in its documentation and error messages.
    pub fn name(self) -> &'static str {
        match self {
            Type::Boolean => "BOOLEAN",
            Type::String => "STRING",
            Type::Int => "INT",
            Type::Short => "SHORT",
            Type::Long => "LONG",
            Type::Double => "DOUBLE",
            Type::List => "LIST",
            Type::Class => "CLASS",
            Type::Password => "PASSWORD",
        }
    }
}

/// Where a key may be changed while the broker runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Only in the properties file, read at start.
    ReadOnly,
    /// For one broker.
    PerBroker,
    /// For one broker or as the default of all.
    ClusterWide,
}

impl Scope {
    /// The word that Kafka's documentation uses.
    pub fn name(self) -> &'static str {
        match self {
            Scope::ReadOnly => "read-only",
            Scope::PerBroker => "per-broker",
            Scope::ClusterWide => "cluster-wide",
        }
    }
}

/// Who knows a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Documented by Kafka 4.3.
    Public,
    /// Known to Kafka 4.3 but not documented and not listed by DescribeConfigs.
    Internal,
    /// Only of releases before 4.0; listed by DescribeConfigs when somebody set it.
    Legacy,
    /// Milena's own.
    Milena,
}

/// What a key's value must be beyond its type.
#[derive(Clone, Copy)]
pub enum Check {
    Any,
    AtLeast(i64),
    Between(i64, i64),
    Fraction(f64, f64),
    OneOf(&'static [&'static str]),
    OneOfIgnoreCase(&'static [&'static str]),
    /// A list whose elements are all among these.
    EachOf(&'static [&'static str]),
    /// The same, and at least one.
    SomeOf(&'static [&'static str]),
    /// A list without empty elements.
    Elements,
    /// The same, and at least one.
    SomeElements,
    NonEmpty,
    /// Anything else: the text that describes what is allowed, and the test. The test's error is what the client is told.
    Custom(&'static str, fn(&str, &Value) -> Result<(), String>),
}

/// A parsed value, not yet tied to a field.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(String),
    List(Vec<String>),
}

/// One configuration key.
#[derive(Clone, Copy)]
pub struct ConfigKey {
    pub name: &'static str,
    pub ty: Type,
    /// Text of the default; `None` is Kafka's null.
    pub default: Option<&'static str>,
    pub check: Check,
    pub scope: Scope,
    pub audience: Audience,
    /// False for a key that is understood and checked but changes nothing yet.
    pub implemented: bool,
    pub doc: &'static str,
}

impl ConfigKey {
    /// Values of the key are never shown.
    pub fn sensitive(&self) -> bool {
        self.ty == Type::Password
    }

    /// Parses and checks one value; errors in Kafka's words.
    pub fn parse(&self, text: &str) -> Result<Value, ConfigError> {
        let shown = if self.sensitive() { "[hidden]" } else { text.trim() };
        let value = parse_type(self.ty, text).map_err(|allowed| ConfigError::invalid(self.name, shown, allowed))?;
        match self.check.run(self.name, &value) {
            Ok(()) => Ok(value),
            Err(Refusal::Value(allowed)) => Err(ConfigError::invalid(self.name, value.show(), allowed)),
            Err(Refusal::Element(element, allowed)) => Err(ConfigError::invalid(self.name, element, allowed)),
            Err(Refusal::Whole(what)) => Err(ConfigError::Conflict(format!("Configuration '{}' {what}", self.name))),
        }
    }
}

fn parse_type(ty: Type, text: &str) -> Result<Value, String> {
    let text = text.trim();
    let integer = |min: i64, max: i64| match text.parse::<i64>() {
        Ok(n) if (min..=max).contains(&n) => Ok(Value::Int(n)),
        _ => Err(format!("Not a number of type {}", ty.name())),
    };
    match ty {
        Type::Boolean if text.eq_ignore_ascii_case("true") => Ok(Value::Bool(true)),
        Type::Boolean if text.eq_ignore_ascii_case("false") => Ok(Value::Bool(false)),
        Type::Boolean => Err("Expected value to be either true or false".to_owned()),
        Type::Int => integer(i32::MIN.into(), i32::MAX.into()),
        Type::Short => integer(i16::MIN.into(), i16::MAX.into()),
        Type::Long => integer(i64::MIN, i64::MAX),
        Type::Double => text.parse().map(Value::Double).map_err(|_| "Not a number of type DOUBLE".to_owned()),
        Type::List if text.is_empty() => Ok(Value::List(Vec::new())),
        Type::List => Ok(Value::List(elements(text))),
        Type::String | Type::Class | Type::Password => Ok(Value::Text(text.to_owned())),
    }
}

/// The elements of a list, each once; Kafka drops repetitions too.
fn elements(text: &str) -> Vec<String> {
    let mut list: Vec<String> = Vec::new();
    for element in text.split(',').map(str::trim) {
        if !list.iter().any(|e| e == element) {
            list.push(element.to_owned());
        }
    }
    list
}

enum Refusal {
    Value(String),
    Element(String, String),
    Whole(String),
}

impl Check {
    fn run(&self, name: &str, value: &Value) -> Result<(), Refusal> {
        let range = |low: bool, high: bool, min: &dyn std::fmt::Display, max: &dyn std::fmt::Display| match (low, high)
        {
            (true, _) => Err(Refusal::Value(format!("Value must be at least {min}"))),
            (_, true) => Err(Refusal::Value(format!("Value must be no more than {max}"))),
            _ => Ok(()),
        };
        let one_of = |text: &str, all: &[&str]| {
            Refusal::Element(text.to_owned(), format!("String must be one of: {}", all.join(", ")))
        };
        match (self, value) {
            (Check::AtLeast(min), Value::Int(n)) => range(n < min, false, min, &""),
            (Check::Between(min, max), Value::Int(n)) => range(n < min, n > max, min, max),
            (Check::Fraction(min, max), Value::Double(x)) => range(x < min, x > max, min, max),
            (Check::OneOf(all), Value::Text(t)) if !all.contains(&t.as_str()) => Err(one_of(t, all)),
            (Check::OneOfIgnoreCase(all), Value::Text(t)) if !all.iter().any(|a| a.eq_ignore_ascii_case(t)) => {
                Err(Refusal::Value(format!("String must be one of (case insensitive): {}", all.join(", "))))
            }
            (Check::EachOf(all) | Check::SomeOf(all), Value::List(list)) => {
                let stranger = list.iter().find(|t| !all.contains(&t.as_str()));
                let stranger = stranger.map_or(Ok(()), |t| Err(one_of(t, all)));
                stranger.and_then(|()| self.length(list, &format!("[{}]", all.join(", "))))
            }
            (Check::Elements | Check::SomeElements, Value::List(list)) => self.length(list, "any non-empty value"),
            (Check::NonEmpty, Value::Text(t)) if t.is_empty() => {
                Err(Refusal::Value("String must be non-empty".to_owned()))
            }
            (Check::Custom(_, test), Value::List(list)) => {
                test(name, value).map_err(|e| Refusal::Element(format!("[{}]", list.join(", ")), e))
            }
            (Check::Custom(_, test), _) => test(name, value).map_err(Refusal::Value),
            _ => Ok(()),
        }
    }

    /// Lists: no empty element, and for two of the checks at least one element.
    fn length(&self, list: &[String], valid: &str) -> Result<(), Refusal> {
        if list.iter().any(String::is_empty) {
            return Err(Refusal::Whole("values must not be empty.".to_owned()));
        }
        if list.is_empty() && matches!(self, Check::SomeOf(_) | Check::SomeElements) {
            let what = format!("must not be empty. Valid values include: {valid}");
            return Err(Refusal::Whole(what));
        }
        Ok(())
    }

    /// What is allowed, for the documentation; the same notation as Kafka's.
    pub fn describe(&self) -> String {
        match self {
            Check::Any => String::new(),
            Check::AtLeast(min) => format!("[{min},...]"),
            Check::Between(min, max) => format!("[{min},...,{max}]"),
            Check::Fraction(min, max) => format!("[{min},...,{max}]"),
            Check::OneOf(all) | Check::EachOf(all) | Check::SomeOf(all) => {
                format!("[{}]", all.join(", "))
            }
            Check::OneOfIgnoreCase(all) => format!("(case insensitive) [{}]", all.join(", ")),
            Check::Elements => String::new(),
            Check::NonEmpty | Check::SomeElements => "not empty".to_owned(),
            Check::Custom(what, _) => (*what).to_owned(),
        }
    }
}

impl Value {
    /// The text by which DescribeConfigs shows the value.
    pub fn show(&self) -> String {
        match self {
            Value::Bool(b) => b.to_string(),
            Value::Int(n) => n.to_string(),
            Value::Double(x) => show_double(*x),
            Value::Text(t) => t.clone(),
            Value::List(list) => list.join(","),
        }
    }
}

/// A double as Java prints it: plain between 0.001 and ten million, else with an exponent.
fn show_double(x: f64) -> String {
    if x == 0.0 || (1e-3..1e7).contains(&x.abs()) {
        return format!("{x:?}");
    }
    let text = format!("{x:E}");
    match text.split_once('E') {
        Some((mantissa, exponent)) if !mantissa.contains('.') => format!("{mantissa}.0E{exponent}"),
        _ => text,
    }
}

/// A Rust type that a field of a configuration struct may have.
pub trait ConfigValue: Sized {
    const TYPE: Type;
    /// `None` when the key has no value; an error is what is allowed instead.
    fn from_value(value: Option<Value>) -> Result<Self, String>;
}

const WRONG_KIND: &str = "value of another type";

macro_rules! config_value {
    ($($rust:ty, $ty:ident, $pattern:pat => $made:expr;)*) => {$(
        impl ConfigValue for $rust {
            const TYPE: Type = Type::$ty;
            fn from_value(value: Option<Value>) -> Result<Self, String> {
                match value {
                    Some($pattern) => $made,
                    Some(_) => Err(WRONG_KIND.to_owned()),
                    None => Err("a value is required".to_owned()),
                }
            }
        }
    )*};
}

config_value! {
    bool, Boolean, Value::Bool(b) => Ok(b);
    i32, Int, Value::Int(n) => i32::try_from(n).map_err(|e| e.to_string());
    i16, Short, Value::Int(n) => i16::try_from(n).map_err(|e| e.to_string());
    i64, Long, Value::Int(n) => Ok(n);
    f64, Double, Value::Double(x) => Ok(x);
    String, String, Value::Text(t) => Ok(t);
    Vec<String>, List, Value::List(l) => Ok(l);
    Class, Class, Value::Text(t) => Ok(Class(t));
    Password, Password, Value::Text(t) => Ok(Password(t));
}

impl<T: ConfigValue> ConfigValue for Option<T> {
    const TYPE: Type = T::TYPE;
    fn from_value(value: Option<Value>) -> Result<Self, String> {
        value.map(|v| T::from_value(Some(v))).transpose()
    }
}

/// The name of a Java class that a key asks for. Milena looks at the name only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Class(pub String);

/// A secret: neither printed nor described. `expose` says where it is used.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[hidden]")
    }
}

/// Finds a key by name. Tables are sorted, which the tests check.
pub fn find<'a>(keys: &'a [ConfigKey], name: &str) -> Option<&'a ConfigKey> {
    keys.binary_search_by(|k| k.name.cmp(name)).ok().and_then(|i| keys.get(i))
}

/// The next key's typed value; the first half of what `config_def!` expands to.
pub fn typed<T: ConfigValue>(
    keys: &mut std::slice::Iter<'_, ConfigKey>,
    given: &BTreeMap<String, String>,
) -> Result<T, ConfigError> {
    let Some(key) = keys.next() else {
        return Err(ConfigError::Conflict("the struct has more fields than its table has keys".to_owned()));
    };
    let text = given.get(key.name).map(String::as_str).or(key.default);
    let value = text.map(|text| key.parse(text)).transpose()?;
    T::from_value(value).map_err(|allowed| match text {
        Some(text) => ConfigError::invalid(key.name, text, allowed),
        None => ConfigError::Missing { key: key.name.to_owned() },
    })
}

/// One row per key: `"the.key" => field: Type = "default" or null, Check, Scope Audience live|idle, "what it is for";`
/// makes the struct (one field per row, plus `originals`, the texts as given, unknown keys included), `KEYS` and `parse`.
macro_rules! config_def {
    (
        $(#[$meta:meta])* pub struct $name:ident;
        $( $key:literal => $field:ident : $ty:ty = $default:tt, $check:expr, $scope:ident $audience:ident $state:ident, $doc:literal; )*
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone)]
        pub struct $name {
            /// The texts as given, unknown keys included.
            pub originals: std::collections::BTreeMap<String, String>,
            $( #[doc = $doc] pub $field: $ty, )*
        }

        impl $name {
            /// Every key, sorted by name.
            pub const KEYS: &'static [$crate::config::ConfigKey] = &[ $( $crate::config::ConfigKey {
                name: $key,
                ty: <$ty as $crate::config::def::ConfigValue>::TYPE,
                default: config_def!(@default $default),
                check: { #[allow(unused_imports)] use $crate::config::Check::*; #[allow(unused_imports)] use $crate::config::checks::*; $check },
                scope: $crate::config::Scope::$scope,
                audience: $crate::config::Audience::$audience,
                implemented: config_def!(@state $state),
                doc: $doc,
            }, )* ];

            /// Parses and checks each key by itself; a key that is not given has its default.
            pub fn parse(originals: std::collections::BTreeMap<String, String>) -> Result<Self, $crate::ConfigError> {
                let keys = &mut Self::KEYS.iter();
                Ok(Self { $( $field: $crate::config::def::typed(keys, &originals)?, )* originals })
            }

            /// The key of that name.
            pub fn key(name: &str) -> Option<&'static $crate::config::ConfigKey> {
                $crate::config::def::find(Self::KEYS, name)
            }
        }
    };
    (@default null) => { None };
    (@default $text:literal) => { Some($text) };
    (@state live) => { true };
    (@state idle) => { false };
}
pub(crate) use config_def;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_print_as_java_prints_them() {
        for (x, text) in [
            (0.5, "0.5"),
            (1.0, "1.0"),
            (f64::MAX, "1.7976931348623157E308"),
            (1e7, "1.0E7"),
            (0.0001, "1.0E-4"),
            (0.0, "0.0"),
        ] {
            assert_eq!(show_double(x), text);
        }
    }
}
