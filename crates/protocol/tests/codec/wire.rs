//! Random bytes of a message, straight from its kdef: an interpreter that shares nothing with the generated code but the spec.
//!
//! The bytes are canonical (a tagged field with its default is left out), so that every codec must give them back unchanged.
//! Beside them go the same values with unknown tagged fields strewn in, as a later Kafka would send.

use std::path::Path;

use crate::kdef::{self, DefaultValue, Field, Message, Struct, Type};

/// SplitMix64: small, seedable, the same everywhere.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Rng(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// Every message of `spec/`, by file name then order.
#[expect(clippy::disallowed_methods, reason = "a test reads the spec")]
pub fn specs() -> Vec<Message> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec");
    let mut all = Vec::new();
    for folder in ["messages", "stored"] {
        let mut paths: Vec<_> =
            std::fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        for path in paths.iter().filter(|p| p.extension().is_some_and(|e| e == "kdef")) {
            let spec = kdef::parse(&std::fs::read_to_string(path).unwrap())
                .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            all.extend(spec.messages);
        }
    }
    all
}

/// The canonical bytes, and the same with unknown tagged fields.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Wire {
    pub plain: Vec<u8>,
    pub noisy: Vec<u8>,
}

impl Wire {
    fn put(&mut self, bytes: &[u8]) {
        self.plain.extend_from_slice(bytes);
        self.noisy.extend_from_slice(bytes);
    }

    fn append(&mut self, other: Wire) {
        self.plain.extend_from_slice(&other.plain);
        self.noisy.extend_from_slice(&other.noisy);
    }
}

/// A random value of a message at a version.
pub fn random(message: &Message, version: i16, rng: &mut Rng) -> Wire {
    Generator { message, version, flexible: message.flexible_at(version), rng: Some(rng), depth: 0, crowd: Crowd::None }
        .structure(&message.structs[0])
}

/// The value with every default.
pub fn default(message: &Message, version: i16) -> Wire {
    Generator { message, version, flexible: message.flexible_at(version), rng: None, depth: 0, crowd: Crowd::None }
        .structure(&message.structs[0])
}

/// Defaults, but many elements in arrays: in the outermost ones, or in the innermost ones of one element each.
pub fn crowded(message: &Message, version: i16, innermost: bool, elements: usize) -> Wire {
    let crowd = if innermost { Crowd::Innermost(elements) } else { Crowd::Outermost(elements) };
    Generator { message, version, flexible: message.flexible_at(version), rng: None, depth: 0, crowd }
        .structure(&message.structs[0])
}

#[derive(Clone, Copy)]
enum Crowd {
    None,
    Outermost(usize),
    Innermost(usize),
}

struct Generator<'a> {
    message: &'a Message,
    version: i16,
    flexible: bool,
    /// None writes defaults.
    rng: Option<&'a mut Rng>,
    depth: usize,
    crowd: Crowd,
}

fn uvarint(mut value: u32) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

impl Generator<'_> {
    fn structure(&mut self, s: &Struct) -> Wire {
        let mut out = Wire::default();
        self.depth += 1;
        let version = self.version;
        for f in s.fields.iter().filter(|f| f.versions.contains(version) && !f.tagged_at(version)) {
            let value = self.value(f);
            out.append(value);
        }
        if self.flexible {
            out.append(self.tags(s));
        }
        self.depth -= 1;
        out
    }

    fn tags(&mut self, s: &Struct) -> Wire {
        let mut fields: Vec<&Field> =
            s.fields.iter().filter(|f| f.versions.contains(self.version) && f.tagged_at(self.version)).collect();
        fields.sort_by_key(|f| f.tag.map(|(tag, _)| tag));
        let mut count = 0;
        let mut body = Wire::default();
        for f in fields {
            let default = Generator {
                message: self.message,
                version: self.version,
                flexible: true,
                rng: None,
                depth: 0,
                crowd: Crowd::None,
            }
            .value(f);
            let value = self.value(f);
            if value.plain == default.plain {
                continue;
            }
            count += 1;
            let tag = uvarint(f.tag.unwrap().0);
            body.put(&tag);
            body.plain.extend(uvarint(value.plain.len() as u32));
            body.noisy.extend(uvarint(value.noisy.len() as u32));
            body.append(value);
        }
        let mut unknown = 0;
        if let Some(rng) = &mut self.rng
            && rng.chance(20)
        {
            unknown = 1;
            let length = rng.below(200);
            body.noisy.extend(uvarint(10_000 + rng.below(1 << 20) as u32));
            body.noisy.extend(uvarint(length as u32));
            body.noisy.extend(std::iter::repeat_n(0xa5, length));
        }
        let mut out = Wire { plain: uvarint(count), noisy: uvarint(count + unknown) };
        out.append(body);
        out
    }

    fn value(&mut self, f: &Field) -> Wire {
        let flexible = self.flexible && !f.inflexible;
        if f.null_at(self.version) {
            let null = match &mut self.rng {
                Some(rng) => rng.chance(25),
                None if !matches!(self.crowd, Crowd::None) => false,
                None => f.default == DefaultValue::Null || matches!(f.ty, Type::Records | Type::Pieces),
            };
            if null {
                return self.null(f, flexible);
            }
            if let Type::Struct(name) = &f.ty {
                let mut out = Wire::default();
                out.put(&[1]);
                out.append(self.structure(self.message.find(name)));
                return out;
            }
        }
        let literal = match (&self.rng, &f.default) {
            (None, DefaultValue::Literal(literal)) => Some(literal.as_str()),
            _ => None,
        };
        self.plain(&f.ty, flexible, literal)
    }

    fn null(&self, f: &Field, flexible: bool) -> Wire {
        let mut out = Wire::default();
        match f.ty {
            Type::Struct(_) if f.tagged_at(self.version) => out.put(&[0]),
            Type::Struct(_) => out.put(&[0xff]),
            _ if flexible => out.put(&[0]),
            Type::String => out.put(&[0xff; 2]),
            _ => out.put(&[0xff; 4]),
        }
        out
    }

    fn plain(&mut self, ty: &Type, flexible: bool, literal: Option<&str>) -> Wire {
        let mut out = Wire::default();
        let number = match (&mut self.rng, literal) {
            (None, None | Some("false")) => 0,
            (None, Some("true")) => 1,
            (None, Some(literal)) => literal.parse().unwrap_or(0),
            (Some(rng), _) => match rng.below(6) {
                0 => 0,
                1 => -1,
                2 => i64::MAX,
                3 => i64::MIN,
                4 => rng.below(100) as i64,
                _ => rng.next() as i64,
            },
        };
        match ty {
            Type::Bool => out.put(&[(number & 1) as u8]),
            Type::I8 => out.put(&(number as i8).to_be_bytes()),
            Type::I16 | Type::U16 => out.put(&(number as i16).to_be_bytes()),
            Type::I32 | Type::U32 => {
                out.put(&(if number == i64::MAX { i32::MAX } else { number as i32 }).to_be_bytes())
            }
            Type::I64 => out.put(&number.to_be_bytes()),
            Type::F64 => out.put(&(number as f64 / 3.0).to_be_bytes()),
            Type::Uuid => out.put(&(i128::from(number) * 0x1_0000_0001).to_be_bytes()),
            Type::String => {
                let text = match &mut self.rng {
                    None => String::new(),
                    Some(rng) => {
                        let length = if rng.chance(3) { 130 + rng.below(200) } else { rng.below(12) };
                        (0..length)
                            .map(|_| ['a', 'Z', '0', '-', '.', 'é', '漢', '🦀', '\0', ' '][rng.below(10)])
                            .collect()
                    }
                };
                let length =
                    if flexible { uvarint(text.len() as u32 + 1) } else { (text.len() as i16).to_be_bytes().to_vec() };
                out.put(&length);
                out.put(text.as_bytes());
            }
            Type::Bytes | Type::Records | Type::Pieces => {
                let bytes: Vec<u8> = match &mut self.rng {
                    None => Vec::new(),
                    Some(rng) => {
                        let length = if rng.chance(5) { 1000 + rng.below(4000) } else { rng.below(40) };
                        (0..length).map(|_| rng.next() as u8).collect()
                    }
                };
                out.put(&length(bytes.len(), flexible));
                out.put(&bytes);
            }
            Type::Struct(name) => out = self.structure(self.message.find(name)),
            Type::Array(element) => {
                let most = if self.depth > 2 { 3 } else { 4 };
                let leaf = match &**element {
                    Type::Struct(name) => !self
                        .message
                        .find(name)
                        .fields
                        .iter()
                        .any(|f| f.versions.contains(self.version) && matches!(f.ty, Type::Array(_))),
                    _ => true,
                };
                let count = match &mut self.rng {
                    None => match self.crowd {
                        Crowd::Outermost(n) if self.depth == 1 => n,
                        Crowd::Innermost(n) => {
                            if leaf {
                                n
                            } else {
                                1
                            }
                        }
                        _ => 0,
                    },
                    Some(rng) => {
                        if self.depth < 3 && rng.chance(1) {
                            130
                        } else {
                            rng.below(most)
                        }
                    }
                };
                out.put(&length(count, flexible));
                for _ in 0..count {
                    out.append(self.plain(element, flexible, None));
                }
            }
        }
        out
    }
}

fn length(length: usize, flexible: bool) -> Vec<u8> {
    if flexible { uvarint(length as u32 + 1) } else { (length as i32).to_be_bytes().to_vec() }
}
