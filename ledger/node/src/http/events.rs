//! News as it comes: every block, and what it changed of what is wanted, as server-sent events (HTML standard, section 9.2).
//!
//! What a block wrote is told before the block itself, and blocks alone have an event id, their height: whoever comes back with
//! the last id that it saw misses nothing.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Extension,
    extract::State,
    http::HeaderMap,
    response::{
        IntoResponse as _, Response,
        sse::{Event, Sse},
    },
};
use ledger::{
    CertifiedHeader, Hash, Height, Id, Kind,
    query::{self, Facts, Query},
};
use peer_link::Share;
use serde::Deserialize;
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::timeout,
};
use utoipa::IntoParams;

use super::{
    ask::{Ask, by_text, part},
    blocks::SummaryView,
    buckets::Client,
    error::{ApiError, ErrorView},
    site::Site,
    view::RecordView,
};
use crate::database::{DatabaseError, Snapshot};

/// Most blocks that are told to whoever comes back; one that was away for longer is told of the gap.
const BACKLOG: Height = 1_000;
/// Time without news after which an empty line says that the stream lives.
const QUIET: Duration = Duration::from_secs(15);
/// In which header a reader that comes back says what it saw last.
const LAST_SEEN: &str = "last-event-id";

/// Which changes are wanted, besides the blocks; none without a kind.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct News {
    /// Kind of the records.
    #[serde(default, deserialize_with = "by_text")]
    #[param(value_type = Option<String>)]
    kind: Option<Kind>,
    /// To whom or what they belong, as their own fields say.
    #[serde(default, deserialize_with = "by_text")]
    #[param(value_type = Option<String>)]
    of: Option<Id>,
    /// How far they are; also told when they no longer are.
    #[serde(default, deserialize_with = "by_text")]
    #[param(value_type = Option<String>)]
    state: Option<query::State>,
}

impl News {
    fn query(&self) -> Result<Option<Query>, ApiError> {
        let Some(kind) = self.kind else {
            if self.of.is_some() || self.state.is_some() {
                return Err(ApiError::malformed("of and state need a kind"));
            }
            return Ok(None);
        };
        let query = Query {
            of: self.of,
            state: self.state,
            ..Query::all(kind)
        };
        query.check().map_err(|error| ApiError::malformed(error.to_string()))?;
        Ok(Some(query))
    }
}

/// News as it comes, server-sent events until the reader goes: `block` with a block in short, its height as the event's id; before it
/// `record` with each version that it wrote of what is wanted; `gap` with `from` and `to`, heights that are not told because the
/// reader was away for too long. `Last-Event-ID` goes on after that height.
#[utoipa::path(get, path = "/v1/events", tag = "chain", params(News),
    responses((status = 200, content_type = "text/event-stream", body = String), (status = 400, body = ErrorView),
        (status = 429, body = ErrorView), (status = 503, body = ErrorView)))]
pub(super) async fn events(
    State(site): State<Arc<Site>>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    Ask(asked): Ask<News>,
) -> Result<Response, ApiError> {
    let wanted = asked.query()?;
    let share = site.streams_of.take(client);
    let share = share.ok_or_else(|| ApiError::too_many("too many streams of this address", 1))?;
    let place = Arc::clone(&site.streams).try_acquire_owned();
    let place = place.map_err(|_| ApiError::busy("too many streams"))?;
    let heads = site.ledger().heads();
    let newest = newest(&heads);
    let last = match headers.get(LAST_SEEN) {
        Some(seen) => part(LAST_SEEN, seen.to_str().unwrap_or_default())?,
        None => newest,
    };
    let feed = Feed {
        site,
        wanted,
        last: newest.min(last),
        waiting: VecDeque::new(),
        heads,
        _place: place,
        _share: share,
    };
    let news = futures_lite::stream::unfold(feed, Feed::next);
    Ok(Sse::new(news).into_response())
}

fn newest(heads: &watch::Receiver<Option<CertifiedHeader>>) -> Height {
    heads.borrow().as_ref().map_or(0, |head| head.header.height)
}

/// One reader's stream.
struct Feed {
    site: Arc<Site>,
    wanted: Option<Query>,
    /// The last block that was told.
    last: Height,
    /// What one block changed.
    waiting: VecDeque<Event>,
    heads: watch::Receiver<Option<CertifiedHeader>>,
    _place: OwnedSemaphorePermit,
    _share: Share<Client>,
}

impl Feed {
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some((Ok(event), self));
            }
            self.heads.mark_unchanged();
            let newest = newest(&self.heads);
            if newest > self.last {
                // A reader that is not answered comes back.
                self.read(newest).await.ok()?;
                continue;
            }
            match timeout(QUIET, self.heads.changed()).await {
                Ok(changed) => changed.ok()?,
                Err(_) => return Some((Ok(Event::default().comment("")), self)),
            }
        }
    }

    async fn read(&mut self, newest: Height) -> Result<(), ApiError> {
        let (from, to) = (self.last + 1, newest.saturating_sub(BACKLOG));
        if from <= to {
            let gap = serde_json::json!({"from": from, "to": to});
            self.waiting
                .push_back(Event::default().event("gap").data(gap.to_string()));
            self.last = to;
        }
        let (height, wanted) = (self.last + 1, self.wanted);
        let told = Arc::clone(&self.site).read(move |snapshot| Ok(told(snapshot, height, wanted.as_ref())?));
        for (name, id, data) in told.await? {
            let event = Event::default().event(name).data(data);
            self.waiting.push_back(match id {
                Some(id) => event.id(id.to_string()),
                None => event,
            });
        }
        self.last = height;
        Ok(())
    }
}

/// What is told of a block: the name of each event, its id, what it says.
type Told = Vec<(&'static str, Option<Height>, String)>;

fn told(snapshot: &Snapshot<'_>, height: Height, wanted: Option<&Query>) -> Result<Told, DatabaseError> {
    let mut told = Told::new();
    if let Some(query) = wanted {
        for version in snapshot.written(height, 0, usize::MAX)? {
            let record = snapshot.version(version)?.ok_or(DatabaseError::Damaged("written"))?;
            let before = match record.previous {
                Hash::ZERO => None,
                previous => snapshot.version(previous)?,
            };
            let versions = before.iter().chain([&record]);
            if versions
                .into_iter()
                .any(|version| query.matches(version, &Facts::default()))
            {
                told.push(("record", None, json(&RecordView::of(&record))));
            }
        }
    }
    let block = SummaryView::read(snapshot, height)?.ok_or(DatabaseError::Damaged("header"))?;
    told.push(("block", Some(height), json(&block)));
    Ok(told)
}

fn json(view: &impl serde::Serialize) -> String {
    serde_json::to_string(view).unwrap_or_default()
}
