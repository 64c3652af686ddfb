//! A producer that pauses for a second after each of its hundred messages. The tests start in the order of their names: this one, which mostly
//! sleeps, has to start first.

use anyhow::Result;

use crate::scripts::{Scripts, numbers};

#[test]
fn two_scripts_with_the_pause_of_a_second() -> Result<()> {
    let s = Scripts::new("2.0.2")?;
    let consumer = s.consumer("test")?;
    s.produce(&[])?;
    numbers(&consumer.take(100)?, 1)
}
