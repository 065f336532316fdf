//! Driving the farmer's side: answering requests with nobody present.

use ledger::{
    Kind,
    body::{Assignments, Entity, Farm, Image, Node, Terms},
};
use peer_link::{Connection, Limits, LinkError, PeerId, Stream, serve_requests};
use tracing::info;

use super::{
    Bot, BotError,
    negotiate::{Clock, next_input},
};
use crate::{
    acceptance::{Facts, judge},
    negotiation::{Ask, Farmer, Input, MAX_MESSAGE, Message, Output, Reason, Request},
};

/// Most negotiations at once on one link.
const STREAMS: u32 = 4;

impl Bot {
    /// Answers a peer until it hangs up.
    pub(super) async fn answer(self, connection: Connection) {
        let limits = Limits {
            request: MAX_MESSAGE,
            streams: STREAMS,
        };
        serve_requests(connection, limits, move |first: Message, stream: Stream| {
            let bot = self.clone();
            async move { bot.answer_one(first, stream).await }
        })
        .await;
    }

    async fn answer_one(&self, first: Message, mut stream: Stream) -> Result<(), LinkError> {
        let peer = stream.peer();
        let Ok(time) = self.chain().time().await else {
            let reason = Reason::lossy("the farmer's bot does not reach the chain");
            return stream.send(&Message::Reject { reason }, MAX_MESSAGE).await;
        };
        let clock = Clock::start(time);
        let key = self.shared.author.key.clone();
        let mut core = Farmer::start(self.chain().chain(), self.id(), key, clock.now());
        core.handle(Input::Message(first), clock.now());
        loop {
            while let Some(output) = core.poll_output() {
                match output {
                    Output::Send(message) => stream.send(&message, MAX_MESSAGE).await?,
                    Output::Check(request) => {
                        let checked = self.check(&request, peer).await;
                        core.handle(Input::Checked(checked), clock.now());
                    }
                    Output::Confirm(request) => {
                        let confirmed = self.check(&request, peer).await.map(drop);
                        core.handle(Input::Confirmed(confirmed), clock.now());
                    }
                    Output::Progress(_) => {}
                    Output::Done(outcome) => {
                        info!(%peer, "negotiation: {}", outcome.text());
                        stream.finish();
                        return Ok(());
                    }
                }
            }
            let input = next_input(&mut stream, core.next_deadline(), clock).await;
            core.handle(input, clock.now());
        }
    }

    async fn check(&self, request: &Request, peer: PeerId) -> Result<Ask, Reason> {
        let policy = self.shared.home.policy().map_err(|error| {
            tracing::error!("{}", super::error::joined(&error));
            Reason::lossy("the farmer's policy cannot be read")
        })?;
        let facts = self
            .facts(request, peer)
            .await
            .map_err(|error| Reason::lossy(&error.line()))?;
        judge(self.id(), request, &facts, &policy)
    }

    async fn facts(&self, request: &Request, peer: PeerId) -> Result<Facts, BotError> {
        let chain = self.chain();
        let node = chain.require::<Node>(request.node).await?.body;
        let terms = chain.require::<Terms>(request.terms.0).await?;
        let image = chain.require::<Image>(request.image.0).await?;
        Ok(Facts {
            customer: chain.require::<Entity>(request.customer).await?.body,
            asked_over: *peer.as_bytes(),
            assignments: chain.require::<Assignments>(request.node).await?.body,
            farm: chain.require::<Farm>(node.farm).await?.body,
            node,
            terms: (terms.record.hash(), terms.body),
            image: (image.record.hash(), image.body),
            live_contracts: self.live_contracts().await?,
            now: chain.time().await?,
        })
    }

    /// Live contracts on all nodes of all its farms.
    async fn live_contracts(&self) -> Result<usize, BotError> {
        let mut live = 0;
        for farm in self.chain().find(Kind::Farm, Some(self.id())).await? {
            for node in self.chain().find(Kind::Node, Some(farm)).await? {
                if let Some(assignments) = self.chain().record::<Assignments>(node).await? {
                    live += assignments.body.contracts.len();
                }
            }
        }
        Ok(live)
    }
}
