//! The last in-sync replica is lost, and a person accepts that: the others go on without what only it
//! held, and that comes back with its disk. With real stores, real disks and real links.

#[allow(dead_code, reason = "other tests use the rest")]
#[path = "cluster/group.rs"]
mod group;

use std::time::{Duration, Instant};

use group::{Group, key};
use percolate_core::register::FailoverReason;
use percolate_node::tenant::{Consistency, Unavailable};

const PATIENCE: Duration = Duration::from_mins(1);
/// Several takeovers.
const A_WHILE: Duration = Duration::from_secs(4);

fn there(group: &Group, ordinal: usize, id: &str) -> bool {
    let store = group.handle(ordinal).store;
    store.get(&key(id)).expect("readable").is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_given_up_comes_back_with_the_disk_that_held_it() {
    let mut group = Group::start(2, 1).await;
    group.wait_in_sync(2).await;
    group.write("shared").await;
    let lost = group.leader().await;
    let behind = 1 - lost;
    group.kill(behind).await;
    group.write("only-0").await;
    group.write("only-1").await;
    let seen = group.write("only-2").await;
    group.kill(lost).await;

    group.revive(behind).await;
    tokio::time::sleep(A_WHILE).await;
    let register = group.register();
    assert_eq!(
        register.pod_of(register.leader),
        Some(format!("acme-{lost}").as_str())
    );
    group.accept_loss();
    assert_eq!(group.leader().await, behind);
    let failover = group.register().last_failover.expect("told");
    assert_eq!(failover.reason, FailoverReason::LossAccepted);
    assert!(there(&group, behind, "shared") && !there(&group, behind, "only-0"));
    // Who has seen what is lost is told so, and not that it is to come.
    let handle = group.handle(behind);
    let read = handle.freshen(Consistency::Session, Some(seen)).await;
    assert!(
        matches!(read, Err(Unavailable::OtherIncarnation)),
        "{read:?}"
    );
    let new = group.write("after").await;
    let read = handle.freshen(Consistency::Session, Some(new)).await;
    assert!(read.is_ok(), "{read:?}");

    group.revive(lost).await;
    let began = Instant::now();
    while group.rescued() < 3 {
        assert!(
            began.elapsed() < PATIENCE,
            "{} are rescued",
            group.rescued()
        );
        group.revive_ended().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(group.rescued(), 3);
    group.wait_in_sync(2).await;
    group.wait_equal_states().await;
    for ordinal in [behind, lost] {
        for id in ["shared", "only-0", "only-1", "only-2", "after"] {
            assert!(there(&group, ordinal, id), "{id} is missing at {ordinal}");
        }
    }
    group.stop().await;
}
