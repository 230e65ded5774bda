//! The way of a TCP connection, which may swallow, damage, repeat or keep what passes.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Between two tries of an end that is not there.
const RETRY: Duration = Duration::from_millis(20);

/// What happens on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// All passes.
    Open,
    /// Nothing passes and nobody is told: connections stay, as when a machine vanishes.
    Swallow,
    /// One bit of every piece is another when it arrives.
    Flip,
    /// Every piece arrives twice.
    Repeat,
}

/// The way to one address, until it is dropped.
pub(crate) struct Proxy {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    way: Mutex<Way>,
    connections: AtomicUsize,
    spoilt: AtomicUsize,
    /// What the client of the first connection sent.
    first: Mutex<Vec<u8>>,
}

impl Proxy {
    /// Leads from `listen` to `target`.
    pub(crate) async fn start(listen: SocketAddr, target: SocketAddr) -> Self {
        let shared = Arc::new(Shared {
            way: Mutex::new(Way::Open),
            connections: AtomicUsize::new(0),
            spoilt: AtomicUsize::new(0),
            first: Mutex::default(),
        });
        let listener = TcpListener::bind(listen).await.expect("a free address");
        let task = tokio::spawn(accept(listener, target, Arc::clone(&shared)));
        Self { shared, task }
    }

    pub(crate) fn set(&self, way: Way) {
        *self.shared.way.lock().expect("whole") = way;
    }

    /// Connections made this way so far.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Pieces damaged, repeated or swallowed so far.
    pub(crate) fn spoilt(&self) -> usize {
        self.shared.spoilt.load(Ordering::Relaxed)
    }

    /// What the client of the first connection sent so far.
    pub(crate) fn recorded(&self) -> Vec<u8> {
        self.shared.first.lock().expect("whole").clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, shared: Arc<Shared>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else {
            tokio::time::sleep(RETRY).await;
            continue;
        };
        let is_first = shared.connections.fetch_add(1, Ordering::Relaxed) == 0;
        connections.spawn(pass(client, target, Arc::clone(&shared), is_first));
    }
}

async fn pass(client: TcpStream, target: SocketAddr, shared: Arc<Shared>, is_first: bool) {
    // Who is not there refuses: so does this, by closing.
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = copy(from_client, to_server, &shared, is_first) => {}
        () = copy(from_server, to_client, &shared, false) => {}
    }
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    shared: &Shared,
    records: bool,
) {
    let mut piece = vec![0; 64 << 10];
    while let Ok(bytes @ 1..) = from.read(&mut piece).await {
        let piece = &mut piece[..bytes];
        if records {
            shared.first.lock().expect("whole").extend_from_slice(piece);
        }
        let way = *shared.way.lock().expect("whole");
        if way != Way::Open {
            shared.spoilt.fetch_add(1, Ordering::Relaxed);
        }
        let written = match way {
            Way::Open => to.write_all(piece).await,
            Way::Swallow => Ok(()),
            Way::Flip => {
                piece[bytes / 2] ^= 1;
                to.write_all(piece).await
            }
            Way::Repeat => to.write_all(&[&*piece, &*piece].concat()).await,
        };
        if written.is_err() {
            return;
        }
    }
}
