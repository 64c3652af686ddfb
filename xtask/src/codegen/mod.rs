//! `cargo xtask codegen [--check]`: `spec/*.kdef` to `crates/protocol/src/{messages,stored}`.
//!
//! Owns which files exist; [`kdef`] owns the language, [`rust`] the output. With `--check` nothing is written, and a file
//! that is missing, stale or left over is an error.

mod json;
pub(crate) mod kdef;
mod rust;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use kdef::Spec;

/// A spec by its file stem.
type Specs = Vec<(String, Spec)>;

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let check = match arguments {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => bail!("usage: cargo xtask codegen [--check]"),
    };
    let root = crate::repository();
    let source = root.join("crates/protocol/src");
    let mut files = BTreeMap::new();
    rust::messages(&read(&root.join("spec/messages"))?, &mut files);
    rust::stored(&read(&root.join("spec/stored"))?, &mut files);
    let files: BTreeMap<PathBuf, String> = files.into_iter().map(|(name, text)| (source.join(name), text)).collect();
    let stale = stale(&source, &files)?;
    if !check {
        for path in &stale {
            match files.get(path) {
                Some(text) => {
                    fs::create_dir_all(path.parent().context("a file in a folder")?)?;
                    fs::write(path, text)?;
                }
                None => fs::remove_file(path)?,
            }
        }
        println!("codegen: {} files, {} changed", files.len(), stale.len());
    } else if let Some(first) = stale.first() {
        bail!("{} generated files are not fresh, {} first; run cargo xtask codegen", stale.len(), first.display());
    }
    Ok(())
}

fn read(folder: &Path) -> Result<Specs> {
    let mut specs = Specs::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "kdef") {
            let stem = path.file_stem().context("a named file")?.to_string_lossy().into_owned();
            let spec = kdef::parse(&fs::read_to_string(&path)?).with_context(|| path.display().to_string())?;
            specs.push((stem, spec));
        }
    }
    specs.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(specs)
}

/// Every generated file that differs from what it should be, and every one that should not be.
fn stale(source: &Path, files: &BTreeMap<PathBuf, String>) -> Result<Vec<PathBuf>> {
    let mut stale: Vec<PathBuf> = Vec::new();
    for (path, text) in files {
        if fs::read(path).ok().as_deref() != Some(text.as_bytes()) {
            stale.push(path.clone());
        }
    }
    let mut folders = vec![source.join("messages"), source.join("stored")];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if !files.contains_key(&path) {
                stale.push(path);
            }
        }
    }
    Ok(stale)
}
