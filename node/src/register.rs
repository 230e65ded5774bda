//! Where the register is kept: reading, changing and watching it.
//!
//! ```text
//! driver: Effect::ReadRegister, ChangeRegister -> Register -> Input::RegisterRead, RegisterChanged
//!                                    follow()  -> Input::Watched
//! ```
//! [`kubernetes`] keeps it in a `PercolateReplication`, [`memory`] in this process (for tests, and
//! for a node on its own).

pub mod kubernetes;
pub mod memory;

use futures::future::BoxFuture;
use percolate_core::register::{Register, Version, View};
use percolate_core::replica::ChangeOutcome;
use tokio::sync::mpsc;

/// Access to one tenant's register. Nothing here retries: the replica decides what to do next.
pub trait Registry: Send + Sync + 'static {
    /// A linearizable read; `None` if it failed.
    fn read(&self) -> BoxFuture<'_, Option<View>>;

    /// Replace the register if it is still at `expected`.
    fn change(&self, expected: Version, register: Register) -> BoxFuture<'_, ChangeOutcome>;

    /// Report every newer view that is seen; ends when `views` is closed.
    fn follow(&self, views: mpsc::Sender<View>) -> BoxFuture<'_, ()>;
}
