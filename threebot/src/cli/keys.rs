//! `threebot keys`: what changes the keys of the bot's entity.

use std::path::Path;

use threebot::{
    control::{Failure, FailureKind},
    home::Home,
    identity::{Identity, Seed},
    keys::{Keyring, KeysError},
};

use super::{arguments::Keys, because, failure, print, setup};

/// Does it, while no daemon runs.
pub(super) async fn perform(home: &Home, keys: Keys, file: Option<&Path>, json: bool) -> Result<(), Failure> {
    let local = |error: threebot::home::HomeError| because(FailureKind::Local)(&error);
    match keys {
        Keys::Rotate => {
            let _lock = home.lock().map_err(local)?;
            let seed = setup::draw()?;
            let keyring = Keyring::open(&home.config().map_err(local)?, setup::open_file(home, file)?).await?;
            let keep = |seed: &Seed| print::words(None, &seed.words(), json);
            keyring.rotate(seed, keep).await.map_err(told)?.close().await;
            done("the bot has new keys; the words before are of no more use", json);
        }
        Keys::Recovery { replace, remove } => {
            let _lock = home.lock().map_err(local)?;
            let present = if replace || remove {
                Some(setup::read_words()?)
            } else {
                None
            };
            let seed = if remove { None } else { Some(setup::draw()?) };
            let keyring = Keyring::open(&home.config().map_err(local)?, setup::open_file(home, file)?).await?;
            let keep = || {
                if let Some(seed) = &seed {
                    print::words(None, &seed.words(), json);
                }
            };
            keyring.set_recovery(seed.as_ref(), present.as_ref(), keep).await?;
            keyring.close().await;
            let text = if remove {
                "the bot has no recovery key any more"
            } else {
                "the bot has this recovery key"
            };
            done(text, json);
        }
        Keys::Recover { entity, setup } => {
            let recovery = setup::read_words()?;
            let opened = if home.identity().exists() {
                setup::open_file(home, file)?
            } else {
                let identity = Identity::of(entity, setup::draw()?);
                (setup::make(home, &identity, setup, file)?, identity)
            };
            if opened.1.id() != entity {
                let text = format!(
                    "{} is of another entity; choose another --home",
                    home.identity().display()
                );
                return Err(failure(FailureKind::Usage, text));
            }
            let _lock = home.lock().map_err(local)?;
            let keyring = Keyring::open(&home.config().map_err(local)?, opened).await?;
            let keep = |seed: &Seed| print::words(Some(entity), &seed.words(), json);
            keyring.recover(&recovery, keep).await?;
            keyring.close().await;
            done("the entity has these keys", json);
        }
    }
    Ok(())
}

fn told(error: KeysError) -> Failure {
    match error {
        KeysError::Bot(error) => error.into(),
        KeysError::File(error) => because(FailureKind::Identity)(&error),
    }
}

fn done(text: &str, json: bool) {
    if json {
        print::json(&serde_json::json!({"done": text}));
    } else {
        print::line(text);
    }
}
