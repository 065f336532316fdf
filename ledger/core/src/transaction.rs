//! Transactions: the only way in which people and machines change records.

use std::net::SocketAddr;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    agreement::{SignedAgreement, SignedAmendment},
    body::{Blob, DiskRefusal, Enrolment, Entity, Keys, Label, Location, Misconduct, Terms},
    decree::SignedDecree,
    hash::{Domain, Hash},
    key::{PublicKey, Purpose, Signature, SigningKey},
    record::Id,
    release::{SignedManifest, SignedOpening, SignedRotation},
    text::Text,
    unit::{Height, Resources, Tokens},
};

/// What its author wants to change.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// Makes the author's own entity.
    CreateEntity(Entity),
    /// Replaces the author's name and addresses. Keys stay.
    UpdateEntity {
        /// New name.
        name: Text<64>,
        /// New addresses.
        addresses: Vec<SocketAddr>,
    },
    /// Replaces the author's keys. Its id stays, and so does its recovery key.
    RotateKeys(NewKeys),
    /// Gives the author another recovery key, or none.
    SetRecovery {
        /// The new one.
        recovery: Option<PublicKey>,
        /// Consent of the recovery key that it has, if it has one: [`RecoveryChange::consent`].
        consent: Option<Signature>,
    },
    /// Replaces an entity's keys and its recovery key. By its recovery key, as [`Entity::recovery_author`].
    Recover {
        /// The entity.
        entity: Id,
        /// Its recovery key, which signs the transaction.
        by: PublicKey,
        /// Its keys from now on.
        new: NewKeys,
        /// Its recovery key from now on.
        recovery: Option<PublicKey>,
    },
    /// Moves tokens to an entity.
    Transfer {
        /// Who receives them.
        to: Id,
        /// How many.
        amount: Tokens,
    },
    /// Makes a farm that the author owns.
    CreateFarm {
        /// Its name.
        name: Text<64>,
        /// Where it stands.
        location: Location,
    },
    /// Replaces name and place of the author's farm. Its id stays.
    UpdateFarm {
        /// The farm.
        farm: Id,
        /// Its name.
        name: Text<64>,
        /// Where it stands.
        location: Location,
    },
    /// Replaces the enrolment keys of the author's farm.
    SetEnrolments {
        /// The farm.
        farm: Id,
        /// All keys that let nodes join from now on.
        enrolments: Vec<Enrolment>,
    },
    /// Publishes new terms of the author's farm.
    PublishTerms(Terms),
    /// Replaces terms of the author's farm. What was agreed under the version before stays as it was.
    UpdateTerms {
        /// The terms.
        id: Id,
        /// Their new content; the farm stays.
        terms: Terms,
    },
    /// Makes the author's own node record.
    JoinNode(Join),
    /// Replaces what the authoring node says of itself.
    UpdateNode {
        /// What it offers.
        capacity: Resources,
        /// Where its link may be reached.
        addresses: Vec<SocketAddr>,
        /// Maker and model.
        hardware: Text<128>,
        /// Disks that it does not touch.
        refused_disks: Vec<DiskRefusal>,
    },
    /// The authoring node says that it is there.
    Attest {
        /// A block that is no older than the time between two attestations, so that it cannot have been said ahead.
        block: (Height, Hash),
    },
    /// The farm's owner expels a node.
    ExpelNode {
        /// The node.
        node: Id,
    },
    /// Publishes an image, or a new version of it under the same name.
    PublishImage {
        /// Name and tag.
        name: Text<128>,
        /// The root file system.
        root: Blob,
        /// The OCI image configuration.
        config: Blob,
    },
    /// Claims a name that stands for nobody, for the author, with the charter's deposit.
    ClaimName(Label),
    /// Makes a name of the author's stand for another entity. The deposit goes along.
    PassOnName {
        /// The name.
        label: Label,
        /// For whom it stands from now on.
        to: Id,
    },
    /// Gives a name of the author's up; the deposit returns.
    GiveUpName(Label),
    /// Opens a release channel, with its keys' consent.
    OpenChannel(SignedOpening),
    /// Puts other keys, or another owner, in the place of a release channel's. By whoever has the signatures.
    RotateReleaseKeys(SignedRotation),
    /// Publishes a release that the channel's keys signed; it is given to no node yet. By the channel's owner.
    PublishRelease(SignedManifest),
    /// Gives a release to a share of all nodes. By the channel's owner.
    StageRelease {
        /// The release.
        release: Id,
        /// To how many of a thousand.
        permille: u16,
    },
    /// Puts an agreement on the chain: reserves the capacity and funds the escrow in one step. By the customer.
    Agree(SignedAgreement),
    /// Puts another agreement in the place of a contract's. By the customer.
    Amend(SignedAmendment),
    /// The customer pays further periods of a contract into escrow. A suspended one goes on at once.
    Fund {
        /// The contract.
        contract: Id,
        /// How many are paid in then, with those before: sent twice it pays once.
        funded: u32,
    },
    /// The node says how far a contract is.
    Progress {
        /// The contract.
        contract: Id,
        /// How far.
        step: Step,
    },
    /// The node reports a period that is over.
    Report {
        /// The contract.
        contract: Id,
        /// Index of the period.
        period: u32,
        /// Milliseconds of it during which the workload ran.
        up_ms: u64,
        /// A block from the period's end or later, so that the report cannot have been made ahead.
        block: (Height, Hash),
    },
    /// The customer's receipt for a period that is over.
    Receipt {
        /// The contract.
        contract: Id,
        /// Index of the period.
        period: u32,
        /// Milliseconds of it during which the workload ran, as the customer saw it.
        up_ms: u64,
    },
    /// The customer or the farmer ends a contract.
    Cancel {
        /// The contract.
        contract: Id,
    },
    /// Changes the charter as the validators decreed. By whoever has their approvals.
    Decree(SignedDecree),
    /// Records that a validator lied. By anybody.
    ReportMisconduct(Misconduct),
}

/// A node's first record, with the farm's consent.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Join {
    /// The farm.
    pub farm: Id,
    /// The node's keys; they found its id.
    pub keys: Keys,
    /// What it offers.
    pub capacity: Resources,
    /// Where its link may be reached.
    pub addresses: Vec<SocketAddr>,
    /// Maker and model.
    pub hardware: Text<128>,
    /// Disks that it does not touch.
    pub refused_disks: Vec<DiskRefusal>,
    /// Signature of the farm's enrolment key over `(farm, keys)`.
    pub enrolment: Signature,
}

impl Join {
    /// The enrolment key's consent to a node's keys joining a farm.
    #[must_use]
    pub fn consent(chain: Hash, enrolment: &SigningKey, farm: Id, keys: &Keys) -> Signature {
        enrolment.sign(Purpose::Enrolment, chain, &(farm, keys))
    }
}

/// New keys of an entity, with the proof that somebody has the signing key among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct NewKeys {
    /// The keys.
    pub keys: Keys,
    /// Signature of [`Keys::signing`] over `(entity, keys)`. It names no version: whoever has the old keys could
    /// make new versions for ever.
    pub proof: Signature,
}

impl NewKeys {
    /// `keys`, of which `signing` is one, for an entity.
    #[must_use]
    pub fn prove(chain: Hash, signing: &SigningKey, entity: Id, keys: Keys) -> Self {
        let proof = signing.sign(Purpose::Possession, chain, &(entity, keys));
        Self { keys, proof }
    }
}

/// What a recovery key consents to when another is put in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize)]
pub struct RecoveryChange {
    /// The entity.
    pub entity: Id,
    /// Hash of its latest version.
    pub version: Hash,
    /// Its recovery key from then on.
    pub recovery: Option<PublicKey>,
}

impl RecoveryChange {
    /// The consent of the recovery key that is replaced.
    #[must_use]
    pub fn consent(&self, chain: Hash, key: &SigningKey) -> Signature {
        key.sign(Purpose::Recovery, chain, self)
    }
}

/// How far a node is with a contract.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// It has seen the contract and prepares the workload.
    Acknowledged,
    /// The workload runs.
    Running,
    /// It cannot do it, with its reason.
    Refused(Text<160>),
}

/// What an author signs.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Transaction {
    /// Entity or node whose signing key signs, a validator by [`crate::body::Charter::author_of`], or a recovery key by
    /// [`Entity::recovery_author`].
    pub author: Id,
    /// The author's next nonce, 0 for the first.
    pub nonce: u64,
    /// What changes.
    pub operation: Operation,
}

impl Transaction {
    /// Signs the transaction for a chain.
    #[must_use]
    pub fn sign(self, chain: Hash, key: &SigningKey) -> SignedTransaction {
        let signature = key.sign(Purpose::Transaction, chain, &self);
        SignedTransaction {
            transaction: self,
            signature,
        }
    }
}

/// A transaction with its author's signature.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct SignedTransaction {
    /// What was signed.
    pub transaction: Transaction,
    /// The author's signature for the chain.
    pub signature: Signature,
}

impl SignedTransaction {
    /// Names the transaction.
    #[must_use]
    pub fn hash(&self) -> Hash {
        Hash::of(Domain::Transaction, self)
    }
}
