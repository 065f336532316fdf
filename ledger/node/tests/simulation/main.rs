//! The application side of validators in thousands of schedules under virtual time: transactions that reach some and not others,
//! clocks that are wrong, decrees, blocks that some hear of late, power that goes in the middle of a commit and tears what
//! was not synced. Each schedule follows from its seed, which a failure prints.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod disk;
mod world;

use world::{Counts, World};

const SCHEDULES: u64 = 2_000;
const STEPS: usize = 60;

/// Says which schedule it was when a test fails.
struct Seed(u64);

impl Drop for Seed {
    #[expect(clippy::print_stderr, reason = "for whoever looks for the failure")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the seed is {}", self.0);
        }
    }
}

#[test]
fn replicas_agree_lose_nothing_and_conserve_tokens_in_every_schedule() {
    let mut sum = Counts::default();
    for seed in 0..SCHEDULES {
        let _seed = Seed(seed);
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step();
        }
        world.settle();
        let Counts {
            blocks,
            transactions,
            decrees,
            cuts,
            cuts_amid,
            caught_up,
        } = world.counts;
        sum.blocks += blocks;
        sum.transactions += transactions;
        sum.decrees += decrees;
        sum.cuts += cuts;
        sum.cuts_amid += cuts_amid;
        sum.caught_up += caught_up;
    }
    let least = [
        ("blocks", sum.blocks, 3 * SCHEDULES),
        ("transactions", sum.transactions, 2 * SCHEDULES),
        ("decrees", sum.decrees, SCHEDULES / 4),
        ("cuts", sum.cuts, SCHEDULES),
        ("cuts amid a commit", sum.cuts_amid, SCHEDULES / 4),
        ("blocks caught up", sum.caught_up, SCHEDULES),
    ];
    for (what, happened, least) in least {
        assert!(happened >= least, "too few {what} to show anything: {sum:?}");
    }
}
