//! The kdef language: `spec/**/*.kdef` to a tree of messages, fields and structures.
//!
//! Owns the grammar (described in `spec/README.md`) and its checks. Knows nothing of Rust output. The crate `milena-protocol`
//! includes this file in its tests, where an interpreter of the same tree checks the generated code; so no dependencies here.

use std::collections::BTreeSet;
use std::fmt;

/// The last version of an open range.
pub const LATEST: i16 = i16::MAX;

/// An inclusive range of versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    pub min: i16,
    pub max: i16,
}

impl Versions {
    pub const ALL: Versions = Versions { min: 0, max: LATEST };

    pub fn contains(self, version: i16) -> bool {
        (self.min..=self.max).contains(&version)
    }

    fn covers(self, other: Versions) -> bool {
        self.min <= other.min && self.max >= other.max
    }

    /// `3`, `3..` or `3..7`.
    fn parse(text: &str) -> Option<Versions> {
        match text.split_once("..") {
            None => text.parse().ok().map(|v| Versions { min: v, max: v }),
            Some((min, "")) => Some(Versions { min: min.parse().ok()?, max: LATEST }),
            Some((min, max)) => Some(Versions { min: min.parse().ok()?, max: max.parse().ok()? }),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Type {
    Bool,
    I8,
    I16,
    U16,
    I32,
    U32,
    I64,
    F64,
    Uuid,
    String,
    Bytes,
    Records,
    /// Records in as many pieces as they lie in memory: for what is sent, not for what is received.
    Pieces,
    Struct(String),
    Array(Box<Type>),
}

impl Type {
    fn parse(text: &str) -> Type {
        match text {
            "bool" => Type::Bool,
            "i8" => Type::I8,
            "i16" => Type::I16,
            "u16" => Type::U16,
            "i32" => Type::I32,
            "u32" => Type::U32,
            "i64" => Type::I64,
            "f64" => Type::F64,
            "uuid" => Type::Uuid,
            "string" => Type::String,
            "bytes" => Type::Bytes,
            "records" => Type::Records,
            "pieces" => Type::Pieces,
            name => Type::Struct(name.to_string()),
        }
    }

    /// Whether the type has a null on the wire.
    pub fn nullable(&self) -> bool {
        matches!(self, Type::String | Type::Bytes | Type::Records | Type::Pieces | Type::Struct(_) | Type::Array(_))
    }
}

/// What a field holds when nobody said otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DefaultValue {
    /// Zero, false, empty; for `records`, null.
    Zero,
    Null,
    Literal(String),
}

#[derive(Debug, Clone)]
pub struct Field {
    pub name: String,
    pub ty: Type,
    pub versions: Versions,
    /// The versions at which null is allowed.
    pub null: Option<Versions>,
    pub default: DefaultValue,
    /// The tag, and the versions at which the field is tagged.
    pub tag: Option<(u32, Versions)>,
    pub ignorable: bool,
    pub inflexible: bool,
}

impl Field {
    pub fn tagged_at(&self, version: i16) -> bool {
        self.tag.is_some_and(|(_, versions)| versions.contains(version))
    }

    pub fn null_at(&self, version: i16) -> bool {
        self.null.is_some_and(|versions| versions.contains(version))
    }
}

#[derive(Debug, Clone)]
pub struct Struct {
    pub name: String,
    pub fields: Vec<Field>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Request,
    Response,
    Data,
    Record,
    Key,
    Value,
}

#[derive(Debug, Clone)]
pub struct Message {
    pub kind: Kind,
    pub versions: Versions,
    /// The first flexible version (KIP-482), if there is one.
    pub flexible: Option<i16>,
    /// The number of a stored record.
    pub type_id: Option<i16>,
    /// The message itself first, then its structures.
    pub structs: Vec<Struct>,
}

impl Message {
    pub fn name(&self) -> &str {
        &self.structs[0].name
    }

    pub fn find(&self, name: &str) -> &Struct {
        self.structs.iter().find(|s| s.name == name).expect("checked when parsed")
    }

    pub fn flexible_at(&self, version: i16) -> bool {
        self.flexible.is_some_and(|from| version >= from)
    }

    pub fn all_versions(&self) -> impl Iterator<Item = i16> + use<> {
        self.versions.min..=self.versions.max
    }

    /// The fewest bytes a value of this type takes at a version.
    pub fn min_size(&self, ty: &Type, null: bool, version: i16) -> usize {
        let flexible = self.flexible_at(version);
        match ty {
            Type::Bool | Type::I8 => 1,
            Type::I16 | Type::U16 => 2,
            Type::I32 | Type::U32 => 4,
            Type::I64 | Type::F64 => 8,
            Type::Uuid => 16,
            Type::String => {
                if flexible {
                    1
                } else {
                    2
                }
            }
            Type::Bytes | Type::Records | Type::Pieces | Type::Array(_) => {
                if flexible {
                    1
                } else {
                    4
                }
            }
            Type::Struct(_) if null => 1,
            Type::Struct(name) => {
                let fields = &self.find(name).fields;
                let plain = fields.iter().filter(|f| f.versions.contains(version) && !f.tagged_at(version));
                plain.map(|f| self.min_size(&f.ty, f.null_at(version), version)).sum::<usize>() + usize::from(flexible)
            }
        }
    }
}

/// `api Fetch key 1 on broker`.
#[derive(Debug, Clone)]
pub struct Api {
    pub name: String,
    pub key: i16,
    pub listeners: Vec<String>,
    pub unstable_latest: bool,
}

/// One file.
#[derive(Debug, Clone, Default)]
pub struct Spec {
    pub api: Option<Api>,
    pub messages: Vec<Message>,
}

/// Where and why a file is not kdef.
#[derive(Debug)]
pub struct KdefError {
    line: usize,
    reason: String,
}

impl fmt::Display for KdefError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

impl std::error::Error for KdefError {}

/// Parses one file.
///
/// # Errors
/// Names the line and what is wrong with it.
pub fn parse(text: &str) -> Result<Spec, KdefError> {
    let mut spec = Spec::default();
    // the structure that a field at an indentation belongs to: index in the last message, by depth
    let mut open: Vec<usize> = Vec::new();
    for (index, raw) in text.lines().enumerate() {
        let fail = |reason: String| KdefError { line: index + 1, reason };
        let line = raw.split('#').next().unwrap_or_default().trim_end();
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some(&first) = words.first() else { continue };
        let indent = line.len() - line.trim_start().len();
        match indent {
            0 if first == "api" => spec.api = Some(api(&words).map_err(fail)?),
            0 => {
                spec.messages.push(message(&words).map_err(fail)?);
                open = vec![0];
            }
            2 if first == "struct" && words.len() == 2 => {
                let message = spec.messages.last_mut().ok_or_else(|| fail("a structure outside a message".into()))?;
                open = vec![struct_index(message, words[1])];
            }
            _ => {
                let message = spec.messages.last_mut().ok_or_else(|| fail("a field outside a message".into()))?;
                let depth = indent / 4;
                if indent % 4 != 0 || depth == 0 || depth > open.len() {
                    return Err(fail(format!("indentation of {indent}")));
                }
                open.truncate(depth);
                let field = field(&words).map_err(fail)?;
                let mut inner = &field.ty;
                while let Type::Array(element) = inner {
                    inner = element;
                }
                if let Type::Struct(name) = inner {
                    open.push(struct_index(message, name));
                }
                message.structs[open[depth - 1]].fields.push(field);
            }
        }
    }
    for message in &spec.messages {
        check(message).map_err(|reason| KdefError { line: 0, reason: format!("{}: {reason}", message.name()) })?;
    }
    Ok(spec)
}

fn struct_index(message: &mut Message, name: &str) -> usize {
    message.structs.iter().position(|s| s.name == name).unwrap_or_else(|| {
        message.structs.push(Struct { name: name.to_string(), fields: Vec::new() });
        message.structs.len() - 1
    })
}

fn api(words: &[&str]) -> Result<Api, String> {
    let ["api", name, "key", key, rest @ ..] = words else {
        return Err("expected: api NAME key N on LISTENERS".into());
    };
    let mut api = Api { name: name.to_string(), key: number(key)?, listeners: Vec::new(), unstable_latest: false };
    for word in rest {
        match *word {
            "on" => {}
            "unstable-latest" => api.unstable_latest = true,
            "broker" | "controller" | "zk-broker" => api.listeners.push(word.to_string()),
            other => return Err(format!("unknown listener {other}")),
        }
    }
    Ok(api)
}

fn message(words: &[&str]) -> Result<Message, String> {
    let [kind, name, versions, "flexible", flexible, rest @ ..] = words else {
        return Err("expected: KIND NAME VERSIONS flexible VERSION".into());
    };
    let kind = match *kind {
        "request" => Kind::Request,
        "response" => Kind::Response,
        "data" => Kind::Data,
        "record" => Kind::Record,
        "key" => Kind::Key,
        "value" => Kind::Value,
        other => return Err(format!("unknown kind {other}")),
    };
    let versions = Versions::parse(versions).filter(|v| v.max != LATEST).ok_or("bad versions")?;
    let flexible = match *flexible {
        "none" => None,
        from => Some(Versions::parse(from).filter(|v| v.max == LATEST).ok_or("bad flexible version")?.min),
    };
    let type_id = match rest {
        [] => None,
        ["type", id] => Some(number(id)?),
        _ => return Err(format!("unexpected {rest:?}")),
    };
    Ok(Message {
        kind,
        versions,
        flexible,
        type_id,
        structs: vec![Struct { name: name.to_string(), fields: Vec::new() }],
    })
}

fn field(words: &[&str]) -> Result<Field, String> {
    let [name, ty, rest @ ..] = words else { return Err("expected: NAME TYPE".into()) };
    let (ty, null) = match ty.split_once('?') {
        None => (*ty, None),
        Some((ty, "")) => (ty, Some(Versions::ALL)),
        Some((ty, versions)) => (ty, Some(Versions::parse(versions).ok_or("bad nullable versions")?)),
    };
    let ty = match ty.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        Some(element) => Type::Array(Box::new(Type::parse(element))),
        None => Type::parse(ty),
    };
    let mut field = Field {
        name: name.to_string(),
        ty,
        versions: Versions::ALL,
        null,
        default: DefaultValue::Zero,
        tag: None,
        ignorable: false,
        inflexible: false,
    };
    let mut rest = rest.iter().copied().peekable();
    if let Some(versions) = rest.peek().and_then(|w| Versions::parse(w)) {
        field.versions = versions;
        rest.next();
    }
    while let Some(word) = rest.next() {
        match word {
            "=" => {
                field.default = match rest.next().ok_or("a default without a value")? {
                    "null" => DefaultValue::Null,
                    literal => DefaultValue::Literal(literal.to_string()),
                }
            }
            "tag" => {
                let tag = rest.next().and_then(|t| t.parse().ok()).ok_or("a tag without a number")?;
                let versions = rest.peek().and_then(|w| Versions::parse(w));
                if versions.is_some() {
                    rest.next();
                }
                field.tag = Some((tag, versions.unwrap_or(field.versions)));
            }
            "ignorable" => field.ignorable = true,
            "inflexible" => field.inflexible = true,
            other => return Err(format!("unexpected {other}")),
        }
    }
    Ok(field)
}

fn number(word: &str) -> Result<i16, String> {
    word.parse().map_err(|_| format!("{word} is not a number"))
}

/// What the grammar cannot say.
fn check(message: &Message) -> Result<(), String> {
    for s in &message.structs {
        if s.fields.is_empty() && s.name != message.name() {
            return Err(format!("structure {} has no fields", s.name));
        }
        let mut names = BTreeSet::new();
        let mut tags = BTreeSet::new();
        for f in &s.fields {
            let fail = |reason: &str| Err(format!("{}.{}: {reason}", s.name, f.name));
            if !names.insert(&f.name) {
                return fail("named twice");
            }
            if f.tag.is_some_and(|(tag, _)| !tags.insert(tag)) {
                return fail("its tag is taken");
            }
            if f.null.is_some() && !f.ty.nullable() {
                return fail("this type has no null");
            }
            if f.default == DefaultValue::Null && f.null.is_none() {
                return fail("default null, but not nullable");
            }
            if let Some((_, versions)) = f.tag
                && (!f.versions.covers(versions)
                    || message.flexible.is_none_or(|from| from > versions.min.max(message.versions.min)))
            {
                return fail("tagged outside the flexible versions");
            }
            if let Type::Array(element) = &f.ty {
                let present = message.all_versions().filter(|v| f.versions.contains(*v));
                if present.map(|v| message.min_size(element, false, v)).any(|size| size == 0) {
                    return fail("elements of no size");
                }
            }
        }
    }
    Ok(())
}
