//! The main thread's loop: waits for the descriptors of all devices but the disks, which have threads of their own.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::Instant,
};

use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
};

use crate::virtio::slot::{DOORBELL, Device, Slot};

/// Events taken at a time.
const BATCH: usize = 64;

/// Whom events belong to.
pub trait Source: Send + Sync {
    /// Event `number` happened.
    fn handle(&self, number: u32);
    /// When event [`DOORBELL`] is due at the latest.
    fn deadline(&self) -> Option<Instant>;
}

impl<D: Device> Source for Slot<D> {
    fn handle(&self, number: u32) {
        Self::handle(self, number);
    }
    fn deadline(&self) -> Option<Instant> {
        Self::deadline(self)
    }
}

/// What a descriptor is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Something to read, reported for as long as it lasts.
    Readable,
    /// Any change between readable and not, writable and not; each reported once.
    Changes,
}

/// Registers descriptors of one source.
#[derive(Debug, Clone)]
pub struct Registrar {
    epoll: Arc<OwnedFd>,
    source: u32,
}

impl Registrar {
    /// Reports `fd` as event `number` of this source.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn add(&self, fd: impl AsFd, number: u32, interest: Interest) -> io::Result<()> {
        let flags = match interest {
            Interest::Readable => epoll::EventFlags::IN,
            Interest::Changes => {
                epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP | epoll::EventFlags::ET
            }
        };
        let data = epoll::EventData::new_u64((u64::from(self.source) << 32) | u64::from(number));
        Ok(epoll::add(&self.epoll, fd, data, flags)?)
    }
}

/// The loop.
pub struct EventLoop {
    epoll: Arc<OwnedFd>,
    sources: Vec<Arc<dyn Source>>,
}

impl EventLoop {
    /// A loop without sources.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?),
            sources: Vec::new(),
        })
    }

    /// The registrar of the source that is added next.
    #[must_use]
    pub fn registrar(&self) -> Registrar {
        let source = u32::try_from(self.sources.len()).expect("there are few sources");
        Registrar {
            epoll: self.epoll.clone(),
            source,
        }
    }

    /// Adds a source, whose descriptors were registered by the last [`Self::registrar`].
    pub fn add(&mut self, source: Arc<dyn Source>) {
        self.sources.push(source);
    }

    /// Adds a device and waits for its doorbell.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn add_device<D: Device + 'static>(&mut self, slot: Arc<Slot<D>>) -> io::Result<()> {
        // The registration lives as long as the doorbell, and that as long as the loop, which holds the slot.
        self.registrar()
            .add(crate::sys::borrow(slot.doorbell()), DOORBELL, Interest::Readable)?;
        self.add(slot);
        Ok(())
    }

    /// Waits for the next events and handles them.
    ///
    /// # Errors
    /// When the kernel refuses to wait.
    pub fn turn(&self) -> io::Result<()> {
        let due = self.sources.iter().filter_map(|source| source.deadline()).min();
        let timeout = due.map(|due| due.saturating_duration_since(Instant::now()));
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let mut events = Vec::with_capacity(BATCH);
        match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            let data = event.data.u64();
            let (source, number) = (data >> 32, data & 0xffff_ffff);
            let number = u32::try_from(number).expect("masked to 32 bits");
            if let Some(source) = self.sources.get(crate::bytes::size(source)) {
                source.handle(number);
            }
        }
        if due.is_some_and(|due| due <= Instant::now()) {
            let now = Instant::now();
            let late = |source: &&Arc<dyn Source>| source.deadline().is_some_and(|due| due <= now);
            self.sources
                .iter()
                .filter(late)
                .for_each(|source| source.handle(DOORBELL));
        }
        Ok(())
    }
}
