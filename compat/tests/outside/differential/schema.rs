//! Requests and answers as JSON, by the kdef of `spec/messages`: what a message's fields are, and its bytes.
//!
//! Owns encoding and decoding; shares nothing with the generated codec but the spec, and lies where it is told to: a null where none may
//! be goes on the wire. Bytes and uuids are strings (`hex:...`, `uuid:...`); a batch is an object, see [`batch`].

use std::collections::BTreeMap;
use std::fs;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, bail, ensure};
use milena_compat::batch::Batch;
use milena_compat::broker::repository;
use serde_json::{Map, Value, json};

use super::kdef::{self, DefaultValue, Field, Message, Type};

/// One API's two messages.
pub struct Api {
    pub key: i16,
    pub request: Message,
    pub response: Message,
}

/// Every API by name.
pub fn apis() -> &'static BTreeMap<String, Api> {
    static ALL: OnceLock<BTreeMap<String, Api>> = OnceLock::new();
    ALL.get_or_init(|| load().expect("the spec"))
}

/// The API of this name.
pub fn api(name: &str) -> &'static Api {
    apis().get(name).unwrap_or_else(|| panic!("no API is called {name}"))
}

fn load() -> Result<BTreeMap<String, Api>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(repository().join("spec/messages"))? {
        let path = entry?.path();
        if path.extension().is_none_or(|e| e != "kdef") {
            continue;
        }
        let spec = kdef::parse(&fs::read_to_string(&path)?).map_err(|e| anyhow::anyhow!("{}: {e}", path.display()))?;
        let Some(api) = spec.api else { continue };
        let of = |kind| spec.messages.iter().find(|m| m.kind == kind).cloned();
        let (request, response) = (of(kdef::Kind::Request), of(kdef::Kind::Response));
        let (request, response) = (request.context("a request")?, response.context("a response")?);
        all.insert(api.name, Api { key: api.key, request, response });
    }
    Ok(all)
}

/// A value when nobody said otherwise.
pub fn default(message: &Message, field: &Field) -> Value {
    match (&field.default, &field.ty) {
        (DefaultValue::Null, _) => Value::Null,
        (DefaultValue::Literal(text), Type::Bool) => json!(text == "true"),
        (DefaultValue::Literal(text), Type::String) => json!(text),
        (DefaultValue::Literal(text), _) => json!(text.parse::<i64>().unwrap_or_default()),
        (DefaultValue::Zero, ty) => match ty {
            Type::Bool => json!(false),
            Type::F64 => json!(0.0),
            Type::Uuid => json!("uuid:0"),
            Type::String | Type::Bytes => json!(""),
            Type::Records | Type::Pieces => Value::Null,
            Type::Array(_) => json!([]),
            Type::Struct(name) => {
                let fields = message.find(name).fields.iter().map(|f| (f.name.clone(), default(message, f)));
                Value::Object(fields.collect())
            }
            _ => json!(0),
        },
    }
}

/// The frame of a request, without its length. `resolve` tells what a string stands for on this side.
pub fn encode(
    api: &Api,
    version: i16,
    correlation: i32,
    body: &Value,
    resolve: &dyn Fn(&str) -> String,
) -> Result<Vec<u8>> {
    let message = &api.request;
    let flexible = message.flexible_at(version);
    let mut out = Vec::new();
    out.extend(api.key.to_be_bytes());
    out.extend(version.to_be_bytes());
    out.extend(correlation.to_be_bytes());
    out.extend(6i16.to_be_bytes());
    out.extend(b"differ");
    if flexible {
        out.push(0);
    }
    let mut encoder = Encoder { message, version, flexible, resolve, out };
    encoder.structure(message.name(), body)?;
    Ok(encoder.out)
}

struct Encoder<'a> {
    message: &'a Message,
    version: i16,
    flexible: bool,
    resolve: &'a dyn Fn(&str) -> String,
    out: Vec<u8>,
}

impl Encoder<'_> {
    fn structure(&mut self, name: &str, value: &Value) -> Result<()> {
        let mut tagged = BTreeMap::new();
        for field in &self.message.find(name).fields {
            if !field.versions.contains(self.version) {
                continue;
            }
            let standard = default(self.message, field);
            let value = value.get(&field.name).unwrap_or(&standard);
            let what = || format!("{}.{} = {value}", name, field.name);
            match field.tag {
                Some((tag, _)) if field.tagged_at(self.version) => {
                    if *value != standard {
                        let before = std::mem::take(&mut self.out);
                        self.value(&field.ty, field.null_at(self.version), true, false, value).with_context(what)?;
                        tagged.insert(tag, std::mem::replace(&mut self.out, before));
                    }
                }
                _ => {
                    let flexible = self.flexible && !field.inflexible;
                    self.value(&field.ty, field.null_at(self.version), false, !flexible, value).with_context(what)?;
                }
            }
        }
        if self.flexible {
            self.uvarint(tagged.len() as u32);
            for (tag, bytes) in tagged {
                self.uvarint(tag);
                self.uvarint(bytes.len() as u32);
                self.out.extend(bytes);
            }
        }
        Ok(())
    }

    fn uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }

    /// A length, or null; `fixed` is the width of one that is not compact.
    fn length(&mut self, length: Option<usize>, fixed: usize, inflexible: bool) {
        if !inflexible {
            return self.uvarint(length.map_or(0, |n| n as u32 + 1));
        }
        let n = length.map_or(-1, |n| n as i32);
        self.out.extend(if fixed == 2 { (n as i16).to_be_bytes().to_vec() } else { n.to_be_bytes().to_vec() });
    }

    fn value(&mut self, ty: &Type, null: bool, tagged: bool, inflexible: bool, value: &Value) -> Result<()> {
        match ty {
            Type::Bool => self.out.push(u8::from(value.as_bool().context("a bool")?)),
            Type::I8 => self.out.extend((self.number(value)? as i8).to_be_bytes()),
            Type::I16 | Type::U16 => self.out.extend((self.number(value)? as i16).to_be_bytes()),
            Type::I32 | Type::U32 => self.out.extend((self.number(value)? as i32).to_be_bytes()),
            Type::I64 => self.out.extend(self.number(value)?.to_be_bytes()),
            Type::F64 => {
                let number = match value.as_str() {
                    Some(text) => text.parse().context("a float")?,
                    None => value.as_f64().context("a float")?,
                };
                self.out.extend(number.to_be_bytes());
            }
            Type::Uuid => {
                let text = (self.resolve)(value.as_str().context("a uuid")?);
                let number = u128::from_str_radix(text.trim_start_matches("uuid:"), 16).unwrap_or(0x7777);
                self.out.extend(number.to_be_bytes());
            }
            Type::String => self.bytes(value, 2, inflexible)?,
            Type::Bytes => self.bytes(value, 4, inflexible)?,
            Type::Records | Type::Pieces => match value {
                Value::Object(fields) => {
                    let records = batch(fields, &|v| self.number(v))?;
                    self.length(Some(records.len()), 4, inflexible);
                    self.out.extend(records);
                }
                other => self.bytes(other, 4, inflexible)?,
            },
            Type::Array(element) => {
                let items = value.as_array();
                self.length(items.map(Vec::len), 4, inflexible);
                for item in items.into_iter().flatten() {
                    self.value(element, false, false, inflexible, item)?;
                }
            }
            Type::Struct(name) => {
                if null {
                    self.out.push(match (value.is_null(), tagged) {
                        (false, _) => 1,
                        (true, true) => 0,
                        (true, false) => 0xff,
                    });
                }
                if !value.is_null() {
                    self.structure(name, value)?;
                }
            }
        }
        Ok(())
    }

    fn bytes(&mut self, value: &Value, fixed: usize, inflexible: bool) -> Result<()> {
        let bytes = match value {
            Value::Null => None,
            Value::String(text) => match text.strip_prefix("hex:") {
                Some(hex) => Some(unhex(hex)?),
                None => Some((self.resolve)(text).into_bytes()),
            },
            other => bail!("{other} where a string should be"),
        };
        self.length(bytes.as_ref().map(Vec::len), fixed, inflexible);
        self.out.extend(bytes.unwrap_or_default());
        Ok(())
    }

    fn number(&self, value: &Value) -> Result<i64> {
        match value {
            Value::Number(n) => n.as_i64().context("a whole number"),
            // a token that nobody bound any more
            Value::String(text) => Ok((self.resolve)(text).parse().unwrap_or(888_888)),
            other => bail!("{other} where a number should be"),
        }
    }
}

/// A batch of `values`, of the producer and with the sequence and attributes that the object names.
fn batch(fields: &Map<String, Value>, number: &dyn Fn(&Value) -> Result<i64>) -> Result<Vec<u8>> {
    let count = fields.get("count").and_then(Value::as_u64).unwrap_or(1);
    let values: Vec<Vec<u8>> = (0..count).map(|i| format!("value {i}").into_bytes()).collect();
    let mut batch = Batch::of(&values.iter().map(Vec::as_slice).collect::<Vec<_>>());
    // the same on both sides, so that the answers to questions about time are too
    batch.base_timestamp = fields.get("timestamp").map_or(Ok(1_700_000_000_000), number)?;
    batch.max_timestamp = batch.base_timestamp;
    batch.producer_id = fields.get("producer_id").map_or(Ok(-1), number)?;
    batch.producer_epoch = fields.get("producer_epoch").map_or(Ok(-1), number)? as i16;
    batch.base_sequence = fields.get("base_sequence").map_or(Ok(-1), number)? as i32;
    batch.attributes = fields.get("attributes").map_or(Ok(0), number)? as i16;
    Ok(batch.bytes())
}

fn unhex(text: &str) -> Result<Vec<u8>> {
    let digits: Vec<u32> = text.chars().map(|c| c.to_digit(16).context("hex")).collect::<Result<_>>()?;
    Ok(digits.chunks(2).map(|pair| pair.iter().fold(0, |n, d| n << 4 | d) as u8).collect())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The body of an answer.
///
/// # Errors
/// If it is not exactly what the spec says.
pub fn decode(api: &Api, version: i16, correlation: i32, frame: &[u8]) -> Result<Value> {
    let message = &api.response;
    let flexible = message.flexible_at(version);
    let mut decoder = Decoder { message, version, flexible, bytes: frame };
    let seen = i32::from_be_bytes(decoder.take(4)?.try_into()?);
    ensure!(seen == correlation, "answer {seen} to request {correlation}");
    if flexible && api.key != 18 {
        ensure!(decoder.uvarint()? == 0, "tags in the header");
    }
    let value = decoder.structure(message.name())?;
    ensure!(decoder.bytes.is_empty(), "{} bytes behind the answer", decoder.bytes.len());
    Ok(value)
}

struct Decoder<'a> {
    message: &'a Message,
    version: i16,
    flexible: bool,
    bytes: &'a [u8],
}

impl<'a> Decoder<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(n).context("the answer ends early")?;
        self.bytes = rest;
        Ok(taken)
    }

    fn uvarint(&mut self) -> Result<u32> {
        let mut value = 0u32;
        for shift in (0..35).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        bail!("a varint of more than five bytes")
    }

    fn structure(&mut self, name: &str) -> Result<Value> {
        let mut object = Map::new();
        let fields = &self.message.find(name).fields;
        let here = || fields.iter().filter(|f| f.versions.contains(self.version));
        let (tagged, plain): (Vec<&Field>, Vec<&Field>) = here().partition(|f| f.tagged_at(self.version));
        for field in plain {
            let flexible = self.flexible && !field.inflexible;
            let null = field.null_at(self.version);
            let value = self.value(&field.ty, null, !flexible).with_context(|| format!("{name}.{}", field.name))?;
            object.insert(field.name.clone(), value);
        }
        if self.flexible {
            for _ in 0..self.uvarint()? {
                let (tag, length) = (self.uvarint()?, self.uvarint()? as usize);
                let bytes = self.take(length)?;
                let field = tagged.iter().find(|f| f.tag.is_some_and(|(t, _)| t == tag));
                let field = field.with_context(|| format!("{name}: tag {tag} is unknown"))?;
                let (message, version, flexible) = (self.message, self.version, self.flexible);
                let mut inner = Decoder { message, version, flexible, bytes };
                object.insert(field.name.clone(), inner.value(&field.ty, field.null_at(version), false)?);
            }
        }
        Ok(Value::Object(object))
    }

    fn value(&mut self, ty: &Type, null: bool, inflexible: bool) -> Result<Value> {
        Ok(match ty {
            Type::Bool => json!(self.take(1)?[0] != 0),
            Type::I8 => json!(self.take(1)?[0] as i8),
            Type::I16 => json!(i16::from_be_bytes(self.take(2)?.try_into()?)),
            Type::U16 => json!(u16::from_be_bytes(self.take(2)?.try_into()?)),
            Type::I32 => json!(i32::from_be_bytes(self.take(4)?.try_into()?)),
            Type::U32 => json!(u32::from_be_bytes(self.take(4)?.try_into()?)),
            Type::I64 => json!(i64::from_be_bytes(self.take(8)?.try_into()?)),
            Type::F64 => {
                let number = f64::from_be_bytes(self.take(8)?.try_into()?);
                if number.is_finite() { json!(number) } else { json!(number.to_string()) }
            }
            Type::Uuid => json!(format!("uuid:{:x}", u128::from_be_bytes(self.take(16)?.try_into()?))),
            Type::String => self.bytes(2, inflexible)?.map_or(Value::Null, |b| json!(text(b))),
            Type::Bytes => self.bytes(4, inflexible)?.map_or(Value::Null, |b| json!(text(b))),
            Type::Records | Type::Pieces => self.bytes(4, inflexible)?.map_or(Ok(Value::Null), batches)?,
            Type::Array(element) => {
                let Some(n) = self.length(4, inflexible)? else { return Ok(Value::Null) };
                let mut items = Vec::new();
                for _ in 0..n {
                    items.push(self.value(element, false, inflexible)?);
                }
                Value::Array(items)
            }
            Type::Struct(name) => {
                if null && self.take(1)?[0] != 1 {
                    return Ok(Value::Null);
                }
                self.structure(name)?
            }
        })
    }

    fn length(&mut self, fixed: usize, inflexible: bool) -> Result<Option<usize>> {
        let n = match (inflexible, fixed) {
            (false, _) => i64::from(self.uvarint()?) - 1,
            (true, 2) => i64::from(i16::from_be_bytes(self.take(2)?.try_into()?)),
            (true, _) => i64::from(i32::from_be_bytes(self.take(4)?.try_into()?)),
        };
        Ok(usize::try_from(n).ok())
    }

    fn bytes(&mut self, fixed: usize, inflexible: bool) -> Result<Option<&'a [u8]>> {
        let length = self.length(fixed, inflexible)?;
        length.map(|n| self.take(n)).transpose()
    }
}

fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => format!("hex:{}", hex(bytes)),
    }
}

/// What the headers of batches say, in order. The leader's stamp of time is left out.
fn batches(mut bytes: &[u8]) -> Result<Value> {
    let mut all = Vec::new();
    while bytes.len() >= 61 {
        let i64_at = |at: usize| -> Result<i64> { Ok(i64::from_be_bytes(bytes[at..at + 8].try_into()?)) };
        let i32_at = |at: usize| -> Result<i32> { Ok(i32::from_be_bytes(bytes[at..at + 4].try_into()?)) };
        let i16_at = |at: usize| -> Result<i16> { Ok(i16::from_be_bytes(bytes[at..at + 2].try_into()?)) };
        let length = 12 + usize::try_from(i32_at(8)?)?;
        if bytes[16] != 2 {
            all.push(json!({ "magic": bytes[16], "offset": i64_at(0)? }));
        } else {
            all.push(json!({
                "offset": i64_at(0)?, "leader_epoch": i32_at(12)?, "attributes": i16_at(21)?, "count": i32_at(57)?,
                "producer_id": i64_at(43)?, "producer_epoch": i16_at(51)?, "base_sequence": i32_at(53)?, "length": length,
            }));
        }
        bytes = bytes.get(length..).unwrap_or_default();
    }
    Ok(Value::Array(all))
}
