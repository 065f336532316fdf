//! Links between endpoints on loopback.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use peer_link::{
    BindError, Connections, DialError, Endpoint, Limits, LinkError, LinkKey, PeerAddress, Protocols, Serving, protocol,
    serve_calls, serve_requests,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const LIMITS: Limits = Limits {
    request: 1024,
    streams: 8,
};
const SECOND: Duration = Duration::from_secs(1);

async fn endpoint(seed: u8) -> Endpoint {
    Endpoint::bind(&LinkKey::from_seed(&[seed; 32]), SocketAddr::from(([127, 0, 0, 1], 0)))
        .await
        .unwrap()
}

fn address(endpoint: &Endpoint) -> PeerAddress {
    PeerAddress::new(endpoint.id(), endpoint.bound()).unwrap()
}

/// Answers a text with its length, over the ledger's protocol.
async fn length_server(seed: u8) -> (Endpoint, Serving) {
    let server = endpoint(seed).await;
    let serving = server.serve(Protocols::new().with(protocol::LEDGER, |connection| async move {
        serve_calls(connection, LIMITS, 64, |_, text: String| async move {
            u64::try_from(text.len()).unwrap()
        })
        .await;
    }));
    (server, serving)
}

#[tokio::test]
async fn request_is_answered() {
    let (server, _serving) = length_server(1).await;
    let client = endpoint(2).await;
    let connection = client.dial(&address(&server), protocol::LEDGER).await.unwrap();
    assert_eq!(connection.peer(), server.id());
    for text in ["", "four"] {
        let length: u64 = connection.call(&text.to_owned(), 64, SECOND).await.unwrap();
        assert_eq!(length, u64::try_from(text.len()).unwrap());
    }
}

#[tokio::test]
async fn many_frames_and_raw_bytes_follow_a_request() {
    let server = endpoint(3).await;
    let _serving = server.serve(Protocols::new().with(protocol::NODE, |connection| async move {
        serve_requests(connection, LIMITS, |count: u32, mut stream| async move {
            for number in 0..count {
                stream.send(&number, 64).await?;
            }
            let (mut read, mut write) = stream.into_halves();
            tokio::io::copy(&mut read, &mut write)
                .await
                .map(drop)
                .map_err(LinkError::Stream)
        })
        .await;
    }));
    let connection = endpoint(4).await.dial(&address(&server), protocol::NODE).await.unwrap();
    let mut stream = connection.open().await.unwrap();
    stream.send(&5_u32, 64).await.unwrap();
    for number in 0..5_u32 {
        assert_eq!(stream.receive_within::<u32>(64, SECOND).await.unwrap(), number);
    }
    let (mut read, mut write) = stream.into_halves();
    write.write_all(b"through the tunnel").await.unwrap();
    write.shutdown().await.unwrap();
    let mut echoed = Vec::new();
    read.read_to_end(&mut echoed).await.unwrap();
    assert_eq!(echoed, b"through the tunnel");
}

#[tokio::test]
async fn peer_that_sends_garbage_or_too_much_is_cut_off() {
    let (server, _serving) = length_server(5).await;
    let client = endpoint(6).await;
    // A length of 4 GiB; then a string that claims more than the frame holds.
    for hostile in [vec![0xff_u8; 64], [vec![8, 0, 0, 0], vec![0xee; 8]].concat()] {
        let connection = client.dial(&address(&server), protocol::LEDGER).await.unwrap();
        let (_read, mut write) = connection.open().await.unwrap().into_halves();
        write.write_all(&hostile).await.unwrap();
        let reason = tokio::time::timeout(SECOND, connection.closed()).await.unwrap();
        assert!(reason.contains("frame"), "{reason}");
    }
    // Others are served as before.
    let connection = client.dial(&address(&server), protocol::LEDGER).await.unwrap();
    assert_eq!(
        connection
            .call::<_, u64>(&"still".to_owned(), 64, SECOND)
            .await
            .unwrap(),
        5
    );
}

#[tokio::test]
async fn answer_longer_than_allowed_is_refused() {
    let (server, _serving) = length_server(7).await;
    let connection = endpoint(8)
        .await
        .dial(&address(&server), protocol::LEDGER)
        .await
        .unwrap();
    let answer = connection.call::<_, u64>(&"x".to_owned(), 7, SECOND).await;
    assert!(
        matches!(answer, Err(LinkError::TooLarge { length: 8, maximum: 7 })),
        "{answer:?}"
    );
}

#[tokio::test]
async fn call_that_is_never_answered_ends_at_its_deadline() {
    let server = endpoint(9).await;
    let _serving = server.serve(Protocols::new().with(protocol::LEDGER, |connection| async move {
        connection.closed().await;
    }));
    let connection = endpoint(10)
        .await
        .dial(&address(&server), protocol::LEDGER)
        .await
        .unwrap();
    let answer = connection.call::<_, u64>(&1_u8, 64, Duration::from_millis(300)).await;
    assert!(matches!(answer, Err(LinkError::Deadline(_))), "{answer:?}");
}

#[tokio::test]
async fn another_key_at_the_dialled_address_is_refused() {
    let (server, _serving) = length_server(11).await;
    let someone_else = PeerAddress::new(LinkKey::from_seed(&[99; 32]).id(), server.bound()).unwrap();
    let dialled = endpoint(12).await.dial(&someone_else, protocol::LEDGER).await;
    assert!(matches!(dialled, Err(DialError::WrongKey(_))), "{dialled:?}");
}

#[tokio::test]
async fn protocol_that_is_not_served_is_refused_with_a_reason() {
    let (server, _serving) = length_server(13).await;
    let dialled = endpoint(14).await.dial(&address(&server), protocol::BOT).await;
    assert!(matches!(&dialled, Err(DialError::Refused { .. })), "{dialled:?}");
}

#[tokio::test]
async fn taken_port_is_named() {
    let holder = endpoint(15).await;
    let taken = holder.bound()[0];
    let error = Endpoint::bind(&LinkKey::from_seed(&[16; 32]), taken).await.unwrap_err();
    assert!(
        matches!(error, BindError::PortTaken(address) if address == taken),
        "{error:?}"
    );
}

/// A peer whose process vanishes says nothing: its runtime is dropped with everything in it.
#[test]
fn vanished_peer_is_noticed_within_seconds() {
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap()
    };
    let (there, here) = (runtime(), runtime());
    let (server, serving) = there.block_on(length_server(17));
    let connection = here.block_on(async {
        let connection = endpoint(18)
            .await
            .dial(&address(&server), protocol::LEDGER)
            .await
            .unwrap();
        connection.call::<_, u64>(&"x".to_owned(), 64, SECOND).await.unwrap();
        connection
    });
    std::mem::forget((server, serving));
    there.shutdown_background();
    let since = Instant::now();
    let gone = here.block_on(async { tokio::time::timeout(Duration::from_secs(9), connection.closed()).await });
    assert!(gone.is_ok(), "still connected after {:?}", since.elapsed());
    here.shutdown_background();
}

#[tokio::test]
async fn pool_keeps_a_connection_and_opens_another_when_it_is_gone() {
    let (server, _serving) = length_server(19).await;
    let pool = Connections::new(endpoint(20).await, protocol::LEDGER);
    let first = pool.get(&address(&server)).await.unwrap();
    let again = pool.get(&address(&server)).await.unwrap();
    first.close();
    assert!(again.is_closed());
    let fresh = pool.get(&address(&server)).await.unwrap();
    assert_eq!(fresh.call::<_, u64>(&"abc".to_owned(), 64, SECOND).await.unwrap(), 3);
}

#[tokio::test]
async fn pool_pauses_after_a_failed_dial() {
    let (server, _serving) = length_server(21).await;
    let someone_else = PeerAddress::new(LinkKey::from_seed(&[98; 32]).id(), server.bound()).unwrap();
    let pool = Connections::new(endpoint(22).await, protocol::LEDGER);
    assert!(matches!(pool.get(&someone_else).await, Err(DialError::WrongKey(_))));
    assert!(matches!(
        pool.get(&someone_else).await,
        Err(DialError::BackingOff { .. })
    ));
}

#[tokio::test]
async fn serving_ends_with_its_endpoint() {
    let (server, mut serving) = length_server(31).await;
    let early = tokio::time::timeout(Duration::from_millis(50), serving.ended()).await;
    assert!(early.is_err(), "it goes on while the endpoint lives");
    server.close().await;
    serving.ended().await;
    serving.ended().await;
}
