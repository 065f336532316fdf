//! Socket device (section 5.10): streams that the host opens into the guest.
//!
//! [`packet`] reads and writes headers, [`connection`] is one stream as a state machine without input or output, `clients` are
//! the unix sockets at the host's end, and [`device`] joins all of them with the guest's queues.

mod clients;
pub mod connection;
pub mod device;
pub mod packet;
