//! Money.

use ledger::{Kind, Operation, RecordKey, Tokens, body::Account, record::BodyOf};

use super::{Bot, BotError};
use crate::{control::MovementView, who::Who};

impl Bot {
    /// What it may spend.
    ///
    /// # Errors
    /// [`BotError`] when the chain cannot be asked.
    pub async fn balance(&self) -> Result<Tokens, BotError> {
        let account = self.chain().record::<Account>(self.id()).await?;
        Ok(account.map_or(Tokens::ZERO, |account| account.body.balance))
    }

    /// Moves tokens to an entity.
    ///
    /// # Errors
    /// [`BotError`] when the chain cannot be asked or refuses.
    pub async fn transfer(&self, to: &Who, amount: Tokens) -> Result<(), BotError> {
        let to = self.resolve(to).await?;
        self.send(Operation::Transfer { to, amount }).await.map(drop)
    }

    /// Every change of its balance, newest first, each proven to follow from the one before.
    ///
    /// # Errors
    /// [`BotError`] when the chain cannot be asked.
    pub async fn movements(&self) -> Result<Vec<MovementView>, BotError> {
        if self.chain().record::<Account>(self.id()).await?.is_none() {
            return Ok(Vec::new());
        }
        let versions = self.chain().history(RecordKey::new(Kind::Account, self.id())).await?;
        let balances: Vec<(MovementView, Option<Tokens>)> = versions
            .iter()
            .enumerate()
            .filter_map(|(index, record)| {
                let balance = Account::of(&record.body)?.balance;
                let before = versions.get(index + 1).and_then(|record| Account::of(&record.body));
                let (height, author) = (record.height, record.author);
                let view = MovementView {
                    height,
                    balance,
                    author,
                };
                Some((view, before.map(|account| account.balance)))
            })
            .collect();
        // A version that only took a nonce moved nothing.
        let moved = balances
            .into_iter()
            .filter(|(view, before)| Some(view.balance) != *before);
        Ok(moved.map(|(view, _)| view).collect())
    }
}
