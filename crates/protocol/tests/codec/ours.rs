//! Our codec by name: decode, check, encode.

use bytes::Bytes;
use milena_protocol::{Decode, Encode, Message, Reader};
use std::collections::BTreeMap;

pub struct Codec {
    pub versions: (i16, i16),
    pub flexible_from: Option<i16>,
    /// Decodes, requires that nothing is left, encodes, and decodes that again to the same value.
    pub again: fn(Bytes, i16) -> Result<Bytes, String>,
    /// The default value.
    pub default: fn(i16) -> Result<Bytes, String>,
    /// Only decodes.
    #[allow(dead_code)]
    pub decode: fn(Bytes, i16) -> bool,
}

fn again<T: Encode + Decode + PartialEq>(bytes: Bytes, version: i16) -> Result<Bytes, String> {
    let mut r = Reader::new(bytes);
    let value = T::decode(&mut r, version).map_err(|e| e.to_string())?;
    r.finish().map_err(|e| e.to_string())?;
    let encoded = value.encode_to_bytes(version).map_err(|e| e.to_string())?;
    let same = T::decode(&mut Reader::new(encoded.clone()), version).map_err(|e| e.to_string())? == value;
    if same { Ok(encoded) } else { Err("another value after encoding".into()) }
}

fn default<T: Encode + Default>(version: i16) -> Result<Bytes, String> {
    T::default().encode_to_bytes(version).map_err(|e| e.to_string())
}

fn decode<T: Decode>(bytes: Bytes, version: i16) -> bool {
    T::decode(&mut Reader::new(bytes), version).is_ok()
}

fn codec<T: Encode + Decode + Default + PartialEq>() -> Codec {
    Codec {
        versions: (T::MIN_VERSION, T::MAX_VERSION),
        flexible_from: T::FLEXIBLE_FROM,
        again: again::<T>,
        default: default::<T>,
        decode: decode::<T>,
    }
}

macro_rules! list {
    ($({ $name:ident $path:path })*) => { vec![$((<$path as Message>::NAME, codec::<$path>()),)*] };
}

/// Every message and stored record, by name.
pub fn codecs() -> BTreeMap<&'static str, Codec> {
    let mut all: Vec<(&'static str, Codec)> = milena_protocol::for_each_message!(list);
    all.extend(milena_protocol::for_each_stored!(list));
    all.into_iter().collect()
}
