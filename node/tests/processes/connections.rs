//! Clients that open connections and do nothing with them, or far too much.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::clients::{Acknowledged, Client, Request};
use crate::replicas::{Replicas, TOKEN};
use crate::{TURN, until};

/// More than a port takes (`tls::Limits`): half of them say nothing, the others begin a handshake.
const CONNECTIONS: usize = 600;

/// By how much a node may grow for them.
const GROWTH_BYTES: u64 = 128 << 20;

/// Requests taken back as soon as they are sent.
const RESETS: usize = 10_000;

/// Requests that one connection may have under way (`STREAMS_PER_CONNECTION`).
const STREAMS: usize = 128;

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_come_to_nothing_make_way_for_others() {
    let _turn = TURN.lock().await;
    let replicas = Replicas::start(1).await;
    let client = Client::new(&replicas);
    let idle = replicas.memory(0);
    let mut held = Vec::new();
    for number in 0..CONNECTIONS {
        let mut tcp = TcpStream::connect(replicas.api(0)).await.expect("queued");
        if number % 2 == 1 {
            // The beginning of a handshake that goes no further.
            tcp.write_all(&[0x16, 3, 1]).await.expect("sent");
        }
        held.push(tcp);
    }
    let answer = client.ask(&replicas, 0, Request::get("/status")).await;
    let answer = answer.expect("there is room though nobody let go");
    assert!(answer.status.is_success(), "{answer:?}");
    let growth = replicas.most_memory(0).saturating_sub(idle);
    println!("grew by {} MiB at most", growth >> 20);
    assert!(growth < GROWTH_BYTES, "{growth} bytes");
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_larger_than_any_request_are_refused() {
    let _turn = TURN.lock().await;
    let replicas = Replicas::start(1).await;
    for kibibytes in [32, 1_024] {
        let mut stream = connect(&replicas, "http/1.1").await;
        let head = format!(
            "GET /api/v1/status HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {TOKEN}\r\nx: {}\r\n\r\n",
            "x".repeat(kibibytes << 10)
        );
        // It may end while this is being sent.
        let _ = stream.write_all(head.as_bytes()).await;
        let mut answer = [0; 12];
        let read = stream.read_exact(&mut answer).await;
        let is_taken = read.is_ok() && answer.starts_with(b"HTTP/1.1 200");
        assert_eq!(is_taken, kibibytes < 64, "{kibibytes} KiB");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_taken_back_at_once_end_their_connection_only() {
    let _turn = TURN.lock().await;
    let replicas = Replicas::start(1).await;
    let (client, mut acknowledged) = (Client::new(&replicas), Acknowledged::default());
    let stream = connect(&replicas, "h2").await;
    let (mut requests, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    let ended = tokio::spawn(connection);
    let ready = requests.clone().ready().await.expect("ready");
    until("the node says how many streams it takes", || {
        let told = ready.current_max_send_streams() == STREAMS;
        std::future::ready(told.then_some(()))
    })
    .await;
    let mut sent = 0;
    while sent < RESETS {
        let Ok(ready) = requests.clone().ready().await else {
            break;
        };
        requests = ready;
        let request = http::Request::get(format!("https://{}/api/v1/status", replicas.api(0)));
        let request = request.body(()).expect("a request");
        let Ok((_, mut body)) = requests.send_request(request, true) else {
            break;
        };
        body.send_reset(h2::Reason::CANCEL);
        sent += 1;
    }
    println!("{sent} requests taken back before the connection ended");
    assert!(sent < RESETS, "a client may do this for ever");
    let ended = ended.await.expect("no panic").expect_err("it was ended");
    // What it was told, unless the connection was closed before that could be read.
    assert!(
        ended.is_io() || ended.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM),
        "{ended}"
    );
    client
        .write(&replicas, &mut acknowledged, "after", "a")
        .await;
}

async fn connect(replicas: &Replicas, protocol: &str) -> TlsStream<TcpStream> {
    let address = replicas.api(0);
    let tcp = TcpStream::connect(address).await.expect("open");
    let name = ServerName::IpAddress(address.ip().into());
    let connector = TlsConnector::from(Arc::new(replicas.tls.client(&[protocol])));
    connector.connect(name, tcp).await.expect("a handshake")
}
