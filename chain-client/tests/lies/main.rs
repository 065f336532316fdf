//! Peers that lie, over a real link: each is refused by name of the check that failed, said once, and the next is asked.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod chain;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use chain_client::{
    ChainClient, ClientError, Complaints, Reach,
    protocol::{Answer, MAX_ANSWER, MAX_REQUEST, Request},
};
use ledger::{
    Hash, Id, Kind, RecordKey, Tokens,
    body::{Account, Assignments, Blob},
    query::{Position, Query},
    record::Body,
    tree::RegionProof,
};
use peer_link::{Endpoint, Limits, LinkKey, PeerAddress, Protocols, Serving, protocol, serve_requests};

use chain::{Chain, certify, contracts, farms, image_ids, node, validators};

/// How one peer answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Conduct {
    Honest,
    OtherGenesis,
    ForgedCertificate,
    OtherValidators,
    UnsignedHandover,
    AlteredRecord,
    WithheldRecord,
    TruncatedSet,
    TooMany,
    EarlierHead,
    Garbage,
    Silence,
}

/// A running peer.
struct Peer {
    address: PeerAddress,
    conduct: Arc<Mutex<Conduct>>,
    _endpoint: Endpoint,
    _serving: Serving,
}

impl Peer {
    async fn start(seed: u8, conduct: Conduct) -> Self {
        let endpoint = endpoint(seed).await;
        let conduct = Arc::new(Mutex::new(conduct));
        let shared = Arc::clone(&conduct);
        let protocols = Protocols::new().with(protocol::LEDGER, move |connection| {
            let conduct = Arc::clone(&shared);
            let limits = Limits {
                request: MAX_REQUEST,
                streams: 16,
            };
            serve_requests(connection, limits, move |request: Request, mut stream| {
                let conduct = *conduct.lock().unwrap();
                async move {
                    match answer(conduct, &request) {
                        Some(answer) => stream.send(&answer, MAX_ANSWER).await?,
                        None if conduct == Conduct::Garbage => stream.send(&[255_u8; 64], MAX_ANSWER).await?,
                        None => std::future::pending().await,
                    }
                    stream.finish();
                    Ok(())
                }
            })
        });
        Self {
            address: PeerAddress::new(endpoint.id(), endpoint.bound()).unwrap(),
            conduct,
            _serving: endpoint.serve(protocols),
            _endpoint: endpoint,
        }
    }
}

async fn endpoint(seed: u8) -> Endpoint {
    let loopback = ([127, 0, 0, 1], 0).into();
    Endpoint::bind(&LinkKey::from_seed(&[seed; 32]), loopback)
        .await
        .unwrap()
}

/// What a peer of this conduct answers; nothing where it sends no answer of the protocol.
fn answer(conduct: Conduct, request: &Request) -> Option<Answer> {
    let honest = match request {
        Request::RecordsAt { height, .. }
        | Request::Region {
            height: Some(height), ..
        } => Chain::at(*height),
        _ => Chain::at(2),
    };
    let answer = match conduct {
        Conduct::Garbage | Conduct::Silence => return None,
        Conduct::EarlierHead => Chain::at(1).answer(request),
        _ => honest.answer(request),
    };
    Some(match (conduct, answer) {
        (Conduct::OtherGenesis, Answer::Genesis(mut genesis)) => {
            genesis.block_interval_ms = 2_000;
            Answer::Genesis(genesis)
        }
        (_, Answer::Head { handovers, mut head }) => {
            disguise(conduct, &mut head);
            Answer::Head { handovers, head }
        }
        (_, Answer::Records { mut head, mut proofs }) => {
            disguise(conduct, &mut head);
            for proof in &mut proofs {
                match (conduct, proof.record.as_mut().map(|record| &mut record.body)) {
                    (Conduct::AlteredRecord, Some(Body::Account(account))) => {
                        account.balance = Tokens::from_micro(6);
                    }
                    (Conduct::TruncatedSet, Some(Body::Assignments(set))) => _ = set.contracts.pop_first(),
                    (Conduct::WithheldRecord, _) => proof.record = None,
                    _ => {}
                }
            }
            Answer::Records { head, proofs }
        }
        (_, Answer::Region { mut head, proof }) => {
            disguise(conduct, &mut head);
            let proof = match (conduct, proof) {
                (Conduct::TooMany, _) => None,
                (Conduct::TruncatedSet, Some(proof)) => Some(RegionProof {
                    leaves: proof.leaves[1..].to_vec(),
                    ..proof
                }),
                (Conduct::WithheldRecord, Some(_)) => Some(RegionProof {
                    siblings: vec![],
                    leaves: vec![],
                }),
                (_, proof) => proof,
            };
            Answer::Region { head, proof }
        }
        (_, answer) => answer,
    })
}

fn disguise(conduct: Conduct, head: &mut ledger::CertifiedHeader) {
    match conduct {
        // Signed by a key that is no validator's.
        Conduct::ForgedCertificate => head.certificate = certify(head.header.clone(), 66).certificate,
        Conduct::OtherValidators => {
            let mut header = head.header.clone();
            header.validators = validators(66).hash();
            header.next_validators = header.validators;
            *head = certify(header, 66);
        }
        Conduct::UnsignedHandover => {
            let mut header = head.header.clone();
            header.next_validators = validators(66).hash();
            *head = certify(header, 66);
            head.handover = Some(validators(66));
        }
        _ => {}
    }
}

type Lines = Arc<Mutex<Vec<String>>>;

fn collect() -> (Complaints, Lines) {
    let lines = Lines::default();
    let said = Arc::clone(&lines);
    (
        Complaints::to(move |line| said.lock().unwrap().push(line.to_owned())),
        lines,
    )
}

/// A client that asks `first` and then an honest peer.
async fn client(first: &Peer, honest: &Peer, complaints: Complaints) -> ChainClient {
    let peers = vec![first.address.clone(), honest.address.clone()];
    ChainClient::open(endpoint(9).await, Chain::at(1).genesis.hash(), peers, None, complaints)
        .await
        .unwrap()
}

/// Asks for both records of the chain three times, the first peer being of this conduct, and returns what was said of it.
async fn lines_about(conduct: Conduct) -> Vec<String> {
    // Whoever sends the verified head again says nothing new; so the chain goes on, unless the lie is that it does not.
    let before = match conduct {
        Conduct::EarlierHead => Conduct::Honest,
        _ => Conduct::EarlierHead,
    };
    let honest = Peer::start(2, before).await;
    let liar = Peer::start(1, before).await;
    let (complaints, lines) = collect();
    let client = client(&liar, &honest, complaints).await;
    client.sync().await.unwrap();
    *honest.conduct.lock().unwrap() = Conduct::Honest;
    *liar.conduct.lock().unwrap() = conduct;
    for _ in 0..3 {
        let account = client.require::<Account>(node()).await.unwrap();
        assert_eq!(account.body.balance, Tokens::from_micro(5));
        let set = client.require::<Assignments>(node()).await.unwrap();
        assert_eq!(set.body.contracts, contracts());
    }
    let lines = lines.lock().unwrap().clone();
    let name: String = liar.address.id().to_string().chars().take(8).collect();
    let of_liar = |line: &String| line.starts_with(&format!("peer {name} "));
    assert!(lines.iter().all(of_liar), "only the liar is complained of: {lines:?}");
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn each_lie_is_refused_by_name_of_the_check_in_one_line_and_the_honest_peer_is_believed() {
    for (conduct, check) in [
        (Conduct::ForgedCertificate, "refused: forged certificate"),
        (Conduct::OtherValidators, "refused: wrong validator set"),
        (Conduct::UnsignedHandover, "refused: forged certificate"),
        (Conduct::AlteredRecord, "refused: altered record: account"),
        (Conduct::WithheldRecord, "refused: missing record: account"),
        (Conduct::TruncatedSet, "refused: truncated contract set of node"),
        (Conduct::EarlierHead, "refused: stale head: height 1, but 2"),
        (Conduct::Garbage, "refused: broken protocol"),
    ] {
        let lines = lines_about(conduct).await;
        assert!(lines.len() == 1 && lines[0].contains(check), "{conduct:?}: {lines:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_after_an_earlier_block_is_proven_and_a_lie_about_it_is_named() {
    for (conduct, check) in [
        (Conduct::ForgedCertificate, "refused: forged certificate"),
        (Conduct::OtherValidators, "refused: wrong validator set"),
        (Conduct::AlteredRecord, "refused: altered record: account"),
        (Conduct::WithheldRecord, "refused: missing record: account"),
        (Conduct::EarlierHead, "refused: answered something else"),
        (Conduct::Garbage, "refused: broken protocol"),
    ] {
        let (honest, liar) = (
            Peer::start(2, Conduct::Honest).await,
            Peer::start(1, Conduct::Honest).await,
        );
        let (complaints, lines) = collect();
        let client = client(&liar, &honest, complaints).await;
        let keys = [Kind::Account, Kind::Assignments].map(|kind| RecordKey::new(kind, node()));
        let there = async |height| {
            let records = client.records_at(&keys, height).await.unwrap();
            records.iter().map(Option::is_some).collect::<Vec<_>>()
        };
        assert_eq!(there(1).await, [true, false]);
        *liar.conduct.lock().unwrap() = conduct;
        assert_eq!(there(2).await, [true, true], "{conduct:?}");
        let lines = lines.lock().unwrap().clone();
        assert!(lines.len() == 1 && lines[0].contains(check), "{conduct:?}: {lines:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_is_complete_or_refused() {
    for (conduct, check) in [
        (Conduct::Honest, None),
        (Conduct::OtherValidators, Some("refused: wrong validator set")),
        (Conduct::TruncatedSet, Some("refused: bad proof of a set")),
        (Conduct::WithheldRecord, Some("refused: bad proof of a set")),
        (Conduct::TooMany, Some("refused: answered something else")),
        (Conduct::EarlierHead, Some("refused: stale head: height 1, but 2")),
        (Conduct::Garbage, Some("refused: broken protocol")),
    ] {
        let (honest, liar) = (
            Peer::start(2, Conduct::Honest).await,
            Peer::start(1, Conduct::Honest).await,
        );
        let (complaints, lines) = collect();
        let client = client(&liar, &honest, complaints).await;
        client.sync().await.unwrap();
        *liar.conduct.lock().unwrap() = conduct;
        let (header, images) = client.set(Kind::Image, node()).await.unwrap();
        assert_eq!((header.height, images), (2, image_ids()), "{conduct:?}");
        let lines = lines.lock().unwrap().clone();
        let named = |check| lines.len() == 1 && lines[0].contains(check);
        assert!(check.map_or(lines.is_empty(), named), "{conduct:?}: {lines:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_belongs_to_who_has_nothing_and_that_is_proven() {
    let peer = Peer::start(1, Conduct::Honest).await;
    let client = client(&peer, &peer, collect().0).await;
    assert_eq!(client.set(Kind::Farm, node()).await.unwrap().1, []);
    assert_eq!(
        client.all_of::<ledger::body::Image>(Id::default()).await.unwrap().len(),
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_peer_costs_one_deadline_and_not_one_for_each_question() {
    let began = std::time::Instant::now();
    let lines = lines_about(Conduct::Silence).await;
    assert!(
        lines.len() == 1 && lines[0].contains("silent: no answer within 10s"),
        "{lines:?}"
    );
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_genesis_and_an_unreachable_peer_are_named_and_passed_over() {
    let honest = Peer::start(2, Conduct::Honest).await;
    let liar = Peer::start(1, Conduct::OtherGenesis).await;
    let gone = PeerAddress::new(LinkKey::from_seed(&[3; 32]).id(), vec![([127, 0, 0, 1], 9).into()]).unwrap();
    let (complaints, lines) = collect();
    let peers = vec![gone, liar.address.clone(), honest.address.clone()];
    for _ in 0..2 {
        let chain = Chain::at(1).genesis.hash();
        ChainClient::open(endpoint(9).await, chain, peers.clone(), None, complaints.clone())
            .await
            .unwrap();
    }
    let lines = lines.lock().unwrap().clone();
    assert!(lines.len() == 2, "{lines:?}");
    assert!(lines[0].contains(" not reached: dial "), "{lines:?}");
    assert!(lines[1].contains(" refused: wrong genesis: "), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_followed_peer_that_goes_back_to_an_older_head_is_refused() {
    let honest = Peer::start(2, Conduct::Honest).await;
    let liar = Peer::start(1, Conduct::Honest).await;
    let (complaints, lines) = collect();
    let client = client(&liar, &honest, complaints).await;
    client.sync().await.unwrap();
    *liar.conduct.lock().unwrap() = Conduct::EarlierHead;
    let _following = client.follow();
    let said = || lines.lock().unwrap().iter().any(|line| line.contains("stale head"));
    tokio::time::timeout(Duration::from_secs(20), async {
        while !said() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(client.height(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_all_lie_nothing_is_believed_and_each_check_is_named() {
    let peers = [
        Peer::start(1, Conduct::Honest).await,
        Peer::start(2, Conduct::Honest).await,
    ];
    let (complaints, _) = collect();
    let client = client(&peers[0], &peers[1], complaints).await;
    client.sync().await.unwrap();
    *peers[0].conduct.lock().unwrap() = Conduct::TruncatedSet;
    *peers[1].conduct.lock().unwrap() = Conduct::EarlierHead;
    let key = RecordKey::new(ledger::Kind::Assignments, node());
    let error = client.records(&[key]).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, ClientError::AllFailed(_)));
    assert!(
        text.contains("truncated contract set") && text.contains("stale head"),
        "{text}"
    );
    let unknown = Blob {
        hash: Hash::ZERO,
        size: 1,
    };
    assert!(client.sealed(&unknown).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_from_anywhere_finds_all_and_says_when_it_is_cut() {
    let peers = [
        Peer::start(1, Conduct::Honest).await,
        Peer::start(2, Conduct::Honest).await,
    ];
    let (complaints, _) = collect();
    let client = client(&peers[0], &peers[1], complaints).await;
    let all = farms();
    let find = async |start: Option<Id>, most| {
        let at = |id| Position {
            farm: Id::default(),
            id,
        };
        let start = start.map(at);
        let reach = Reach {
            start,
            ..Reach::most(most)
        };
        client.search(&Query::all(Kind::Farm), reach).await.unwrap()
    };
    for start in [None, Some(all[0]), Some(all[300]), Some(all[599])] {
        let mut found = find(start, 600).await;
        assert!(!found.cut, "{start:?}");
        found.hits.sort_unstable();
        assert_eq!(found.ids(), all, "{start:?}");
        let part = find(start, 599).await;
        assert!(part.cut && part.hits.len() == 599, "{start:?}");
    }
    let part = find(Some(all[590]), 20).await;
    assert_eq!(part.ids(), [&all[591..], &all[..11]].concat());
}
