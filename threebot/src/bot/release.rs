//! Releases of the node's system: drafts for their keys to sign, what they signed, and to how many nodes it is given.

use chain_client::ClientError;
use ledger::{
    Id, Operation,
    body::{Channel, Release},
    release::{Manifest, Opening, Paper, Rotation, Statement},
};

use super::{Bot, BotError};
use crate::control::Draft;

impl Bot {
    /// What the keys of a channel are to sign.
    ///
    /// # Errors
    /// [`BotError`] when there is no such channel or owner, or the chain cannot be asked.
    pub async fn draft_release(&self, draft: Draft) -> Result<Paper, BotError> {
        let signed = match draft {
            Draft::Channel { label, keys } => {
                let owner = self.id();
                Statement::Channel(Opening { label, keys, owner }.signed(vec![]))
            }
            Draft::Rotation { channel, keys, owner } => {
                let known = self.channel(channel).await?;
                let owner = match owner {
                    Some(who) => self.resolve(&who).await?,
                    None => known.owner,
                };
                let rotation = Rotation {
                    channel,
                    number: known.rotations.saturating_add(1),
                    keys,
                    owner,
                };
                Statement::Rotation(rotation.signed(vec![]))
            }
            Draft::Release {
                channel,
                number,
                name,
                image,
            } => {
                let newest = self.channel(channel).await?.newest;
                let manifest = Manifest {
                    channel,
                    number: number.unwrap_or(newest.saturating_add(1)),
                    name,
                    image,
                };
                Statement::Release(manifest.signed(vec![]))
            }
        };
        let chain = self.chain().chain();
        Ok(Paper { chain, signed })
    }

    /// Puts on the chain what the keys have signed. Returns the id of the channel or release.
    ///
    /// # Errors
    /// [`BotError`] when too few have, when it is for another chain, or the chain cannot be asked.
    pub async fn submit_release(&self, paper: Paper) -> Result<Id, BotError> {
        if paper.chain != self.chain().chain() {
            return Err(BotError::Usage(format!("this was signed for chain {}", paper.chain)));
        }
        let id = paper.signed.record();
        self.send(paper.signed.operation()).await?;
        Ok(id)
    }

    /// Gives a release to so many of a thousand nodes. Returns its id.
    ///
    /// # Errors
    /// [`BotError`] when there is no such release, it is of another's channel, or the chain cannot be asked.
    pub async fn stage_release(&self, channel: Id, number: u64, permille: u16) -> Result<Id, BotError> {
        let release = Release::founding_id(channel, number);
        self.send(Operation::StageRelease { release, permille }).await?;
        Ok(release)
    }

    async fn channel(&self, id: Id) -> Result<Channel, BotError> {
        match self.chain().require::<Channel>(id).await {
            Ok(channel) => Ok(channel.body),
            Err(ClientError::Missing(_)) => Err(BotError::NotFound(format!("there is no release channel {id}"))),
            Err(error) => Err(error.into()),
        }
    }
}
