//! The JSON files that Kafka's tools read: lenient reading, and the refusals in the words of Kafka's `JsonValue`.
//!
//! Pure. Called by the tools with a `--...-json-file`.

use serde_json::Value;

use crate::java::JavaError;

/// An error of Kafka's JSON mapping.
pub(crate) fn mapping_error(message: impl Into<String>) -> JavaError {
    JavaError { class: "com.fasterxml.jackson.databind.JsonMappingException".into(), message: message.into() }
}

/// Reads a text; `None` when it is no JSON.
pub(crate) fn parse(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok()
}

/// How Jackson prints the node.
fn shown(value: &Value) -> String {
    value.to_string()
}

/// A field that must be there.
pub(crate) fn field<'a>(object: &'a Value, name: &str) -> Result<&'a Value, JavaError> {
    object.get(name).ok_or_else(|| mapping_error(format!("No such field exists: `{name}`")))
}

/// The value as an object.
pub(crate) fn object(value: &Value) -> Result<&Value, JavaError> {
    if value.is_object() {
        Ok(value)
    } else {
        Err(mapping_error(format!("Expected JSON object, received {}", shown(value))))
    }
}

/// The value as an array.
pub(crate) fn array(value: &Value) -> Result<&Vec<Value>, JavaError> {
    value.as_array().ok_or_else(|| mapping_error(format!("Expected JSON array, received {}", shown(value))))
}

/// The value as a text.
pub(crate) fn text(value: &Value) -> Result<String, JavaError> {
    value.as_str().map(String::from).ok_or_else(|| expected("String", value))
}

/// The value as a 32-bit number.
pub(crate) fn int(value: &Value) -> Result<i32, JavaError> {
    value.as_i64().and_then(|n| i32::try_from(n).ok()).ok_or_else(|| expected("Integer", value))
}

/// The value as a 64-bit number.
pub(crate) fn long(value: &Value) -> Result<i64, JavaError> {
    value.as_i64().ok_or_else(|| expected("Long", value))
}

fn expected(kind: &str, value: &Value) -> JavaError {
    mapping_error(format!("Expected `{kind}` value, received {}", shown(value)))
}

/// A text as JSON writes it.
pub(crate) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
