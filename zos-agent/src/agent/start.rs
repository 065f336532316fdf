//! How the agent starts: settings, disks, identity, link, guests that run already, and the tasks beside the loop.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use chain_client::Author;
use ledger::SigningKey;
use node_api::image::FARM_MEDIA;
use peer_link::{Endpoint, LinkKey, Protocols, Serving, Shares, protocol};
use tokio::sync::watch;
use workload::EncryptionKey;

use super::{
    Agent, AgentError,
    disks::wait_for_home,
    io_error,
    membership::{enrolment, spawn_member},
    network::Network,
    say,
};
use crate::{
    console::Console,
    grid::{
        images::Images,
        keeper::Keeper,
        member::Me,
        server::{MAX_LOGS, MAX_TUNNELS, Server, serve},
        shared::Shared,
    },
    heartbeat::{Heartbeat, Pace},
    machine::Vms,
    pool::Places,
    settings::{self, Settings},
    storage::Storage,
    vm::{RUN, VmId, registry::Live},
    watch as guests,
};

/// Reads the kernel command line and the farm's media, and says what is wrong with them.
pub(super) fn read_settings() -> Settings {
    let command_line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let media = match fs::read(FARM_MEDIA) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|error| say(&format!("farm media: {error}; ignored")))
            .ok(),
        Err(_) => None,
    };
    let (settings, problems) = settings::resolve(&settings::Raw::parse(&command_line), media.as_ref());
    for problem in problems {
        say(&problem.to_string());
    }
    settings
}

impl Agent {
    /// Everything up to the loop. Waits for a data disk for as long as it takes.
    pub(super) async fn start(settings: Settings) -> Result<(Self, Serving), AgentError> {
        let socket = node_api::init::SOCKET.into();
        let heartbeat = Heartbeat::start(socket, Pace::default()).map_err(io_error("start the heartbeat"))?;
        let mut network = Network::start()?;
        let mut storage = Storage::new(Places::default(), settings.erase.clone());
        let (keys, record, home) = network.tend(wait_for_home(&mut storage, &heartbeat)).await?;
        let link = LinkKey::from_seed(&keys.link_key().to_bytes());
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, settings.port));
        let endpoint = Endpoint::bind(&link, any).await?;
        let encryption = EncryptionKey::from_seed(&keys.encryption_key().to_bytes());
        let (public, id) = (keys.public(), keys.node());
        say(&format!("identity {id}"));
        let contracts = Keeper::open(home.join("contracts"), encryption).map_err(io_error("open the contracts"))?;
        let shared = Arc::new(Shared::new(contracts));
        let images = Images::open(endpoint.clone(), &home).await?;
        let vms = Vms::adopt(Arc::clone(&shared), images.clone(), network.links.clone())
            .map_err(io_error("find monitors"))?;
        say_adopted(&vms);
        let (statement, said) = watch::channel(None);
        let (live, seen) = watch::channel(vms.live());
        tokio::spawn(guests::run(Arc::clone(&shared), seen));
        let serving = serve_customers(&endpoint, &shared, &images, live.subscribe());
        let author = Author {
            id,
            key: SigningKey::from_seed(&keys.signing_key().to_bytes()),
        };
        let me = Me {
            author,
            keys: public,
            enrolment: enrolment(&settings),
        };
        let (heights, height) = watch::channel(None);
        spawn_member(&settings, endpoint, &home, me, &shared, &images, said, heights);
        let agent = Self {
            console: Console::new(&settings.console),
            settings,
            storage,
            home: record,
            network,
            shared,
            vms,
            images,
            collecting: None,
            identity: id,
            statement,
            live,
            rules: None,
            heartbeat,
            height,
            complaints: BTreeMap::new(),
        };
        Ok((agent, serving))
    }
}

fn say_adopted(vms: &Vms) {
    for (id, vm) in vms.live() {
        say(&format!(
            "adopted the running workload {id} in place {}",
            vm.slot.number()
        ));
    }
}

/// Answers the customers of this node for as long as the link lives.
fn serve_customers(
    endpoint: &Endpoint,
    shared: &Arc<Shared>,
    images: &Images,
    live: watch::Receiver<BTreeMap<VmId, Live>>,
) -> Serving {
    let server = Arc::new(Server {
        shared: Arc::clone(shared),
        images: images.clone(),
        run: RUN.into(),
        live,
        tunnels: Shares::new(MAX_TUNNELS),
        logs: Shares::new(MAX_LOGS),
    });
    let protocols = Protocols::new().with(protocol::NODE, move |connection| serve(Arc::clone(&server), connection));
    endpoint.serve(protocols)
}
