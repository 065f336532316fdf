//! Doing what the command line asks.

use std::time::Duration;

use tokio::{sync::mpsc, time::timeout};

use crate::{
    bot::{Bot, BotError, Stages},
    control::{Event, NodeView, Reply, Request},
    market::Wanted,
    who::Who,
};

/// Longest wait for a reader of the last event.
const LAST_WORD: Duration = Duration::from_secs(10);

/// Does what was asked and says how it went; the last event is `Done` or `Failed`.
pub(super) async fn perform(bot: &Bot, request: Request, events: mpsc::Sender<Event>) {
    let result = match request {
        Request::Deploy { app } => {
            let stages = Stages::new(&app.plan.name, Some(events.clone()));
            match bot.deploy(*app, stages).await {
                // The stages say the last word.
                Ok(()) => return,
                Err(error) => Err(error),
            }
        }
        other => reply(bot, other, &events).await,
    };
    let event = match result {
        Ok(reply) => Event::Done { reply },
        Err(error) => Event::Failed(error.into()),
    };
    // Nobody listens any more, or not in time: there is nobody to tell.
    let _ = timeout(LAST_WORD, events.send(event)).await;
}

async fn reply(bot: &Bot, request: Request, events: &mpsc::Sender<Event>) -> Result<Reply, BotError> {
    Ok(match request {
        Request::Status => Reply::Status(bot.status()),
        Request::Balance => Reply::Balance(bot.balance().await?),
        Request::Send { to, amount } => {
            bot.transfer(&to, amount).await?;
            Reply::Nothing
        }
        Request::NameClaim { label } => {
            bot.claim_name(label).await?;
            Reply::Nothing
        }
        Request::NamePassOn { label, to } => {
            bot.pass_on_name(label, &to).await?;
            Reply::Nothing
        }
        Request::NameGiveUp { label } => {
            bot.give_up_name(label).await?;
            Reply::Nothing
        }
        Request::NameShow { label } => Reply::Made(bot.resolve(&Who::Name(label)).await?),
        Request::ReleaseDraft { draft } => Reply::Paper(Box::new(bot.draft_release(draft).await?)),
        Request::ReleaseSubmit { paper } => Reply::Made(bot.submit_release(*paper).await?),
        Request::ReleaseStage {
            channel,
            number,
            permille,
        } => Reply::Made(bot.stage_release(channel, number, permille).await?),
        Request::History => Reply::History(bot.movements().await?),
        Request::FarmCreate { name, location } => Reply::Made(bot.create_farm(&name, location).await?),
        Request::FarmUpdate { farm, name, location } => {
            Reply::Made(bot.update_farm(farm.as_deref(), &name, location).await?)
        }
        Request::FarmList => Reply::Farms(bot.farms().await?),
        Request::FarmTerms { farm, terms } => Reply::Made(bot.set_terms(farm.as_deref(), terms).await?),
        Request::FarmCancel { contract } => {
            bot.cancel_contract(contract).await?;
            Reply::Nothing
        }
        Request::FarmMedia {
            farm,
            nodes,
            days,
            peers,
        } => Reply::Media(bot.make_media(farm.as_deref(), nodes, days, peers).await?),
        Request::ImageAdd { root, config, name } => Reply::Made(bot.add_image(&root, config, &name).await?),
        Request::Find {
            resources,
            place,
            max_hour,
        } => Reply::Nodes(
            find(
                bot,
                Wanted {
                    resources,
                    place,
                    max_hour,
                    customer: bot.id(),
                    ..Wanted::default()
                },
                events,
            )
            .await?,
        ),
        Request::Amend { app } => Reply::Deployed(bot.amend(*app).await?),
        Request::Ps => Reply::Deployments(bot.deployments().await?),
        Request::Logs { name, from } => {
            let (from, bytes) = bot.log(&name, from).await?;
            let hex = data_encoding::HEXLOWER.encode(&bytes);
            Reply::Log { from, hex }
        }
        Request::Cancel { name } => {
            bot.cancel(&name).await?;
            Reply::Nothing
        }
        Request::Forget { name } => {
            bot.forget(&name).await?;
            Reply::Nothing
        }
        Request::Deploy { .. } | Request::Tunnel { .. } => {
            return Err(BotError::Usage("this request has a conversation of its own".into()));
        }
    })
}

async fn find(bot: &Bot, wanted: Wanted, events: &mpsc::Sender<Event>) -> Result<Vec<NodeView>, BotError> {
    let ranking = bot.search(&wanted).await?;
    for reason in ranking.reasons() {
        let text = format!("withheld: {reason}");
        // A listener that went away or does not read misses it.
        let _ = events.try_send(Event::Note { text });
    }
    let candidates = ranking.candidates.into_iter();
    Ok(candidates
        .map(|candidate| NodeView {
            node: candidate.listing.node,
            farm: candidate.listing.farm_name,
            location: candidate.listing.location,
            free: candidate.listing.free,
            hour: candidate.hour,
            period_ms: candidate.listing.terms.rule.period_ms,
        })
        .collect())
}
