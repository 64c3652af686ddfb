//! How fast something is: Kafka's sampled rates and its token bucket, and how long too fast must wait.
//!
//! Pure: the time comes in as an argument. One sample more than asked for is kept, and one that began before the measured time counts as
//! long as something happened in it within that time; so the figures are Kafka's own. Called by `mod.rs`.

/// Samples that a rate is made of: how many, and how long each is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Windows {
    pub(super) count: usize,
    pub(super) length_ms: u64,
}

impl Windows {
    pub(super) fn new(count: i32, length_seconds: i32) -> Windows {
        let length_ms = u64::try_from(length_seconds).unwrap_or(1).max(1) * 1000;
        Windows { count: usize::try_from(count).unwrap_or(1).max(1), length_ms }
    }

    pub(super) fn total_ms(self) -> u64 {
        self.length_ms.saturating_mul(self.count as u64)
    }
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    start_ms: u64,
    last_ms: u64,
    sum: f64,
    events: u64,
}

impl Sample {
    fn begin(now_ms: u64) -> Sample {
        Sample { start_ms: now_ms, last_ms: now_ms, sum: 0.0, events: 0 }
    }
}

/// What was counted in the last samples.
#[derive(Debug, Default)]
pub(super) struct Samples {
    ring: Vec<Sample>,
    current: usize,
}

impl Samples {
    pub(super) fn record(&mut self, windows: Windows, amount: f64, now_ms: u64) {
        let next = match self.ring.get(self.current) {
            None => Some(self.current),
            Some(sample) if now_ms.saturating_sub(sample.start_ms) >= windows.length_ms => {
                Some((self.current + 1) % (windows.count + 1))
            }
            Some(_) => None,
        };
        if let Some(next) = next {
            self.current = next;
            match self.ring.get_mut(next) {
                Some(sample) => *sample = Sample::begin(now_ms),
                None => self.ring.push(Sample::begin(now_ms)),
            }
        }
        if let Some(sample) = self.ring.get_mut(self.current) {
            sample.sum += amount;
            sample.events += 1;
            sample.last_ms = now_ms;
        }
    }

    fn purge(&mut self, windows: Windows, now_ms: u64) {
        for sample in &mut self.ring {
            if now_ms.saturating_sub(sample.last_ms) >= windows.total_ms() {
                *sample = Sample::begin(now_ms);
            }
        }
    }

    /// What was counted, and over how many milliseconds: at least all samples but one, so that a first burst is no rate yet.
    fn total(&mut self, windows: Windows, now_ms: u64) -> (f64, u64) {
        self.purge(windows, now_ms);
        let oldest = self.ring.iter().map(|sample| sample.start_ms).min().unwrap_or(now_ms);
        let elapsed = now_ms.saturating_sub(oldest);
        let missing = (windows.count as u64 - 1).saturating_sub(elapsed / windows.length_ms);
        let sum = self.ring.iter().map(|sample| sample.sum).sum();
        (sum, (elapsed + missing * windows.length_ms).max(1))
    }

    /// In a second.
    pub(super) fn rate(&mut self, windows: Windows, now_ms: u64) -> f64 {
        let (sum, over_ms) = self.total(windows, now_ms);
        sum * 1000.0 / over_ms as f64
    }

    /// Of one event; 0 without any.
    pub(super) fn average(&mut self, windows: Windows, now_ms: u64) -> f64 {
        self.purge(windows, now_ms);
        let events: u64 = self.ring.iter().map(|sample| sample.events).sum();
        let sum: f64 = self.ring.iter().map(|sample| sample.sum).sum();
        if events == 0 { 0.0 } else { sum / events as f64 }
    }

    /// How long nothing may be counted until the rate is what it may be.
    pub(super) fn wait_ms(&mut self, windows: Windows, per_second: f64, now_ms: u64) -> u64 {
        let (sum, over_ms) = self.total(windows, now_ms);
        let over_ms = over_ms as f64;
        let rate = sum * 1000.0 / over_ms;
        if rate <= per_second { 0 } else { milliseconds((rate - per_second) / per_second * over_ms) }
    }
}

/// A bucket that fills at a rate, holds what all samples together may, and may be overdrawn once.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    /// What is left and when; full at first.
    tokens: Option<(f64, u64)>,
}

impl Bucket {
    fn filled(&mut self, windows: Windows, per_second: f64, now_ms: u64) -> f64 {
        let size = per_second * windows.total_ms() as f64 / 1000.0;
        let tokens = self.tokens.map_or(size, |(tokens, at_ms)| {
            (tokens + per_second * now_ms.saturating_sub(at_ms) as f64 / 1000.0).min(size)
        });
        self.tokens = Some((tokens, now_ms));
        tokens
    }

    /// What is left.
    pub(super) fn tokens(&mut self, windows: Windows, per_second: f64, now_ms: u64) -> f64 {
        self.filled(windows, per_second, now_ms)
    }

    pub(super) fn take(&mut self, windows: Windows, per_second: f64, amount: f64, now_ms: u64) {
        let tokens = self.filled(windows, per_second, now_ms);
        self.tokens = Some((tokens - amount, now_ms));
    }

    /// How long until it is not overdrawn any more.
    pub(super) fn wait_ms(&mut self, windows: Windows, per_second: f64, now_ms: u64) -> u64 {
        let tokens = self.filled(windows, per_second, now_ms);
        if tokens < 0.0 { milliseconds(-tokens / per_second * 1000.0) } else { 0 }
    }
}

fn milliseconds(value: f64) -> u64 {
    // saturates; a quota of less than a byte a day is nobody's wish
    value.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Kafka 4.3.1's own `Rate` and `TokenBucket` said under a quota of 500 a second: time in milliseconds, amount, and how long the one
    /// and the other wait.
    type Row = (u64, u32, u64, u64);

    const GOLDEN: [(Windows, &[Row]); 4] = [
        (
            Windows { count: 11, length_ms: 1000 },
            &[
                (0, 5764, 1528, 528),
                (1900, 6885, 14398, 12398),
                (2150, 4526, 24200, 21200),
                (2400, 2919, 29788, 26788),
                (4300, 8094, 46076, 41076),
                (17300, 1503, 0, 31082),
                (17550, 5293, 3342, 41418),
                (17800, 33, 3158, 41234),
                (18500, 7171, 17800, 54876),
                (23500, 6210, 30220, 62296),
                (36500, 5864, 1728, 61024),
                (37200, 2914, 6856, 66152),
                (39100, 2242, 11440, 68736),
                (39800, 5459, 22658, 78954),
                (39803, 247, 23149, 79445),
                (40803, 3757, 30663, 85959),
                (40806, 1086, 32832, 88128),
                (45806, 7728, 48288, 98584),
                (45809, 4094, 56473, 106769),
                (46809, 1165, 58803, 108099),
                (51809, 2066, 20103, 107231),
                (52809, 8738, 37579, 123707),
                (53809, 3535, 44649, 129777),
                (58809, 3936, 26550, 132649),
            ],
        ),
        (
            Windows { count: 2, length_ms: 1000 },
            &[
                (0, 5444, 9888, 8888),
                (250, 6441, 22520, 21520),
                (5250, 4757, 8514, 26034),
                (5950, 2411, 12636, 30156),
                (18950, 8060, 15120, 33276),
                (20850, 6004, 26228, 43384),
                (21550, 5820, 21948, 54324),
                (21800, 6602, 34902, 67278),
                (34800, 3795, 6590, 61868),
                (39800, 5720, 10440, 68308),
                (41700, 5500, 20540, 77408),
                (41950, 8502, 26754, 94162),
                (42200, 1430, 29364, 96772),
                (42900, 1734, 33132, 99540),
                (43600, 6461, 45354, 111762),
                (44300, 3094, 21178, 117250),
                (45000, 1595, 23668, 119740),
                (50000, 4143, 7286, 123026),
                (50003, 7594, 22471, 138211),
                (55003, 6745, 12490, 146701),
                (55703, 5480, 22750, 156961),
                (55953, 697, 23894, 158105),
                (55956, 2296, 28483, 162694),
                (55959, 2824, 34128, 168339),
            ],
        ),
        (
            Windows { count: 1, length_ms: 1000 },
            &[
                (0, 2977, 5953, 4954),
                (700, 329, 5912, 4912),
                (1400, 5141, 15494, 14494),
                (3300, 8030, 16059, 28654),
                (5200, 2912, 5823, 32578),
                (5450, 5247, 16068, 42822),
                (6450, 2523, 5045, 46868),
                (6700, 5105, 15006, 56828),
                (11700, 6452, 12903, 64732),
                (16700, 8671, 17341, 77074),
                (17700, 4796, 9591, 85666),
                (17950, 2680, 14702, 90776),
                (19850, 3229, 6457, 95334),
                (32850, 5324, 10647, 92982),
                (32853, 4333, 19311, 101645),
                (37853, 4924, 9847, 106493),
                (39753, 4403, 8805, 113399),
                (40453, 7173, 22452, 127045),
                (40703, 8933, 40068, 144661),
                (41703, 8169, 16337, 159999),
                (43603, 1443, 2885, 160985),
                (43606, 3434, 9751, 167850),
                (44306, 5028, 19107, 177206),
                (44306, 3924, 26955, 185054),
            ],
        ),
        (
            Windows { count: 3, length_ms: 2000 },
            &[
                (0, 3804, 3608, 1608),
                (700, 5094, 13096, 11096),
                (2600, 8742, 30680, 26680),
                (3300, 3036, 36052, 32052),
                (16300, 4756, 5512, 28564),
                (17000, 2300, 9412, 32464),
                (18900, 1152, 11816, 32868),
                (23900, 3442, 4188, 34752),
                (36900, 6997, 9994, 35746),
                (37900, 7611, 24216, 49968),
                (50900, 8071, 12142, 53110),
                (50900, 8530, 29202, 70170),
                (55900, 1292, 30786, 67754),
                (56150, 6435, 43406, 80374),
                (69150, 4309, 4618, 75992),
                (69400, 4882, 14132, 85506),
                (70100, 6997, 27426, 98800),
                (70350, 4343, 35862, 107236),
                (70600, 590, 36792, 108166),
                (71300, 8000, 54092, 123466),
                (71300, 6786, 67664, 137038),
                (73200, 8746, 85256, 152630),
                (73203, 8332, 101917, 169291),
                (78203, 4294, 65413, 172879),
            ],
        ),
    ];

    #[test]
    fn rates_and_buckets_wait_as_those_of_kafka() {
        for (windows, rows) in GOLDEN {
            let (mut samples, mut bucket) = (Samples::default(), Bucket::default());
            for &(at_ms, amount, rate_ms, bucket_ms) in rows {
                samples.record(windows, f64::from(amount), at_ms);
                bucket.take(windows, 500.0, f64::from(amount), at_ms);
                let told = (samples.wait_ms(windows, 500.0, at_ms), bucket.wait_ms(windows, 500.0, at_ms));
                assert_eq!(told, (rate_ms, bucket_ms), "{windows:?} at {at_ms}");
            }
        }
    }
}
