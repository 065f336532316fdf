use super::*;

fn id(n: u8) -> DiskId {
    DiskId::new([n; 16])
}

const HERE: Machine = Machine::new([1; 16]);
const ELSEWHERE: Machine = Machine::new([2; 16]);
const SOON: Duration = Duration::ZERO;

fn node(n: u8) -> Id {
    Id::from_hash(ledger::Hash::from_bytes([n; 32]))
}

/// Node 0's.
const OURS: u8 = 0;

fn record(generation: u64, home: u8, disks: &[u8]) -> Record {
    Record {
        generation,
        home: id(home),
        machine: HERE,
        disks: disks.iter().copied().map(id).collect(),
    }
}

fn of(n: u8, owner: u8, record: Record) -> Candidate {
    Candidate {
        id: id(n),
        index: n,
        identity: Identity::Of(node(owner)),
        record: Some(record),
    }
}

fn blank(n: u8) -> Candidate {
    Candidate {
        id: id(n),
        index: n,
        identity: Identity::Absent,
        record: None,
    }
}

fn seen(disks: &[Candidate], quiet: Duration) -> Seen {
    Seen {
        disks: disks.to_vec(),
        suspects: Vec::new(),
        unreadable: Vec::new(),
        quiet,
        drivers_loaded: true,
        machine: HERE,
    }
}

fn open(record: Record) -> Step {
    Step::Open(record)
}

#[test]
fn blank_disk_that_is_ready_before_the_old_one_gets_no_second_identity() {
    assert_eq!(decide(&seen(&[], PATIENCE)), Step::Wait(Wait::NoDisk));
    assert_eq!(decide(&seen(&[blank(1)], SOON)), Step::Wait(Wait::Settling));
    let late = seen(&[blank(1), of(0, OURS, record(1, 0, &[0]))], SOON);
    assert_eq!(decide(&late), open(record(2, 0, &[0, 1])), "found in time");
    assert_eq!(
        decide(&seen(&[blank(1)], SETTLE)),
        open(record(1, 1, &[1])),
        "nothing came"
    );
    let loading = Seen {
        drivers_loaded: false,
        ..seen(&[blank(1)], SETTLE)
    };
    assert_eq!(decide(&loading), Step::Wait(Wait::Settling));
}

#[test]
fn disk_with_a_record_and_no_identity_waits_until_the_disks_have_settled() {
    let lost = Candidate {
        record: Some(record(3, 1, &[1])),
        ..blank(1)
    };
    assert_eq!(
        decide(&seen(std::slice::from_ref(&lost), SOON)),
        Step::Wait(Wait::Settling)
    );
    assert_eq!(decide(&seen(&[lost], SETTLE)), open(record(3, 1, &[1])));
}

#[test]
fn no_identity_is_made_while_a_disk_of_ours_is_out_of_use() {
    let suspect = Seen {
        suspects: vec!["vda (mount: no)".to_owned()],
        ..seen(&[blank(1)], PATIENCE)
    };
    assert_eq!(
        decide(&suspect),
        Step::Wait(Wait::Suspects(vec!["vda (mount: no)".to_owned()]))
    );
    let unreadable = |quiet| Seen {
        unreadable: vec!["vdc".to_owned()],
        ..seen(&[blank(1)], quiet)
    };
    assert_eq!(
        decide(&unreadable(SETTLE)),
        Step::Wait(Wait::Unreadable(vec!["vdc".to_owned()]))
    );
    assert_eq!(
        decide(&unreadable(PATIENCE)),
        open(record(1, 1, &[1])),
        "a wreck does not hold for ever"
    );
}

#[test]
fn node_with_all_its_disks_opens_at_once() {
    let both = record(3, 0, &[0, 1]);
    let disks = [of(0, OURS, both.clone()), of(1, OURS, both.clone())];
    assert_eq!(decide(&seen(&disks, SOON)), open(both));
}

#[test]
fn late_home_is_waited_for_and_a_lost_one_is_replaced() {
    let second = of(1, OURS, record(3, 0, &[0, 1]));
    assert_eq!(
        decide(&seen(std::slice::from_ref(&second), SETTLE)),
        Step::Wait(Wait::Home(id(0)))
    );
    assert_eq!(decide(&seen(&[second], PATIENCE)), open(record(4, 1, &[1])));
    let back = of(0, OURS, record(3, 0, &[0, 1]));
    let moved = of(1, OURS, record(4, 1, &[1]));
    assert_eq!(
        decide(&seen(&[back, moved], SOON)),
        open(record(5, 1, &[0, 1])),
        "the newest record holds"
    );
}

#[test]
fn stale_home_that_comes_first_waits_for_the_disk_that_took_its_place() {
    // Disk 1 was the home and away while disk 0 took its place.
    let stale = of(1, OURS, record(1, 1, &[0, 1]));
    assert_eq!(
        decide(&seen(std::slice::from_ref(&stale), SOON)),
        Step::Wait(Wait::Disks)
    );
    let newer = of(0, OURS, record(2, 0, &[0]));
    assert_eq!(
        decide(&seen(&[stale.clone(), newer], SOON)),
        open(record(3, 0, &[0, 1])),
        "the other one came"
    );
    assert_eq!(
        decide(&seen(&[stale], SETTLE)),
        open(record(2, 1, &[1])),
        "the other one is gone for good"
    );
}

#[test]
fn record_that_does_not_know_its_disks_waits_until_they_have_settled() {
    let first = Record {
        machine: Machine::UNKNOWN,
        ..record(1, 0, &[])
    };
    let disk = of(0, OURS, first);
    assert_eq!(
        decide(&seen(std::slice::from_ref(&disk), SOON)),
        Step::Wait(Wait::Disks)
    );
    assert_eq!(decide(&seen(&[disk], SETTLE)), open(record(2, 0, &[0])));
}

/// The disk of a node that was in another machine until now.
fn moved_in(n: u8) -> Candidate {
    let record = Record {
        machine: ELSEWHERE,
        ..record(9, n, &[n])
    };
    of(n, 7, record)
}

#[test]
fn disk_of_another_node_takes_over_neither_identity_nor_home() {
    let own = of(1, OURS, record(2, 1, &[1]));
    assert_eq!(
        decide(&seen(&[moved_in(0), own], SOON)),
        open(record(2, 1, &[1])),
        "neither a higher generation nor a lower index helps it"
    );
    assert_eq!(
        decide(&seen(&[moved_in(0)], SOON)),
        Step::Wait(Wait::Disks),
        "alone it waits for this machine's own disks"
    );
}

#[test]
fn node_that_was_moved_to_another_machine_goes_on_there() {
    let expected = Record {
        machine: HERE,
        ..record(10, 0, &[0])
    };
    assert_eq!(decide(&seen(&[moved_in(0)], SETTLE)), open(expected));
}

#[test]
fn of_two_nodes_from_elsewhere_the_one_with_more_disks_holds_and_of_equals_neither() {
    let (one, other) = (
        moved_in(0),
        of(
            1,
            OURS,
            Record {
                machine: ELSEWHERE,
                ..record(1, 1, &[1])
            },
        ),
    );
    let equals = [one.clone(), other.clone()];
    assert_eq!(decide(&seen(&equals, SOON)), Step::Wait(Wait::Disks));
    assert_eq!(
        decide(&seen(&equals, PATIENCE)),
        Step::Wait(Wait::Nodes(vec![node(OURS), node(7)]))
    );
    let third = Candidate {
        id: id(2),
        index: 2,
        ..other.clone()
    };
    assert_eq!(decide(&seen(&[one, other, third], SETTLE)), open(record(2, 1, &[1, 2])));
}

#[test]
fn disk_with_a_damaged_identity_is_the_nodes_only_if_its_record_says_so() {
    let damaged = Candidate {
        identity: Identity::Damaged,
        record: Some(record(8, 5, &[5])),
        ..blank(2)
    };
    for known in [record(2, 0, &[0]), record(2, 0, &[0, 2])] {
        let own = of(0, OURS, known.clone());
        assert_eq!(decide(&seen(&[damaged.clone(), own], SOON)), open(known));
    }
}
