//! What the operators of validators do together: read the charter, and change it by decrees that enough of them approve.

use std::path::Path;

use chain_client::{Author, ChainClient, ClientError, Complaints, Proven, SendError};
use ledger::{
    Decree, Genesis, Hash, Header, Operation, SignedDecree, Validator,
    body::{Charter, CharterError},
    decree::Change,
};
use peer_link::{BindError, Endpoint, LinkKey, PeerAddress};

use crate::{Home, HomeError, Introduction};

/// Why an operator's command failed.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// The validator's directory cannot be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// There was no randomness for a link key.
    #[error("system randomness: {0}")]
    Randomness(getrandom::Error),
    /// There is no link to ask over.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// No peer is known.
    #[error("no peer is known to ask; name a validator that runs with --peer KEY@IP:PORT")]
    NoPeer,
    /// The chain could not be asked.
    #[error("ask the chain")]
    Client(#[from] ClientError),
    /// The changes do not fit the charter.
    #[error("the decree does not fit the charter")]
    Charter(#[from] CharterError),
    /// Files with approvals of several decrees were given.
    #[error("the files approve different decrees; draft one and let all approve it")]
    Different,
    /// The chain did not take the decree.
    #[error("bring the decree onto the chain")]
    Send(#[from] SendError),
}

/// The operator of a validator, linked to the chain.
#[derive(Debug)]
pub struct Operator {
    home: Home,
    endpoint: Endpoint,
    client: ChainClient,
}

impl Operator {
    /// Links to the validators that the directory knows, and to `peers`.
    ///
    /// # Errors
    /// [`OperatorError`] when the directory cannot be used or nobody is reached.
    pub async fn connect(directory: &Path, peers: Vec<PeerAddress>) -> Result<Self, OperatorError> {
        let home = Home::open(directory)?;
        let peers: Vec<PeerAddress> = peers.into_iter().chain(home.peers.iter().cloned()).collect();
        if peers.is_empty() {
            return Err(OperatorError::NoPeer);
        }
        let endpoint = anonymous_endpoint().await?;
        let chain = home.genesis.hash();
        let client = ChainClient::open(endpoint.clone(), chain, peers, None, Complaints::to_log()).await?;
        Ok(Self { home, endpoint, client })
    }

    /// The charter, proven.
    ///
    /// # Errors
    /// [`OperatorError::Client`] when nobody proved it.
    pub async fn charter(&self) -> Result<Proven<Charter>, OperatorError> {
        Ok(self.client.require::<Charter>(Charter::ID).await?)
    }

    /// A decree that makes these changes of the charter as it is, without an approval.
    ///
    /// # Errors
    /// [`OperatorError::Charter`] when they do not fit it.
    pub async fn draft(&self, changes: Vec<Change>) -> Result<SignedDecree, OperatorError> {
        let charter = self.charter().await?;
        let decree = Decree {
            previous: charter.record.hash(),
            changes,
        };
        charter.body.amended(&decree, self.client.height() + 1)?;
        Ok(SignedDecree {
            decree,
            approvals: vec![],
        })
    }

    /// Brings a decree onto the chain, with the validator as the author. Returns the header that proves it.
    ///
    /// # Errors
    /// [`OperatorError::Send`] when the chain refuses it.
    pub async fn submit(&self, decree: SignedDecree) -> Result<Header, OperatorError> {
        let key = self.home.consensus_key.clone();
        let author = Author {
            id: Charter::author_of(&key.public()),
            key,
        };
        Ok(self.client.send(&author, Operation::Decree(decree)).await?)
    }

    /// Closes the link.
    pub async fn close(self) {
        self.endpoint.close().await;
    }
}

/// A client of the chain with this genesis hash, over a link of nobody's.
///
/// # Errors
/// [`OperatorError`] when there is no link or nobody is reached.
pub async fn open_chain(chain: Hash, peers: Vec<PeerAddress>) -> Result<ChainClient, OperatorError> {
    let endpoint = anonymous_endpoint().await?;
    Ok(ChainClient::open(endpoint, chain, peers, None, Complaints::to_log()).await?)
}

/// An endpoint with a link key that nobody knows.
pub(crate) async fn anonymous_endpoint() -> Result<Endpoint, OperatorError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(OperatorError::Randomness)?;
    Ok(Endpoint::bind(&LinkKey::from_seed(&seed), ([0, 0, 0, 0], 0).into()).await?)
}

/// Asks peers for the genesis with this hash.
///
/// # Errors
/// [`OperatorError::Client`] names for each peer why it was no help.
pub async fn fetch_genesis(chain: Hash, peers: &[PeerAddress]) -> Result<Genesis, OperatorError> {
    let endpoint = anonymous_endpoint().await?;
    let client = ChainClient::open(endpoint.clone(), chain, peers.to_vec(), None, Complaints::to_log()).await?;
    let genesis = client.genesis().clone();
    endpoint.close().await;
    Ok(genesis)
}

/// Adds the approval of a directory's validator to a decree.
///
/// # Errors
/// [`OperatorError::Home`] when the directory cannot be read.
pub fn approve(directory: &Path, mut signed: SignedDecree) -> Result<SignedDecree, OperatorError> {
    let home = Home::open(directory)?;
    let approval = signed.decree.approve(home.genesis.hash(), &home.consensus_key);
    signed.approvals.retain(|known| known.validator != approval.validator);
    signed.approvals.push(approval);
    Ok(signed)
}

/// Puts the approvals of one decree together.
///
/// # Errors
/// [`OperatorError::Different`] when they are of several decrees, or of none.
pub fn merge(signed: Vec<SignedDecree>) -> Result<SignedDecree, OperatorError> {
    let mut all = signed.into_iter();
    let mut merged = all.next().ok_or(OperatorError::Different)?;
    for SignedDecree { decree, approvals } in all {
        if decree != merged.decree {
            return Err(OperatorError::Different);
        }
        for approval in approvals {
            if merged
                .approvals
                .iter()
                .all(|known| known.validator != approval.validator)
            {
                merged.approvals.push(approval);
            }
        }
    }
    Ok(merged)
}

impl Introduction {
    /// The change that makes a validator of who introduced itself, with this power.
    #[must_use]
    pub fn admission(&self, power: u64) -> Change {
        Change::PutValidator(Validator {
            power,
            ..self.validator()
        })
    }
}
