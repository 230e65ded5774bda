mod hostile;
mod items;
mod lists;
mod relayed;
mod replies;
mod staleness;
mod watch;
mod writes;
