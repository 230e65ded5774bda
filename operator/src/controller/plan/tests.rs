//! What is planned in which situation: each case is a world, changed in one way.

use percolate_crds::{
    conditions::{self, Reason},
    replication::{Outcome, RequestKind},
    tenant::NodeRole,
};

use super::{Act, Plan, plan};
use crate::controller::{
    fixtures::{
        NEW, OLD, ago, claim, delays, dropped, nothing, now, out_of_sync, owned, pod, request,
        settled, status, tenant,
    },
    observe::{Machine, Observed, StorageClass, Trouble, volume::ClaimPhase},
    validate::Tenant,
};

fn planned(replicas: i32, observed: &Observed) -> Plan {
    plan(&tenant(replicas), observed, &delays(), now())
}

/// Acts in a form short enough for a table.
fn acts(plan: &Plan) -> Vec<String> {
    plan.acts
        .iter()
        .map(|act| match act {
            Act::DeletePod { name, force, .. } if *force => format!("force-delete {name}"),
            Act::DeletePod { name, .. } | Act::DeleteClaim { name, .. } => format!("delete {name}"),
            Act::ExpandClaim { name, size } => format!("expand {name} {size}"),
            Act::ReplaceStatefulSet { .. } => "replace set".to_owned(),
            Act::LabelPod { name, role, .. } => format!("label {name} {}", role.as_label()),
        })
        .collect()
}

/// Requests in the same form.
fn requests(plan: &Plan) -> Vec<String> {
    plan.register
        .iter()
        .flat_map(|register| &register.requests)
        .map(|request| {
            format!(
                "{:?} {}",
                request.kind,
                request.pod.as_deref().unwrap_or_default()
            )
        })
        .collect()
}

fn activity(plan: &Plan) -> Option<Reason> {
    plan.activity.as_ref().map(|note| note.reason)
}

fn hindrances(plan: &Plan) -> Vec<Reason> {
    plan.hindrances.iter().map(|note| note.reason).collect()
}

struct Case {
    name: &'static str,
    wanted: i32,
    world: Observed,
    replicas: i32,
    requests: &'static [&'static str],
    acts: &'static [&'static str],
    activity: Option<Reason>,
    hindrances: &'static [Reason],
}

#[track_caller]
fn check(case: &Case) {
    let plan = planned(case.wanted, &case.world);
    let name = case.name;
    assert_eq!(plan.replicas, Some(case.replicas), "{name}: replicas");
    assert_eq!(requests(&plan), case.requests, "{name}: requests");
    assert_eq!(acts(&plan), case.acts, "{name}: acts");
    assert_eq!(activity(&plan), case.activity, "{name}: activity");
    assert_eq!(hindrances(&plan), case.hindrances, "{name}: hindrances");
}

/// A settled tenant with a change.
fn world(replicas: i32, change: impl FnOnce(&mut Observed)) -> Observed {
    let mut observed = settled(replicas);
    change(&mut observed);
    observed
}

#[test]
fn a_settled_tenant_is_left_alone() {
    for replicas in 1..=3 {
        check(&Case {
            name: "settled",
            wanted: replicas,
            world: settled(replicas),
            replicas,
            requests: &[],
            acts: &[],
            activity: None,
            hindrances: &[],
        });
    }
}

#[test]
fn pods_are_added_at_once_and_removed_only_after_their_replica_was_dropped() {
    let quiet = |name, wanted, world, replicas| Case {
        name,
        wanted,
        world,
        replicas,
        requests: &[],
        acts: &[],
        activity: None,
        hindrances: &[],
    };
    let scaling_down = |name, world, replicas, acts| Case {
        requests: &["Drop acme-2"],
        acts,
        activity: Some(conditions::SCALING_DOWN),
        ..quiet(name, 2, world, replicas)
    };
    for case in [
        Case {
            activity: Some(conditions::CREATING),
            ..quiet("new", 2, nothing(), 2)
        },
        Case {
            activity: Some(conditions::SCALING_UP),
            ..quiet("more", 3, settled(2), 3)
        },
        scaling_down("asked for", settled(3), 3, &[]),
        scaling_down(
            "known to the register still, although answered",
            world(3, |world| {
                request(world, "d", RequestKind::Drop, 2, Some(Outcome::Done));
            }),
            3,
            &[],
        ),
        scaling_down(
            "dropped, not yet answered",
            world(3, |world| {
                request(world, "d", RequestKind::Drop, 2, None);
                dropped(world, 2);
            }),
            3,
            &[],
        ),
        scaling_down(
            "dropped",
            world(3, |world| {
                request(world, "d", RequestKind::Drop, 2, Some(Outcome::Done));
                dropped(world, 2);
            }),
            2,
            &[],
        ),
        scaling_down(
            "pod still shutting down",
            world(3, |world| {
                request(world, "d", RequestKind::Drop, 2, Some(Outcome::Done));
                dropped(world, 2);
                world.stateful_set.as_mut().unwrap().replicas = 2;
                world.pods.get_mut(&2).unwrap().deleting = true;
            }),
            2,
            &[],
        ),
        Case {
            activity: Some(conditions::SCALING_UP),
            ..quiet(
                "pod gone though its replica is in sync: it comes back before it leaves",
                2,
                world(3, |world| {
                    world.stateful_set.as_mut().unwrap().replicas = 2;
                    world.pods.remove(&2);
                }),
                3,
            )
        },
        scaling_down(
            "pod gone",
            world(3, |world| {
                request(world, "d", RequestKind::Drop, 2, Some(Outcome::Done));
                dropped(world, 2);
                world.stateful_set.as_mut().unwrap().replicas = 2;
                world.pods.remove(&2);
            }),
            2,
            &["delete data-acme-2"],
        ),
    ] {
        check(&case);
    }
}

#[test]
fn the_in_sync_set_is_never_taken_below_its_minimum() {
    let refused = |name, wanted, world, replicas| Case {
        name,
        wanted,
        world,
        replicas,
        requests: &[],
        acts: &[],
        activity: Some(conditions::WAITING_FOR_PODS),
        hindrances: &[conditions::SCALE_DOWN_REFUSED],
    };
    check(&refused(
        "the one that stays is not in sync",
        1,
        world(2, |world| {
            out_of_sync(world, 0);
            status(world).leader = "replica-1".to_owned();
            status(world).leader_pod = "acme-1".to_owned();
            world.pods.get_mut(&0).unwrap().role = Some("learner".to_owned());
            world.pods.get_mut(&1).unwrap().role = Some("leader".to_owned());
        }),
        2,
    ));
    check(&Case {
        requests: &["Drop acme-2"],
        activity: None,
        ..refused(
            "the leader says no",
            2,
            world(3, |world| {
                request(world, "d", RequestKind::Drop, 2, Some(Outcome::Refused));
            }),
            3,
        )
    });
}

#[test]
fn a_refused_request_is_asked_again_under_another_id_only_when_something_has_changed() {
    let mut world = settled(3);
    let id = |world: &Observed| planned(2, world).register.unwrap().requests[0].id.clone();
    let first = id(&world);
    request(&mut world, &first, RequestKind::Drop, 2, None);
    status(&mut world).epoch = 2;
    assert_eq!(id(&world), first, "a standing request keeps its id");
    request(
        &mut world,
        &first,
        RequestKind::Drop,
        2,
        Some(Outcome::Refused),
    );
    let second = id(&world);
    assert_ne!(second, first, "the leader has changed since");
    world.register.as_mut().unwrap().spec.requests.clear();
    request(
        &mut world,
        &second,
        RequestKind::Drop,
        2,
        Some(Outcome::Refused),
    );
    assert_eq!(id(&world), second, "nothing has changed since");
}

#[test]
fn stopping_touches_nothing_but_pods_and_the_only_copy_is_started_first() {
    check(&Case {
        name: "stop",
        wanted: 0,
        world: settled(3),
        replicas: 0,
        requests: &[],
        acts: &[],
        activity: Some(conditions::STOPPING),
        hindrances: &[],
    });
    let stopped = world(3, |world| {
        world.pods.clear();
        world.stateful_set.as_mut().unwrap().replicas = 0;
        out_of_sync(world, 0);
        out_of_sync(world, 1);
    });
    check(&Case {
        name: "stopped",
        wanted: 0,
        world: stopped.clone(),
        replicas: 0,
        requests: &[],
        acts: &[],
        activity: None,
        hindrances: &[],
    });
    check(&Case {
        name: "one wanted, and the only one in sync is the third",
        wanted: 1,
        world: stopped,
        replicas: 3,
        requests: &[],
        acts: &[],
        activity: Some(conditions::SCALING_UP),
        hindrances: &[],
    });
}

#[test]
fn pods_are_rolled_followers_first_and_the_leader_after_a_handover() {
    let outdated = |world: &mut Observed, ordinals: &[i32]| {
        for ordinal in ordinals {
            world.pods.get_mut(ordinal).unwrap().revision = Some(OLD.to_owned());
        }
    };
    let rolling = |name, world, requests, acts| Case {
        name,
        wanted: 3,
        world,
        replicas: 3,
        requests,
        acts,
        activity: Some(conditions::ROLLING_UPDATE),
        hindrances: &[],
    };
    for case in [
        rolling(
            "all",
            world(3, |world| outdated(world, &[0, 1, 2])),
            &[],
            &["delete acme-2"],
        ),
        rolling(
            "the next follower waits for the last one to be in sync",
            world(3, |world| {
                outdated(world, &[0, 1]);
                out_of_sync(world, 2);
                world.pods.get_mut(&2).unwrap().role = Some("learner".to_owned());
            }),
            &[],
            &[],
        ),
        rolling(
            "and to be ready",
            world(3, |world| {
                outdated(world, &[0, 1]);
                world.pods.get_mut(&2).unwrap().ready = false;
            }),
            &[],
            &[],
        ),
        rolling(
            "the leader hands over",
            world(3, |world| outdated(world, &[0])),
            &["HandOver acme-1"],
            &[],
        ),
        rolling(
            "a former leader is a follower",
            world(3, |world| {
                outdated(world, &[0]);
                status(world).leader = "replica-1".to_owned();
                status(world).leader_pod = "acme-1".to_owned();
                world.pods.get_mut(&0).unwrap().role = Some("follower".to_owned());
                world.pods.get_mut(&1).unwrap().role = Some("leader".to_owned());
            }),
            &[],
            &["delete acme-0"],
        ),
        rolling(
            "a broken outdated pod is replaced at once",
            world(3, |world| {
                outdated(world, &[0, 1, 2]);
                let pod = world.pods.get_mut(&1).unwrap();
                pod.ready = false;
                pod.running = false;
            }),
            &[],
            &["delete acme-1"],
        ),
        Case {
            wanted: 1,
            replicas: 1,
            ..rolling(
                "alone",
                world(1, |world| outdated(world, &[0])),
                &[],
                &["delete acme-0"],
            )
        },
    ] {
        check(&case);
    }
    let mut unseen = world(3, |world| outdated(world, &[0, 1, 2]));
    unseen.stateful_set.as_mut().unwrap().update_revision = None;
    check(&Case {
        name: "the set's controller has not seen the latest spec",
        activity: None,
        ..rolling("", unseen, &[], &[])
    });
}

#[test]
fn pods_on_silent_machines_are_replaced_after_a_delay() {
    for (name, since, expected) in [
        ("not yet", ago(19), &[][..]),
        ("now", ago(20), &["force-delete acme-1"][..]),
    ] {
        let observed = world(2, |world| {
            let pod = world.pods.get_mut(&1).unwrap();
            pod.machine = Machine::Silent { since };
            pod.ready = false;
        });
        let plan = planned(2, &observed);
        assert_eq!(acts(&plan), expected, "{name}");
        assert_eq!(plan.look_again.is_some(), expected.is_empty(), "{name}");
    }
}

#[test]
fn a_volume_is_given_up_only_while_another_replica_leads() {
    type Change<'a> = Box<dyn FnOnce(&mut Observed) + 'a>;

    let stranded = |world: &mut Observed, ordinal: i32, since| {
        let pod = world.pods.get_mut(&ordinal).unwrap();
        pod.ready = false;
        pod.running = false;
        pod.machine = Machine::Unknown;
        pod.trouble = Some(Trouble::Unschedulable {
            since,
            message: "no".to_owned(),
        });
        world.claims.get_mut(&ordinal).unwrap().on_lost_machine = true;
    };
    let cases: Vec<(&str, Change, &[&str], &[&str])> = vec![
        (
            "on a lost machine, too early",
            Box::new(|world| stranded(world, 1, ago(59))),
            &[],
            &[],
        ),
        (
            "on a lost machine",
            Box::new(|world| stranded(world, 1, ago(60))),
            &["delete data-acme-1", "delete acme-1"],
            &[],
        ),
        (
            "on a lost machine, and the leader is not ready",
            Box::new(|world| {
                stranded(world, 1, ago(600));
                world.pods.get_mut(&0).unwrap().ready = false;
            }),
            &[],
            &[],
        ),
        (
            "the last leader's, and nobody has taken over",
            Box::new(|world| stranded(world, 0, ago(600))),
            &[],
            &["HandOver acme-1"],
        ),
        (
            "being deleted by somebody",
            Box::new(|world| world.claims.get_mut(&1).unwrap().deleting = true),
            &["delete acme-1"],
            &[],
        ),
        (
            "the leader's, being deleted by somebody",
            Box::new(|world| world.claims.get_mut(&0).unwrap().deleting = true),
            &[],
            &["HandOver acme-1"],
        ),
        (
            "lost",
            Box::new(|world| world.claims.get_mut(&1).unwrap().phase = ClaimPhase::Lost),
            &["delete data-acme-1", "delete acme-1"],
            &[],
        ),
        (
            "the claim is missing and the pod waits for it",
            Box::new(|world| {
                world.claims.remove(&1);
                let pod = world.pods.get_mut(&1).unwrap();
                pod.ready = false;
                pod.running = false;
            }),
            &["delete acme-1"],
            &[],
        ),
        (
            "the claim is missing and the pod runs",
            Box::new(|world| {
                world.claims.remove(&1);
            }),
            &[],
            &[],
        ),
    ];
    for (name, change, expected_acts, expected_requests) in cases {
        let plan = planned(2, &world(2, change));
        assert_eq!(acts(&plan), expected_acts, "{name}");
        assert_eq!(requests(&plan), expected_requests, "{name}");
    }
    let alone = world(1, |world| world.claims.get_mut(&0).unwrap().deleting = true);
    assert_eq!(acts(&planned(1, &alone)), [""; 0], "the only copy");
}

#[test]
fn the_last_copy_s_volume_is_replaced_once_a_person_has_given_it_up() {
    let lost = |running: bool| {
        world(2, |world| {
            out_of_sync(world, 1);
            for pod in world.pods.values_mut() {
                (pod.ready, pod.running) = (false, false);
            }
            world.pods.get_mut(&1).unwrap().running = running;
            for claim in world.claims.values_mut() {
                claim.phase = ClaimPhase::Lost;
            }
        })
    };
    let accepting = Tenant {
        accepts_data_loss: Some("1".to_owned()),
        ..tenant(2)
    };
    let plan = |tenant: &Tenant, observed: &Observed| plan(tenant, observed, &delays(), now());
    let kept = plan(&tenant(2), &lost(false));
    assert_eq!(
        acts(&kept),
        ["label acme-1 learner"],
        "nobody has given it up"
    );
    assert_eq!(hindrances(&kept), [conditions::NO_IN_SYNC_REPLICA]);
    assert_eq!(requests(&kept), [""; 0]);
    let waits = plan(&accepting, &lost(true));
    assert_eq!(
        acts(&waits),
        ["label acme-1 learner"],
        "another one can lead"
    );
    assert_eq!(requests(&waits).len(), 1);
    let given_up = plan(&accepting, &lost(false));
    let expected = [
        "label acme-1 learner",
        "delete data-acme-0",
        "delete acme-0",
    ];
    assert_eq!(acts(&given_up), expected, "and nothing of who was behind");
}

#[test]
fn a_register_is_opened_for_a_first_leader_only_where_no_volumes_are() {
    let bootstrap = |observed: &Observed| {
        let plan = planned(2, observed);
        (plan.register.as_ref().unwrap().bootstrap, hindrances(&plan))
    };
    let lost = vec![conditions::NO_IN_SYNC_REPLICA];

    assert_eq!(bootstrap(&nothing()), (true, vec![]), "new");

    let mut volumes_only = nothing();
    volumes_only.claims.insert(0, claim(0));
    assert_eq!(
        bootstrap(&volumes_only),
        (false, lost.clone()),
        "no register"
    );

    let mut empty = settled(2);
    empty.register.as_mut().unwrap().status = None;
    for pod in empty.pods.values_mut() {
        pod.role = Some("learner".to_owned());
    }
    assert_eq!(bootstrap(&empty), (false, lost), "register emptied");
    empty.register.as_mut().unwrap().spec.bootstrap = true;
    assert_eq!(bootstrap(&empty), (true, vec![]), "first leader awaited");

    let mut led = settled(2);
    led.register.as_mut().unwrap().spec.bootstrap = true;
    assert_eq!(bootstrap(&led), (false, vec![]), "first leader there");
}

#[test]
fn a_new_tenant_waits_for_what_an_old_one_of_its_name_left_to_be_removed() {
    type Change = fn(&mut Observed);
    let cases: [(&str, Change, Reason); 4] = [
        (
            "register",
            |world| {
                let child = &mut world.register.as_mut().unwrap().child;
                child.owner.as_mut().unwrap().uid = "old".to_owned();
            },
            conditions::WAITING_FOR_OLD_TENANT,
        ),
        (
            "set",
            |world| {
                let child = &mut world.stateful_set.as_mut().unwrap().child;
                child.owner.as_mut().unwrap().uid = "old".to_owned();
            },
            conditions::WAITING_FOR_OLD_TENANT,
        ),
        (
            "claims of a set that is gone",
            |world| {
                world.register = None;
                world.stateful_set = None;
                world.claims.get_mut(&0).unwrap().owning_set = Some("old".to_owned());
            },
            conditions::WAITING_FOR_OLD_TENANT,
        ),
        (
            "our own set, being replaced",
            |world| world.stateful_set.as_mut().unwrap().child.deleting = true,
            conditions::CREATING,
        ),
    ];
    for (name, change, reason) in cases {
        let plan = planned(2, &world(2, change));
        assert_eq!(activity(&plan), Some(reason), "{name}");
        assert_eq!((plan.replicas, &plan.register), (None, &None), "{name}");
    }
    let mut retained = settled(2);
    retained.register.as_mut().unwrap().child = owned("register-uid");
    retained.register.as_mut().unwrap().child.owner = None;
    retained.stateful_set = None;
    retained.pods.clear();
    assert_eq!(planned(2, &retained).replicas, Some(2), "retained register");
}

#[test]
fn writes_are_not_refused_by_a_minimum_that_cannot_be_met_yet() {
    for (name, wanted, change, expected) in [
        ("new", 3, nothing(), 2),
        ("one of three so far", 3, settled(1), 1),
        ("two of three so far", 3, world(2, |_| ()), 2),
        ("on the way down", 1, settled(3), 1),
        ("stopped", 0, settled(3), 2),
    ] {
        let plan = planned(wanted, &change);
        assert_eq!(plan.register.unwrap().min_in_sync, expected, "{name}");
    }
}

#[test]
fn volumes_grow_before_the_set_is_replaced_around_its_pods() {
    let mut larger = tenant(2);
    larger.storage.size = "20Gi".to_owned();
    let acts_of = |observed: &Observed| acts(&plan(&larger, observed, &delays(), now()));
    let expandable = StorageClass::Present { expandable: true };

    let mut observed = settled(2);
    observed.storage_class = expandable;
    assert_eq!(
        acts_of(&observed),
        ["expand data-acme-0 20Gi", "expand data-acme-1 20Gi"]
    );
    observed.storage_class = StorageClass::Present { expandable: false };
    assert_eq!(
        acts_of(&observed),
        [""; 0],
        "not where the class forbids it"
    );
    for claim in observed.claims.values_mut() {
        claim.requested = Some("20Gi".to_owned());
    }
    observed.storage_class = StorageClass::Unknown;
    assert_eq!(acts_of(&observed), ["replace set"]);
    observed.stateful_set.as_mut().unwrap().volume_size = Some("20480Mi".to_owned());
    assert_eq!(acts_of(&observed), [""; 0], "same size, other spelling");
}

#[test]
fn pods_are_labelled_with_what_the_register_says_the_leader_first() {
    let observed = world(3, |world| {
        status(world).leader = "replica-1".to_owned();
        status(world).leader_pod = "acme-1".to_owned();
        out_of_sync(world, 2);
    });
    assert_eq!(
        acts(&planned(3, &observed)),
        [
            "label acme-1 leader",
            "label acme-0 follower",
            "label acme-2 learner"
        ]
    );
    assert_eq!(NodeRole::Leader.as_label(), "leader");
}

#[test]
fn troubles_of_pods_and_missing_classes_are_told_once_each() {
    let observed = world(2, |world| {
        for pod in world.pods.values_mut() {
            pod.trouble = Some(Trouble::Image {
                message: "not found".to_owned(),
            });
        }
        world.storage_class = StorageClass::Missing;
        world.claims.get_mut(&1).unwrap().phase = ClaimPhase::Pending;
    });
    assert_eq!(
        hindrances(&planned(2, &observed)),
        [
            conditions::STORAGE_CLASS_NOT_FOUND,
            conditions::IMAGE_PULL_FAILED
        ],
        "the first one is what people are told: without its class no pod finds a machine"
    );
    assert_eq!(pod(1).revision.as_deref(), Some(NEW));
}
