//! Records of every kind and in every state, with values that are hard to get right.

use ledger::{
    Agreement, Body, Id, PublicKey, Record, Resources, Signature, SignedAgreement, Timestamp, Tokens,
    body::{
        Account, Assignments, Blob, Channel, Charter, Claim, Contract, ContractState, DiskRefusal, Enrolment, Entity,
        Escrow, Failure, Farm, Image, Label, Location, Misconduct, Name, Node, NodeState, Pair, Prices, Release,
        ReleaseKeys, Terms, Upgrade,
    },
    consensus::VoteKind,
    release::{KeySignature, Manifest, Rotation},
    text::Text,
};

use crate::{
    agreement::{hash, id, key, set},
    world::{RULE, keys},
};

fn contract(state: ContractState) -> Body {
    let amounts = Resources {
        cru: 1,
        mru: u64::MAX,
        sru: 1 << 53,
        hru: (1 << 53) - 1,
    };
    let agreement = Agreement {
        customer: id(1),
        farmer: id(2),
        terms: (id(3), hash(4)),
        node: id(5),
        resources: amounts,
        price: Tokens::from_micro(1_500_000),
        periods: 12,
        deposit: 3,
        rule: RULE,
        image: (id(6), hash(7)),
        sealed: Blob {
            hash: hash(8),
            size: 100,
        },
        valid_until: Timestamp::from_millis(9),
        salt: *b"0123456789abcdef",
    };
    let signature = Signature::from_bytes([9; 64]);
    let signed = SignedAgreement {
        agreement,
        customer: signature,
        farmer: signature,
    };
    let replaces = matches!(state, ContractState::Failed { .. }).then_some(hash(3));
    Contract {
        signed,
        replaces,
        amendments: 1,
        state,
        funded: 3,
        disputes: 0,
    }
    .into()
}

fn contracts() -> Vec<Body> {
    let time = Timestamp::from_millis;
    let failures = [
        Failure::NotAcknowledged,
        Failure::NotDeployed,
        Failure::NotServed,
        Failure::Disputed,
        Failure::NotPaid,
        Failure::Refused {
            reason: Text::lossy("\u{feff}no room, \u{1f980} said"),
        },
    ];
    let failed = failures.map(|reason| ContractState::Failed { at: time(1), reason });
    let active = ContractState::Active {
        began: time(1),
        period: 2,
        price: Tokens::MAX,
        report: Some(Claim { up_ms: 3 }),
        receipt: None,
        missed: 1,
    };
    let suspended = ContractState::Suspended {
        since: time(1),
        until: time(2),
        period: 3,
        missed: 4,
    };
    let states = [
        ContractState::Agreed {
            acknowledge_by: time(1),
        },
        ContractState::Deploying { run_by: time(1) },
        active,
        suspended,
        ContractState::Expired { at: time(1) },
        ContractState::Cancelled { at: time(1) },
    ];
    states.into_iter().chain(failed).map(contract).collect()
}

fn nodes() -> Vec<Body> {
    let time = Timestamp::from_millis;
    let states = [
        NodeState::Joined { until: time(1) },
        NodeState::Active {
            seen: time(1),
            until: time(2),
        },
        NodeState::Degraded {
            since: time(1),
            until: time(2),
        },
        NodeState::Gone { since: time(1) },
        NodeState::Expelled,
    ];
    let addresses = [
        "10.0.0.1:1",
        "[::]:2",
        "[::1]:3",
        "[2001:db8::1:0:0:1]:4",
        "[1:0:2:0:0:3:0:0]:5",
        "[::ffff:10.0.0.1]:6",
        "[1:2:3:4:5:6:0:8]:7",
        "[fe80::]:8",
    ];
    let node = |state| {
        Node {
            farm: id(1),
            keys: keys(3),
            capacity: Resources::ZERO,
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            hardware: Text::lossy("box"),
            refused_disks: vec![DiskRefusal {
                disk: Text::lossy("serial"),
                reason: Text::lossy("holds something"),
            }],
            state,
        }
        .into()
    };
    states.into_iter().map(node).collect()
}

fn misconducts() -> Vec<Body> {
    let signature = Signature::from_bytes([9; 64]);
    let pairs = [
        Pair::Votes(VoteKind::Prevote, [(None, signature), (Some(hash(1)), signature)]),
        Pair::Votes(
            VoteKind::Precommit,
            [(Some(hash(1)), signature), (Some(hash(2)), signature)],
        ),
        Pair::Proposals([(hash(1), None, signature), (hash(2), Some(3), signature)]),
    ];
    let misconduct = |pair| {
        Misconduct {
            validator: key(1).public(),
            height: 7,
            round: 1,
            pair,
        }
        .into()
    };
    pairs.into_iter().map(misconduct).collect()
}

fn people() -> Vec<Body> {
    let tokens = Tokens::from_micro;
    let account = Account {
        balance: Tokens::MAX,
        nonce: 7,
        last: hash(1),
    };
    let entity = Entity {
        keys: keys(1),
        name: Text::lossy(""),
        addresses: vec![],
        recovery: None,
    };
    let farm = Farm {
        owner: id(1),
        name: Text::lossy("farm"),
        location: Location {
            country: *b"BE",
            latitude: -90_000_000,
            longitude: 180_000_000,
        },
        enrolments: vec![Enrolment {
            key: PublicKey::from_bytes([4; 32]),
            remaining: u32::MAX,
            until: Timestamp::from_millis(u64::MAX),
        }],
    };
    let prices = Prices {
        cru_hour: tokens(1),
        mru_gib_hour: tokens(2),
        sru_gib_hour: tokens(3),
        hru_gib_hour: tokens(4),
    };
    let terms = Terms {
        farm: id(1),
        prices,
        periods: (1, 1_000_000),
        rule: RULE,
        open: false,
    };
    let escrow = Escrow {
        customer: id(1),
        farmer: id(2),
        deposited: tokens(10),
        held: tokens(4),
        paid: tokens(3),
        returned: tokens(2),
        withheld: tokens(1),
    };
    let name = |label: &str, owner| Name {
        label: Label::new(label).unwrap(),
        owner,
        deposit: tokens(5),
    };
    [
        vec![
            account.into(),
            entity.into(),
            farm.into(),
            terms.into(),
            escrow.into(),
            name("a-b-c", None).into(),
            name("somebody", Some(id(1))).into(),
        ],
        releases(),
    ]
    .concat()
}

fn releases() -> Vec<Body> {
    let keys = |threshold| ReleaseKeys {
        threshold,
        keys: vec![key(1).public(), key(2).public()],
    };
    let rotation = Rotation {
        channel: id(1),
        number: 7,
        keys: keys(2),
        owner: id(2),
    };
    let manifest = Manifest {
        channel: id(1),
        number: u64::MAX,
        name: Text::lossy("1.2.3"),
        image: Blob {
            hash: hash(3),
            size: 50_000_000,
        },
    };
    let signatures = |sign: &dyn Fn(ledger::Hash, &ledger::SigningKey) -> KeySignature| {
        vec![sign(hash(9), &key(1)), sign(hash(9), &key(2))]
    };
    let signed = signatures(&|chain, key| rotation.sign(chain, key));
    let rotation = Some(rotation.signed(signed));
    let channel = |rotation, rotations| Channel {
        label: Label::new("stable").unwrap(),
        owner: id(2),
        keys: keys(1),
        rotations,
        rotation,
        newest: 3,
        staged: 2,
    };
    let signed = signatures(&|chain, key| manifest.sign(chain, key));
    let release = Release {
        signed: manifest.signed(signed),
        rotations: 7,
        permille: 1_000,
    };
    vec![channel(None, 0).into(), channel(rotation, 7).into(), release.into()]
}

/// A body of each kind and in each state.
pub(crate) fn bodies() -> Vec<Body> {
    let image = Image {
        owner: id(1),
        name: Text::lossy("nginx:latest"),
        root: Blob::of(b"root"),
        config: Blob::of(b"config"),
    };
    let assignments = Assignments {
        contracts: (1..5).map(id).collect(),
        reserved: Resources::ZERO,
    };
    let charter = |upgrade| Charter {
        validators: set(&[(1, 2), (2, u64::MAX >> 2)]),
        protocol: 1,
        upgrade,
        attest_ms: 3_600_000,
        name_deposit: Tokens::ZERO,
    };
    let upgrade = Upgrade { protocol: 2, from: 9 };
    let others = vec![
        image.into(),
        assignments.into(),
        charter(None).into(),
        charter(Some(upgrade)).into(),
    ];
    [people(), contracts(), nodes(), misconducts(), others].concat()
}

pub(crate) fn record(seed: u8, body: Body) -> Record {
    Record {
        id: id(seed),
        version: 3,
        previous: hash(seed),
        author: Id::CHAIN,
        height: 2,
        body,
    }
}
