//! Writes to Percolate over gRPC: each client with a connection and a stream of its own, on which it
//! sends the next write when the last one is answered, as the peers' clients do.
//!
//! The few messages are written by hand; their numbers are those of `percolate/data/v1`.

use anyhow::{Context as _, Result, ensure};
use futures::channel::mpsc::{self, UnboundedSender};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Request, Streaming};
use tonic_prost::ProstCodec;

use super::Percolate;
use crate::bench::closed_loop::{Peer, Writer, value};
use crate::bench::daemon::Daemon;
use crate::bench::deployment::TOKEN;

const CALL: &str = "/percolate.data.v1.Data/WriteStream";

#[derive(Clone, PartialEq, prost::Message)]
struct WriteRequest {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(message, repeated, tag = "3")]
    operations: Vec<Operation>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Operation {
    #[prost(message, optional, tag = "1")]
    put_resource: Option<PutResource>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PutResource {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(bytes = "vec", tag = "2")]
    content: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WriteReply {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(message, optional, tag = "2")]
    applied: Option<Applied>,
    #[prost(message, optional, tag = "3")]
    problem: Option<Problem>,
}

/// What was done to each item is of no interest here.
#[derive(Clone, PartialEq, prost::Message)]
struct Applied {}

#[derive(Clone, PartialEq, prost::Message)]
struct Problem {
    #[prost(string, tag = "1")]
    code: String,
    #[prost(string, tag = "2")]
    detail: String,
}

/// Two replicas, written to on streams.
pub(in crate::bench) struct Streams(pub(in crate::bench) Percolate);

impl Peer for Streams {
    type Client = Stream;

    fn daemons(&self) -> &[Daemon] {
        self.0.daemons()
    }

    async fn connect(&self, name: String) -> Result<Stream> {
        let (requests, sent) = mpsc::unbounded();
        let percolate = &self.0;
        let access = percolate.deployment.access();
        let mut grpc = Grpc::new(access.channel(percolate.leader).await?);
        grpc.ready().await?;
        let mut call = Request::new(sent);
        let token = format!("Bearer {TOKEN}").parse()?;
        call.metadata_mut().insert("authorization", token);
        let codec = ProstCodec::<WriteRequest, WriteReply>::default();
        let path = PathAndQuery::from_static(CALL);
        let replies = grpc.streaming(call, path, codec).await?.into_inner();
        Ok(Stream {
            requests,
            replies,
            name,
        })
    }

    fn check(&self) -> Result<()> {
        self.0.check()
    }
}

/// Writes one value per message.
pub(in crate::bench) struct Stream {
    requests: UnboundedSender<WriteRequest>,
    replies: Streaming<WriteReply>,
    name: String,
}

impl Writer for Stream {
    async fn write(&mut self, sequence: u64) -> Result<()> {
        let put = PutResource {
            id: format!("{}-{sequence:08}", self.name),
            content: value(sequence).into(),
        };
        let request = WriteRequest {
            id: sequence,
            operations: vec![Operation {
                put_resource: Some(put),
            }],
        };
        self.requests
            .unbounded_send(request)
            .context("the stream takes no more writes")?;
        let reply = self.replies.message().await?;
        let reply = reply.context("the stream ended before the answer")?;
        ensure!(
            reply.id == sequence && reply.applied.is_some(),
            "Percolate refused: {reply:?}"
        );
        Ok(())
    }
}
