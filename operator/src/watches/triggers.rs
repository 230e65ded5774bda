//! Which tenants to look at, on the way from the watches to the controller.
//!
//! A standby keeps its caches warm but has nobody to look at tenants, so nothing is queued before
//! [`Triggers::open`]; the first thing a new leader does is to look at every tenant.

use std::sync::atomic::{AtomicBool, Ordering};

use kube::runtime::reflector::ObjectRef;
use percolate_crds::PercolateTenant;
use tokio::sync::mpsc;

/// Tenants waiting to be taken over by the controller's own queue, which merges repeats. Full only
/// for the moment of a large listing; the watch then waits.
const QUEUE: usize = 1024;

/// Names a tenant.
pub type TenantRef = ObjectRef<PercolateTenant>;

/// The sending end.
pub struct Triggers {
    open: AtomicBool,
    sender: mpsc::Sender<TenantRef>,
}

impl Triggers {
    /// Both ends.
    pub fn new() -> (Self, mpsc::Receiver<TenantRef>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let triggers = Self {
            open: AtomicBool::new(false),
            sender,
        };
        (triggers, receiver)
    }

    /// From now on there is somebody to look at tenants.
    pub fn open(&self) {
        self.open.store(true, Ordering::Release);
    }

    /// Has a tenant looked at.
    pub async fn send(&self, tenant: TenantRef) {
        if self.open.load(Ordering::Acquire) {
            // The receiver is gone only while the process ends.
            let _ = self.sender.send(tenant).await;
        }
    }
}
