//! Following the chain without a vote: blocks come from peers and are believed by their certificates.

use std::{sync::Arc, time::Duration};

use chain_client::protocol::{Answer, BLOCK_WAIT, DEADLINE, MAX_ANSWER, MAX_BLOCKS, Request};
use error_line::with_causes;
use ledger::{Block, Certificate, ValidatorSet, consensus::CertificateError};
use peer_link::{Connections, DialError, LinkError, PeerAddress};
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use crate::{
    book::Book,
    node::{AdoptError, Ledger, LedgerError},
};

/// Pause after no peer had anything.
const PAUSE: Duration = Duration::from_secs(1);

/// Most blocks that are taken from one peer before the next one is asked.
const VISIT_BLOCKS: usize = 256;
/// Longest time that one peer is asked again before the next one is.
const VISIT: Duration = Duration::from_secs(10);

/// Why one peer was no help.
#[derive(Debug, thiserror::Error)]
enum PeerError {
    #[error("not reached")]
    Dial(#[from] DialError),
    #[error("lost")]
    Link(#[from] LinkError),
    #[error("refused: block {height} is not certified")]
    Certificate {
        height: u64,
        #[source]
        source: CertificateError,
    },
    #[error("refused: answered something else")]
    OffTopic,
    #[error("{0}")]
    Unable(String),
    /// Not the peer's fault.
    #[error(transparent)]
    Own(LedgerError),
}

/// Appends what peers have, one peer after the other, until the validators are `until` or this machine fails. A peer that is
/// no help, has nothing new or takes long is left for the next one.
pub(crate) async fn follow(
    ledger: &Arc<Ledger>,
    links: &Connections,
    book: &Book,
    until: impl Fn(&ValidatorSet) -> bool,
) -> Result<(), LedgerError> {
    info!("not a validator: the chain is followed");
    loop {
        for peer in book.peers() {
            visit(ledger, links, &peer, BLOCK_WAIT, &until).await?;
            // No block is appended here any more once somebody else may do so.
            if until(&ledger.validators()) {
                return Ok(());
            }
        }
        sleep(PAUSE).await;
    }
}

/// Appends what peers have, in rounds, until in one of them none had more than a visit's fill.
pub(crate) async fn catch_up(ledger: &Arc<Ledger>, links: &Connections, book: &Book) -> Result<(), LedgerError> {
    info!("others are ahead: the chain is followed until it is level");
    loop {
        let mut most = 0;
        for peer in book.peers() {
            most = most.max(visit(ledger, links, &peer, Duration::ZERO, &|_| false).await?);
        }
        if most < VISIT_BLOCKS {
            return Ok(());
        }
    }
}

/// Waits until no block has come for `patience` while a peer has the next one. Whoever was away when others removed it from the
/// validators hears no votes any more, and learns of it by this.
pub(crate) async fn left_behind(ledger: &Ledger, links: &Connections, book: &Book, patience: Duration) {
    let mut heads = ledger.heads();
    loop {
        if timeout(patience, heads.changed()).await.is_ok() {
            continue;
        }
        for peer in book.peers() {
            if is_ahead(ledger, links, &peer).await {
                return;
            }
        }
    }
}

async fn is_ahead(ledger: &Ledger, links: &Connections, peer: &PeerAddress) -> bool {
    let Ok(next) = ledger.next_height() else {
        // What the database cannot do the engine will say.
        return false;
    };
    let fetched = fetch(links, peer, next - 1, Duration::ZERO).await;
    let first = fetched.ok().and_then(|blocks| blocks.into_iter().next());
    first.is_some_and(|(block, certificate)| ledger.check_next(&block, &certificate).is_ok())
}

/// Notes how high the chain is as this peer says, for who watches; nothing is done by it.
async fn note_height(ledger: &Ledger, links: &Connections, peer: &PeerAddress) -> Result<(), PeerError> {
    let connection = links.get(peer).await?;
    let newest = Request::Head { after: u64::MAX };
    if let Answer::Head { head, .. } = connection.call(&newest, MAX_ANSWER, DEADLINE).await? {
        ledger.metrics().heard(head.header.height);
    }
    Ok(())
}

async fn fetch(
    links: &Connections,
    peer: &PeerAddress,
    after: u64,
    wait: Duration,
) -> Result<Vec<(Block, Certificate)>, PeerError> {
    let connection = links.get(peer).await?;
    let wait_ms = u16::try_from(wait.as_millis()).unwrap_or(u16::MAX);
    let request = Request::Blocks { after, wait_ms };
    match connection.call(&request, MAX_BLOCKS, DEADLINE).await? {
        Answer::Blocks(blocks) => Ok(blocks),
        Answer::Unable(reason) => Err(PeerError::Unable(reason)),
        _ => Err(PeerError::OffTopic),
    }
}

/// Appends some of a peer's blocks. Returns how many; why it was no help is said, unless this machine is the reason.
async fn visit(
    ledger: &Arc<Ledger>,
    links: &Connections,
    peer: &PeerAddress,
    wait: Duration,
    until: &impl Fn(&ValidatorSet) -> bool,
) -> Result<usize, LedgerError> {
    let mut appended = 0;
    match append_from(ledger, links, peer, wait, until, &mut appended).await {
        Ok(()) | Err(PeerError::Dial(DialError::BackingOff { .. })) => {}
        Err(PeerError::Own(error)) => return Err(error),
        Err(error) => warn!(peer = %peer.id(), "{}", with_causes(&error)),
    }
    Ok(appended)
}

/// Appends a peer's blocks until it has no further one, the visit is over, or the validators are `until`.
async fn append_from(
    ledger: &Arc<Ledger>,
    links: &Connections,
    peer: &PeerAddress,
    wait: Duration,
    until: &impl Fn(&ValidatorSet) -> bool,
    appended: &mut usize,
) -> Result<(), PeerError> {
    let began = Instant::now();
    note_height(ledger, links, peer).await?;
    while *appended < VISIT_BLOCKS && began.elapsed() < VISIT {
        let after = ledger.next_height().map_err(|error| PeerError::Own(error.into()))? - 1;
        let blocks = fetch(links, peer, after, wait).await?;
        if blocks.is_empty() {
            return Ok(());
        }
        for (block, certificate) in blocks {
            let (appending, height) = (Arc::clone(ledger), block.header.height);
            let adopted = tokio::task::spawn_blocking(move || appending.adopt(block, certificate)).await;
            // A panic of that thread is one of this program, which ends by it.
            match adopted.expect("the thread that appends a block does not panic") {
                Ok(()) => *appended += 1,
                Err(AdoptError::NotNext) => return Err(PeerError::OffTopic),
                Err(AdoptError::Certificate(source)) => return Err(PeerError::Certificate { height, source }),
                Err(AdoptError::Ledger(error)) => return Err(PeerError::Own(error)),
            }
            if until(&ledger.validators()) {
                return Ok(());
            }
        }
    }
    Ok(())
}
