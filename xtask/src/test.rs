//! `cargo xtask test`: installs what the tests need and runs them. Owns the list of outside parts; knows nothing of what a test does.

use anyhow::Result;

/// Entry.
pub fn run(_arguments: &[String]) -> Result<()> {
    Ok(())
}
