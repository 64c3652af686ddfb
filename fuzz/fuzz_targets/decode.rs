//! Any bytes, to every decoder: two bytes pick message and version, the rest is the message. What decodes must encode, and
//! decode to the same value again.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use milena_protocol::{Decode, Encode, Reader};

type Target = fn(Bytes, i16);

fn run<T: Decode + Encode + PartialEq + std::fmt::Debug>(bytes: Bytes, pick: i16) {
    let version = T::MIN_VERSION + pick % (T::MAX_VERSION - T::MIN_VERSION + 1);
    let Ok(value) = T::decode(&mut Reader::new(bytes), version) else { return };
    let encoded = value.encode_to_bytes(version).unwrap_or_else(|error| panic!("{} v{version}: {error}", T::NAME));
    let again = T::decode(&mut Reader::new(encoded.clone()), version).expect("its own bytes");
    // not-a-number differs from itself, so the bytes are compared
    assert_eq!(again.encode_to_bytes(version).as_ref(), Ok(&encoded), "{} v{version}", T::NAME);
}

macro_rules! targets {
    ($({ $name:ident $path:path })*) => { &[$(run::<$path> as Target,)*] };
}

fuzz_target!(|data: &[u8]| {
    let messages: &[Target] = milena_protocol::for_each_message!(targets);
    let stored: &[Target] = milena_protocol::for_each_stored!(targets);
    let [low, high, version, rest @ ..] = data else { return };
    let index = usize::from(u16::from_le_bytes([*low, *high])) % (messages.len() + stored.len());
    let target = messages.get(index).or_else(|| stored.get(index - messages.len())).expect("an index in range");
    target(Bytes::copy_from_slice(rest), i16::from(*version & 0x7f));
});
