use super::*;
use crate::model::arbitrary::{name, stamp};

fn json(text: &str) -> Json {
    Json::parse(text).expect("a value")
}

fn values(fields: &Fields) -> String {
    let live = fields.live().map(|(name, value)| format!("{name}={value}"));
    live.collect::<Vec<_>>().join(" ")
}

#[test]
fn an_unchanged_value_keeps_its_stamp() {
    let mut fields = Fields::new(BTreeMap::from([(name("f"), json("1"))]), stamp(1, 0, 1));
    assert!(!fields.patch(
        BTreeMap::from([(name("f"), Some(json("1")))]),
        stamp(9, 0, 2)
    ));
    let stamps: Vec<_> = fields.iter().map(|(_, field)| field.stamp).collect();
    assert_eq!(stamps, [stamp(1, 0, 1)]);
}

#[test]
fn removing_what_was_never_there_leaves_nothing_behind() {
    let mut fields = Fields::default();
    assert!(!fields.patch(BTreeMap::from([(name("f"), None)]), stamp(1, 0, 1)));
    assert_eq!(fields, Fields::default());
}

#[test]
fn a_removed_field_does_not_come_back_with_an_old_copy() {
    let old = Fields::new(BTreeMap::from([(name("f"), json("1"))]), stamp(1, 0, 1));
    let mut removed = old.clone();
    assert!(removed.replace(BTreeMap::from([(name("g"), json("2"))]), stamp(2, 0, 2)));
    assert_eq!(values(&removed), "g=2");
    assert_eq!(values(&removed.clone().join(old.clone())), "g=2");
    assert_eq!(values(&old.join(removed)), "g=2");
}
