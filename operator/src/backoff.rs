//! How long to wait after a failure, for each tenant on its own: a tenant that always fails waits
//! longer and longer and takes nothing from the others.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::{error::ErrorKind, watches::TenantRef};

/// Failures in a row after which people are told, when the failure may go by itself.
const TELL_AFTER: u32 = 3;

/// Failures in a row, by tenant. Tenants without failures are not in it.
#[derive(Default)]
pub struct Backoff {
    failures: Mutex<HashMap<TenantRef, u32>>,
}

impl Backoff {
    /// A pass went through.
    pub fn succeeded(&self, tenant: &TenantRef) {
        self.lock().remove(tenant);
    }

    /// A pass failed: how long to wait. `chance` in 0..1 spreads tenants that failed together.
    pub fn failed(&self, tenant: &TenantRef, kind: ErrorKind, chance: f64) -> Duration {
        let mut failures = self.lock();
        let count = failures.entry(tenant.clone()).or_default();
        *count = count.saturating_add(1);
        wait(kind, *count, chance)
    }

    /// Whether a failure of this kind is worth a condition already.
    pub fn is_worth_telling(&self, tenant: &TenantRef, kind: ErrorKind) -> bool {
        let so_far = self.lock().get(tenant).copied().unwrap_or_default();
        match kind {
            ErrorKind::Transient | ErrorKind::Conflict => so_far + 1 >= TELL_AFTER,
            ErrorKind::Taken | ErrorKind::Invalid | ErrorKind::Forbidden | ErrorKind::Bug => true,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<TenantRef, u32>> {
        // The map is whole after every statement, so a panic elsewhere leaves nothing half done.
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Doubles from the first to the longest wait; half of it is left to chance.
fn wait(kind: ErrorKind, failures: u32, chance: f64) -> Duration {
    let (first, longest) = kind.waits();
    let doubled = first.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1).min(16)));
    doubled
        .min(longest)
        .mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_start_over_after_success() {
        let backoff = Backoff::default();
        let (bad, other) = (TenantRef::new("bad"), TenantRef::new("other"));
        let waits: Vec<u64> = (0..8)
            .map(|_| backoff.failed(&bad, ErrorKind::Transient, 1.0).as_secs())
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(
            backoff.failed(&other, ErrorKind::Transient, 1.0).as_secs(),
            1
        );
        backoff.succeeded(&bad);
        assert_eq!(
            backoff.failed(&bad, ErrorKind::Transient, 0.0).as_millis(),
            500
        );
    }

    #[test]
    fn people_are_told_of_what_they_can_mend_at_once_and_of_the_rest_when_it_lasts() {
        let backoff = Backoff::default();
        let tenant = TenantRef::new("a");
        assert!(backoff.is_worth_telling(&tenant, ErrorKind::Taken));
        let told: Vec<bool> = (0..4)
            .map(|_| {
                let told = backoff.is_worth_telling(&tenant, ErrorKind::Transient);
                backoff.failed(&tenant, ErrorKind::Transient, 0.0);
                told
            })
            .collect();
        assert_eq!(told, [false, false, true, true]);
    }
}
