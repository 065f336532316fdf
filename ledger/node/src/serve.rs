//! Answers to those who ask over the peer link.

use std::sync::Arc;

use chain_client::protocol::{
    Answer, DEADLINE, HISTORY_PAGE, MAX_ANSWER, MAX_KEYS, MAX_REQUEST, MAX_SEALED, PAGE, Request,
};
use ledger::{Hash, Height, Record, RecordKey, light::RecordProof, store::Store as _, tree};
use peer_link::{Connection, Limits, LinkError, PeerId, Stream, serve_requests};
use tokio::time::timeout;
use tracing::warn;

use crate::{
    database::{DatabaseError, Snapshot},
    node::{Ledger, Submission},
};

const LIMITS: Limits = Limits {
    request: MAX_REQUEST,
    streams: 16,
};

/// Answers one peer until its connection ends.
pub(crate) async fn serve(ledger: Arc<Ledger>, connection: Connection) {
    serve_requests(connection, LIMITS, move |request, stream| {
        respond(Arc::clone(&ledger), request, stream)
    })
    .await;
}

async fn respond(ledger: Arc<Ledger>, request: Request, mut stream: Stream) -> Result<(), LinkError> {
    if request == Request::Watch {
        return watch(&ledger, stream).await;
    }
    // Reading and checking is work for a processor and a disk, not for the tasks that wait on links.
    let peer = stream.peer();
    let answer = tokio::task::spawn_blocking(move || answer(&ledger, peer, request)).await;
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
    timeout(DEADLINE, stream.send(answer, MAX_ANSWER))
        .await
        .map_err(|_| LinkError::Deadline(DEADLINE))?
}

async fn watch(ledger: &Ledger, mut stream: Stream) -> Result<(), LinkError> {
    let mut heads = ledger.heads();
    while heads.changed().await.is_ok() {
        let head = heads.borrow_and_update().clone();
        if let Some(head) = head {
            let answer = Answer::Head {
                handovers: vec![],
                head,
            };
            send(&mut stream, &answer).await?;
        }
    }
    Ok(())
}

fn answer(ledger: &Ledger, peer: PeerId, request: Request) -> Result<Answer, DatabaseError> {
    match request {
        Request::Genesis => Ok(Answer::Genesis(ledger.genesis().clone())),
        Request::Head { after } => head(&ledger.snapshot()?, after),
        Request::Records(keys) => records(&ledger.snapshot()?, &keys),
        Request::Find { kind, of, after } => Ok(Answer::Ids(ledger.snapshot()?.find(kind, of, after, PAGE)?)),
        Request::Version(hash) => version(&ledger.snapshot()?, hash),
        Request::History { from } => history(&ledger.snapshot()?, from),
        Request::Submit(transaction) => Ok(match ledger.submit(transaction)? {
            Submission::Taken => Answer::Taken,
            Submission::Refused(refusal) => Answer::Refused(refusal),
            Submission::Full(reason) => Answer::Unable(reason),
        }),
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
        Request::Watch => Ok(Answer::Unable("a watch is answered on its stream".into())),
    }
}

fn no_block() -> Answer {
    Answer::Unable("the chain has no block yet".into())
}

/// The validator set has been the genesis' so far, so there are no handovers to send before the head.
fn head(snapshot: &Snapshot<'_>, _after: Height) -> Result<Answer, DatabaseError> {
    Ok(snapshot.certified_head()?.map_or_else(no_block, |head| Answer::Head {
        handovers: vec![],
        head,
    }))
}

fn records(snapshot: &Snapshot<'_>, keys: &[RecordKey]) -> Result<Answer, DatabaseError> {
    if keys.len() > MAX_KEYS {
        return Ok(Answer::Unable(format!("at most {MAX_KEYS} records at once")));
    }
    let Some(head) = snapshot.certified_head()? else {
        return Ok(no_block());
    };
    let prove = |key: &RecordKey| -> Result<RecordProof, DatabaseError> {
        let record = snapshot
            .latest(key)
            .map_err(|error| DatabaseError::Other(error.to_string()))?;
        let proof = tree::prove(snapshot, head.header.state, key.path());
        Ok(RecordProof {
            record,
            proof: proof.map_err(|error| DatabaseError::Other(error.to_string()))?,
        })
    };
    let proofs = keys.iter().map(prove).collect::<Result<_, _>>()?;
    Ok(Answer::Records { head, proofs })
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
