//! A leader that only gives snapshots, and lies as told.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{Stream, StreamExt as _, stream};
use percolate_api::proto::replication::v1::replication_server::{Replication, ReplicationServer};
use percolate_api::proto::replication::v1::{
    CloseSnapshotReply, CloseSnapshotRequest, Envelope, HashSnapshotFileRequest, LinkEnd,
    OpenSnapshotRequest, ReadSnapshotRequest, SnapshotChunk, SnapshotFile, SnapshotFileHashes,
    SnapshotManifest,
};
use percolate_core::identity::{Incarnation, ReplicaId};
use percolate_node::snapshot::incoming::Source;
use percolate_node::tls::{self, Limits, Security, Tls};
use percolate_node::transport::Network;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::group::certificates;

/// Bytes of a chunk.
pub(crate) const CHUNK: usize = 1 << 20;

/// What is wrong with what the leader gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lie {
    None,
    /// The first file is called so.
    Name(String),
    /// The first file is said to be larger than it is.
    Larger,
    /// Bits of every chunk are flipped.
    Content,
    /// Bits of one chunk are flipped, once.
    OneChunkOnce,
    ShortChunks,
    LongChunks,
    /// It knows nothing of ranges and chunks.
    OlderVersion,
    OlderVersionWithWrongHash,
}

struct Shared {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    snapshot: Mutex<Vec<u8>>,
    lie: Mutex<Lie>,
    chunks_sent: AtomicUsize,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
}

/// The leader, until it is dropped.
pub(crate) struct Leader {
    shared: Arc<Shared>,
    tls: Tls,
    port: u16,
    stop: CancellationToken,
    _directory: TempDir,
}

/// Bytes that do not repeat.
pub(crate) fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut all = Vec::with_capacity(bytes + 8);
    while all.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        all.extend_from_slice(&state.to_le_bytes());
    }
    all.truncate(bytes);
    all
}

/// Letters that do not repeat.
pub(crate) fn text(bytes: usize, seed: u64) -> Vec<u8> {
    let letter = |byte: u8| b'a' + byte % 26;
    noise(bytes, seed).into_iter().map(letter).collect()
}

impl Leader {
    /// A leader with files of these sizes.
    pub(crate) async fn start(sizes: &[usize]) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let directory = tempfile::tempdir().expect("a directory");
        certificates::write(directory.path(), vec!["localhost".to_owned()]);
        let tls = Tls::load(directory.path()).expect("certificates");
        let files = sizes.iter().enumerate();
        let files = files.map(|(number, bytes)| (name(number), noise(*bytes, number as u64)));
        let shared = Arc::new(Shared {
            files: Mutex::new(files.collect()),
            snapshot: Mutex::new(vec![1; 16]),
            lie: Mutex::new(Lie::None),
            chunks_sent: AtomicUsize::new(0),
            at_once: AtomicUsize::new(0),
            most_at_once: AtomicUsize::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let service = ReplicationServer::new(Service(Arc::clone(&shared)));
        let stop = CancellationToken::new();
        tokio::spawn(tls::serve(
            listener,
            Security::Mutual {
                tls: tls.clone(),
                bulk: Handle::current(),
            },
            tonic::service::Routes::new(service)
                .prepare()
                .into_axum_router(),
            Limits::default(),
            stop.clone(),
        ));
        Self {
            shared,
            tls,
            port,
            stop,
            _directory: directory,
        }
    }

    pub(crate) fn source() -> Source {
        Source {
            replica: ReplicaId(1),
            pod: "acme-0".to_owned(),
            incarnation: Incarnation(7),
            reader: ReplicaId(2),
        }
    }

    pub(crate) fn network(&self) -> Network {
        let port = self.port;
        let address = move |_: &str| format!("https://localhost:{port}");
        Network::new(&self.tls, Handle::current(), address)
    }

    pub(crate) fn lie(&self, lie: Lie) {
        *self.shared.lie.lock().expect("whole") = lie;
    }

    /// It gives another snapshot now, with these files changed.
    pub(crate) fn restart_with(&self, changed: &[(String, Vec<u8>)]) {
        self.shared.snapshot.lock().expect("whole")[0] += 1;
        self.shared
            .files
            .lock()
            .expect("whole")
            .extend(changed.iter().cloned());
    }

    pub(crate) fn name(number: usize) -> String {
        name(number)
    }

    pub(crate) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        self.shared.files.lock().expect("whole").clone()
    }

    pub(crate) fn chunks_sent(&self) -> usize {
        self.shared.chunks_sent.load(Ordering::SeqCst)
    }

    /// Most ranges that were read at one time.
    pub(crate) fn most_at_once(&self) -> usize {
        self.shared.most_at_once.load(Ordering::SeqCst)
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn name(number: usize) -> String {
    format!("{number:06}.sst")
}

struct Service(Arc<Shared>);

impl Service {
    fn lie(&self) -> Lie {
        self.0.lie.lock().expect("whole").clone()
    }

    fn is_older(&self) -> bool {
        matches!(
            self.lie(),
            Lie::OlderVersion | Lie::OlderVersionWithWrongHash
        )
    }

    fn content(&self, name: &str) -> Result<Vec<u8>, Status> {
        let files = self.0.files.lock().expect("whole");
        let content = files.get(name).cloned();
        content.ok_or_else(|| Status::not_found("no such file"))
    }

    fn described(&self, name: &str, content: &[u8]) -> SnapshotFile {
        let mut hash = Vec::new();
        if self.is_older() {
            hash = blake3::hash(content).as_bytes().to_vec();
        }
        let mut file = SnapshotFile {
            name: name.to_owned(),
            bytes: content.len() as u64,
            hash,
        };
        if name.starts_with("000000") {
            match self.lie() {
                Lie::Name(name) => file.name = name,
                Lie::Larger => file.bytes += 1,
                Lie::OlderVersionWithWrongHash => file.hash[0] ^= 1,
                _ => {}
            }
        }
        file
    }

    /// A chunk as it is sent, truly or not.
    fn chunk(&self, content: &[u8]) -> SnapshotChunk {
        let hash = blake3::hash(content).as_bytes().to_vec();
        let mut content = content.to_vec();
        match self.lie() {
            Lie::Content => content[0] ^= 1,
            Lie::OneChunkOnce => {
                content[0] ^= 1;
                *self.0.lie.lock().expect("whole") = Lie::None;
            }
            Lie::ShortChunks => content.truncate(content.len() - 1),
            Lie::LongChunks => content.push(0),
            _ => {}
        }
        SnapshotChunk {
            content: content.into(),
            hash: if self.is_older() { Vec::new() } else { hash },
        }
    }
}

#[tonic::async_trait]
impl Replication for Service {
    async fn link(&self, _: Request<Streaming<Envelope>>) -> Result<Response<LinkEnd>, Status> {
        Err(Status::unimplemented("only snapshots"))
    }

    async fn open_snapshot(
        &self,
        _: Request<OpenSnapshotRequest>,
    ) -> Result<Response<SnapshotManifest>, Status> {
        let files = self.0.files.lock().expect("whole").clone();
        Ok(Response::new(SnapshotManifest {
            snapshot: self.0.snapshot.lock().expect("whole").clone(),
            files: files
                .iter()
                .map(|(name, content)| self.described(name, content))
                .collect(),
            chunk_bytes: if self.is_older() { 0 } else { CHUNK as u64 },
        }))
    }

    async fn hash_snapshot_file(
        &self,
        request: Request<HashSnapshotFileRequest>,
    ) -> Result<Response<SnapshotFileHashes>, Status> {
        if self.is_older() {
            return Err(Status::unimplemented("an older version"));
        }
        let content = self.content(&request.into_inner().name)?;
        let hashes = content.chunks(CHUNK).map(blake3::hash);
        Ok(Response::new(SnapshotFileHashes {
            chunks: hashes.flat_map(|hash| *hash.as_bytes()).collect(),
        }))
    }

    type ReadSnapshotStream = Pin<Box<dyn Stream<Item = Result<SnapshotChunk, Status>> + Send>>;

    async fn read_snapshot(
        &self,
        request: Request<ReadSnapshotRequest>,
    ) -> Result<Response<Self::ReadSnapshotStream>, Status> {
        let request = request.into_inner();
        let content = self.content(&request.name)?;
        let from = usize::try_from(request.offset).expect("small");
        let length = if self.is_older() || request.length == 0 {
            content.len()
        } else {
            usize::try_from(request.length).expect("small")
        };
        let to = (from + length).min(content.len());
        let chunks: Vec<SnapshotChunk> = content[from..to]
            .chunks(CHUNK)
            .map(|chunk| self.chunk(chunk))
            .collect();
        let at_once = self.0.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.most_at_once.fetch_max(at_once, Ordering::SeqCst);
        let shared = Arc::clone(&self.0);
        let send = move |chunk| {
            let shared = Arc::clone(&shared);
            async move {
                // So that several ranges are under way, and a copy can be interrupted.
                tokio::time::sleep(Duration::from_millis(5)).await;
                shared.chunks_sent.fetch_add(1, Ordering::SeqCst);
                Ok(chunk)
            }
        };
        let shared = Arc::clone(&self.0);
        let end = stream::once(async move {
            shared.at_once.fetch_sub(1, Ordering::SeqCst);
        });
        let chunks = stream::iter(chunks).then(send).map(Some);
        let all = chunks.chain(end.map(|()| None));
        Ok(Response::new(
            all.filter_map(|chunk| async move { chunk }).boxed(),
        ))
    }

    async fn close_snapshot(
        &self,
        _: Request<CloseSnapshotRequest>,
    ) -> Result<Response<CloseSnapshotReply>, Status> {
        Ok(Response::new(CloseSnapshotReply {}))
    }
}
