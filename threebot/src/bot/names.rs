//! Names: the own ones, and for whom others stand.

use ledger::{
    Id, Operation,
    body::{Label, Name},
};

use super::{Bot, BotError};
use crate::who::Who;

impl Bot {
    /// Claims a name.
    ///
    /// # Errors
    /// [`BotError`] when it stands for somebody, the deposit is more than there is, or the chain cannot be asked.
    pub async fn claim_name(&self, label: Label) -> Result<(), BotError> {
        self.send(Operation::ClaimName(label)).await.map(drop)
    }

    /// Makes an own name stand for another entity.
    ///
    /// # Errors
    /// [`BotError`] when it is not its own, the other is nobody, or the chain cannot be asked.
    pub async fn pass_on_name(&self, label: Label, to: &Who) -> Result<(), BotError> {
        let to = self.resolve(to).await?;
        self.send(Operation::PassOnName { label, to }).await.map(drop)
    }

    /// Gives an own name up. Its deposit returns.
    ///
    /// # Errors
    /// [`BotError`] when it is not its own, or the chain cannot be asked.
    pub async fn give_up_name(&self, label: Label) -> Result<(), BotError> {
        self.send(Operation::GiveUpName(label)).await.map(drop)
    }

    /// Whom somebody means, proven.
    ///
    /// # Errors
    /// [`BotError::NotFound`] when a name stands for nobody.
    pub async fn resolve(&self, who: &Who) -> Result<Id, BotError> {
        let label = match who {
            Who::Id(id) => return Ok(*id),
            Who::Name(label) => label,
        };
        let name = self.chain().record::<Name>(Name::founding_id(label)).await?;
        let owner = name.and_then(|name| name.body.owner);
        owner.ok_or_else(|| BotError::NotFound(format!("the name {label} stands for nobody")))
    }
}
