//! What people are told in which situation, and that nothing is told twice.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use percolate_crds::{
    conditions::{self, Reason, TABLE, TYPES},
    replication::{Failover, FailoverReason},
    tenant::{NodeState, TenantStatus},
};

use super::{Happening, happenings, invalid, status};
use crate::controller::{
    fixtures::{ago, delays, nothing, now, out_of_sync, settled, status as register, tenant},
    observe::{Machine, Observed, StorageClass, StorageFault, Trouble},
    plan::{Note, plan},
};

fn told(replicas: i32, observed: &Observed, previous: Option<&TenantStatus>) -> TenantStatus {
    let tenant = tenant(replicas);
    let plan = plan(&tenant, observed, &delays(), now());
    status(&tenant, observed, &plan, None, previous, now())
}

/// `Status/Reason` of a condition.
fn says(status: &TenantStatus, type_: &str) -> String {
    let condition = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == type_)
        .unwrap();
    format!("{}/{}", condition.status, condition.reason)
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn each_situation_has_its_conditions() {
    type Change = fn(&mut Observed);
    let cases: [(&str, i32, Change, [&str; 5]); 11] = [
        (
            "settled",
            2,
            |_| {},
            [
                "True/Serving",
                "False/AsDesired",
                "False/AsDesired",
                "True/AllInSync",
                "True/VolumesBound",
            ],
        ),
        (
            "new, its first leader not ready yet",
            2,
            |world| world.pods.get_mut(&0).unwrap().ready = false,
            [
                "False/Starting",
                "True/WaitingForPods",
                "False/Progressing",
                "True/AllInSync",
                "True/VolumesBound",
            ],
        ),
        (
            "new",
            2,
            |world| *world = nothing(),
            [
                "False/Starting",
                "True/Creating",
                "False/Progressing",
                "False/Starting",
                "False/VolumePending",
            ],
        ),
        (
            "stopped",
            0,
            |world| {
                world.pods.clear();
                world.stateful_set.as_mut().unwrap().replicas = 0;
            },
            [
                "False/Stopped",
                "False/AsDesired",
                "False/AsDesired",
                "True/Stopped",
                "True/VolumesBound",
            ],
        ),
        (
            "the leader is not ready",
            2,
            |world| world.pods.get_mut(&0).unwrap().ready = false,
            [
                "False/NoLeader",
                "True/WaitingForPods",
                "False/Progressing",
                "True/AllInSync",
                "True/VolumesBound",
            ],
        ),
        (
            "a follower is behind",
            2,
            |world| out_of_sync(world, 1),
            [
                "True/Degraded",
                "True/WaitingForPods",
                "False/Progressing",
                "False/CatchingUp",
                "True/VolumesBound",
            ],
        ),
        (
            "too few in sync",
            3,
            |world| {
                out_of_sync(world, 1);
                out_of_sync(world, 2);
            },
            [
                "False/BelowMinInSync",
                "True/WaitingForPods",
                "False/Progressing",
                "False/BelowMinInSync",
                "True/VolumesBound",
            ],
        ),
        (
            "started again, its pods not there yet",
            2,
            |world| world.pods.clear(),
            [
                "False/NoLeader",
                "True/WaitingForPods",
                "False/Progressing",
                "True/AllInSync",
                "True/VolumesBound",
            ],
        ),
        (
            "nobody left who is in sync",
            2,
            |world| {
                out_of_sync(world, 1);
                world.pods.remove(&0);
                world.claims.remove(&0);
            },
            [
                "False/NoInSyncReplica",
                "True/WaitingForPods",
                "True/NoInSyncReplica",
                "False/NoInSyncReplica",
                "False/VolumePending",
            ],
        ),
        (
            "the register was emptied",
            2,
            |world| world.register.as_mut().unwrap().status = None,
            [
                "False/NoInSyncReplica",
                "True/WaitingForPods",
                "True/NoInSyncReplica",
                "False/NoInSyncReplica",
                "True/VolumesBound",
            ],
        ),
        (
            "no image, no class",
            2,
            |world| {
                world.claims.remove(&1);
                world.storage_class = StorageClass::Missing;
                let pod = world.pods.get_mut(&1).unwrap();
                pod.ready = false;
                pod.trouble = Some(Trouble::Image {
                    message: "not found".to_owned(),
                });
            },
            [
                "True/Degraded",
                "True/WaitingForPods",
                "True/ImagePullFailed",
                "True/AllInSync",
                "False/StorageClassNotFound",
            ],
        ),
    ];
    let types = [
        conditions::READY,
        conditions::RECONCILING,
        conditions::STALLED,
        conditions::REPLICATION_HEALTHY,
        conditions::STORAGE_HEALTHY,
    ];
    let served = told(2, &settled(2), None);
    for (name, replicas, change, expected) in cases {
        let mut observed = settled(replicas.max(2));
        change(&mut observed);
        let previous = (!name.starts_with("new")).then_some(&served);
        let status = told(replicas, &observed, previous);
        assert_eq!(types.map(|type_| says(&status, type_)), expected, "{name}");
    }
}

fn with_fault(world: &mut Observed, ordinal: i32, reason: Reason) {
    let pod = world.pods.get_mut(&ordinal).unwrap();
    pod.ready = false;
    pod.storage_fault = Some(StorageFault {
        reason,
        message: "as seen".to_owned(),
        overcome: false,
    });
}

#[test]
fn a_disk_that_ended_a_process_shows_until_its_pod_is_ready_and_in_sync_again() {
    let served = told(2, &settled(2), None);
    for reason in conditions::STORAGE_FAULTS {
        let mut world = settled(2);
        with_fault(&mut world, 1, reason);
        let ended = told(2, &world, Some(&served));
        let expected = format!("False/{}", reason.name);
        assert_eq!(says(&ended, conditions::STORAGE_HEALTHY), expected);
        assert_eq!(says(&ended, conditions::READY), "True/Degraded");
        let condition = |condition: &&Condition| condition.reason == reason.name;
        let told_of = ended.conditions.iter().find(condition).unwrap();
        assert_eq!(told_of.message, "acme-1: as seen");

        world.pods.get_mut(&1).unwrap().ready = true;
        out_of_sync(&mut world, 1);
        let filling = told(2, &world, Some(&ended));
        assert_eq!(says(&filling, conditions::STORAGE_HEALTHY), expected);
        let mut filled = settled(2);
        with_fault(&mut filled, 1, reason);
        filled.pods.get_mut(&1).unwrap().ready = true;
        let filled = told(2, &filled, Some(&filling));
        assert_eq!(
            says(&filled, conditions::STORAGE_HEALTHY),
            "True/VolumesBound"
        );

        let events = |before, after| -> Vec<(String, bool)> {
            happenings(Some(before), after)
                .into_iter()
                .map(|event| (event.reason, event.warning))
                .collect()
        };
        assert_eq!(events(&served, &ended), [(reason.name.to_owned(), true)]);
        assert_eq!(events(&ended, &filling), []);
        assert_eq!(
            events(&filling, &filled),
            [("StorageRecovered".to_owned(), false)]
        );
    }
}

#[test]
fn every_type_is_there_and_every_reason_is_documented_for_it() {
    for observed in [nothing(), settled(2)] {
        let status = told(2, &observed, None);
        let types: Vec<&str> = status
            .conditions
            .iter()
            .map(|condition| condition.type_.as_str())
            .collect();
        assert_eq!(types, TYPES);
        for condition in &status.conditions {
            let documented = TABLE.iter().any(|reason| {
                reason.name == condition.reason
                    && reason.status_on(&condition.type_) == Some(condition.status.as_str())
            });
            assert!(documented, "{} {}", condition.type_, condition.reason);
        }
    }
}

#[test]
fn the_same_situation_is_told_in_the_same_bytes_later_too() {
    let first = told(2, &settled(2), None);
    let tenant = tenant(2);
    let plan = plan(&tenant, &settled(2), &delays(), now());
    let later = status(&tenant, &settled(2), &plan, None, Some(&first), ago(-500));
    assert_eq!(later, first);
}

#[test]
fn a_condition_keeps_its_time_until_its_status_changes() {
    let first = told(2, &settled(2), None);
    let mut world = settled(2);
    out_of_sync(&mut world, 1);
    let tenant = tenant(2);
    let plan = plan(&tenant, &world, &delays(), now());
    let later = status(&tenant, &world, &plan, None, Some(&first), ago(-60));
    let time = |status: &TenantStatus, type_: &str| {
        let mut all = status.conditions.iter();
        let found = all.find(|condition| condition.type_ == type_).unwrap();
        found.last_transition_time.0
    };
    assert_eq!(time(&later, conditions::READY), now(), "still True");
    assert_eq!(time(&later, conditions::REPLICATION_HEALTHY), ago(-60));
}

#[test]
fn a_new_tenant_is_ready_only_when_all_of_it_is_and_later_as_long_as_it_serves() {
    let mut world = settled(2);
    out_of_sync(&mut world, 1);
    let starting = told(2, &world, None);
    assert_eq!(says(&starting, conditions::READY), "False/Starting");
    let served = told(2, &settled(2), Some(&starting));
    assert_eq!(says(&served, conditions::READY), "True/Serving");
    let degraded = told(2, &world, Some(&served));
    assert_eq!(says(&degraded, conditions::READY), "True/Degraded");
}

#[test]
fn a_suspended_tenant_says_so_and_nothing_of_work() {
    let mut tenant = tenant(3);
    tenant.suspend = true;
    let observed = settled(2);
    let plan = plan(&tenant, &observed, &delays(), now());
    let status = status(&tenant, &observed, &plan, None, None, now());
    assert_eq!(says(&status, conditions::SUSPENDED), "True/SuspendedBySpec");
    assert_eq!(
        says(&status, conditions::RECONCILING),
        "False/SuspendedBySpec"
    );
}

#[test]
fn a_failure_shows_as_the_condition_of_its_reason() {
    for (reason, type_) in [
        (conditions::RETRYING, conditions::RECONCILING),
        (conditions::NAME_TAKEN, conditions::STALLED),
        (conditions::FORBIDDEN, conditions::STALLED),
    ] {
        let tenant = tenant(2);
        let observed = settled(2);
        let plan = plan(&tenant, &observed, &delays(), now());
        let note = Note::new(reason, "it failed");
        let status = status(&tenant, &observed, &plan, Some(&note), None, now());
        assert_eq!(says(&status, type_), format!("True/{}", reason.name));
    }
    let note = Note::new(conditions::INVALID_SPEC, "it is wrong");
    let served = told(2, &settled(2), None);
    let status = invalid(7, &note, Some(&served), now());
    assert_eq!(says(&status, conditions::STALLED), "True/InvalidSpec");
    assert_eq!(says(&status, conditions::READY), "True/Serving");
    assert_eq!(status.observed_generation, Some(7));
}

#[test]
fn pods_are_listed_with_their_state() {
    let mut world = settled(3);
    world.pods.get_mut(&0).unwrap().machine = Machine::Answering {
        zone: Some("north".to_owned()),
    };
    world.pods.get_mut(&1).unwrap().machine = Machine::Silent { since: ago(1) };
    world.pods.get_mut(&2).unwrap().deleting = true;
    let status = told(3, &world, None);
    let listed: Vec<(NodeState, Option<&str>)> = status
        .nodes
        .iter()
        .map(|node| (node.state.clone(), node.zone.as_deref()))
        .collect();
    assert_eq!(
        listed,
        [
            (NodeState::Replica("InSync".to_owned()), Some("north")),
            (NodeState::Lost, None),
            (NodeState::Terminating, None)
        ]
    );
    assert_eq!(status.ready_of_desired.as_deref(), Some("1/3"));
    assert_eq!(status.nodes[0].replica_id.as_deref(), Some("replica-0"));
}

/// How far a replica is counts while nothing is wrong with its pod.
#[test]
fn a_running_pod_is_as_far_as_its_leader_says() {
    type Change = fn(&mut Observed);
    let unready = |world: &mut Observed| world.pods.get_mut(&1).unwrap().ready = false;
    let cases: [(&str, Option<&str>, Change, &str); 9] = [
        ("serving", Some("InSync"), |_| {}, "InSync"),
        ("of an older version", None, |_| {}, "Ready"),
        ("in sync and silent", Some("InSync"), unready, "NotReady"),
        ("not heard of", None, unready, "NotReady"),
        (
            "copied to",
            Some("Snapshotting 40%"),
            unready,
            "Snapshotting 40%",
        ),
        ("catching up", Some("Streaming"), |_| {}, "Streaming"),
        ("looked for", Some("Probing"), unready, "Probing"),
        (
            "stopping",
            Some("Streaming"),
            |world| world.pods.get_mut(&1).unwrap().deleting = true,
            "Terminating",
        ),
        (
            "not running",
            Some("Streaming"),
            |world| {
                let pod = world.pods.get_mut(&1).unwrap();
                (pod.ready, pod.running) = (false, false);
            },
            "Pending",
        ),
    ];
    for (case, replica, change, expected) in cases {
        let mut world = settled(2);
        register(&mut world).replicas[1].state = replica.map(str::to_owned);
        change(&mut world);
        let state = told(2, &world, None).nodes[1].state.clone();
        assert_eq!(String::from(state), expected, "{case}");
    }
}

#[test]
fn of_two_replicas_in_a_pod_the_one_that_is_heard_of_is_shown() {
    let mut world = settled(2);
    out_of_sync(&mut world, 1);
    let status = register(&mut world);
    status.replicas[1].state = Some("Probing".to_owned());
    let mut fresh = status.replicas[1].clone();
    fresh.replica_id = "replica-fresh".to_owned();
    fresh.state = Some("Snapshotting 10%".to_owned());
    status.replicas.push(fresh);
    let told = told(2, &world, None);
    assert_eq!(told.nodes[1].replica_id.as_deref(), Some("replica-fresh"));
    assert_eq!(
        String::from(told.nodes[1].state.clone()),
        "Snapshotting 10%"
    );
}

#[test]
fn changes_become_events_and_what_stays_does_not() {
    let reasons = |events: Vec<Happening>| -> Vec<(String, bool)> {
        events
            .into_iter()
            .map(|event| (event.reason, event.warning))
            .collect()
    };
    let starting = told(2, &nothing(), None);
    assert_eq!(
        reasons(happenings(None, &starting)),
        [("Starting".to_owned(), false)]
    );
    let mut led = settled(2);
    let failover = |epoch, reason| Failover {
        from: None,
        to: "replica-0".to_owned(),
        from_pod: Some("acme-1".to_owned()),
        to_pod: "acme-0".to_owned(),
        epoch,
        reason,
        detected_at: None,
        promoted_at: None,
        promoted_index: None,
        rescued: 0,
    };
    register(&mut led).last_failover = Some(failover(1, FailoverReason::Bootstrapped));
    let served = told(2, &led, Some(&starting));
    assert_eq!(
        reasons(happenings(Some(&starting), &served)),
        [
            ("Bootstrapped".to_owned(), false),
            ("Ready".to_owned(), false)
        ]
    );
    assert_eq!(reasons(happenings(Some(&served), &served)), []);

    register(&mut led).epoch = 2;
    register(&mut led).last_failover = Some(failover(2, FailoverReason::LeaderLost));
    let degraded = {
        out_of_sync(&mut led, 1);
        told(2, &led, Some(&served))
    };
    assert_eq!(
        reasons(happenings(Some(&served), &degraded)),
        [("LeaderLost".to_owned(), true)],
        "still ready, with another reason: no event for that"
    );
    let mut down = led.clone();
    down.pods.get_mut(&0).unwrap().ready = false;
    let down = told(2, &down, Some(&degraded));
    assert_eq!(
        reasons(happenings(Some(&degraded), &down)),
        [("NoLeader".to_owned(), true)]
    );
}
