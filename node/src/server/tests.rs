mod grpc;
mod hostile;
mod items;
mod lists;
mod relayed;
mod replies;
mod watch;
mod writes;
