//! etcd with three members: `Put` through its own gRPC, at the leader.
//!
//! The few messages are written by hand; their numbers are those of etcd's `rpc.proto`.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use super::closed_loop::{Peer, Writer, value};
use super::daemon::{Daemon, until};
use super::place::{Place, free_ports};
use crate::programs;

const MEMBERS: usize = 3;

#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PutResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ResponseHeader {
    #[prost(uint64, tag = "2")]
    member_id: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusRequest {}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
    #[prost(uint64, tag = "4")]
    leader: u64,
}

/// Three members with a leader.
pub(super) struct Etcd {
    members: Vec<Daemon>,
    addresses: [SocketAddr; MEMBERS],
    leader: SocketAddr,
    _place: Place,
}

impl Etcd {
    /// Starts the members and waits for their leader.
    pub(super) async fn start(place: Place) -> Result<Self> {
        let program = programs::etcd()?;
        let clients: [u16; MEMBERS] = free_ports()?;
        let peers: [u16; MEMBERS] = free_ports()?;
        let cluster: Vec<String> = (0..MEMBERS)
            .map(|number| format!("member{number}=http://127.0.0.1:{}", peers[number]))
            .collect();
        let mut members = Vec::new();
        for number in 0..MEMBERS {
            let client = format!("http://127.0.0.1:{}", clients[number]);
            let peer = format!("http://127.0.0.1:{}", peers[number]);
            let name = format!("member{number}");
            let arguments = [
                format!("--name={name}"),
                format!("--data-dir={}", place.directory().join(&name).display()),
                format!("--listen-client-urls={client}"),
                format!("--advertise-client-urls={client}"),
                format!("--listen-peer-urls={peer}"),
                format!("--initial-advertise-peer-urls={peer}"),
                format!("--initial-cluster={}", cluster.join(",")),
                "--log-level=warn".to_owned(),
            ];
            members.push(Daemon::start(&place, &name, &program, arguments)?);
        }
        let addresses = clients.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        until("etcd has a leader", &mut members, || async {
            leader_of(&addresses).await.is_some()
        })
        .await?;
        let leader = leader_of(&addresses)
            .await
            .context("etcd lost its leader")?;
        Ok(Self {
            members,
            addresses,
            leader,
            _place: place,
        })
    }

    /// Where each member takes requests.
    pub(super) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The member that leads now, if all of them answer and are agreed.
    pub(super) async fn leader(&self) -> Option<usize> {
        let leader = leader_of(&self.addresses).await?;
        self.addresses.iter().position(|address| *address == leader)
    }

    /// One member, for whoever does something to it.
    pub(super) fn member(&mut self, number: usize) -> &mut Daemon {
        &mut self.members[number]
    }
}

impl Peer for Etcd {
    type Client = Client;

    fn daemons(&self) -> &[Daemon] {
        &self.members
    }

    async fn connect(&self, name: String) -> Result<Client> {
        let client = Client::open(self.leader).await?;
        Ok(Client { name, ..client })
    }
}

/// One client.
pub(super) struct Client {
    grpc: Grpc<Channel>,
    name: String,
}

impl Client {
    /// A client of one member, whichever leads.
    pub(super) async fn open(address: SocketAddr) -> Result<Self> {
        Ok(Self {
            grpc: connect(address).await?,
            name: String::new(),
        })
    }

    /// Writes the value of `sequence` under `key`.
    pub(super) async fn put(&mut self, key: String, sequence: u64) -> Result<()> {
        let request = PutRequest {
            key: key.into_bytes(),
            value: value(sequence).into(),
        };
        let _: PutResponse = call(&mut self.grpc, "/etcdserverpb.KV/Put", request).await?;
        Ok(())
    }
}

impl Writer for Client {
    async fn write(&mut self, sequence: u64) -> Result<()> {
        self.put(format!("{}-{sequence:08}", self.name), sequence)
            .await
    }
}

async fn connect(address: SocketAddr) -> Result<Grpc<Channel>> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
    Ok(Grpc::new(endpoint.connect().await?))
}

async fn call<Request, Response>(
    grpc: &mut Grpc<Channel>,
    path: &'static str,
    request: Request,
) -> Result<Response>
where
    Request: prost::Message + 'static,
    Response: prost::Message + Default + 'static,
{
    grpc.ready().await?;
    let codec = ProstCodec::<Request, Response>::default();
    let path = PathAndQuery::from_static(path);
    let response = grpc
        .unary(tonic::Request::new(request), path, codec)
        .await?;
    Ok(response.into_inner())
}

/// The address of the member that says that it leads, if all are agreed on somebody.
async fn leader_of(addresses: &[SocketAddr]) -> Option<SocketAddr> {
    let mut leader = None;
    for address in addresses {
        let mut grpc = connect(*address).await.ok()?;
        let status: StatusResponse = call(
            &mut grpc,
            "/etcdserverpb.Maintenance/Status",
            StatusRequest {},
        )
        .await
        .ok()?;
        if status.leader == 0 {
            return None;
        }
        if status.header?.member_id == status.leader {
            leader = Some(*address);
        }
    }
    leader
}
