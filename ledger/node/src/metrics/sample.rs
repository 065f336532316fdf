//! What is the case at the moment when somebody looks.

use std::{borrow::Cow, time::Duration};

use ledger::{Height, Timestamp};
use prometheus_client::{
    metrics::{gauge::ConstGauge, info::Info},
    registry::{Registry, Unit},
};

/// How this member of the chain is now.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample {
    /// Height of the last block.
    pub(crate) height: Height,
    /// Its time, that of the genesis before the first.
    pub(crate) time: Timestamp,
    /// The time now.
    pub(crate) now: Timestamp,
    /// The highest block that others say they have.
    pub(crate) highest: Height,
    /// Transactions that wait for a block.
    pub(crate) waiting: usize,
    /// Own voting power, 0 without a vote.
    pub(crate) power: u64,
    /// Voting power of all validators.
    pub(crate) total_power: u64,
    /// How many validators there are.
    pub(crate) validators: usize,
    /// How many of them are linked for consensus.
    pub(crate) peers: usize,
    /// Length of the database in bytes, if it can be known.
    pub(crate) database: Option<u64>,
    /// Bytes that are free where it lies, if that can be known.
    pub(crate) free: Option<u64>,
    /// Open HTTP connections.
    pub(crate) connections: usize,
    /// Readers of news.
    pub(crate) streams: usize,
}

impl Sample {
    /// Its metrics.
    pub(super) fn registry(&self, prefix: &str) -> Registry {
        let mut all = Registry::with_prefix(prefix);
        let mut plain = |name: &str, help: &str, value: i64| all.register(name, help, ConstGauge::new(value));
        plain("height", "Height of the last block", whole(self.height));
        let behind = self.highest.saturating_sub(self.height);
        let help = "Blocks that others say they have and this one has not";
        plain("blocks_behind", help, whole(behind));
        plain(
            "transactions_waiting",
            "Transactions that wait for a block",
            size(self.waiting),
        );
        plain(
            "validator",
            "1 if this one validates, 0 if it follows",
            i64::from(self.power > 0),
        );
        plain("power", "Own voting power", whole(self.power));
        plain("total_power", "Voting power of all validators", whole(self.total_power));
        plain("validators", "Validators of the chain", size(self.validators));
        plain(
            "peers_linked",
            "Other validators linked for consensus",
            size(self.peers),
        );
        plain("http_connections", "Open HTTP connections", size(self.connections));
        plain("http_streams", "Readers of news", size(self.streams));
        let mut seconds = |name: &str, help: &str, millis: u64| {
            let value = Duration::from_millis(millis).as_secs_f64();
            all.register_with_unit(name, help, Unit::Seconds, ConstGauge::new(value));
        };
        let help = "Time of the last block since 1970";
        seconds("last_block_time", help, self.time.millis());
        seconds("last_block_age", "Time since the last block", self.now.since(self.time));
        let mut bytes = |name: &str, help: &str, value: Option<u64>| {
            if let Some(value) = value {
                all.register_with_unit(name, help, Unit::Bytes, ConstGauge::new(whole(value)));
            }
        };
        bytes("database_size", "Length of the database", self.database);
        bytes("disk_free", "Room left on the disk of the database", self.free);
        let build: Vec<(Cow<'static, str>, Cow<'static, str>)> =
            vec![("version".into(), env!("CARGO_PKG_VERSION").into())];
        all.register("build", "The program", Info::new(build));
        all
    }
}

/// The format knows signed numbers.
pub(super) fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn size(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn who_is_level_or_ahead_is_not_behind() {
        for (height, highest, behind) in [(5, 9, 4), (9, 9, 0), (9, 5, 0)] {
            let sample = Sample {
                height,
                highest,
                ..Sample::default()
            };
            let mut text = String::new();
            encode(&mut text, &sample.registry("x")).unwrap();
            assert!(text.contains(&format!("x_blocks_behind {behind}\n")), "{text}");
        }
    }
}
