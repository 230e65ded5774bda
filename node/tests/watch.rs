//! Watches over real replicas: their clients go from replica to replica while leaders are killed, and
//! see what everybody else sees.

#[path = "cluster/group.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod group;
#[path = "watching/grpc.rs"]
mod grpc;
#[path = "watching/http.rs"]
mod http;
#[path = "watching/nodes.rs"]
mod nodes;
