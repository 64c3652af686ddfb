//! kdef to JSON: how stored records are shown, as Kafka's tools show them.
//!
//! Owns one generated function per structure, `show`, which writes the fields that a version has. The writing itself is in
//! `crates/protocol/src/json.rs`. Called by [`super::rust`].

use std::fmt::Write as _;

use super::kdef::{Message, Struct, Type};
use super::rust::{condition, ident, is_option, not_default, plain_versions};

macro_rules! line {
    ($out:expr, $($arg:tt)*) => { writeln!($out, $($arg)*).expect("writing to a string") };
}

/// How a structure is shown as JSON: the fields that the version has, in their order; tagged ones when they say something.
pub(super) fn show(out: &mut String, message: &Message, s: &Struct) {
    line!(
        out,
        "impl {} {{\n    pub(crate) fn show(&self, j: &mut crate::json::Json, version: i16) {{\n        j.open('{{');",
        s.name
    );
    for f in &s.fields {
        let name = ident(&f.name);
        let mut tests: Vec<String> = condition(f.versions, message.versions).into_iter().collect();
        if f.tag.is_some() {
            // a plain form of the same field is always there
            let plain = plain_versions(f).and_then(|versions| condition(versions, message.versions));
            let differs = not_default(f, "self.", false);
            tests.push(plain.map_or(differs.clone(), |test| format!("({test} || {differs})")));
        }
        let value = show_value(&f.ty, &format!("self.{name}"), is_option(&f.ty, f.null));
        let body = format!("j.key(\"{}\"); {value}", camel(&f.name));
        if tests.is_empty() {
            line!(out, "        {body}");
        } else {
            line!(out, "        if {} {{ {body} }}", tests.join(" && "));
        }
    }
    line!(out, "        j.close('}}');\n    }}\n}}\n");
}

fn show_value(ty: &Type, place: &str, optional: bool) -> String {
    if optional {
        let inner = match ty {
            Type::Bool
            | Type::I8
            | Type::I16
            | Type::U16
            | Type::I32
            | Type::U32
            | Type::I64
            | Type::F64
            | Type::Uuid => "*inner",
            _ => "inner",
        };
        return format!("match &{place} {{ None => j.null(), Some(inner) => {{ {} }} }}", show_value(ty, inner, false));
    }
    match ty {
        Type::Bool => format!("j.bool({place});"),
        Type::F64 => format!("j.double({place});"),
        Type::Uuid => format!("j.uuid({place});"),
        Type::String => format!("j.string(&{place});"),
        Type::Bytes | Type::Records => format!("j.bytes(&{place});"),
        Type::Pieces => format!("j.number({place}.iter().map(Bytes::len).sum::<usize>());"),
        Type::Struct(_) => format!("{place}.show(j, version);"),
        Type::Array(element) => {
            let item = match **element {
                Type::String | Type::Bytes | Type::Records | Type::Pieces | Type::Struct(_) | Type::Array(_) => "item",
                _ => "*item",
            };
            let each = show_value(element, item, false);
            format!("j.open('['); for item in {place}.iter() {{ j.next(); {each} }} j.close(']');")
        }
        _ => format!("j.number({place});"),
    }
}

/// The name of a field as Kafka's JSON has it.
fn camel(name: &str) -> String {
    let mut out = String::new();
    for (index, word) in name.split('_').enumerate() {
        let mut letters = word.chars();
        match (index, word) {
            (0, "kraft") => out.push_str("kRaft"),
            (0, word) => out.push_str(word),
            _ => {
                out.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
                out.push_str(letters.as_str());
            }
        }
    }
    out
}
