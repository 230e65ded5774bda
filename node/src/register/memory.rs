//! A register in memory: shared by the replicas of a test, or private to a node on its own.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use percolate_core::register::{Register, Request, Version, View, check_change};
use percolate_core::replica::ChangeOutcome;
use tokio::sync::{mpsc, watch};

use super::Registry;

/// Clones share the register.
#[derive(Debug, Clone)]
pub struct MemoryRegister {
    view: Arc<watch::Sender<View>>,
}

impl MemoryRegister {
    /// A register that begins as `register`, for a tenant that demands `min_in_sync`.
    pub fn new(register: Option<Register>, min_in_sync: usize) -> Self {
        let bootstrap = register.is_none();
        let view = View {
            version: 1,
            register,
            min_in_sync,
            bootstrap,
            requests: Vec::new(),
        };
        Self {
            view: Arc::new(watch::Sender::new(view)),
        }
    }

    /// The register as it is.
    pub fn view(&self) -> View {
        self.view.borrow().clone()
    }

    /// Ask for these things instead of what was asked before.
    pub fn ask(&self, requests: Vec<Request>) {
        self.view.send_modify(|view| {
            view.version += 1;
            view.requests = requests;
        });
    }

    fn try_change(&self, expected: Version, register: Register) -> ChangeOutcome {
        let mut applied = None;
        self.view.send_if_modified(|view| {
            let known = view.register.as_ref();
            let safe = check_change(known, Some(&register), &view.requests).is_ok();
            if view.version != expected || !safe {
                return false;
            }
            view.version += 1;
            view.register = Some(register);
            view.bootstrap = false;
            applied = Some(view.clone());
            true
        });
        applied.map_or(ChangeOutcome::NotKnownApplied, |view| {
            ChangeOutcome::Applied(Box::new(view))
        })
    }
}

impl Registry for MemoryRegister {
    fn read(&self) -> BoxFuture<'_, Option<View>> {
        async { Some(self.view()) }.boxed()
    }

    fn change(&self, expected: Version, register: Register) -> BoxFuture<'_, ChangeOutcome> {
        async move { self.try_change(expected, register) }.boxed()
    }

    fn follow(&self, views: mpsc::Sender<View>) -> BoxFuture<'_, ()> {
        let mut seen = self.view.subscribe();
        async move {
            loop {
                let view = seen.borrow_and_update().clone();
                if views.send(view).await.is_err() || seen.changed().await.is_err() {
                    return;
                }
            }
        }
        .boxed()
    }
}
