//! The state machine under whatever people, nodes and validators say: who proposes and who checks agree, tokens are
//! conserved, and nothing panics.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use zos_fuzz::{input::Input, world::World};

/// More tells nothing that less does not.
const MOST: usize = 64;

/// To found it takes longer than most that is said afterwards.
static FOUNDED: LazyLock<World> = LazyLock::new(World::new);

fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    let mut world = FOUNDED.clone();
    for _ in 0..MOST {
        if input.is_empty() {
            break;
        }
        world.act(&mut input);
    }
});
