//! Choices: random ones by a seed, or always the first, which is the plain and valid one.

use serde_json::{Value, json};

/// SplitMix64 behind a few questions.
pub struct Dice(Option<u64>);

impl Dice {
    /// The same choices for the same seed.
    pub fn of(seed: u64) -> Dice {
        Dice(Some(seed))
    }

    /// Always the first.
    pub fn loaded() -> Dice {
        Dice(None)
    }

    fn next(&mut self) -> u64 {
        let Some(state) = &mut self.0 else { return 0 };
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    /// Never, if the dice are loaded.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.0.is_some() && self.below(100) < percent
    }

    pub fn pick<T: Clone>(&mut self, options: &[T]) -> T {
        options[self.below(options.len())].clone()
    }

    /// One of these words.
    pub fn word(&mut self, options: &[&str]) -> Value {
        json!(self.pick(options))
    }
}
