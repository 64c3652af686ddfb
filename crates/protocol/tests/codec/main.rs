//! The generated codec against everybody else's: an interpreter of kdef, two Rust crates, and Java's kafka-clients.
//!
//! Most tests take random canonical bytes of every message at every version, decode and encode them, and want the same bytes;
//! `bounds` damages them first, and wants an error or a value, little memory, and no panic.
//! `MILENA_SEED=n` changes the random values; a failure names message, version and seed.

#![allow(clippy::disallowed_methods, reason = "tests touch files, clocks and tasks")]

mod bounds;
mod java;
#[path = "../../../../xtask/src/codegen/kdef.rs"]
#[allow(dead_code)]
mod kdef;
mod ours;
mod rust_crates;
mod wire;

use bytes::Bytes;

use wire::Rng;

/// Values per message and version.
const VALUES: u64 = 12;

fn seed() -> u64 {
    std::env::var("MILENA_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1)
}

/// Message, version, bytes.
type Sample = (String, i16, wire::Wire);

/// Default and random bytes of every message at every version.
fn samples(values: u64) -> Vec<Sample> {
    let mut all = Vec::new();
    for (index, message) in wire::specs().iter().enumerate() {
        for version in message.all_versions() {
            all.push((message.name().to_string(), version, wire::default(message, version)));
            for n in 0..values {
                let mut rng = Rng::new(seed() << 32 ^ (index as u64) << 16 ^ (version as u64) << 8 ^ n);
                all.push((message.name().to_string(), version, wire::random(message, version, &mut rng)));
            }
        }
    }
    all
}

#[test]
fn spec_and_generated_code_name_the_same_messages_and_versions() {
    let codecs = ours::codecs();
    let specs = wire::specs();
    assert_eq!(codecs.len(), specs.len());
    for message in specs {
        let codec = &codecs[message.name()];
        assert_eq!(codec.versions, (message.versions.min, message.versions.max), "{}", message.name());
        assert_eq!(codec.flexible_from, message.flexible, "{}", message.name());
    }
}

#[test]
fn defaults_are_those_of_the_spec() {
    let codecs = ours::codecs();
    for message in wire::specs() {
        for version in message.all_versions() {
            // its records default to null and have no null
            if message.name() == "FetchSnapshotResponse" {
                continue;
            }
            let bytes = (codecs[message.name()].default)(version)
                .unwrap_or_else(|e| panic!("{} v{version}: {e}", message.name()));
            assert_eq!(bytes, wire::default(&message, version).plain, "{} v{version}", message.name());
        }
    }
}

#[test]
fn every_version_gives_its_bytes_back() {
    let codecs = ours::codecs();
    for (name, version, wire) in samples(VALUES) {
        let canonical = Bytes::from(wire.plain);
        let again = (codecs[name.as_str()].again)(canonical.clone(), version);
        assert_eq!(again.as_ref(), Ok(&canonical), "{name} v{version}");
        let quiet = (codecs[name.as_str()].again)(Bytes::from(wire.noisy), version);
        assert_eq!(quiet.as_ref(), Ok(&canonical), "{name} v{version}, with unknown tagged fields");
    }
}

#[test]
fn other_versions_are_refused() {
    for (name, codec) in ours::codecs() {
        for version in [i16::MIN, codec.versions.0 - 1, codec.versions.1 + 1, i16::MAX] {
            assert!(!(codec.decode)(Bytes::new(), version), "{name} v{version}");
            assert!((codec.default)(version).is_err(), "{name} v{version}");
        }
    }
}
