//! Random lives of a quorum: crashes between any two effects, lost unsynced writes, lost, late and doubled messages, one-way cuts. A seed
//! replays exactly.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use world::{Lie, World};

/// One life; how much happened in it.
fn live(seed: u64, lie: Lie) -> (u64, u64, u64) {
    let mut world = World::new(seed, [3, 5, 4, 2][(seed % 4) as usize], lie);
    for _ in 0..60 {
        let ids = world.ids();
        let any = |world: &mut World| ids[world.random.below(ids.len() as u64) as usize];
        match world.random.below(12) {
            0 => {
                let id = any(&mut world);
                world.crash(id);
            }
            1 => {
                if let Some(leader) = world.leader() {
                    world.crash(leader);
                }
            }
            2 => {
                let (from, to) = (any(&mut world), any(&mut world));
                world.cut(from, to);
            }
            3 => {
                let alone = any(&mut world);
                ids.iter().for_each(|id| {
                    world.cut(*id, alone);
                    world.cut(alone, *id);
                });
            }
            4 | 5 => world.heal_network(),
            6 => {
                let id = any(&mut world);
                world.shut_down(id);
                world.run(50);
                world.crash(id);
            }
            _ => world.append(),
        }
        let pause = world.random.below(1500);
        world.run(pause);
    }
    world.heal();
    world.run(15_000);
    world.append();
    world.run(5_000);
    world.check_converged();
    (world.appended, world.elections, world.now_ms)
}

fn seeds() -> std::ops::Range<u64> {
    let variable = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    match variable("MILENA_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..variable("MILENA_SEEDS").unwrap_or(150),
    }
}

#[test]
fn nothing_committed_is_lost_and_all_converge() {
    let (mut appended, mut elections) = (0, 0);
    for seed in seeds() {
        let lived = catch_unwind(AssertUnwindSafe(|| live(seed, Lie::None)));
        let Ok((appends, elected, _)) = lived else { panic!("seed {seed}; run it alone with MILENA_SEED={seed}") };
        (appended, elections) = (appended + appends, elections + elected);
    }
    println!("{appended} appends, {elections} elections");
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 0..5 {
        assert_eq!(live(seed, Lie::None), live(seed, Lie::None));
    }
}

#[test]
fn the_checks_notice_a_disk_that_lies() {
    for lie in [Lie::SyncsNothing, Lie::ForgetsVotes, Lie::TruncatesNothing, Lie::CommitsAlone] {
        let noticed = (0..2000).find(|seed| catch_unwind(AssertUnwindSafe(|| live(*seed, lie))).is_err());
        println!("{lie:?}: seed {noticed:?}");
        assert!(noticed.is_some(), "{lie:?}");
    }
}
