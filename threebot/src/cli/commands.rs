//! What each command does.

use std::{
    io::{IsTerminal, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use ledger::{
    Id, Resources,
    body::{Location, Prices, SettlementRule, Terms},
    geography,
};
use threebot::{
    app::{self, App},
    bot, bounds,
    control::{Failure, FailureKind, Reply, Request},
    home::Home,
    oci::{self, Platform},
    replacement::Replacement,
};
use tracing_subscriber::EnvFilter;

use super::{
    arguments::{Arguments, Command, Farm, Image, Name, Place, TermsArguments},
    because, client, failure, keys, print, release, setup, tunnel,
};

/// Pause between looks for more output.
const FOLLOW_PAUSE: Duration = Duration::from_millis(500);

/// Does what the command line says.
pub(super) fn perform(arguments: Arguments) -> Result<(), Failure> {
    let Arguments {
        home,
        json,
        passphrase_file,
        command,
    } = arguments;
    let home = Home::new(match home {
        Some(home) => home,
        None => default_home()?,
    });
    let file = passphrase_file.as_deref();
    match command {
        Command::Init(setup) => setup::init(&home, setup, file, json),
        Command::Recover { entity, setup } => setup::recover(&home, (setup, entity), file, json),
        Command::Keys(keys) => runtime()?.block_on(keys::perform(&home, keys, file, json)),
        Command::Chain { genesis, peers } => setup::chain(&home, genesis, peers),
        Command::Id => {
            print::line(&setup::open(&home, file)?.id().to_string());
            Ok(())
        }
        Command::Entity => {
            print::json(&setup::entity(&home, &setup::open(&home, file)?)?);
            Ok(())
        }
        Command::Serve => serve(home, file, json),
        Command::Deploy { app } => deploy(&home, &app, json),
        Command::Amend { app } => {
            let app = Box::new(read_app(&app)?);
            show(&client::ask(&home, &Request::Amend { app }, |_| ())?, json)
        }
        Command::Logs { name, follow } => logs(&home, &name, follow),
        Command::Tunnel { name, ports } => runtime()?.block_on(tunnel::run(home, name, ports, json)),
        Command::Image(Image::Push { layout, name }) => push(&home, &layout, name, json),
        Command::Farm(farm) => self::farm(&home, farm, json),
        Command::Release(release) => release::perform(&home, release, json),
        other => {
            let told = |event| print::event(&event, json);
            show(&client::ask(&home, &plain_request(other)?, told)?, json)
        }
    }
}

fn default_home() -> Result<PathBuf, Failure> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let home = home.ok_or_else(|| failure(FailureKind::Usage, "$HOME is not set; name a directory with --home"))?;
    Ok(home.join(".threebot"))
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| failure(FailureKind::Local, format!("start threads: {error}")))
}

/// Commands that are one request and one answer.
fn plain_request(command: Command) -> Result<Request, Failure> {
    Ok(match command {
        Command::Balance => Request::Balance,
        Command::Send { to, amount } => Request::Send { to, amount },
        Command::History => Request::History,
        Command::Name(name) => match name {
            Name::Claim { name: label } => Request::NameClaim { label },
            Name::PassOn { name: label, to } => Request::NamePassOn { label, to },
            Name::GiveUp { name: label } => Request::NameGiveUp { label },
            Name::Show { name: label } => Request::NameShow { label },
        },
        Command::Find {
            cru,
            mru,
            sru,
            hru,
            country,
            near,
            km,
            max_price,
        } => Request::Find {
            resources: Resources { cru, mru, sru, hru },
            place: country
                .map(geography::Place::Country)
                .or(near.map(|(latitude, longitude)| geography::Place::Near {
                    latitude,
                    longitude,
                    km,
                })),
            max_hour: max_price,
        },
        Command::Ps => Request::Ps,
        Command::Cancel { name } => Request::Cancel { name },
        Command::Forget { name } => Request::Forget { name },
        _ => Request::Status,
    })
}

pub(super) fn show(reply: &Reply, json: bool) -> Result<(), Failure> {
    match reply {
        Reply::Nothing => {}
        Reply::Status(status) if json => print::json(status),
        Reply::Status(status) => print::status(status),
        Reply::Balance(balance) if json => print::json(&serde_json::json!({"balance": balance})),
        Reply::Balance(balance) => print::line(&balance.to_string()),
        Reply::History(movements) if json => print::json(movements),
        Reply::History(movements) => print::movements(movements),
        Reply::Made(id) if json => print::json(&serde_json::json!({"id": id})),
        Reply::Made(id) => print::line(&id.to_string()),
        Reply::Farms(farms) if json => print::json(farms),
        Reply::Farms(farms) => print::farms(farms),
        Reply::Nodes(nodes) if json => print::json(nodes),
        Reply::Nodes(nodes) => print::nodes(nodes),
        Reply::Deployments(all) if json => print::json(all),
        Reply::Deployments(all) => print::deployments(all),
        Reply::Deployed(view) if json => print::json(view),
        Reply::Deployed(view) => print::deployments(std::slice::from_ref(view)),
        Reply::Paper(paper) => print::json(paper),
        Reply::Media(_) | Reply::Log { .. } => return Err(unexpected()),
    }
    Ok(())
}

fn unexpected() -> Failure {
    failure(
        FailureKind::Local,
        "the daemon answered something else; is it of another version?",
    )
}

fn serve(home: Home, file: Option<&Path>, json: bool) -> Result<(), Failure> {
    let filter = EnvFilter::try_from_env("THREEBOT_LOG").unwrap_or_else(|_| EnvFilter::new("warn,threebot=info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let identity = setup::open(&home, file)?;
    let ready = |bot: &bot::Bot| {
        let status = bot.status();
        if json {
            print::json(&serde_json::json!({"ready": status}));
        } else {
            let link = status.link.map_or("no address".into(), |link| link.to_string());
            print::line(&format!("ready: {} at {link}", status.id));
        }
    };
    runtime()?
        .block_on(threebot::serve::serve(home, identity, ready))
        .map_err(|error| because(FailureKind::Local)(&error))
}

fn read_app(path: &Path) -> Result<App, Failure> {
    let named = |kind, text: String| failure(kind, format!("{}: {text}", path.display()));
    let directory = path.parent().unwrap_or(Path::new(""));
    let text = read_bounded(path).map_err(|error| named(FailureKind::Local, error.to_string()))?;
    app::parse(&text, |secret| read_bounded(&directory.join(secret))).map_err(|error| {
        let kind = match error {
            app::AppError::Secret { .. } => FailureKind::Local,
            _ => FailureKind::Usage,
        };
        named(kind, bot::error_line(&error))
    })
}

fn deploy(home: &Home, path: &Path, json: bool) -> Result<(), Failure> {
    let app = Box::new(read_app(path)?);
    let request = Request::Deploy { app };
    let reply = client::ask(home, &request, |event| print::event(&event, json))?;
    show(&reply, json)
}

fn read_bounded(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    let read = file.take(app::MAX_FILE + 1).read_to_string(&mut text)?;
    if u64::try_from(read).is_ok_and(|read| read > app::MAX_FILE) {
        return Err(std::io::Error::other(format!("longer than {} bytes", app::MAX_FILE)));
    }
    Ok(text)
}

fn logs(home: &Home, name: &str, follow: bool) -> Result<(), Failure> {
    let mut next = 0;
    loop {
        let request = Request::Logs {
            name: name.to_owned(),
            from: next,
        };
        let Reply::Log { from, hex } = client::ask(home, &request, |_| ())? else {
            return Err(unexpected());
        };
        let bytes = data_encoding::HEXLOWER
            .decode(hex.as_bytes())
            .map_err(|_| unexpected())?;
        print::raw(&bytes);
        next = from.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        if bytes.is_empty() {
            if !follow {
                return Ok(());
            }
            std::thread::sleep(FOLLOW_PAUSE);
        }
    }
}

fn push(home: &Home, layout: &Path, name: String, json: bool) -> Result<(), Failure> {
    let local = |error: &dyn std::error::Error| because(FailureKind::Local)(error);
    // A daemon must run; better said before the work than after it.
    client::ask(home, &Request::Status, |_| ())?;
    let scratch = tempfile::tempdir_in(home.path()).map_err(|error| local(&error))?;
    let root = scratch.path().join("root.squashfs");
    let imported = oci::import(layout, Platform::NODE, &root).map_err(|error| local(&error))?;
    if imported.devices + imported.attributes > 0 {
        let (devices, attributes) = (imported.devices, imported.attributes);
        print::note(&format!(
            "left out: {devices} device nodes, extended attributes of {attributes} files"
        ));
    }
    let config = String::from_utf8(imported.config)
        .map_err(|_| failure(FailureKind::Usage, "the image's configuration is not UTF-8"))?;
    let root = std::path::absolute(&imported.root).map_err(|error| local(&error))?;
    let request = Request::ImageAdd { root, config, name };
    match client::ask(home, &request, |_| ())? {
        Reply::Made(id) if json => {
            let (bytes, entries) = (imported.root_size, imported.entries);
            print::json(&serde_json::json!({"id": id, "root_bytes": bytes, "entries": entries}));
        }
        Reply::Made(id) => print::line(&format!(
            "{id}: {} entries, {} bytes",
            imported.entries, imported.root_size
        )),
        _ => return Err(unexpected()),
    }
    Ok(())
}

fn location(place: &Place) -> Location {
    Location {
        country: place.country,
        latitude: place.lat,
        longitude: place.lon,
    }
}

fn farm(home: &Home, farm: Farm, json: bool) -> Result<(), Failure> {
    let request = match farm {
        Farm::Create(place) => Request::FarmCreate {
            location: location(&place),
            name: place.name,
        },
        Farm::Update { farm, place } => Request::FarmUpdate {
            farm,
            location: location(&place),
            name: place.name,
        },
        Farm::Terms(arguments) => {
            let terms = terms(&arguments);
            if let Some(excess) = bounds::exceeded(&terms.rule) {
                print::note(&format!("customers' bots withhold these terms: {excess}"));
            }
            Request::FarmTerms {
                farm: arguments.farm.clone(),
                terms,
            }
        }
        Farm::List => Request::FarmList,
        Farm::Cancel { contract } => Request::FarmCancel { contract },
        Farm::Media {
            farm,
            nodes,
            days,
            peers,
            out,
            iso,
        } => {
            let request = Request::FarmMedia {
                farm,
                nodes,
                days,
                peers,
            };
            return media(home, &request, &out, iso.as_deref(), json);
        }
    };
    show(&client::ask(home, &request, |_| ())?, json)
}

fn terms(arguments: &TermsArguments) -> Terms {
    Terms {
        // The daemon fills the farm in.
        farm: Id::CHAIN,
        prices: Prices {
            cru_hour: arguments.cru_hour,
            mru_gib_hour: arguments.mru_gib_hour,
            sru_gib_hour: arguments.sru_gib_hour,
            hru_gib_hour: arguments.hru_gib_hour,
        },
        periods: (arguments.min_periods, arguments.max_periods),
        rule: SettlementRule {
            period_ms: arguments.period,
            grace_ms: arguments.grace,
            acknowledge_ms: arguments.acknowledge,
            deploy_ms: arguments.deploy,
            suspend_ms: arguments.suspend,
            tolerance_permille: arguments.tolerance_permille,
            unconfirmed_permille: arguments.unconfirmed_permille,
            missed_limit: arguments.missed_limit,
            dispute_limit: arguments.dispute_limit,
        },
        open: !arguments.closed,
    }
}

/// Whether a peer can be reached from this machine alone.
fn is_on_this_machine(peer: &str) -> bool {
    let peer = peer.parse::<peer_link::PeerAddress>();
    peer.is_ok_and(|peer| peer.addresses().iter().all(|address| address.ip().is_loopback()))
}

fn media(home: &Home, request: &Request, out: &Path, iso: Option<&Path>, json: bool) -> Result<(), Failure> {
    // Before the right is on the chain.
    let file = Replacement::begin(out).map_err(|error| because(FailureKind::Local)(&error))?;
    if let Some(iso) = iso {
        farm_media::check(iso).map_err(|error| because(FailureKind::Local)(&error))?;
    }
    let Reply::Media(media) = client::ask(home, request, |_| ())? else {
        return Err(unexpected());
    };
    if media.peers.iter().all(|peer| is_on_this_machine(peer)) {
        print::note(
            "the media name peers on this machine alone, which no other machine reaches; name others with --peer",
        );
    }
    let text = serde_json::to_vec_pretty(&media).map_err(|error| because(FailureKind::Local)(&error))?;
    file.finish(&text)
        .map_err(|error| because(FailureKind::Local)(&error))?;
    if let Some(iso) = iso {
        farm_media::install(iso, &media).map_err(|error| because(FailureKind::Local)(&error))?;
    }
    if json {
        print::json(&serde_json::json!({"farm": media.farm, "out": out, "iso": iso}));
    } else {
        print::line(&format!(
            "media of farm {} in {}; keep it secret",
            media.farm,
            out.display()
        ));
        if let Some(iso) = iso {
            print::line(&format!("written into {}", iso.display()));
        }
    }
    Ok(())
}
