//! Socket device (section 5.10): streams that the host opens into the guest.
//!
//! [`packet`] reads and writes headers, [`connection`] is one stream as a state machine without input or output, and
//! [`device`] joins them with unix sockets and queues.

pub mod connection;
pub mod device;
pub mod packet;
