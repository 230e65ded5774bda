//! Three replicas in one process, over real TLS links and real disks, with a register in memory:
//! the driver, the transport and the store together, without Kubernetes.

#[allow(dead_code, reason = "other tests use the rest")]
#[path = "cluster/group.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod group;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use group::{Group, key, put};
use percolate_core::operation::IdempotencyKey;
use percolate_core::register::ReplicaState;
use percolate_node::tenant::{Consistency, Role, Unavailable};

/// How long anything may take before a test gives up; generous, for busy machines.
const PATIENCE: Duration = Duration::from_mins(1);

/// A short log, so that it is soon trimmed, and more writes than it keeps.
const LOG_KEEP_BYTES: u64 = 16 << 10;
const LONGER_THAN_THE_LOG: usize = 400;
/// Between two writes while a copy is under way: the log is kept for that up to a multiple, which on a fast
/// machine an unbridled writer outgrows before the copy is in place.
const BREATH: Duration = Duration::from_millis(2);

#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_on_every_replica_and_readable_with_its_token() {
    let mut group = Group::start(3, 1).await;
    group.wait_in_sync(3).await;
    let written = group.write("greeting").await;
    for ordinal in 0..3 {
        let handle = group.handle(ordinal);
        handle
            .freshen(Consistency::Session, Some(written))
            .await
            .expect("reaches the token");
        assert!(
            handle
                .store
                .get(&key("greeting"))
                .expect("readable")
                .is_some(),
            "replica {ordinal}"
        );
    }
    group.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_name_the_leader_and_only_the_leader_confirms() {
    let mut group = Group::start(2, 1).await;
    group.wait_in_sync(2).await;
    let leader = group.leader().await;
    let follower = group.handle(1 - leader);
    let refused = follower
        .write(vec![put("x")], None)
        .await
        .expect_err("followers do not write");
    assert!(
        matches!(
            refused,
            Unavailable::NotLeader {
                leader_url: Some(_)
            }
        ),
        "{refused}"
    );
    let confirmed = group
        .handle(leader)
        .freshen(Consistency::Linearizable, None)
        .await;
    assert!(confirmed.is_ok(), "{confirmed:?}");
    group.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_acknowledged_before_and_after_lost_leaders_are_all_there() {
    let mut group = Group::start(3, 1).await;
    group.wait_in_sync(3).await;
    let mut tokens = BTreeMap::new();
    for round in 0..4 {
        for number in 0..20 {
            let id = format!("{round}-{number}");
            tokens.insert(id.clone(), group.write(&id).await);
        }
        let leader = group.leader().await;
        group.kill(leader).await;
        let id = format!("{round}-after");
        tokens.insert(id.clone(), group.write(&id).await);
        group.revive(leader).await;
        group.wait_in_sync(3).await;
    }
    for ordinal in 0..3 {
        for (id, token) in &tokens {
            group
                .handle(ordinal)
                .freshen(Consistency::Session, Some(*token))
                .await
                .expect("reaches the token");
            assert!(
                group
                    .handle(ordinal)
                    .store
                    .get(&key(id))
                    .expect("readable")
                    .is_some(),
                "{id} at {ordinal}"
            );
        }
    }
    group.wait_equal_states().await;
    group.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_comes_back_with_an_empty_disk_is_filled_again() {
    let mut group = Group::start(2, 1).await;
    group.wait_in_sync(2).await;
    for number in 0..50 {
        group.write(&format!("{number}")).await;
    }
    let follower = 1 - group.leader().await;
    let before = group.handle(follower).status().replica_id;
    group.kill(follower).await;
    group.empty_disk(follower);
    group.revive(follower).await;
    group.wait_in_sync(2).await;
    assert_ne!(group.handle(follower).status().replica_id, before);
    group.wait_equal_states().await;
    group.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn below_the_minimum_nothing_is_acknowledged_until_enough_are_back() {
    let mut group = Group::start(2, 2).await;
    group.wait_in_sync(2).await;
    group.write("before").await;
    let leader = group.leader().await;
    group.kill(1 - leader).await;
    let handle = group.handle(leader);
    let refused = group::until(PATIENCE, "the leader notices", || {
        let handle = handle.clone();
        async move {
            let write = handle.write(vec![put("between")], None);
            match tokio::time::timeout(Duration::from_secs(1), write).await {
                Ok(Ok(_)) => panic!("acknowledged with one replica of two"),
                Ok(Err(refused @ Unavailable::NotEnoughReplicas { .. })) => Some(refused),
                Ok(Err(_)) | Err(_) => None,
            }
        }
    });
    assert_eq!(
        refused.await,
        Unavailable::NotEnoughReplicas {
            in_sync: 1,
            min_in_sync: 2
        }
    );
    group.revive(1 - leader).await;
    group.write("after").await;
    group.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handover_moves_the_lead_and_fails_no_write() {
    let mut group = Group::start(2, 1).await;
    group.wait_in_sync(2).await;
    let leader = group.leader().await;
    let handle = group.handle(leader);
    let handing = tokio::spawn(async move { handle.hand_over().await });
    for number in 0..50 {
        group.write(&format!("{number}")).await;
    }
    assert!(handing.await.expect("no panic"), "the lead was taken over");
    group::until(PATIENCE, "roles settle", || {
        let roles = [0, 1].map(|ordinal| group.handle(ordinal).status().role);
        async move {
            (roles[leader] == Role::Follower && roles[1 - leader] == Role::Leader).then_some(())
        }
    })
    .await;
    group.stop().await;
}

/// Writes until the log is trimmed so far that an emptied replica finds nothing to begin with.
async fn write_beyond_the_log(group: &Group) {
    for number in 0..LONGER_THAN_THE_LOG {
        group.write(&format!("before-{number}")).await;
    }
    let leader = group.handle(group.leader().await);
    assert!(
        leader.store.durable().base.index > 0,
        "the log was never trimmed, so nothing is tested"
    );
}

/// Empty a replica's disk and write until it is in sync again; returns how often it began anew.
async fn fill_again(group: &mut Group, ordinal: usize) -> usize {
    group.kill(ordinal).await;
    group.empty_disk(ordinal);
    group.revive(ordinal).await;
    let (mut begun_anew, mut number) = (0, 0);
    while !group.is_in_sync(ordinal) {
        group.write(&format!("while-{ordinal}-{number}")).await;
        tokio::time::sleep(BREATH).await;
        number += 1;
        begun_anew += group.revive_ended().await;
    }
    begun_anew
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_the_log_no_longer_reaches_is_given_one_snapshot_while_writes_go_on() {
    let mut group = Group::keeping(LOG_KEEP_BYTES, 2, 1).await;
    group.wait_in_sync(2).await;
    write_beyond_the_log(&group).await;
    let first = group.leader().await;
    let second = 1 - first;
    assert_eq!(fill_again(&mut group, second).await, 1, "one is enough");
    group.wait_in_sync(2).await;
    group.wait_equal_states().await;
    // What came from a snapshot can lead, and give one.
    group.kill(first).await;
    group.write("without-the-first").await;
    assert_eq!(fill_again(&mut group, first).await, 1, "one is enough");
    group.wait_in_sync(2).await;
    group.wait_equal_states().await;
    group.stop().await;
}

/// The leader writes down how far a copy is: slow enough here to be seen on its way.
#[tokio::test(flavor = "multi_thread")]
async fn how_far_a_copy_is_stands_in_the_register_and_in_the_status() {
    let mut group = Group::keeping(LOG_KEEP_BYTES, 2, 1).await;
    group.snapshot_bytes_per_second = 2 << 20;
    group.wait_in_sync(2).await;
    // With the pace of above.
    let first = group.leader().await;
    group.kill(first).await;
    group.revive(first).await;
    group.wait_in_sync(2).await;
    let other = 1 - group.leader().await;
    group.kill(other).await;
    group.revive(other).await;
    group.wait_in_sync(2).await;
    write_beyond_the_log(&group).await;
    for number in 0..12 {
        let noise: String = (0..1 << 20)
            .map(|_| char::from(rand::random_range(b'a'..=b'z')))
            .collect();
        group
            .write_as(
                &format!("large-{number}"),
                vec![group::put_content(&format!("large-{number}"), noise)],
            )
            .await;
    }
    let leader = group.leader().await;
    let follower = 1 - leader;
    group.kill(follower).await;
    group.empty_disk(follower);
    group.revive(follower).await;
    let (mut told, mut shown) = (Vec::new(), Vec::new());
    let began = Instant::now();
    while !group.is_in_sync(follower) {
        assert!(began.elapsed() < PATIENCE, "told {told:?}, shown {shown:?}");
        told.extend(group.states(follower));
        shown.extend(group.status_of(follower).map(|status| status.state));
        let members = group.handle(leader).status().members;
        assert_eq!(
            members.is_empty(),
            group.handle(leader).status().role != Role::Leader
        );
        group.revive_ended().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    told.dedup();
    shown.dedup();
    for states in [&told, &shown] {
        let percents: Vec<u8> = states
            .iter()
            .filter_map(|state| match state {
                ReplicaState::Snapshotting { percent } => Some(*percent),
                _ => None,
            })
            .collect();
        assert!(percents.len() > 2, "told {told:?}, shown {shown:?}");
        assert!(percents.is_sorted(), "told {told:?}, shown {shown:?}");
    }
    group.wait_in_sync(2).await;
    assert_eq!(group.states(follower), [ReplicaState::InSync]);
    group.stop().await;
}

/// Whatever a follower shows, it says truly how old that may be, and soon it is not old.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_proves_how_old_what_it_shows_is() {
    let mut group = Group::start(2, 1).await;
    group.wait_in_sync(2).await;
    let leader = group.leader().await;
    let follower = group.handle(1 - leader);
    for number in 0..20 {
        let id = format!("fresh-{number}");
        group.write(&id).await;
        let written = Instant::now();
        group::until(PATIENCE, "it is proven", || {
            let as_of = follower.status().as_of.filter(|as_of| *as_of >= written);
            std::future::ready(as_of)
        })
        .await;
        let found = follower.store.get(&key(&id)).expect("readable");
        assert!(found.is_some(), "{id} was acknowledged before");
        let bound = follower.prove_younger(Duration::from_mins(1)).await;
        assert!(bound.is_ok(), "{bound:?}");
    }
    group.stop().await;
}

/// Lets the leader take writes that it can never acknowledge, for both of its followers are gone and
/// two have to be in sync; then it is gone too. Returns who it was, and the keys of the writes.
async fn strand_writes(group: &mut Group) -> (usize, [String; 2]) {
    for attempt in 0.. {
        let leader = group.leader().await;
        let handle = group.handle(leader);
        let before = handle.store.durable().last.index;
        for follower in (0..3).filter(|ordinal| *ordinal != leader) {
            group.kill(follower).await;
        }
        let ids = ["retried", "forgotten"].map(|id| format!("{id}-{attempt}"));
        for id in &ids {
            let (handle, operations) = (handle.clone(), vec![put(id)]);
            let key = IdempotencyKey::new(format!("key-{id}")).expect("a valid key");
            tokio::spawn(async move { handle.write(operations, Some(key)).await });
        }
        // A third without a key.
        let (keyless, operations) = (handle.clone(), vec![put(&format!("keyless-{attempt}"))]);
        tokio::spawn(async move { keyless.write(operations, None).await });
        let mut taken = 0;
        for _ in 0..250 {
            taken = handle.store.durable().last.index - before;
            if taken >= 3 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if taken == 3 {
            group.kill(leader).await;
            return (leader, ids);
        }
        // It noticed too early that it is alone, on a busy machine: all of it once more.
        for follower in (0..3).filter(|ordinal| *ordinal != leader) {
            group.revive(follower).await;
        }
        group.wait_in_sync(3).await;
    }
    unreachable!("it is tried for ever");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_lost_leader_could_not_acknowledge_is_there_once_when_it_comes_back() {
    let mut group = Group::start(3, 2).await;
    group.wait_in_sync(3).await;
    group.write("before").await;
    let (lost, [retried, forgotten]) = strand_writes(&mut group).await;
    for ordinal in (0..3).filter(|ordinal| *ordinal != lost) {
        group.revive(ordinal).await;
    }
    // The client tries again, at whoever leads now; its other writes it forgets.
    group.write(&retried).await;
    let leader = group.handle(group.leader().await);
    let there = |id: &str| leader.store.get(&key(id)).expect("readable").is_some();
    assert!(there(&retried) && !there(&forgotten));
    assert_eq!(group.rescued(), 0);
    group.revive(lost).await;
    group.wait_in_sync(3).await;
    group::until(PATIENCE, "two are rescued, as one was retried", || {
        std::future::ready((group.rescued() == 2).then_some(()))
    })
    .await;
    assert!(there(&retried) && there(&forgotten));
    group.write("after").await;
    group.wait_equal_states().await;
    for ordinal in 0..3 {
        let store = group.handle(ordinal).store;
        assert!(store.get(&key(&forgotten)).expect("readable").is_some());
        let kept = store.set_aside(usize::MAX).expect("readable").entries;
        assert!(
            kept.is_empty(),
            "nothing is left to be rescued at {ordinal}"
        );
    }
    group.stop().await;
}
