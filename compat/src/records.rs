//! The records that every client has to carry unharmed, and the comparison of what came back.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// What a client's programming interface can express; what it cannot is left out of its records, never changed silently.
#[derive(Clone, Copy)]
pub struct Abilities {
    /// Record headers at all.
    pub headers: bool,
    /// A header whose value is null.
    pub null_header: bool,
    /// A value of zero bytes, as different from null.
    pub empty_value: bool,
    /// A key of zero bytes, as different from null.
    pub empty_key: bool,
}

impl Abilities {
    /// A client that can say everything.
    pub const ALL: Abilities = Abilities { headers: true, null_header: true, empty_value: true, empty_key: true };
}

const BASE_TIMESTAMP_MS: i64 = 1_700_000_000_000;

/// Keys, headers, nulls, empty values and values of 1 byte to 1 MB over `partitions` partitions, as JSON lines.
pub fn cases(abilities: Abilities, partitions: i32) -> Vec<Value> {
    let hex = |s: &str| {
        s.bytes().fold(String::new(), |mut out, b| {
            let _ = write!(out, "{b:02x}");
            out
        })
    };
    let mut out = Vec::new();
    let mut add = |key: Value, value: Value, headers: Value| {
        let n = i64::try_from(out.len()).expect("few records");
        let partition = i32::try_from(out.len()).expect("few records") % partitions;
        out.push(json!({"partition": partition, "timestamp": BASE_TIMESTAMP_MS + n, "key": key, "value": value, "headers": headers}));
    };
    add(json!(hex("k1")), json!(hex("plain")), json!([]));
    add(Value::Null, json!(hex("no key")), json!([]));
    add(json!(hex("tombstone")), Value::Null, json!([]));
    if abilities.empty_value {
        add(json!(hex("empty value")), json!(""), json!([]));
    }
    if abilities.empty_key {
        add(json!(""), json!(hex("empty key")), json!([]));
    }
    if abilities.headers {
        add(
            json!(hex("h")),
            json!(hex("with headers")),
            json!([["h1", hex("v1")], ["h2", hex("ü")], ["h1", hex("again")]]),
        );
    }
    if abilities.null_header {
        add(json!(hex("n")), json!(hex("null header")), json!([["nothing", null_value()]]));
    }
    for (i, size) in
        [1, 10, 100, 1_000, 4_096, 10_000, 65_535, 65_536, 100_000, 500_000, 1_000_000].into_iter().enumerate()
    {
        add(json!(hex(&format!("size {size}"))), json!(format!("repeat:{:02x}:{size}", 0x61 + i)), json!([]));
    }
    out
}

fn null_value() -> Value {
    Value::Null
}

/// Writes the records as the file that drivers read. The field order is fixed.
pub fn write(path: &Path, records: &[Value]) -> Result<()> {
    let mut text = String::new();
    for r in records {
        writeln!(
            text,
            "{{\"partition\": {}, \"timestamp\": {}, \"key\": {}, \"value\": {}, \"headers\": {}}}",
            r["partition"], r["timestamp"], r["key"], r["value"], r["headers"]
        )?;
    }
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

/// Compares what a consumer printed with what was produced: order and content per partition, dense offsets.
///
/// `copies` names each time the records were produced to the topic, one after another.
pub fn compare(sent: &[Value], printed: &str, copies: &[String]) -> Result<()> {
    let mut expected: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    for r in sent {
        expected.entry(r["partition"].as_i64().unwrap_or(-1)).or_default().push(content(r, true)?);
    }
    let mut seen: BTreeMap<i64, Vec<(i64, String)>> = BTreeMap::new();
    for line in printed.lines().filter(|l| l.starts_with('{')) {
        let r: Value = serde_json::from_str(line).with_context(|| format!("a line of the consumer: {line}"))?;
        let offset = r["offset"].as_i64().with_context(|| format!("no offset in {line}"))?;
        seen.entry(r["partition"].as_i64().unwrap_or(-1)).or_default().push((offset, content(&r, false)?));
    }
    for (partition, want) in &expected {
        let got = seen.remove(partition).unwrap_or_default();
        let copy = |i: usize| copies.get(i / want.len().max(1)).map_or("nobody", String::as_str);
        for (i, ((offset, got), want)) in got.iter().zip(want.iter().cycle()).enumerate() {
            if *offset != i64::try_from(i)? {
                bail!("partition {partition}: record {i}, by {}, has offset {offset}", copy(i));
            }
            if got != want {
                bail!("partition {partition} offset {offset}, by {}:\n  produced {want}\n  consumed {got}", copy(i));
            }
        }
        let produced = want.len() * copies.len();
        if got.len() != produced {
            let next = copy(got.len());
            bail!(
                "partition {partition}: {produced} records produced, {} consumed, next would be one by {next}",
                got.len()
            );
        }
    }
    if !seen.is_empty() {
        bail!("records from partitions that nothing was produced to: {:?}", seen.keys());
    }
    Ok(())
}

/// One canonical line for a record. A produced long value is given by its size, a consumed one by digest and size: compare sizes and content there.
fn content(r: &Value, produced: bool) -> Result<String> {
    let value = match r["value"].as_str() {
        Some(v) if produced && v.starts_with("repeat:") => {
            let mut parts = v.split(':').skip(1);
            let byte = parts.next().unwrap_or_default();
            let size: usize = parts.next().unwrap_or_default().parse()?;
            if size <= 64 { byte.repeat(size) } else { digest(byte, size)? }
        }
        Some(v) => v.to_string(),
        None => "null".to_string(),
    };
    Ok(format!("timestamp {} key {} value {value} headers {}", r["timestamp"], r["key"], r["headers"]))
}

/// The digest that drivers print for `size` repetitions of a byte.
fn digest(byte: &str, size: usize) -> Result<String> {
    use std::io::Write as _;
    let byte = u8::from_str_radix(byte, 16)?;
    let mut child = std::process::Command::new("sha256sum")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .context("sha256sum")?;
    child.stdin.take().context("stdin")?.write_all(&vec![byte; size])?;
    let out = String::from_utf8(child.wait_with_output()?.stdout)?;
    Ok(format!("sha256:{}:{size}", out.split(' ').next().unwrap_or_default()))
}
