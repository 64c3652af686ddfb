//! SCRAM credentials as `kafka-configs` changes them: `SCRAM-SHA-256=[iterations=8192,password=secret]` (KIP-554).
//!
//! Owns the reading of the value and the salting of the password (RFC 5802, RFC 2898), so that the password itself never leaves
//! the tool. Pure but for the salt.

use bytes::Bytes;
use hmac::{Hmac, Mac};
use milena_client::admin::ScramUpsertion;
use milena_common::Uuid;
use sha2::{Sha256, Sha512};

use crate::java::JavaError;

/// The mechanisms by name; their numbers are one more than their places.
pub(super) const MECHANISMS: [&str; 2] = ["SCRAM-SHA-256", "SCRAM-SHA-512"];

const DEFAULT_ITERATIONS: u32 = 4096;
/// A password is salted here, so somebody waits for it.
const MAX_ITERATIONS: u32 = 16_384;

/// The number of a mechanism.
pub(super) fn mechanism(name: &str) -> Option<i8> {
    MECHANISMS.iter().position(|known| *known == name).and_then(|index| i8::try_from(index + 1).ok())
}

/// Reads the value of a mechanism and makes the credential of it.
pub(super) fn upsertion(user: &str, name: &str, value: &str) -> Result<ScramUpsertion, JavaError> {
    let wrong = |message: String| JavaError::illegal_argument(message);
    let mechanism = mechanism(name).ok_or_else(|| wrong(format!("Unknown SCRAM mechanism: {name}")))?;
    let (mut iterations, mut password) = (DEFAULT_ITERATIONS, None);
    for part in value.trim_matches(['[', ']']).split(',') {
        match part.split_once('=') {
            Some(("iterations", text)) => {
                iterations = match text.trim().parse::<u32>() {
                    // unlimited, as Kafka's tool has it: the default
                    Err(_) if text.trim() == "-1" => DEFAULT_ITERATIONS,
                    Ok(count) => count,
                    Err(_) => {
                        return Err(JavaError {
                            class: "java.lang.NumberFormatException".into(),
                            message: format!("For input string: \"{}\"", text.trim()),
                        });
                    }
                };
            }
            Some(("password", text)) => password = Some(text.to_string()),
            _ => {}
        }
    }
    let Some(password) = password else {
        return Err(wrong(format!("Password must be specified for SCRAM mechanism {name}")));
    };
    if !(DEFAULT_ITERATIONS..=MAX_ITERATIONS).contains(&iterations) {
        return Err(wrong(format!(
            "Iterations {iterations} must be between {DEFAULT_ITERATIONS} and {MAX_ITERATIONS} for {name}"
        )));
    }
    let salt = Bytes::from([Uuid::random().to_string(), Uuid::random().to_string()].concat().into_bytes());
    Ok(ScramUpsertion {
        user: user.to_string(),
        mechanism,
        iterations: i32::try_from(iterations).unwrap_or(i32::MAX),
        salted_password: Bytes::from(match mechanism {
            2 => salted::<Hmac<Sha512>>(password.as_bytes(), &salt, iterations),
            _ => salted::<Hmac<Sha256>>(password.as_bytes(), &salt, iterations),
        }),
        salt,
    })
}

/// `Hi` of RFC 5802: the first block of PBKDF2.
fn salted<M: Mac + hmac::digest::KeyInit + Clone>(password: &[u8], salt: &[u8], iterations: u32) -> Vec<u8> {
    let Ok(keyed) = <M as hmac::digest::KeyInit>::new_from_slice(password) else {
        // a key of any length is good for an HMAC
        return Vec::new();
    };
    let turn = |parts: &[&[u8]]| {
        let mut mac = keyed.clone();
        parts.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes()
    };
    let mut last = turn(&[salt, &1u32.to_be_bytes()]);
    let mut sum = last.to_vec();
    for _ in 1..iterations {
        last = turn(&[&last]);
        sum.iter_mut().zip(&last).for_each(|(sum, byte)| *sum ^= byte);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn salting_is_that_of_rfc_7677() {
        // user "user", password "pencil", 4096 iterations: the server's key of the RFC's example follows from this
        let salt = [0x5b, 0x6d, 0x99, 0x68, 0x9d, 0x12, 0x35, 0x8e, 0xec, 0xa0, 0x4b, 0x14, 0x12, 0x36, 0xfa, 0x81];
        let salted = salted::<Hmac<Sha256>>(b"pencil", &salt, 4096);
        let hex: String = salted.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "c4a49510323ab4f952cac1fa99441939e78ea74d6be81ddf7096e87513dc615d");
    }

    #[test]
    fn a_password_is_needed_and_iterations_are_bounded() {
        let words = |value: &str| upsertion("a", MECHANISMS[0], value).unwrap_err().message;
        assert_eq!(words("iterations=8192"), "Password must be specified for SCRAM mechanism SCRAM-SHA-256");
        assert_eq!(words("iterations=1,password=x"), "Iterations 1 must be between 4096 and 16384 for SCRAM-SHA-256");
        assert_eq!(upsertion("a", MECHANISMS[1], "password=x").unwrap().iterations, 4096);
    }
}
