//! Answers to those who ask over the peer link.

use std::{sync::Arc, time::Duration};

use chain_client::protocol::{
    Answer, BLOCK_WAIT, DEADLINE, HISTORY_PAGE, MAX_ANSWER, MAX_BLOCKS, MAX_KEYS, MAX_LEAVES, MAX_REQUEST, MAX_SEALED,
    PAGE, Request,
};
use ledger::{
    CertifiedHeader, Hash, Height, Record, RecordKey, SignedTransaction,
    encoding::{MAX_BLOCK, encode},
    light::RecordProof,
    query::{Position, Query},
    tree::{self, Region},
};
use peer_link::{Connection, Limits, LinkError, PeerId, Shares, Stream, serve_requests};
use tokio::{sync::Semaphore, time::timeout};
use tracing::warn;

use crate::{
    book::Book,
    database::{DatabaseError, Page, Snapshot},
    node::{Ledger, Submission},
    relay::Relay,
};

const LIMITS: Limits = Limits {
    request: MAX_REQUEST,
    streams: 16,
};

/// What peers are answered from.
#[derive(Debug)]
pub(crate) struct Source {
    /// Answers with blocks, the longest there are, that may be under way: in all, and to one peer.
    pub(crate) block_answers: (Semaphore, Shares<PeerId>),
    /// The chain.
    pub(crate) ledger: Arc<Ledger>,
    /// The ways to the other validators.
    pub(crate) relay: Relay,
    /// Where they are reached.
    pub(crate) book: Arc<Book>,
}

/// Answers one peer until its connection ends.
pub(crate) async fn serve(source: Arc<Source>, connection: Connection) {
    let _counted = source.ledger.metrics().linked();
    serve_requests(connection, LIMITS, move |request, stream| {
        respond(Arc::clone(&source), request, stream)
    })
    .await;
}

async fn respond(source: Arc<Source>, request: Request, mut stream: Stream) -> Result<(), LinkError> {
    source.ledger.metrics().asked(&request);
    if request == Request::Watch {
        return watch(&source.ledger, stream).await;
    }
    if let Request::Blocks { after, wait_ms } = request {
        let Some(_share) = source.block_answers.1.take(stream.peer()) else {
            send(&mut stream, &Answer::Unable("one request for blocks at a time".into())).await?;
            stream.finish();
            return Ok(());
        };
        let wait = Duration::from_millis(wait_ms.into()).min(BLOCK_WAIT);
        wait_for_block(&source.ledger, after, wait).await;
        let _permit = source.block_answers.0.acquire().await;
        return respond_at_once(&source, request, stream).await;
    }
    respond_at_once(&source, request, stream).await
}

async fn respond_at_once(source: &Arc<Source>, request: Request, mut stream: Stream) -> Result<(), LinkError> {
    // Reading and checking is work for a processor and a disk, not for the tasks that wait on links.
    let peer = stream.peer();
    let source = Arc::clone(source);
    let answer = tokio::task::spawn_blocking(move || answer(&source, peer, request)).await;
    let answer = match answer {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            warn!(%error, "a request could not be answered");
            Answer::Unable("the validator's database failed".into())
        }
        Err(_) => Answer::Unable("the validator failed on this request".into()),
    };
    send(&mut stream, &answer).await?;
    stream.finish();
    Ok(())
}

/// Sends an answer to a peer that must take it in time: one that does not read holds no memory for longer.
async fn send(stream: &mut Stream, answer: &Answer) -> Result<(), LinkError> {
    let limit = match answer {
        Answer::Blocks(_) => MAX_BLOCKS,
        _ => MAX_ANSWER,
    };
    timeout(DEADLINE, stream.send(answer, limit))
        .await
        .map_err(|_| LinkError::Deadline(DEADLINE))?
}

/// Waits until there is a block above a height, but no longer than `wait`.
async fn wait_for_block(ledger: &Ledger, after: Height, wait: Duration) {
    let mut heads = ledger.heads();
    let higher = heads.wait_for(|head| head.as_ref().is_some_and(|head| head.header.height > after));
    // Without one the answer is empty.
    let _ = timeout(wait, higher).await;
}

async fn watch(ledger: &Ledger, mut stream: Stream) -> Result<(), LinkError> {
    let mut heads = ledger.heads();
    let mut sent = heads.borrow_and_update().as_ref().map_or(0, |head| head.header.height);
    while heads.changed().await.is_ok() {
        let head = heads.borrow_and_update().clone();
        let Some(head) = head else { continue };
        let height = head.header.height;
        let answer = if height == sent + 1 {
            Ok(Answer::Head {
                handovers: vec![],
                head,
            })
        } else {
            // Some were left out, and a handover may be among them.
            ledger.snapshot().and_then(|snapshot| self::head(&snapshot, sent))
        };
        match answer {
            Ok(answer) => send(&mut stream, &answer).await?,
            Err(error) => {
                warn!(%error, "a watch could not be answered");
                return Ok(());
            }
        }
        sent = height;
    }
    Ok(())
}

impl Source {
    /// Lets a transaction wait, and passes it on unless a validator brought it; nobody that is known brought what came over
    /// HTTP. One that its author brings again is passed on again, at most once a block: it may have been lost on the way.
    pub(crate) fn submit(
        &self,
        peer: Option<PeerId>,
        transaction: SignedTransaction,
    ) -> Result<Submission, DatabaseError> {
        let validators = self.ledger.validators();
        let passed_on = peer.is_some_and(|peer| validators.has_link(peer.as_bytes()));
        let transaction = Arc::new(transaction);
        let submission = self.ledger.submit(SignedTransaction::clone(&transaction))?;
        let goes_on = match submission {
            _ if passed_on => false,
            Submission::Taken => true,
            Submission::Waits => self.ledger.pass_again(transaction.hash()),
            Submission::Refused(_) | Submission::Full(_) => false,
        };
        if goes_on {
            self.relay.pass(&transaction, &validators);
        }
        Ok(submission)
    }
}

fn answer(source: &Source, peer: PeerId, request: Request) -> Result<Answer, DatabaseError> {
    let ledger = &source.ledger;
    match request {
        Request::Genesis => Ok(Answer::Genesis(ledger.genesis().clone())),
        Request::Head { after } => head(&ledger.snapshot()?, after),
        Request::Records(keys) => records(&ledger.snapshot()?, &keys),
        Request::RecordsAt { height, keys } => records_at(&ledger.snapshot()?, height, &keys),
        Request::Region { height, region } => leaves(&ledger.snapshot()?, height, region),
        Request::Search { query, after, each } => search(&ledger.snapshot()?, &query, after, each),
        Request::Version(hash) => version(&ledger.snapshot()?, hash),
        Request::History { from } => history(&ledger.snapshot()?, from),
        Request::Submit(transaction) => Ok(match source.submit(Some(peer), transaction)? {
            Submission::Taken | Submission::Waits => Answer::Taken,
            Submission::Refused(refusal) => Answer::Refused(refusal),
            Submission::Full(reason) => Answer::Unable(reason),
        }),
        Request::Relay(_) if !ledger.validators().has_link(peer.as_bytes()) => Ok(Answer::Unable(
            "validators pass transactions on, others submit them".into(),
        )),
        Request::Relay(transactions) => {
            for transaction in transactions {
                // Its author hears why from those whom it asked.
                let _ = source.submit(Some(peer), transaction)?;
            }
            Ok(Answer::Taken)
        }
        Request::Hold(sealed) if sealed.is_empty() || sealed.len() > MAX_SEALED => {
            Ok(Answer::Unable(format!("a sealed text has 1 to {MAX_SEALED} bytes")))
        }
        Request::Hold(sealed) => match ledger.hold(&sealed, *peer.as_bytes()) {
            Ok(()) => Ok(Answer::Taken),
            Err(DatabaseError::Other(reason)) => Ok(Answer::Unable(reason)),
            Err(error) => Err(error),
        },
        Request::Sealed(hash) => Ok(match ledger.snapshot()?.sealed(hash)? {
            Some(sealed) => Answer::Sealed(sealed),
            None => Answer::Unable(format!("sealed text {hash} is not held here")),
        }),
        Request::Acquaint(own) => {
            // Whoever asks may speak of itself alone: others that are asked are chosen, and it is not.
            if own.id() == peer {
                source.book.learn(peer, vec![own], &ledger.validators());
            }
            Ok(Answer::Peers(source.book.told()))
        }
        Request::Blocks { after, .. } => blocks(&ledger.snapshot()?, after),
        Request::Watch => Ok(Answer::Unable("a watch is answered on its stream".into())),
    }
}

fn no_block() -> Answer {
    Answer::Unable("the chain has no block yet".into())
}

/// The handovers that lead from a height to the newest header, and that; where a page is too small for them, up to its last.
fn head(snapshot: &Snapshot<'_>, after: Height) -> Result<Answer, DatabaseError> {
    let newest = snapshot.height()?;
    let (mut handovers, mut bytes) = (Vec::<CertifiedHeader>::new(), 0);
    for height in snapshot.handovers(after, newest, PAGE)? {
        let handover = snapshot.certified(height)?;
        let handover = handover.ok_or(DatabaseError::Damaged("certified header"))?;
        bytes += encode(&handover).len();
        handovers.push(handover);
        // The head comes besides, and may be as long as the longest of them.
        if bytes > MAX_ANSWER / 2 || handovers.len() == PAGE {
            let head = handovers.last().cloned();
            return Ok(head.map_or_else(no_block, |head| Answer::Head { handovers, head }));
        }
    }
    let head = snapshot.certified(newest)?;
    Ok(head.map_or_else(no_block, |head| Answer::Head { handovers, head }))
}

/// As many blocks as fit into one answer, and one in any case.
fn blocks(snapshot: &Snapshot<'_>, after: Height) -> Result<Answer, DatabaseError> {
    let (mut blocks, mut bytes) = (Vec::new(), 0);
    for height in after.saturating_add(1)..=snapshot.height()? {
        let (Some(block), Some(certificate)) = (snapshot.block(height)?, snapshot.certificate(height)?) else {
            break;
        };
        bytes += encode(&block).len() + encode(&certificate).len();
        if bytes > MAX_BLOCK && !blocks.is_empty() {
            break;
        }
        blocks.push((block, certificate));
    }
    Ok(Answer::Blocks(blocks))
}

fn records(snapshot: &Snapshot<'_>, keys: &[RecordKey]) -> Result<Answer, DatabaseError> {
    match snapshot.certified_head()? {
        Some(head) => proven(snapshot, head, keys),
        None => Ok(no_block()),
    }
}

fn records_at(snapshot: &Snapshot<'_>, height: Height, keys: &[RecordKey]) -> Result<Answer, DatabaseError> {
    match snapshot.certified(height)? {
        Some(head) => proven(snapshot, head, keys),
        None => Ok(Answer::Unable(format!("there is no block {height} here"))),
    }
}

/// Records as they were after the block of `head`, each with its proof.
fn proven(snapshot: &Snapshot<'_>, head: CertifiedHeader, keys: &[RecordKey]) -> Result<Answer, DatabaseError> {
    if keys.len() > MAX_KEYS {
        return Ok(Answer::Unable(format!("at most {MAX_KEYS} records at once")));
    }
    let proofs = keys
        .iter()
        .map(|key| prove(snapshot, head.header.state, *key))
        .collect::<Result<_, _>>()?;
    Ok(Answer::Records { head, proofs })
}

/// A record as the state of this root has it, with its proof.
pub(crate) fn prove(snapshot: &Snapshot<'_>, root: Hash, key: RecordKey) -> Result<RecordProof, DatabaseError> {
    let proof = tree::prove(snapshot, root, key.path());
    let proof = proof.map_err(|error| DatabaseError::Other(error.to_string()))?;
    let version = proof
        .end
        .filter(|(path, _)| *path == key.path())
        .map(|(_, version)| version);
    let record = match version {
        Some(version) => snapshot.version(version)?,
        None => None,
    };
    Ok(RecordProof { record, proof })
}

fn leaves(snapshot: &Snapshot<'_>, height: Option<Height>, region: Region) -> Result<Answer, DatabaseError> {
    let head = match height {
        None => snapshot.certified_head()?,
        Some(height) => snapshot.certified(height)?,
    };
    let Some(head) = head else {
        return Ok(height.map_or_else(no_block, |height| {
            Answer::Unable(format!("there is no block {height} here"))
        }));
    };
    let proof = tree::prove_below(snapshot, head.header.state, region, MAX_LEAVES);
    let proof = proof.map_err(|error| DatabaseError::Other(error.to_string()))?;
    Ok(Answer::Region { head, proof })
}

fn search(snapshot: &Snapshot<'_>, query: &Query, after: Option<Position>, each: u16) -> Result<Answer, DatabaseError> {
    if let Err(error) = query.check() {
        return Ok(Answer::Unable(error.to_string()));
    }
    let Page { hits, next } = snapshot.search(query, after, each.into(), PAGE)?;
    Ok(Answer::Found { hits, next })
}

fn version(snapshot: &Snapshot<'_>, hash: Hash) -> Result<Answer, DatabaseError> {
    Ok(match snapshot.version(hash)? {
        Some(record) => Answer::Versions(vec![record]),
        None => Answer::Unable(format!("version {hash} is not known")),
    })
}

fn history(snapshot: &Snapshot<'_>, from: Hash) -> Result<Answer, DatabaseError> {
    let mut versions: Vec<Record> = Vec::new();
    let mut next = from;
    while next != Hash::ZERO && versions.len() < HISTORY_PAGE {
        let Some(record) = snapshot.version(next)? else {
            break;
        };
        next = record.previous;
        versions.push(record);
    }
    Ok(if versions.is_empty() {
        Answer::Unable(format!("version {from} is not known"))
    } else {
        Answer::Versions(versions)
    })
}
