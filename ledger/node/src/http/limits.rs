//! What one reader, and all of them together, may take.

use std::time::Duration;

use super::buckets::Rate;

/// Bounds of the HTTP side. The defaults are for readers from anywhere.
#[derive(Debug, Clone, Copy)]
pub struct HttpLimits {
    /// Connections at a time.
    pub connections: usize,
    /// Connections of one client at a time.
    pub connections_of_one: usize,
    /// Streams of news at a time.
    pub streams: usize,
    /// Streams of news of one client at a time.
    pub streams_of_one: usize,
    /// Bytes of a request's line and headers.
    pub headers: usize,
    /// Bytes of a request's body.
    pub body: usize,
    /// Time in which the headers of a request come; also how long an idle connection is kept.
    pub header_time: Duration,
    /// Time in which the rest of a request comes and its answer begins.
    pub request_time: Duration,
    /// Time in which a client takes some of what is sent to it.
    pub stall: Duration,
    /// Requests of one client.
    pub rate: Rate,
    /// Clients whose requests are remembered.
    pub clients: usize,
    /// Reads of the database at a time; what comes more waits.
    pub reads: usize,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            connections: 512,
            connections_of_one: 64,
            streams: 256,
            streams_of_one: 16,
            headers: 8 * 1024,
            // A transaction has 16 KiB, thrice that in JSON's hexadecimal digits or base64 with room.
            body: 48 * 1024,
            header_time: Duration::from_secs(10),
            request_time: Duration::from_secs(15),
            stall: Duration::from_secs(20),
            // A page of the explorer asks a dozen times.
            rate: Rate {
                every: Duration::from_millis(50),
                burst: 200,
            },
            clients: 4_096,
            reads: 4,
        }
    }
}
