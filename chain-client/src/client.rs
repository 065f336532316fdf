//! The client: asks any of several peers and believes none.

use std::{
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use ledger::{
    CertifiedHeader, Genesis, Hash, Header, Height, Id, Kind, LightClient, LightError, Record, RecordKey, Timestamp,
    body::{Assignments, Blob, Contract},
    light::{RecordProof, verify_history},
    record::BodyOf,
};
use peer_link::{Connection, Connections, Endpoint, PeerAddress, PeerId, protocol as link_protocol};
use tokio::sync::{mpsc, watch};

use crate::{
    ClientError, Complaints, PeerFailure, Reason,
    clock::ChainClock,
    protocol::{Answer, DEADLINE, HISTORY_PAGE, MAX_ANSWER, MAX_KEYS, PAGE, Request},
    standing::Standing,
    trust::TrustFile,
};

/// Rounds of handover pages before a peer is given up as endless.
const MAX_HANDOVER_PAGES: usize = 64;
/// Most ids that one search collects.
const MAX_FOUND: usize = 16 * PAGE;
/// Most versions that one history collects.
const MAX_HISTORY: usize = 10_000;
/// Attempts with one peer when another task has moved the verified head on meanwhile.
const STALE_ATTEMPTS: usize = 3;
/// Pause between them, in which a peer that is a moment behind catches up.
const STALE_PAUSE: Duration = Duration::from_millis(100);
/// Pause after every peer failed, while heads are followed.
const FOLLOW_PAUSE: Duration = Duration::from_secs(1);
/// A followed peer that announces no head for this long is left for another one.
const FOLLOW_SILENCE: Duration = Duration::from_secs(90);

/// A record that is proven to be the latest version, and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven<B> {
    /// The whole record.
    pub record: Record,
    /// What it says.
    pub body: B,
}

impl<B: BodyOf> Proven<B> {
    fn new(record: Record) -> Option<Self> {
        let body = B::of(&record.body)?.clone();
        Some(Self { record, body })
    }
}

/// Ids that a search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The ids.
    pub ids: Vec<Id>,
    /// Whether there are more that were not asked for.
    pub cut: bool,
}

/// What one peer makes of a question.
type Asked<'q, T> = Pin<Box<dyn Future<Output = Result<T, Reason>> + Send + 'q>>;

/// A client of one chain. Clones share the verified head and the links.
#[derive(Debug, Clone)]
pub struct ChainClient {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    chain: Hash,
    genesis: Genesis,
    peers: Vec<PeerAddress>,
    links: Connections,
    light: Mutex<LightClient>,
    trust: TrustFile,
    heads: watch::Sender<Option<Header>>,
    clock: Mutex<ChainClock>,
    standing: Mutex<Standing>,
    complaints: Complaints,
}

impl ChainClient {
    /// Opens the chain with this genesis hash: fetches the genesis from any peer and checks it, or goes on from what
    /// `trust_file` kept. Why a peer is no help is said to `complaints`, by name of the check that failed.
    ///
    /// # Errors
    /// [`ClientError`] when no peer gave the genesis or the file cannot be used.
    pub async fn open(
        endpoint: Endpoint,
        chain: Hash,
        peers: Vec<PeerAddress>,
        trust_file: Option<PathBuf>,
        complaints: Complaints,
    ) -> Result<Self, ClientError> {
        if peers.is_empty() {
            return Err(ClientError::NoPeers);
        }
        let links = Connections::new(endpoint, link_protocol::LEDGER);
        let trust = TrustFile::new(trust_file);
        let genesis = fetch_genesis(&links, &peers, chain, &complaints).await?;
        let fresh = LightClient::new(chain, &genesis).expect("the genesis was checked when it was fetched");
        let light = trust.load()?.filter(|kept| kept.chain() == chain).unwrap_or(fresh);
        let (heads, _) = watch::channel(light.head().cloned());
        let shared = Shared {
            chain,
            genesis,
            peers,
            links,
            light: Mutex::new(light),
            trust,
            heads,
            clock: Mutex::default(),
            standing: Mutex::default(),
            complaints,
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// The chain's id.
    #[must_use]
    pub fn chain(&self) -> Hash {
        self.shared.chain
    }

    /// The chain's genesis.
    #[must_use]
    pub fn genesis(&self) -> &Genesis {
        &self.shared.genesis
    }

    /// The newest verified header, as far as is known without asking.
    #[must_use]
    pub fn head(&self) -> Option<Header> {
        self.light().head().cloned()
    }

    /// Announces every newer verified header.
    #[must_use]
    pub fn heads(&self) -> watch::Receiver<Option<Header>> {
        self.shared.heads.subscribe()
    }

    /// The chain's time now: that of the newest header that was verified since the client was opened, and what has passed since
    /// it came. Nothing before the first.
    #[must_use]
    pub fn now(&self) -> Option<Timestamp> {
        self.clock().read(Instant::now())
    }

    /// The chain's time now; asks for the newest header where none has told it yet.
    ///
    /// # Errors
    /// As [`Self::sync`].
    pub async fn time(&self) -> Result<Timestamp, ClientError> {
        match self.now() {
            Some(now) => Ok(now),
            None => Ok(self.sync().await?.time),
        }
    }

    fn clock(&self) -> MutexGuard<'_, ChainClock> {
        self.shared.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn light(&self) -> MutexGuard<'_, LightClient> {
        self.shared.light.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks peers for the newest header and verifies it.
    ///
    /// # Errors
    /// [`ClientError::AllFailed`] names for each peer the check that failed or why it was not reached.
    pub async fn sync(&self) -> Result<Header, ClientError> {
        self.ask(move |connection| Box::pin(async move { self.sync_with(&connection).await }))
            .await
    }

    async fn sync_with(&self, connection: &Connection) -> Result<Header, Reason> {
        for _ in 0..MAX_HANDOVER_PAGES {
            let after = self.light().height();
            let answer = call(connection, &Request::Head { after }).await?;
            let Answer::Head { handovers, head } = answer else {
                return Err(unexpected(answer));
            };
            let more = handovers.len() >= PAGE;
            for handover in handovers.iter().filter(|handover| handover.header.height > after) {
                self.advance(handover)?;
            }
            self.advance(&head)?;
            if !more {
                return Ok(head.header);
            }
        }
        Err(Reason::OffTopic)
    }

    /// Verifies a header; what is verified is on stable storage before anything is done by it.
    fn advance(&self, certified: &CertifiedHeader) -> Result<(), Reason> {
        let mut light = self.light();
        let before = light.height();
        let mut next = light.clone();
        next.advance(certified).map_err(Reason::Lied)?;
        self.clock().verified(certified.header.time, Instant::now());
        if next.height() > before {
            self.shared.trust.store(&next)?;
            *light = next;
            self.shared.heads.send_replace(Some(certified.header.clone()));
        }
        Ok(())
    }

    /// The latest version of a record, proven against the newest head of the peer that answered.
    ///
    /// # Errors
    /// [`ClientError`] when no peer gave a proof.
    pub async fn record<B: BodyOf>(&self, id: Id) -> Result<Option<Proven<B>>, ClientError> {
        let mut records = self.records(&[RecordKey::new(B::KIND, id)]).await?;
        Ok(records.pop().flatten().and_then(Proven::new))
    }

    /// The latest version of a record that must exist.
    ///
    /// # Errors
    /// [`ClientError::Missing`] when it is proven that there is none, otherwise as [`Self::record`].
    pub async fn require<B: BodyOf>(&self, id: Id) -> Result<Proven<B>, ClientError> {
        let found = self.record::<B>(id).await?;
        found.ok_or_else(|| ClientError::Missing(RecordKey::new(B::KIND, id).to_string()))
    }

    /// The latest versions of records, in the order of `keys`; `None` where it is proven that there is none.
    ///
    /// # Errors
    /// [`ClientError`] when no peer gave the proofs.
    pub async fn records(&self, keys: &[RecordKey]) -> Result<Vec<Option<Record>>, ClientError> {
        let mut all = Vec::with_capacity(keys.len());
        for page in keys.chunks(MAX_KEYS) {
            all.extend(
                self.ask(move |connection| Box::pin(async move { self.records_from(&connection, page).await }))
                    .await?,
            );
        }
        Ok(all)
    }

    async fn records_from(&self, connection: &Connection, keys: &[RecordKey]) -> Result<Vec<Option<Record>>, Reason> {
        let mut attempt = 1;
        let (head, proofs) = loop {
            let answer = call(connection, &Request::Records(keys.to_vec())).await?;
            let Answer::Records { head, proofs } = answer else {
                return Err(unexpected(answer));
            };
            match self.advance(&head) {
                Ok(()) => break (head, proofs),
                Err(Reason::Lied(LightError::WrongValidatorSet { .. })) if attempt < STALE_ATTEMPTS => {
                    self.sync_with(connection).await?;
                }
                Err(Reason::Lied(LightError::StaleHead { .. })) if attempt < STALE_ATTEMPTS => {
                    tokio::time::sleep(STALE_PAUSE).await;
                }
                Err(reason) => return Err(reason),
            }
            attempt += 1;
        };
        if proofs.len() != keys.len() {
            return Err(Reason::OffTopic);
        }
        let verify = |(key, proof): (&RecordKey, RecordProof)| proof.verify(head.header.state, *key);
        keys.iter()
            .zip(proofs)
            .map(verify)
            .collect::<Result<_, _>>()
            .map_err(Reason::Lied)
    }

    /// Ids of records of a kind that belong to `of`, or of all; the 4,096 lowest where there are more. A peer may leave some
    /// out; each is proven by [`Self::record`].
    ///
    /// # Errors
    /// [`ClientError`] when no peer answered.
    pub async fn find(&self, kind: Kind, of: Option<Id>) -> Result<Vec<Id>, ClientError> {
        Ok(self.find_from(kind, of, None, MAX_FOUND).await?.ids)
    }

    /// As [`Self::find`], at most `most`, beginning above `start` and going on with the lowest. From a start drawn at random
    /// nobody can tell which ones a search that is cut will see.
    ///
    /// # Errors
    /// [`ClientError`] when no peer answered.
    pub async fn find_from(
        &self,
        kind: Kind,
        of: Option<Id>,
        start: Option<Id>,
        most: usize,
    ) -> Result<Found, ClientError> {
        let ask = move |connection| -> Asked<'_, Found> {
            Box::pin(async move { find_with(&connection, kind, of, start, most).await })
        };
        self.ask(ask).await
    }

    /// All live contracts of a node. The set is proven to be complete and each contract to be the latest version.
    ///
    /// # Errors
    /// [`ClientError`] when no peer gave the proofs.
    pub async fn assigned(&self, node: Id) -> Result<Vec<Proven<Contract>>, ClientError> {
        let Some(set) = self.record::<Assignments>(node).await? else {
            return Ok(Vec::new());
        };
        let keys: Vec<RecordKey> = set
            .body
            .contracts
            .iter()
            .map(|id| RecordKey::new(Kind::Contract, *id))
            .collect();
        let records = self
            .records(&keys)
            .await?
            .into_iter()
            .map(|record| record.and_then(Proven::new));
        // A set with a gap in it would not be the whole set.
        let whole =
            |(key, contract): (&RecordKey, Option<_>)| contract.ok_or_else(|| ClientError::Missing(key.to_string()));
        keys.iter().zip(records).map(whole).collect()
    }

    /// A version of a record, by its hash.
    ///
    /// # Errors
    /// [`ClientError`] when no peer has it.
    pub async fn version<B: BodyOf>(&self, hash: Hash) -> Result<Proven<B>, ClientError> {
        self.ask(move |connection| {
            Box::pin(async move {
                let answer = call(&connection, &Request::Version(hash)).await?;
                let Answer::Versions(mut records) = answer else {
                    return Err(unexpected(answer));
                };
                let record = records
                    .pop()
                    .filter(|record| records.is_empty() && record.hash() == hash);
                let record = record.ok_or(Reason::AlteredContent(hash))?;
                Proven::new(record).ok_or(Reason::OffTopic)
            })
        })
        .await
    }

    /// The versions of a record, newest first, each linked to the one before, back to the first or to the 10,000th newest.
    ///
    /// # Errors
    /// [`ClientError`] when there is no such record or no peer gave its whole history.
    pub async fn history(&self, key: RecordKey) -> Result<Vec<Record>, ClientError> {
        let latest = self.records(&[key]).await?.pop().flatten();
        let latest = &latest.ok_or_else(|| ClientError::Missing(key.to_string()))?;
        self.ask(move |connection| {
            Box::pin(async move {
                let mut earlier: Vec<Record> = Vec::new();
                loop {
                    let from = earlier.last().map_or(latest.previous, |record| record.previous);
                    if from == Hash::ZERO || earlier.len() >= MAX_HISTORY {
                        break;
                    }
                    let answer = call(&connection, &Request::History { from }).await?;
                    let Answer::Versions(page) = answer else {
                        return Err(unexpected(answer));
                    };
                    if page.is_empty() || page.len() > HISTORY_PAGE {
                        return Err(Reason::OffTopic);
                    }
                    // Each link is checked before more is taken in.
                    for record in page {
                        if !earlier.last().unwrap_or(latest).follows(&record) {
                            return Err(Reason::Lied(LightError::BrokenHistory(key, record.version)));
                        }
                        earlier.push(record);
                    }
                }
                if earlier.len() < MAX_HISTORY {
                    verify_history(latest, &earlier).map_err(Reason::Lied)?;
                }
                Ok(std::iter::once(latest.clone()).chain(earlier).collect())
            })
        })
        .await
    }

    /// Gives a sealed text to every peer that can be reached, to hold until the contract that names it has ended.
    ///
    /// # Errors
    /// [`ClientError`] when no peer took it.
    pub async fn hold_sealed(&self, sealed: Vec<u8>) -> Result<Blob, ClientError> {
        let hash = Hash::from_bytes(*blake3::hash(&sealed).as_bytes());
        let size = u64::try_from(sealed.len()).unwrap_or(u64::MAX);
        let mut answers = self.request_each(&Request::Hold(sealed));
        let (mut taken, mut failures) = (false, Vec::new());
        while let Some((peer, answer)) = answers.recv().await {
            match answer {
                Ok(Answer::Taken) => taken = true,
                Ok(answer) => failures.push(self.failed(peer, unexpected(answer))),
                Err(reason) => failures.push(self.failed(peer, reason)),
            }
        }
        if taken {
            Ok(Blob { hash, size })
        } else {
            Err(ClientError::AllFailed(failures))
        }
    }

    /// A sealed text, verified by its hash and size.
    ///
    /// # Errors
    /// [`ClientError`] when no peer holds it.
    pub async fn sealed(&self, blob: &Blob) -> Result<Vec<u8>, ClientError> {
        self.ask(move |connection| {
            Box::pin(async move {
                let answer = call(&connection, &Request::Sealed(blob.hash)).await?;
                let Answer::Sealed(bytes) = answer else {
                    return Err(unexpected(answer));
                };
                let same = blake3::hash(&bytes).as_bytes() == blob.hash.as_bytes()
                    && u64::try_from(bytes.len()) == Ok(blob.size);
                if same {
                    Ok(bytes)
                } else {
                    Err(Reason::AlteredContent(blob.hash))
                }
            })
        })
        .await
    }

    /// Puts a request to all peers at once, which get it even if nobody waits for the answers: each has its deadline.
    pub(crate) fn request_each(&self, request: &Request) -> mpsc::Receiver<(PeerId, Result<Answer, Reason>)> {
        let peers = &self.shared.peers;
        let (sender, answers) = mpsc::channel(peers.len().max(1));
        for peer in peers.clone() {
            let (client, request, sender) = (self.clone(), request.clone(), sender.clone());
            tokio::spawn(async move {
                let answer = client.call_peer(&peer, &request).await;
                // The channel has room for all; it is closed when nobody waits any more.
                let _ = sender.send((peer.id(), answer)).await;
            });
        }
        answers
    }

    /// Follows new heads until the returned task is dropped: verifies each that a peer announces, leaves a peer that lies or
    /// falls silent for the next one, and never gives up.
    pub fn follow(&self) -> Following {
        let client = self.clone();
        Following(tokio::spawn(async move { client.follow_forever().await }))
    }

    /// All peers at once: the newest head wins, and one that holds back holds up nobody.
    async fn follow_forever(&self) {
        let mut all = tokio::task::JoinSet::new();
        for peer in self.shared.peers.clone() {
            let client = self.clone();
            all.spawn(async move {
                loop {
                    let result = match client.connect(&peer).await {
                        Ok(connection) => client.follow_one(&connection).await,
                        Err(reason) => Err(reason),
                    };
                    if let Err(reason) = result {
                        client.failed(peer.id(), reason);
                    }
                    tokio::time::sleep(FOLLOW_PAUSE).await;
                }
            });
        }
        // None of them ends by itself.
        while all.join_next().await.is_some() {}
    }

    async fn follow_one(&self, connection: &Connection) -> Result<(), Reason> {
        self.sync_with(connection).await?;
        let mut stream = connection.open().await.map_err(Reason::of_link)?;
        stream
            .send(&Request::Watch, MAX_ANSWER)
            .await
            .map_err(Reason::of_link)?;
        let mut announced = 0;
        loop {
            let answer = stream
                .receive_within(MAX_ANSWER, FOLLOW_SILENCE)
                .await
                .map_err(Reason::of_link)?;
            let Answer::Head { head, .. } = answer else {
                return Err(unexpected(answer));
            };
            let height = head.header.height;
            match self.advance(&head) {
                // Another peer was faster; but each one's heads rise.
                Ok(()) | Err(Reason::Lied(LightError::StaleHead { .. })) if height > announced => announced = height,
                Ok(()) => {
                    return Err(Reason::Lied(LightError::StaleHead {
                        given: height,
                        trusted: announced,
                    }));
                }
                // A handover lies between.
                Err(Reason::Lied(LightError::WrongValidatorSet { .. })) => {
                    self.sync_with(connection).await?;
                }
                Err(reason) => return Err(reason),
            }
        }
    }

    /// Puts a question to one peer after the other until one answers it.
    async fn ask<'q, T>(&self, question: impl Fn(Connection) -> Asked<'q, T> + Send) -> Result<T, ClientError> {
        let mut failures = Vec::new();
        let order = self.standing().order(&self.shared.peers, Instant::now());
        for peer in order {
            let asked = match self.connect(&peer).await {
                Ok(connection) => question(connection).await,
                Err(reason) => Err(reason),
            };
            match asked {
                Ok(answer) => {
                    self.standing().helped(peer.id());
                    return Ok(answer);
                }
                // Asking another one would not help.
                Err(Reason::Disk { path, source }) => return Err(ClientError::Trust { path, source }),
                Err(reason) => failures.push(self.failed(peer.id(), reason)),
            }
        }
        Err(ClientError::AllFailed(failures))
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.shared.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A peer was no help: that is said, and others are asked before it for a time.
    pub(crate) fn failed(&self, peer: PeerId, reason: Reason) -> PeerFailure {
        let failure = PeerFailure { peer, reason };
        self.shared.complaints.complain(&failure);
        // Not to have one thing is no fault.
        if !matches!(failure.reason, Reason::Unable(_) | Reason::Disk { .. }) {
            self.standing().failed(peer, Instant::now());
        }
        failure
    }

    async fn connect(&self, peer: &PeerAddress) -> Result<Connection, Reason> {
        self.shared.links.get(peer).await.map_err(Reason::Dial)
    }

    async fn call_peer(&self, peer: &PeerAddress, request: &Request) -> Result<Answer, Reason> {
        call(&self.connect(peer).await?, request).await
    }

    /// Height of the newest verified header.
    #[must_use]
    pub fn height(&self) -> Height {
        self.light().height()
    }
}

/// The task that follows new heads; stops when dropped.
#[derive(Debug)]
#[must_use = "dropping it stops following"]
pub struct Following(tokio::task::JoinHandle<()>);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn call(connection: &Connection, request: &Request) -> Result<Answer, Reason> {
    connection
        .call(request, MAX_ANSWER, DEADLINE)
        .await
        .map_err(Reason::of_link)
}

pub(crate) fn unexpected(answer: Answer) -> Reason {
    match answer {
        Answer::Unable(reason) => Reason::Unable(reason),
        _ => Reason::OffTopic,
    }
}

async fn find_with(
    connection: &Connection,
    kind: Kind,
    of: Option<Id>,
    start: Option<Id>,
    most: usize,
) -> Result<Found, Reason> {
    let mut ids: Vec<Id> = Vec::new();
    // Once from the start to the highest, then from the lowest to the start.
    let (mut after, mut until) = (start, None);
    loop {
        let answer = call(connection, &Request::Find { kind, of, after }).await?;
        let Answer::Ids(mut page) = answer else {
            return Err(unexpected(answer));
        };
        let rising = after.iter().chain(&page).is_sorted_by(|a, b| a < b);
        if !rising || page.len() > PAGE {
            return Err(Reason::OffTopic);
        }
        let mut last = page.len() < PAGE;
        if let Some(until) = until {
            last |= page.last().is_some_and(|id| *id > until);
            page.retain(|id| *id <= until);
        }
        after = page.last().copied().or(after);
        ids.extend(page);
        let begin_again = last && until.is_none() && start.is_some();
        if ids.len() > most || (ids.len() == most && (begin_again || !last)) {
            ids.truncate(most);
            return Ok(Found { ids, cut: true });
        }
        if begin_again {
            (after, until) = (None, start);
        } else if last {
            return Ok(Found { ids, cut: false });
        }
    }
}

async fn fetch_genesis(
    links: &Connections,
    peers: &[PeerAddress],
    chain: Hash,
    complaints: &Complaints,
) -> Result<Genesis, ClientError> {
    let mut failures = Vec::new();
    for peer in peers {
        match genesis_of(links, peer, chain).await {
            Ok(genesis) => return Ok(genesis),
            Err(reason) => {
                let failure = PeerFailure {
                    peer: peer.id(),
                    reason,
                };
                complaints.complain(&failure);
                failures.push(failure);
            }
        }
    }
    Err(ClientError::AllFailed(failures))
}

async fn genesis_of(links: &Connections, peer: &PeerAddress, chain: Hash) -> Result<Genesis, Reason> {
    let connection = links.get(peer).await.map_err(Reason::Dial)?;
    let answer = call(&connection, &Request::Genesis).await?;
    let Answer::Genesis(genesis) = answer else {
        return Err(unexpected(answer));
    };
    LightClient::new(chain, &genesis).map_err(Reason::Lied)?;
    Ok(genesis)
}
