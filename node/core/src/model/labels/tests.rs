use super::*;
use crate::model::arbitrary::{dot, name};

fn with(names: &[&str], n: u8, sequence: u64) -> Labels {
    let mut labels = Labels::default();
    for label in names {
        labels.add(name(label), dot(n, sequence));
    }
    labels
}

#[test]
fn an_addition_that_the_remover_did_not_know_of_stays() {
    let base = with(&["x"], 0, 1);
    let mut removed = base.clone();
    assert!(removed.remove(&name("x")));
    assert!(
        !removed.clone().join(base).contains("x"),
        "the removed addition is gone"
    );
    let added = with(&["x"], 1, 1);
    assert!(removed.clone().join(added.clone()).contains("x"));
    assert!(added.join(removed).contains("x"));
}

#[test]
fn a_label_can_come_back() {
    let mut labels = with(&["x"], 0, 1);
    let old = labels.clone();
    assert!(labels.remove(&name("x")) && !labels.contains("x"));
    assert!(labels.add(name("x"), dot(0, 2)) && labels.contains("x"));
    let mut removed_elsewhere = old.clone();
    assert!(removed_elsewhere.remove(&name("x")));
    for copy in [old, removed_elsewhere] {
        assert!(labels.clone().join(copy.clone()).contains("x"));
        assert!(copy.join(labels.clone()).contains("x"));
    }
}

#[test]
fn doing_it_again_changes_nothing() {
    let mut labels = with(&["x"], 0, 1);
    let before = labels.clone();
    assert!(!labels.add(name("x"), dot(1, 9)));
    assert!(!labels.remove(&name("y")));
    assert_eq!(labels, before);
}
