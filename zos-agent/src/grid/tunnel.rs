//! Bytes between a customer and a guest, until either ends or both are silent for too long.

use std::{
    io,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

/// How long a tunnel may carry nothing before it is closed.
pub const IDLE: Duration = Duration::from_secs(15 * 60);
/// Bytes that are moved at a time.
const CHUNK: usize = 16 * 1024;

/// When either direction last carried something.
struct Activity(Mutex<Instant>);

impl Activity {
    fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn silence(&self) -> Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

/// Carries bytes in both directions. Each direction ends by itself; silence of both for `idle` ends all, and so does a side
/// that takes nothing for that long.
///
/// # Errors
/// The error of either side; [`io::ErrorKind::TimedOut`] after too much silence.
pub async fn carry(
    customer: (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    guest: (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    idle: Duration,
) -> io::Result<()> {
    let activity = Activity(Mutex::new(Instant::now()));
    let upstream = pump(customer.0, guest.1, &activity, idle);
    let downstream = pump(guest.0, customer.1, &activity, idle);
    tokio::try_join!(upstream, downstream).map(drop)
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    activity: &Activity,
    idle: Duration,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let left = idle.saturating_sub(activity.silence());
        let length = match timeout(left, from.read(&mut buffer)).await {
            Ok(length) => length?,
            // The other direction may have carried something meanwhile.
            Err(_) if activity.silence() < idle => continue,
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        };
        if length == 0 {
            break;
        }
        activity.note();
        timeout(idle, to.write_all(&buffer[..length])).await??;
        activity.note();
    }
    // The other end has closed already where this fails.
    let _ = to.shutdown().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{DuplexStream, duplex, split};

    fn tunnel(idle: Duration) -> (DuplexStream, DuplexStream, tokio::task::JoinHandle<io::Result<()>>) {
        let ((customer, near), (guest, far)) = (duplex(64), duplex(64));
        let task = tokio::spawn(carry(split(near), split(far), idle));
        (customer, guest, task)
    }

    #[tokio::test]
    async fn silent_tunnel_is_closed_and_one_that_speaks_in_one_direction_is_not() {
        let idle = Duration::from_millis(300);
        let (mut customer, mut guest, task) = tunnel(idle);
        for _ in 0..8 {
            guest.write_all(b"x").await.unwrap();
            assert_eq!(customer.read_u8().await.unwrap(), b'x');
            tokio::time::sleep(idle / 4).await;
        }
        assert!(!task.is_finished(), "it spoke all the time");
        let ended = timeout(Duration::from_secs(10), task).await.expect("closed").unwrap();
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn side_that_takes_nothing_holds_no_tunnel_for_ever() {
        let (customer, mut guest, task) = tunnel(Duration::from_millis(100));
        let writing = tokio::spawn(async move { while guest.write_all(&[1; 64]).await.is_ok() {} });
        let ended = timeout(Duration::from_secs(10), task).await.expect("closed").unwrap();
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
        writing.await.unwrap();
        drop(customer);
    }

    #[tokio::test]
    async fn each_direction_ends_by_itself() {
        let (mut customer, mut guest, task) = tunnel(Duration::from_secs(60));
        customer.write_all(b"question").await.unwrap();
        customer.shutdown().await.unwrap();
        let mut question = Vec::new();
        guest.read_to_end(&mut question).await.unwrap();
        guest.write_all(b"answer").await.unwrap();
        drop(guest);
        let mut answer = Vec::new();
        customer.read_to_end(&mut answer).await.unwrap();
        assert_eq!((&*question, &*answer), (&b"question"[..], &b"answer"[..]));
        task.await.unwrap().unwrap();
    }
}
