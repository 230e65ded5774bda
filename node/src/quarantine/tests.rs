use std::fs;

use percolate_core::identity::Incarnation;
use percolate_core::register::{Action, Member, Register, Request};
use tempfile::TempDir;

use super::*;
use crate::register::memory::MemoryRegister;

const OWN: ReplicaId = ReplicaId(7);
const OTHER: ReplicaId = ReplicaId(8);
const POD: &str = "acme-0";

fn register(leader: ReplicaId, own_pod: &str) -> Register {
    let member = |replica, pod: &str| Member {
        replica,
        pod: pod.to_owned(),
        state: None,
    };
    Register {
        incarnation: Incarnation(1),
        epoch: 3,
        leader,
        in_sync: [OWN, OTHER].into(),
        replicas: vec![member(OWN, own_pod), member(OTHER, "acme-1")],
        answers: Vec::new(),
        held: 0,
        last_failover: None,
        loss: None,
    }
}

fn view(register: Option<Register>) -> View {
    View {
        version: 1,
        register,
        min_in_sync: 1,
        bootstrap: false,
        requests: Vec::new(),
    }
}

#[test]
fn only_a_store_that_nobody_needs_is_put_aside() {
    use Fault::{Cloned, Damaged, Outdated};
    let leads_elsewhere = || Some(view(Some(register(OTHER, POD))));
    let leads_here = || Some(view(Some(register(OWN, POD))));
    let copied_from = |leader| Some(view(Some(register(leader, "acme-2"))));
    let cases = [
        ("another leads", Damaged, Some(OWN), leads_elsewhere(), true),
        ("it leads", Damaged, Some(OWN), leads_here(), false),
        (
            "it is an old leader",
            Outdated,
            Some(OWN),
            leads_here(),
            false,
        ),
        (
            "old, another leads",
            Outdated,
            Some(OWN),
            leads_elsewhere(),
            true,
        ),
        ("nobody knows whose", Damaged, None, leads_elsewhere(), true),
        (
            "nobody knows, its pod leads",
            Damaged,
            None,
            leads_here(),
            false,
        ),
        ("the register is away", Damaged, Some(OWN), None, false),
        (
            "the register is empty",
            Damaged,
            Some(OWN),
            Some(view(None)),
            false,
        ),
        (
            "a copy of the leader",
            Cloned,
            Some(OWN),
            copied_from(OWN),
            true,
        ),
        (
            "a copy of a follower",
            Cloned,
            Some(OWN),
            copied_from(OTHER),
            true,
        ),
    ];
    for (name, fault, replica, view, put_aside) in cases {
        let mark = Mark {
            fault,
            replica,
            what: String::new(),
        };
        let decided = decide(&mark, view.as_ref(), POD, false) == Decision::PutAside;
        assert_eq!(decided, put_aside, "{name}");
    }
}

#[test]
fn what_is_left_is_used_once_a_person_has_accepted_the_loss() {
    use Fault::{Damaged, Outdated};
    let accepted = |epoch| {
        let action = Action::AcceptLoss { epoch };
        let id = "accept".to_owned();
        let mut view = view(Some(register(OWN, POD)));
        view.requests = vec![Request { id, action }];
        view
    };
    for (epoch, fault, examined, expected) in [
        (3, Outdated, false, Decision::Use),
        (3, Damaged, true, Decision::PutAside),
        (2, Outdated, false, Decision::Keep(ALONE)),
        (2, Damaged, true, Decision::Keep(ALONE)),
    ] {
        let mark = Mark {
            fault,
            replica: Some(OWN),
            what: String::new(),
        };
        let decided = decide(&mark, Some(&accepted(epoch)), POD, examined);
        assert_eq!(decided, expected, "{fault:?}, accepted for {epoch}");
    }
    let damaged = Mark {
        fault: Damaged,
        replica: Some(OWN),
        what: String::new(),
    };
    let unexamined = decide(&damaged, Some(&accepted(3)), POD, false);
    assert_ne!(unexamined, Decision::PutAside, "it may be whole");
}

/// A marked store of [`OWN`].
fn marked(fault: Fault) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    drop(Store::open(directory.path(), OWN).unwrap());
    let what = "as seen".to_owned();
    mark::set(directory.path(), &Found { fault, what }).unwrap();
    directory
}

async fn settled(directory: &TempDir, leader: ReplicaId) -> Result<(), Found> {
    let place = Place {
        patience: Duration::ZERO,
        ..Place::new(directory.path(), POD)
    };
    assert!(place.is_hindered());
    let registry = MemoryRegister::new(Some(register(leader, POD)), 1);
    settle(&place, &registry, &Liveness::default()).await
}

#[test]
fn a_mark_says_what_was_found_and_whose_the_store_is() {
    let directory = marked(Fault::Diverged);
    let read = Mark::read(directory.path()).unwrap();
    assert_eq!((read.fault, read.replica), (Fault::Diverged, Some(OWN)));
    assert_eq!(read.what, "as seen");
    for bytes in [&b""[..], b"{\"reason\": 5}"] {
        fs::write(directory.path().join("quarantined"), bytes).unwrap();
        let unreadable = Mark::read(directory.path()).unwrap();
        assert_eq!(
            (unreadable.fault, unreadable.replica),
            (Fault::Damaged, Some(OWN))
        );
    }
    mark::lift(directory.path()).unwrap();
    assert_eq!(Mark::read(directory.path()), None);
    assert!(!mark::is_there(directory.path()));
}

#[tokio::test]
async fn where_another_leads_a_new_replica_begins_and_the_old_store_is_kept_until_it_is_in_sync() {
    let directory = marked(Fault::Damaged);
    settled(&directory, OTHER).await.unwrap();
    let fresh = ReplicaId(99);
    let store = Store::open(directory.path(), fresh).unwrap();
    assert_eq!(store.durable().replica_id, fresh, "a new replica");
    let aside = directory.path().join("aside");
    assert!(aside.join("CURRENT").exists(), "the old store is kept");
    store.discard_aside().unwrap();
    assert!(!aside.exists());
}

#[tokio::test]
async fn putting_aside_goes_on_where_it_was_interrupted() {
    // After the store was moved, before its mark was taken away.
    let directory = marked(Fault::Damaged);
    aside::put(directory.path()).unwrap();
    settled(&directory, OTHER).await.unwrap();
    assert!(directory.path().join("aside").join("CURRENT").exists());
    let fresh = ReplicaId(99);
    let store = Store::open(directory.path(), fresh).unwrap();
    assert_eq!(store.durable().replica_id, fresh);
}

#[tokio::test]
async fn the_only_copy_is_kept_where_it_is_and_people_are_told_why() {
    for fault in [Fault::Diverged, Fault::Outdated] {
        let directory = marked(fault);
        let told = settled(&directory, OWN).await.unwrap_err();
        assert_eq!(told.fault, fault);
        assert!(told.what.contains("as seen"), "{told}");
        assert!(told.what.contains("no other replica"), "{told}");
        assert!(mark::is_there(directory.path()), "it stays marked");
        assert!(!directory.path().join("aside").exists());
    }
}

#[tokio::test]
async fn the_only_copy_is_used_again_if_it_turns_out_to_be_whole() {
    let directory = marked(Fault::Damaged);
    settled(&directory, OWN).await.unwrap();
    let store = Store::open(directory.path(), ReplicaId(99)).unwrap();
    assert_eq!(store.durable().replica_id, OWN);
    assert!(!mark::is_there(directory.path()));
}
