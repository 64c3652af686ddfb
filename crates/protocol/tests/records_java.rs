//! The record formats against the Java client's own code, both ways: what Java writes we read, and what we write Java
//! reads, in every format, with every codec, from the oldest and the newest client libraries there are. Runs where a JDK
//! and the libraries are (`$MILENA_TEST_CACHE/java`, put there by `cargo xtask test`); says so and passes where not.

#![allow(clippy::disallowed_methods, reason = "tests touch files, clocks and tasks")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use milena_protocol::records::control::EndTxnMarker;
use milena_protocol::records::legacy::{self, MessageSetBuilder};
use milena_protocol::records::{BatchBuilder, Compression, DecompressLimit, Header, TimestampType, batches};

const NOW: i64 = 1_600_000_000_000;
const APPENDED: i64 = 1_600_000_777_000;
const LIMIT: DecompressLimit = DecompressLimit(1 << 20);

/// Client library, and what it calls things.
const PEERS: [(&str, &str, &str); 3] = [
    ("2.1.1", OLD_IMPORTS, "CompressionType.forId"),
    ("3.3.1", OLD_IMPORTS, "CompressionType.forId"),
    (
        "4.3.1",
        "import org.apache.kafka.common.record.internal.*;
         import org.apache.kafka.common.record.internal.Record;\n",
        "codec",
    ),
];
const OLD_IMPORTS: &str = "import org.apache.kafka.common.record.Record;\n";
const CODEC_OF_NEW: &str = "    static org.apache.kafka.common.compress.Compression codec(int id) {
        return org.apache.kafka.common.compress.Compression.of(CompressionType.forId(id)).build();
    }
}
";

type Row = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<Header>);

#[test]
fn java_reads_what_we_write_and_we_read_what_java_writes() {
    let mut ran = 0;
    for (version, imports, codec) in PEERS {
        let Some(peer) = Peer::compile(version, imports, codec) else {
            continue;
        };
        let theirs = peer.write();
        let ours = our_files();
        assert_eq!(theirs.keys().collect::<Vec<_>>(), ours.keys().collect::<Vec<_>>(), "{version}");
        for (name, bytes) in &theirs {
            let expected = describe(&ours[name]);
            assert_eq!(describe(bytes), expected, "Java {version} wrote {name}");
            // Compressed bytes may differ from ours; the rest may not.
            if name.split('-').nth(1) == Some("0") || name == "marker" {
                assert!(bytes == &ours[name], "Java {version} wrote {name} otherwise");
            }
        }
        let read = peer.read(&ours);
        for (name, bytes) in &ours {
            assert_eq!(read[name], describe(bytes), "Java {version} read {name}");
        }
        down_converted_is_readable(&peer, &theirs);
        ran += 1;
    }
    if ran == 0 {
        eprintln!("skipped: no JDK or no Java client libraries");
    }
}

/// What the Java client wrote once, for where there is none.
#[test]
fn golden_bytes_are_read() {
    let ours = our_files();
    let mut count = 0;
    let golden = include_str!("golden/records.txt").lines();
    for line in golden.filter(|line| !line.starts_with('#')) {
        let mut words = line.split(' ').skip(1);
        let (name, hex) = (words.next().unwrap(), words.next().unwrap());
        let bytes: Vec<u8> =
            (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect();
        assert_eq!(describe(&Bytes::from(bytes)), describe(&ours[name]), "{line}");
        count += 1;
    }
    assert!(count > 25);
}

/// Everything but zstd and control batches, to both old formats.
fn down_converted_is_readable(peer: &Peer, stored: &BTreeMap<String, Bytes>) {
    let mut converted = BTreeMap::new();
    let mut expected = BTreeMap::new();
    for (name, bytes) in stored {
        for to in [0, 1] {
            let result = legacy::down_convert(bytes, to, 1000, LIMIT);
            if name.starts_with("m2-4-") {
                assert!(result.is_err(), "{name}");
                continue;
            }
            let result = result.unwrap();
            assert_eq!(result.next_offset, if name == "marker" { 1000 } else { next(name) });
            let set = result.records.concat();
            assert_eq!(set.is_empty(), name == "marker");
            let rows = |text: &str| -> Vec<String> {
                text.lines()
                    .filter(|line| line.starts_with("  "))
                    .map(|line| line.split(' ').take(6).collect::<Vec<_>>().join(" "))
                    .collect()
            };
            let key = format!("{name}-to-{to}");
            let mut lines = rows(&describe(bytes));
            if name == "marker" {
                lines.clear();
            }
            if to == 0 {
                for line in &mut lines {
                    let mut words: Vec<_> = line.split(' ').collect();
                    words[3] = "-1";
                    *line = words.join(" ");
                }
            }
            expected.insert(key.clone(), lines);
            converted.insert(key, Bytes::from(set));
        }
    }
    for (name, text) in peer.read(&converted) {
        let lines: Vec<_> = text.lines().filter(|line| !line.starts_with("batch")).map(str::to_owned).collect();
        assert_eq!(lines, expected[&name], "Java {} read {name}", peer.version);
    }
}

fn next(name: &str) -> i64 {
    if name.ends_with("small") { 1005 } else { 1300 }
}

/// The same cases as `RecordsPeer.write`.
fn our_files() -> BTreeMap<String, Bytes> {
    let mut files = BTreeMap::new();
    for magic in 0..=2_i8 {
        for codec in 0..=(if magic == 2 { 4 } else { 3 }) {
            for appended in [false, true] {
                if magic == 0 && appended {
                    continue;
                }
                for size in ["small", "big"] {
                    let name = format!("m{magic}-{codec}-{}-{size}", i32::from(appended));
                    files.insert(name, our_batch(magic, codec, appended, size));
                }
            }
        }
    }
    let marker = EndTxnMarker { committed: true, coordinator_epoch: 12 };
    files.insert("marker".to_owned(), marker.to_batch(55, NOW, 4242, 3, 9).unwrap());
    files
}

fn our_batch(magic: i8, codec: u8, appended: bool, size: &str) -> Bytes {
    let codec = Compression::from_id(codec).unwrap();
    let rows = rows(size);
    if magic < 2 {
        let timestamp_type = if appended { TimestampType::LogAppendTime } else { TimestampType::CreateTime };
        let mut set = MessageSetBuilder::new(magic, codec, timestamp_type).unwrap();
        for (offset, (timestamp, key, value, _)) in (1000..).zip(&rows) {
            let timestamp = if appended { APPENDED } else { *timestamp };
            set.append(offset, timestamp, key.as_deref(), value.as_deref()).unwrap();
        }
        return set.build().unwrap();
    }
    let mut batch = BatchBuilder::new(codec).with_leader_epoch(9);
    batch = if appended {
        batch.with_log_append_time(APPENDED)
    } else {
        batch.with_producer(4242, 3, 77).with_transactional(true)
    };
    for (timestamp, key, value, headers) in &rows {
        batch.append(*timestamp, key.as_deref(), value.as_deref(), headers).unwrap();
    }
    batch.build(1000).unwrap()
}

fn rows(size: &str) -> Vec<Row> {
    let some = |text: &str| Some(text.as_bytes().to_vec());
    if size == "small" {
        let headers = vec![
            (Bytes::from_static(b"h1"), Some(Bytes::from_static(b"v1"))),
            (Bytes::new(), Some(Bytes::from_static(b"x"))),
            (Bytes::from_static(b"h2"), None),
        ];
        return vec![
            (NOW, some("k0"), some("value-0"), vec![]),
            (NOW + 5, None, some(""), vec![]),
            (NOW - 3, some(""), None, vec![]),
            (NOW + 1000, some("k3"), Some(pattern(3, 300)), headers),
            (NOW + 1000, some("k4"), some("value-4"), vec![]),
        ];
    }
    (0..300).map(|i| (NOW + i64::from(i), some(&format!("key-{i}")), Some(pattern(i, 700)), vec![])).collect()
}

/// As in `RecordsPeer`.
fn pattern(seed: i32, length: i32) -> Vec<u8> {
    let mut x = seed.wrapping_mul(2_654_435).wrapping_add(1);
    (0..length)
        .map(|i| {
            x = x.wrapping_mul(1_103_515_245).wrapping_add(12345);
            if (i / 16) % 2 == 0 { ((x as u32) >> 16) as u8 } else { b'a' + (i % 7) as u8 }
        })
        .collect()
}

/// What `RecordsPeer.read` prints.
fn describe(bytes: &Bytes) -> String {
    let mut out = String::new();
    for batch in batches(bytes.clone()) {
        let batch = batch.unwrap();
        assert!(batch.crc_valid());
        let first = if batch.is_legacy() { legacy::first_offset(&batch, LIMIT).unwrap() } else { batch.base_offset() };
        let appended = batch.timestamp_type() == TimestampType::LogAppendTime;
        writeln!(
            out,
            "batch {} {} {} {} {} {} {} {} {} {} {} {} {}",
            batch.magic(),
            batch.compression().unwrap().id(),
            match (batch.magic(), appended) {
                (0, _) => -1,
                (_, false) => 0,
                (_, true) => 1,
            },
            first,
            batch.last_offset(),
            batch.max_timestamp(),
            batch.producer_id(),
            batch.producer_epoch(),
            batch.base_sequence(),
            batch.last_sequence(),
            batch.leader_epoch(),
            batch.is_transactional(),
            batch.is_control()
        )
        .unwrap();
        for record in batch.records(LIMIT).unwrap() {
            let record = record.unwrap();
            write!(
                out,
                "  {} {} {} {}",
                record.offset,
                record.timestamp,
                hex(record.key.as_deref()),
                hex(record.value.as_deref())
            )
            .unwrap();
            for (key, value) in &record.headers {
                write!(out, " {}={}", hex(Some(key)), hex(value.as_deref())).unwrap();
            }
            out.push('\n');
        }
    }
    out
}

fn hex(field: Option<&[u8]>) -> String {
    let Some(bytes) = field else {
        return "-".to_owned();
    };
    let digits = b"0123456789abcdef";
    let mut text = vec![b'x'; 1 + 2 * bytes.len()];
    for (pair, byte) in text[1..].chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&[digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]);
    }
    String::from_utf8(text).unwrap()
}

struct Peer {
    version: &'static str,
    class_path: String,
    dir: tempfile::TempDir,
}

impl Peer {
    fn compile(version: &'static str, imports: &str, codec: &str) -> Option<Peer> {
        let libs = cache()?.join("java").join(version).join("libs");
        if !libs.is_dir() || Command::new("javac").arg("-version").output().is_err() {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let mut source =
            include_str!("java/RecordsPeer.java").replace("/*IMPORTS*/\n", imports).replace("CODEC", codec);
        if codec == "codec" {
            source.truncate(source.trim_end().len() - 1);
            source.push_str(CODEC_OF_NEW);
        }
        let file = dir.path().join("RecordsPeer.java");
        std::fs::write(&file, source).unwrap();
        let jars = format!("{}/*", libs.display());
        let output = Command::new("javac").args(["-cp", &jars, "-d"]).arg(dir.path()).arg(&file).output().unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{version}: {complaint}");
        Some(Peer { version, class_path: format!("{}:{jars}", dir.path().display()), dir })
    }

    fn run(&self, arguments: &[&Path], verb: &str) -> String {
        let output = Command::new("java")
            .args(["-Xshare:auto", "-cp", &self.class_path, "RecordsPeer", verb])
            .args(arguments)
            .output()
            .unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {complaint}", self.version);
        String::from_utf8(output.stdout).unwrap()
    }

    fn write(&self) -> BTreeMap<String, Bytes> {
        let out = self.dir.path().join("theirs");
        std::fs::create_dir(&out).unwrap();
        self.run(&[&out], "write");
        std::fs::read_dir(&out)
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let name = entry.file_name().into_string().unwrap();
                (name, Bytes::from(std::fs::read(entry.path()).unwrap()))
            })
            .collect()
    }

    /// What Java says of each file.
    fn read(&self, files: &BTreeMap<String, Bytes>) -> BTreeMap<String, String> {
        let dir = tempfile::tempdir_in(self.dir.path()).unwrap();
        let paths: Vec<PathBuf> = files
            .iter()
            .map(|(name, bytes)| {
                let path = dir.path().join(name);
                std::fs::write(&path, bytes).unwrap();
                path
            })
            .collect();
        let text = self.run(&paths.iter().map(PathBuf::as_path).collect::<Vec<_>>(), "read");
        let mut told = BTreeMap::new();
        for part in text.split("file ").skip(1) {
            let (name, rest) = part.split_once('\n').unwrap();
            told.insert(name.to_owned(), rest.to_owned());
        }
        assert_eq!(told.len(), files.len());
        told
    }
}

fn cache() -> Option<PathBuf> {
    std::env::var_os("MILENA_TEST_CACHE")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/milena-tests")))
}
