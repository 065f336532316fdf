//! Searching: which records there may be. What is found is a hint; each is proven when it is asked for.

use ledger::{Id, Kind};
use peer_link::Connection;

use super::{
    ChainClient,
    peers::{Asked, call, unexpected},
};
use crate::{
    ClientError, Reason,
    protocol::{Answer, PAGE, Request},
};

/// Most ids that one search collects.
const MAX_FOUND: usize = 16 * PAGE;

/// Ids that a search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The ids.
    pub ids: Vec<Id>,
    /// Whether there are more that were not asked for.
    pub cut: bool,
}

impl ChainClient {
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
