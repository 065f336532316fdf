//! Driving the farmer's side: answering requests with nobody present.

use ledger::{
    Amendment, Id, Kind,
    body::{Assignments, Contract, Entity, Farm, Image, Node, Terms},
};
use peer_link::{Connection, Limits, LinkError, PeerId, Share, Stream, serve_requests};
use tracing::info;

use super::{
    Bot, BotError,
    negotiate::{Clock, next_input},
};
use crate::{
    acceptance::{Facts, admit, check_link, judge},
    amendment,
    negotiation::{Ask, Farmer, Input, MAX_MESSAGE, Message, Output, Reason, Request},
    policy::Policy,
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
        let Some(_slot) = self.shared.door.knock() else {
            return refuse(stream, "this farmer's bot is busy; ask again").await;
        };
        let (peer, mut guest) = (stream.peer(), None);
        let Ok(time) = self.chain().time().await else {
            return refuse(stream, "this farmer's bot does not reach the chain").await;
        };
        if let Message::Amend(amendment) = first {
            let answer = match self.check_amendment(&amendment, peer).await {
                Ok(()) => Message::Signed {
                    signature: amendment.sign(self.chain().chain(), &self.shared.author.key),
                },
                Err(reason) => Message::Reject { reason },
            };
            stream.send(&answer, MAX_MESSAGE).await?;
            stream.finish();
            return Ok(());
        }
        let clock = Clock::start(time);
        let key = self.shared.author.key.clone();
        let mut core = Farmer::start(self.chain().chain(), self.id(), key, clock.now());
        core.handle(Input::Message(first), clock.now());
        loop {
            while let Some(output) = core.poll_output() {
                match output {
                    Output::Send(message) => stream.send(&message, MAX_MESSAGE).await?,
                    Output::Check(request) => {
                        let checked = self.check(&request, peer, &mut guest).await;
                        core.handle(Input::Checked(checked), clock.now());
                    }
                    Output::Confirm(request) => {
                        let confirmed = self.check(&request, peer, &mut guest).await.map(drop);
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

    /// Makes sure that a customer is who it says and is dealt with, before anything else is looked at for it.
    async fn admit(&self, customer: Id, peer: PeerId) -> Result<(Policy, Entity), Reason> {
        let policy = self.shared.home.policy().map_err(|error| {
            tracing::error!("{}", super::error::joined(&error));
            Reason::lossy("the farmer's policy cannot be read")
        })?;
        admit(customer, &policy)?;
        let customer = self.chain().require::<Entity>(customer).await;
        let customer = customer
            .map_err(|error| Reason::lossy(&super::error::joined(&error)))?
            .body;
        check_link(&customer, peer.as_bytes())?;
        Ok((policy, customer))
    }

    /// Looks at the rest: what is offered for a request, if anything.
    async fn check(&self, request: &Request, peer: PeerId, guest: &mut Option<Share<Id>>) -> Result<Ask, Reason> {
        let (policy, customer) = self.admit(request.customer, peer).await?;
        if guest.is_none() {
            *guest = self.shared.door.enter(request.customer);
        }
        if guest.is_none() {
            return Err(Reason::lossy("too many negotiations with this customer at once"));
        }
        let facts = self.facts(request, customer).await;
        let facts = facts.map_err(|error| Reason::lossy(&error.line()))?;
        judge(self.id(), request, &facts, &policy)
    }

    /// Looks at whether what is to hold in the place of an agreement is signed.
    async fn check_amendment(&self, amendment: &Amendment, peer: PeerId) -> Result<(), Reason> {
        let customer = amendment.agreement.customer;
        let (policy, _) = self.admit(customer, peer).await?;
        let Some(_guest) = self.shared.door.enter(customer) else {
            return Err(Reason::lossy("too many negotiations with this customer at once"));
        };
        let facts = self.standing(amendment).await;
        let facts = facts.map_err(|error| Reason::lossy(&error.line()))?;
        amendment::judge(self.id(), amendment, &facts, &policy)
    }

    async fn standing(&self, amendment: &Amendment) -> Result<amendment::Facts, BotError> {
        let chain = self.chain();
        let contract = chain.require::<Contract>(amendment.contract).await?.body;
        let agreement = &contract.signed.agreement;
        Ok(amendment::Facts {
            node: chain.require::<Node>(agreement.node).await?.body,
            assignments: chain.require::<Assignments>(agreement.node).await?.body,
            terms: chain.require::<Terms>(agreement.terms.0).await?.body,
            now: chain.time().await?,
            contract,
        })
    }

    async fn facts(&self, request: &Request, customer: Entity) -> Result<Facts, BotError> {
        let chain = self.chain();
        let node = chain.require::<Node>(request.node).await?.body;
        let terms = chain.require::<Terms>(request.terms.0).await?;
        let image = chain.require::<Image>(request.image.0).await?;
        Ok(Facts {
            customer,
            assignments: chain.require::<Assignments>(request.node).await?.body,
            farm: chain.require::<Farm>(node.farm).await?.body,
            node,
            terms: (terms.record.hash(), terms.body),
            image: (image.record.hash(), image.body),
            live_contracts: self.live_contracts().await?,
            now: chain.time().await?,
        })
    }

    /// Live contracts on all nodes of all its farms, counted once a block however many ask.
    async fn live_contracts(&self) -> Result<usize, BotError> {
        let mut counted = self.shared.live_contracts.lock().await;
        let height = self.chain().height();
        if let Some((_, live)) = counted.filter(|(at, _)| *at == height) {
            return Ok(live);
        }
        let mut live = 0;
        for farm in self.chain().set(Kind::Farm, self.id()).await?.1 {
            for node in self.chain().set(Kind::Node, farm).await?.1 {
                if let Some(assignments) = self.chain().record::<Assignments>(node).await? {
                    live += assignments.body.contracts.len();
                }
            }
        }
        *counted = Some((height, live));
        Ok(live)
    }
}

async fn refuse(mut stream: Stream, reason: &str) -> Result<(), LinkError> {
    let reason = Reason::lossy(reason);
    stream.send(&Message::Reject { reason }, MAX_MESSAGE).await?;
    stream.finish();
    Ok(())
}
