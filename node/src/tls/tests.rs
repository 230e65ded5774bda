//! Real handshakes over loopback, with authorities made for the occasion.

mod authority;

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::get;
use http_body_util::BodyExt;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt};

use self::authority::{Authority, Expiry};
use super::*;
use crate::bulk::Bulk;

/// A name that the certificates of [`Authority`] are made for.
const NODE: &str = "acme-0.acme.tenants.svc";

/// How long the slow route takes.
const SLOW: Duration = Duration::from_millis(300);

struct Server {
    address: SocketAddr,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

fn mutual(tls: Tls) -> Security {
    Security::Mutual {
        tls,
        bulk: tokio::runtime::Handle::current(),
    }
}

fn thread_name() -> String {
    let thread = std::thread::current();
    thread.name().unwrap_or_default().to_owned()
}

async fn start(security: Security, limits: Limits) -> Server {
    let router =
        Router::new()
            .route(
                "/",
                get(|ConnectInfo(client): ConnectInfo<SocketAddr>| async move {
                    client.ip().to_string()
                }),
            )
            .route(
                "/slow",
                get(|| async {
                    tokio::time::sleep(SLOW).await;
                    "done"
                }),
            )
            .route("/thread", get(|| async { thread_name() }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
    let task = tokio::spawn(serve(listener, security, router, limits, shutdown.clone()));
    Server {
        address,
        shutdown,
        task,
    }
}

/// One request over one connection; an error is a refusal at whatever step.
async fn ask(
    address: SocketAddr,
    name: &str,
    path: &str,
    client: ClientConfig,
) -> io::Result<String> {
    let tcp = TcpStream::connect(address).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut stream = TlsConnector::from(Arc::new(client))
        .connect(name, tcp)
        .await?;
    stream
        .write_all(
            format!("GET {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n").as_bytes(),
        )
        .await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or(io::ErrorKind::UnexpectedEof)?;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    Ok(body.to_owned())
}

fn http1(tls: &Tls) -> ClientConfig {
    tls.client(&["http/1.1"])
}

/// A client that trusts `authority` and shows nothing.
fn anonymous(
    authority: &Authority,
    version: &'static rustls::SupportedProtocolVersion,
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate()).unwrap();
    ClientConfig::builder_with_provider(generation::provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

#[tokio::test]
async fn who_is_let_in() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let tls = ours.node(&Expiry::Never).load();
    let open = start(Security::Open(tls.clone()), Limits::default()).await;
    let between_nodes = start(mutual(tls), Limits::default()).await;
    let member = || http1(&ours.node(&Expiry::Never).load());
    let expired = || http1(&ours.node(&Expiry::Passed).load());
    let stranger = || http1(&theirs.node(&Expiry::Never).trusting(&ours).load());
    let nobody = || anonymous(&ours, &rustls::version::TLS13);
    let outdated = || anonymous(&ours, &rustls::version::TLS12);
    for (name, server, client, let_in) in [
        ("a member among nodes", &between_nodes, member(), true),
        (
            "an expired member among nodes",
            &between_nodes,
            expired(),
            false,
        ),
        ("a stranger among nodes", &between_nodes, stranger(), false),
        ("nobody among nodes", &between_nodes, nobody(), false),
        ("a member at the API", &open, member(), true),
        ("nobody at the API", &open, nobody(), true),
        ("TLS 1.2 at the API", &open, outdated(), false),
    ] {
        let answer = ask(server.address, NODE, "/", client).await;
        assert_eq!(answer.is_ok(), let_in, "{name}: {answer:?}");
        assert_eq!(
            answer.ok().as_deref(),
            let_in.then_some("127.0.0.1"),
            "{name}"
        );
    }
}

#[tokio::test]
async fn whom_a_client_trusts() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    for (case, server, name, trusted) in [
        ("a member", ours.node(&Expiry::Never), NODE, true),
        (
            "a member under another name",
            ours.node(&Expiry::Never),
            "elsewhere.example",
            false,
        ),
        ("an expired member", ours.node(&Expiry::Passed), NODE, false),
        ("a stranger", theirs.node(&Expiry::Never), NODE, false),
    ] {
        let server = start(Security::Open(server.load()), Limits::default()).await;
        let answer = ask(
            server.address,
            name,
            "/",
            http1(&ours.node(&Expiry::Never).load()),
        )
        .await;
        assert_eq!(answer.is_ok(), trusted, "{case}: {answer:?}");
    }
}

#[tokio::test]
async fn new_certificates_are_taken_without_a_restart_on_both_sides() {
    let (old, new) = (Authority::new(), Authority::new());
    let (server_files, client_files) = (old.node(&Expiry::Never), old.node(&Expiry::Never));
    let (server_tls, client_tls) = (server_files.load(), client_files.load());
    let server = start(mutual(server_tls.clone()), Limits::default()).await;
    let client = http1(&client_tls);
    assert!(ask(server.address, NODE, "/", client.clone()).await.is_ok());

    new.node(&Expiry::Never).replace(&server_files);
    assert!(server_tls.reload().unwrap());
    assert!(!server_tls.reload().unwrap(), "nothing new the second time");
    assert!(
        ask(server.address, NODE, "/", client.clone())
            .await
            .is_err(),
        "the server is of the new authority"
    );

    new.node(&Expiry::Never).replace(&client_files);
    assert!(client_tls.reload().unwrap());
    assert!(
        ask(server.address, NODE, "/", client).await.is_ok(),
        "the same client settings follow"
    );
}

#[tokio::test]
async fn tonic_connects_with_the_nodes_certificate() {
    let ours = Authority::new();
    let files = ours.node(&Expiry::Never);
    let server = start(mutual(files.load()), Limits::default()).await;
    let endpoint = tonic::transport::Endpoint::from_shared(format!(
        "https://localhost:{}",
        server.address.port()
    ))
    .unwrap();
    let mut channel = endpoint
        .connect_with_connector(Connector::new(&files.load()))
        .await
        .unwrap();
    let request = http::Request::get("/")
        .body(tonic::body::Body::empty())
        .unwrap();
    let answer = channel.ready().await.unwrap().call(request).await.unwrap();
    assert_eq!(
        answer.into_body().collect().await.unwrap().to_bytes(),
        "127.0.0.1"
    );

    let stranger = Authority::new().node(&Expiry::Never);
    let refused = endpoint
        .connect_with_connector(Connector::new(&stranger.load()))
        .await;
    assert!(
        refused.is_err(),
        "a server of another authority was trusted"
    );
}

/// A gigabyte that is encrypted on the thread of replication holds up every write.
#[tokio::test]
async fn copies_of_whole_stores_are_served_by_threads_of_their_own() {
    let files = Authority::new().node(&Expiry::Never);
    let threads = Bulk::start().unwrap();
    let security = Security::Mutual {
        tls: files.load(),
        bulk: threads.handle(),
    };
    let between_nodes = start(security, Limits::default()).await;
    // Offers no more than a node of an older version does.
    let older = start(Security::Open(files.load()), Limits::default()).await;
    let here = thread_name();
    let tls = files.load();
    for (case, server, connector, thread) in [
        (
            "a link",
            &between_nodes,
            Connector::new(&tls),
            here.as_str(),
        ),
        ("a copy", &between_nodes, Connector::bulk(&tls), "bulk"),
        (
            "a copy of an older node",
            &older,
            Connector::bulk(&tls),
            here.as_str(),
        ),
    ] {
        let address = format!("https://localhost:{}", server.address.port());
        let endpoint = tonic::transport::Endpoint::from_shared(address).unwrap();
        let mut channel = endpoint.connect_with_connector(connector).await.unwrap();
        let request = http::Request::get("/thread");
        let request = request.body(tonic::body::Body::empty()).unwrap();
        let answer = channel.ready().await.unwrap().call(request).await.unwrap();
        let name = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(name, thread, "{case}");
    }
}

#[test]
fn bad_files_are_refused_and_the_good_ones_stay() {
    let ours = Authority::new();
    let files = ours.node(&Expiry::Never);
    let tls = files.load();
    let in_use = tls.generation.load_full();
    let other_key = ours.node(&Expiry::Never).read("tls.key");
    for (case, name, content) in [
        (
            "another certificate's key",
            "tls.key",
            Some(other_key.as_slice()),
        ),
        ("no key", "tls.key", Some(b"".as_slice())),
        (
            "no certificate",
            "tls.crt",
            Some(b"nothing here".as_slice()),
        ),
        (
            "half a certificate",
            "tls.crt",
            Some(b"-----BEGIN CERTIFICATE-----\nMIIB".as_slice()),
        ),
        ("no authority", "ca.crt", Some(b"".as_slice())),
        ("a missing file", "ca.crt", None),
    ] {
        let good = files.read(name);
        files.write(name, content);
        assert!(tls.reload().is_err(), "{case} was taken");
        assert!(
            Arc::ptr_eq(&in_use, &tls.generation.load_full()),
            "{case} replaced the good one"
        );
        files.write(name, Some(&good));
        assert!(!tls.reload().unwrap(), "{case}: back to what is in use");
    }
}

#[test]
fn a_volumes_delivery_is_taken_whole() {
    let (old, new) = (Authority::new(), Authority::new());
    let volume = tempfile::tempdir().unwrap();
    let deliver = |name: &str, authority: &Authority| {
        let files = volume.path().join(name);
        std::fs::create_dir(&files).unwrap();
        authority.node(&Expiry::Never).copy_to(&files);
        std::os::unix::fs::symlink(name, volume.path().join("..new")).unwrap();
        std::fs::rename(volume.path().join("..new"), volume.path().join("..data")).unwrap();
    };
    deliver("..first", &old);
    let tls = Tls::load(volume.path()).unwrap();
    assert!(!tls.reload().unwrap());
    deliver("..second", &new);
    assert!(tls.reload().unwrap());
}

#[tokio::test]
async fn shutdown_lets_requests_finish() {
    let ours = Authority::new();
    let files = ours.node(&Expiry::Never);
    let server = start(Security::Open(files.load()), Limits::default()).await;
    let asked = tokio::spawn(ask(server.address, NODE, "/slow", http1(&files.load())));
    tokio::time::sleep(SLOW / 3).await;
    server.shutdown.cancel();
    assert_eq!(asked.await.unwrap().unwrap(), "done");
    server.task.await.unwrap();
    assert!(
        TcpStream::connect(server.address).await.is_err(),
        "the port is closed"
    );
}

#[tokio::test]
async fn a_silent_client_does_not_keep_a_connection() {
    let limits = Limits {
        connections: 1,
        handshake: Duration::from_millis(100),
        ..Limits::default()
    };
    let files = Authority::new().node(&Expiry::Never);
    let server = start(Security::Open(files.load()), limits).await;
    let begun = Instant::now();
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    assert!(
        ask(server.address, NODE, "/", http1(&files.load()))
            .await
            .is_ok(),
        "served once the silent one is gone"
    );
    assert!(
        begun.elapsed() >= limits.handshake,
        "one connection at a time"
    );
    assert_eq!(
        silent.read(&mut [0]).await.unwrap_or(0),
        0,
        "the silent one was closed"
    );
}
