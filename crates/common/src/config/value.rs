//! The few values of configuration keys that are choices, as Rust types: compression, timestamp type, cleanup policy, durability.
//!
//! The tables check the words; the conversions here only repeat which words there are.

use super::def::{ConfigValue, Type, Value};

macro_rules! choice {
    ($(#[$meta:meta])* $name:ident { $( $(#[$vmeta:meta])* $variant:ident = $word:literal ),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $( $(#[$vmeta])* $variant ),* }

        impl $name {
            /// The word in configurations.
            pub fn name(self) -> &'static str {
                match self { $( Self::$variant => $word ),* }
            }

            /// The value of that word.
            pub fn from_name(word: &str) -> Option<Self> {
                match word { $( $word => Some(Self::$variant), )* _ => None }
            }
        }

        impl ConfigValue for $name {
            const TYPE: Type = Type::String;
            fn from_value(value: Option<Value>) -> Result<Self, String> {
                let Some(Value::Text(word)) = value else { return Err("a value is required".to_owned()) };
                Self::from_name(&word).ok_or_else(|| format!("String must be one of: {}", [$($word),*].join(", ")))
            }
        }
    };
}

choice! {
    /// How a topic's batches are compressed on disk.
    CompressionType {
        Uncompressed = "uncompressed",
        Zstd = "zstd",
        Lz4 = "lz4",
        Snappy = "snappy",
        Gzip = "gzip",
        /// As the producer sent them.
        Producer = "producer",
    }
}

choice! {
    /// Whose clock stamps a record.
    TimestampType {
        /// The producer's.
        CreateTime = "CreateTime",
        /// The broker's, when it appends.
        LogAppendTime = "LogAppendTime",
    }
}

choice! {
    /// What must have happened to a record before it counts as stored.
    AckDurability {
        /// It is on the disk (fdatasync returned).
        Fsync = "fsync",
        /// The operating system has it; Apache Kafka's choice.
        PageCache = "page-cache",
    }
}

/// What happens to old records; both, one, or neither (kept for ever).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CleanupPolicy {
    /// The last record of each key survives.
    pub compact: bool,
    /// Segments beyond the retention are deleted.
    pub delete: bool,
}

impl ConfigValue for CleanupPolicy {
    const TYPE: Type = Type::List;
    fn from_value(value: Option<Value>) -> Result<Self, String> {
        let Some(Value::List(words)) = value else {
            return Err("a value is required".to_owned());
        };
        let has = |word: &str| words.iter().any(|w| w == word);
        Ok(CleanupPolicy { compact: has("compact"), delete: has("delete") })
    }
}
