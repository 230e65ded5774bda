//! Which tenants to look at, on the way from the watches to the controller.
//!
//! Changes of a tenant come in bursts, so a tenant is passed on a moment after the first of them,
//! and what happens within that moment is looked at together. The moment is not extended: the
//! controller's own debounce is, by each further change, and would never look at a tenant that
//! never rests.
//!
//! A standby keeps its caches warm but has nobody to look at tenants, so nothing is queued before
//! [`Triggers::open`]; the first thing a new leader does is to look at every tenant.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{Stream, stream};
use kube::runtime::reflector::ObjectRef;
use percolate_crds::PercolateTenant;
use tokio::{sync::mpsc, time::Instant};

/// How long the first change of a tenant waits for others: a rollout brings bursts of them.
const GATHER: Duration = Duration::from_millis(200);

/// Names a tenant.
pub type TenantRef = ObjectRef<PercolateTenant>;

/// The sending end.
pub struct Triggers {
    open: AtomicBool,
    gathering: Arc<Gathering>,
    sender: mpsc::UnboundedSender<(Instant, TenantRef)>,
}

/// The receiving end.
pub struct Queue {
    gathering: Arc<Gathering>,
    /// In the order in which they are due, for all wait equally long. No tenant is in it twice,
    /// which bounds it.
    receiver: mpsc::UnboundedReceiver<(Instant, TenantRef)>,
}

/// Tenants in the queue.
#[derive(Default)]
struct Gathering(Mutex<HashSet<TenantRef>>);

impl Triggers {
    /// Both ends.
    pub fn new() -> (Self, Queue) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let gathering = Arc::new(Gathering::default());
        let triggers = Self {
            open: AtomicBool::new(false),
            gathering: gathering.clone(),
            sender,
        };
        let queue = Queue {
            gathering,
            receiver,
        };
        (triggers, queue)
    }

    /// From now on there is somebody to look at tenants.
    pub fn open(&self) {
        self.open.store(true, Ordering::Release);
    }

    /// Has a tenant looked at.
    pub fn send(&self, tenant: TenantRef) {
        if self.open.load(Ordering::Acquire) && self.gathering.lock().insert(tenant.clone()) {
            // The receiver is gone only while the process ends.
            let _ = self.sender.send((Instant::now() + GATHER, tenant));
        }
    }
}

impl Queue {
    /// Tenants, each a moment after its first change.
    pub fn into_stream(self) -> impl Stream<Item = TenantRef> + Send {
        stream::unfold(self, |mut queue| async {
            let (due, tenant) = queue.receiver.recv().await?;
            tokio::time::sleep_until(due).await;
            // Before it is looked at: what changes from now on is looked at once more.
            queue.gathering.lock().remove(&tenant);
            Some((tenant, queue))
        })
    }
}

impl Gathering {
    fn lock(&self) -> MutexGuard<'_, HashSet<TenantRef>> {
        // The set is whole after every statement, so a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, StreamExt as _};
    use tokio::time::timeout;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn tenant(name: &str) -> TenantRef {
        ObjectRef::new(name).within("tenants")
    }

    /// A register that was rewritten a hundred times a second kept its tenant from ever being
    /// looked at: its status told of a replica out of sync that had long been in sync.
    #[tokio::test]
    async fn a_tenant_that_never_rests_is_looked_at_all_the_same() {
        let (triggers, queue) = Triggers::new();
        triggers.open();
        let restless = async {
            loop {
                triggers.send(tenant("acme"));
                tokio::time::sleep(GATHER / 20).await;
            }
        };
        let looked_at = queue.into_stream().take(2).collect::<Vec<_>>();
        let looked_at = tokio::select! {
            looked_at = timeout(PATIENCE, looked_at) => looked_at,
            () = restless => unreachable!("it never ends"),
        };
        assert_eq!(looked_at.ok(), Some(vec![tenant("acme"); 2]));
    }

    #[tokio::test]
    async fn a_burst_is_looked_at_once_and_holds_up_no_other() {
        let (triggers, queue) = Triggers::new();
        triggers.open();
        for name in ["acme", "globex", "acme", "acme", "globex"] {
            triggers.send(tenant(name));
        }
        let mut stream = Box::pin(queue.into_stream());
        let first = timeout(PATIENCE, stream.next()).await.ok().flatten();
        let second = timeout(PATIENCE, stream.next()).await.ok().flatten();
        assert_eq!(first, Some(tenant("acme")));
        assert_eq!(second, Some(tenant("globex")));
        assert_eq!(timeout(2 * GATHER, stream.next()).await.ok(), None);
    }

    #[tokio::test]
    async fn a_standby_queues_nothing() {
        let (triggers, queue) = Triggers::new();
        triggers.send(tenant("acme"));
        triggers.open();
        drop(triggers);
        let mut stream = Box::pin(queue.into_stream());
        assert_eq!(stream.next().now_or_never(), Some(None));
    }
}
