//! What the API server refuses, and the sentence with which it does. The rules are evaluated here as
//! the API server evaluates them; that it also accepts them is tested against a real one.

use kube::{CustomResourceExt, core::cel::Validator};
use percolate_crds::{PercolateReplication, PercolateTenant};
use serde_json::{Value, json};

/// Messages of the rules an object breaks, alone or as a change of another.
fn refusals<K: CustomResourceExt>(object: &Value, old: Option<&Value>) -> Vec<String> {
    let crd = K::crd();
    let schema = crd.spec.versions[0].schema.as_ref();
    let schema = schema.and_then(|schema| schema.open_api_v3_schema.as_ref());
    let schema = serde_json::to_value(schema.expect("a schema")).expect("a schema is JSON");
    match Validator::new().validate(&schema, object, old) {
        Ok(()) => Vec::new(),
        Err(errors) => errors.into_vec().iter().map(ToString::to_string).collect(),
    }
}

#[track_caller]
fn check<K: CustomResourceExt>(case: &str, object: &Value, old: Option<&Value>, expected: &str) {
    let refusals = refusals::<K>(object, old);
    if expected.is_empty() {
        assert!(refusals.is_empty(), "{case}: refused: {refusals:?}");
        return;
    }
    assert!(
        refusals.iter().any(|refusal| refusal.contains(expected)),
        "{case}: expected {expected:?} in {refusals:?}"
    );
}

/// Merges a change into a value: objects field by field, `null` removes.
fn changed(value: &Value, change: &Value) -> Value {
    let (Value::Object(fields), Value::Object(changes)) = (value, change) else {
        return change.clone();
    };
    let mut fields = fields.clone();
    for (key, change) in changes {
        if change.is_null() {
            fields.remove(key);
        } else {
            let next = changed(fields.get(key).unwrap_or(&Value::Null), change);
            fields.insert(key.clone(), next);
        }
    }
    Value::Object(fields)
}

/// A tenant as the API server holds it, with its defaults.
fn tenant() -> Value {
    json!({
        "apiVersion": "percolationlabs.ai/v1alpha1",
        "kind": "PercolateTenant",
        "metadata": {"name": "acme", "namespace": "tenants"},
        "spec": {
            "replicas": 2,
            "storage": {"size": "10Gi", "accessMode": "ReadWriteOnce"},
            "replication": {"heartbeat": "500ms", "takeoverAfter": "2500ms"},
            "deletionPolicy": "Retain",
        },
    })
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn manifests_that_cannot_work_are_refused_with_what_to_do() {
    for (case, change, expected) in [
        ("as it is", json!({}), ""),
        ("stopped", json!({"spec": {"replicas": 0}}), ""),
        (
            "stopped, with a minimum",
            json!({"spec": {"replicas": 0, "replication": {"minInSync": 2}}}),
            "",
        ),
        (
            "longest id",
            json!({"spec": {"tenantId": "a".repeat(40)}}),
            "",
        ),
        ("id of digits", json!({"spec": {"tenantId": "42"}}), ""),
        (
            "name with a dot",
            json!({"metadata": {"name": "a.b"}}),
            "choose another name",
        ),
        (
            "name with a digit first",
            json!({"metadata": {"name": "1a"}}),
            "start with a letter",
        ),
        (
            "name too long",
            json!({"metadata": {"name": "a".repeat(41)}}),
            "at most 40",
        ),
        (
            "id with a capital",
            json!({"spec": {"tenantId": "Acme"}}),
            "choose another id",
        ),
        (
            "id with a slash",
            json!({"spec": {"tenantId": "../etc"}}),
            "choose another id",
        ),
        (
            "id ending in a dash",
            json!({"spec": {"tenantId": "acme-"}}),
            "choose another id",
        ),
        (
            "empty id",
            json!({"spec": {"tenantId": ""}}),
            "choose another id",
        ),
        (
            "negative replicas",
            json!({"spec": {"replicas": -1}}),
            "choose a number in that range",
        ),
        (
            "too many replicas",
            json!({"spec": {"replicas": 10}}),
            "choose a number in that range",
        ),
        (
            "minimum of none",
            json!({"spec": {"replication": {"minInSync": 0}}}),
            "between 1 and",
        ),
        (
            "minimum above replicas",
            json!({"spec": {"replication": {"minInSync": 3}}}),
            "lower minInSync or raise replicas",
        ),
        (
            "image with a space",
            json!({"spec": {"image": "a b"}}),
            "correct it, or leave it out",
        ),
        (
            "empty image",
            json!({"spec": {"image": ""}}),
            "correct it, or leave it out",
        ),
        (
            "image with tag and digest",
            json!({"spec": {"image": "ghcr.io/a/b:1@sha256:00"}}),
            "",
        ),
        (
            "size of nothing",
            json!({"spec": {"storage": {"size": "0"}}}),
            "above zero",
        ),
        (
            "negative size",
            json!({"spec": {"storage": {"size": "-1Gi"}}}),
            "above zero",
        ),
        (
            "size in words",
            json!({"spec": {"storage": {"size": "ten"}}}),
            "like 10Gi",
        ),
        (
            "heartbeat without a unit",
            json!({"spec": {"replication": {"heartbeat": "500"}}}),
            "like 500ms or 1s",
        ),
        (
            "heartbeat too short",
            json!({"spec": {"replication": {"heartbeat": "10ms"}}}),
            "between 50ms and 10s",
        ),
        (
            "heartbeat too long",
            json!({"spec": {"replication": {"heartbeat": "11s", "takeoverAfter": "1m"}}}),
            "between 50ms and 10s",
        ),
        (
            "takeover too soon",
            json!({"spec": {"replication": {"takeoverAfter": "1400ms"}}}),
            "three heartbeats",
        ),
        (
            "takeover too late",
            json!({"spec": {"replication": {"takeoverAfter": "6m"}}}),
            "at most 5m",
        ),
        (
            "takeover in hours",
            json!({"spec": {"replication": {"takeoverAfter": "1h"}}}),
            "like 2500ms or 5s",
        ),
        (
            "our own label",
            json!({"spec": {"template": {"labels": {"percolationlabs.ai/role": "leader"}}}}),
            "use another prefix",
        ),
        (
            "selector label",
            json!({"spec": {"template": {"labels": {"app.kubernetes.io/name": "x"}}}}),
            "use another prefix",
        ),
        (
            "their label",
            json!({"spec": {"template": {"labels": {"team": "search"}}}}),
            "",
        ),
        (
            "our own annotation",
            json!({"spec": {"template": {"annotations": {"percolationlabs.ai/x": ""}}}}),
            "use another prefix",
        ),
        (
            "skew of none",
            json!({"spec": {"template": {"topologySpreadConstraints": [{"maxSkew": 0, "topologyKey": "zone"}]}}}),
            "at least 1",
        ),
    ] {
        check::<PercolateTenant>(case, &changed(&tenant(), &change), None, expected);
    }
}

#[test]
fn changes_that_would_lose_data_are_refused_with_what_to_do() {
    let with_id = json!({"spec": {"tenantId": "acme"}});
    let with_class = json!({"spec": {"storage": {"storageClassName": "fast"}}});
    for (case, before, after, expected) in [
        (
            "more replicas",
            json!({}),
            json!({"spec": {"replicas": 3}}),
            "",
        ),
        (
            "larger",
            json!({}),
            json!({"spec": {"storage": {"size": "11Gi"}}}),
            "",
        ),
        (
            "as large, spelled otherwise",
            json!({}),
            json!({"spec": {"storage": {"size": "10240Mi"}}}),
            "",
        ),
        (
            "smaller",
            json!({}),
            json!({"spec": {"storage": {"size": "9Gi"}}}),
            "keep the old size",
        ),
        (
            "smaller, looking larger",
            json!({}),
            json!({"spec": {"storage": {"size": "9999Mi"}}}),
            "keep the old size",
        ),
        (
            "another id",
            with_id.clone(),
            json!({"spec": {"tenantId": "other"}}),
            "create a new tenant instead",
        ),
        (
            "an id added",
            json!({}),
            with_id.clone(),
            "create a new tenant instead",
        ),
        (
            "an id removed",
            with_id,
            json!({"spec": {"tenantId": null}}),
            "create a new tenant instead",
        ),
        (
            "another class",
            with_class.clone(),
            json!({"spec": {"storage": {"storageClassName": "slow"}}}),
            "create a new tenant with the other class",
        ),
        (
            "a class added",
            json!({}),
            with_class.clone(),
            "create a new tenant with the other class",
        ),
        (
            "another mode",
            json!({}),
            json!({"spec": {"storage": {"accessMode": "ReadWriteOncePod"}}}),
            "create a new tenant with the other mode",
        ),
        (
            "another image",
            json!({}),
            json!({"spec": {"image": "b"}}),
            "",
        ),
    ] {
        let old = changed(&tenant(), &before);
        let new = changed(&changed(&old, &json!({})), &after);
        check::<PercolateTenant>(case, &new, Some(&old), expected);
    }
}

/// A register led by `a`, with `b` in sync and `c` not.
fn register() -> Value {
    json!({
        "apiVersion": "percolationlabs.ai/v1alpha1",
        "kind": "PercolateReplication",
        "metadata": {"name": "acme", "namespace": "tenants"},
        "spec": {"minInSync": 1, "bootstrap": false},
        "status": {
            "incarnation": "0123456789abcdef0123456789abcdef",
            "epoch": 5,
            "leader": "a",
            "leaderPod": "acme-0",
            "inSync": ["a", "b"],
            "replicas": [
                {"replicaId": "a", "pod": "acme-0"},
                {"replicaId": "b", "pod": "acme-1"},
                {"replicaId": "c", "pod": "acme-2"},
            ],
        },
    })
}

#[test]
fn the_register_moves_only_where_no_acknowledged_write_is_lost() {
    for (case, change, expected) in [
        ("nothing", json!({}), ""),
        (
            "c grows in",
            json!({"status": {"inSync": ["a", "b", "c"]}}),
            "",
        ),
        ("b is dropped", json!({"status": {"inSync": ["a"]}}), ""),
        (
            "b takes over",
            json!({"status": {"epoch": 6, "leader": "b", "leaderPod": "acme-1"}}),
            "",
        ),
        (
            "b takes over without a",
            json!({"status": {"epoch": 6, "leader": "b", "inSync": ["b"]}}),
            "",
        ),
        ("a starts again", json!({"status": {"epoch": 6}}), ""),
        (
            "a outsider takes over",
            json!({"status": {"epoch": 6, "leader": "c", "inSync": ["a", "b", "c"]}}),
            "only a replica that was in sync can lead",
        ),
        (
            "the epoch falls",
            json!({"status": {"epoch": 4}}),
            "a newer leader exists",
        ),
        (
            "the epoch jumps",
            json!({"status": {"epoch": 7, "leader": "b"}}),
            "rise by one",
        ),
        (
            "a second leader in one epoch",
            json!({"status": {"leader": "b"}}),
            "an epoch has one leader",
        ),
        (
            "a leader out of sync",
            json!({"status": {"inSync": ["b"]}}),
            "the leader must be in inSync",
        ),
        (
            "nobody in sync",
            json!({"status": {"inSync": []}}),
            "inSync cannot be empty",
        ),
        (
            "another history",
            json!({"status": {"incarnation": "f".repeat(32)}}),
            "incarnation cannot change",
        ),
        (
            "no history",
            json!({"status": {"incarnation": "none"}}),
            "32 hexadecimal digits",
        ),
        (
            "the status erased",
            json!({"status": null}),
            "cannot be erased",
        ),
    ] {
        let new = changed(&register(), &change);
        check::<PercolateReplication>(case, &new, Some(&register()), expected);
    }
}

#[test]
fn a_loss_is_accepted_by_a_person_and_for_one_epoch() {
    let accepted = |epoch| json!([{"id": "1", "kind": "AcceptLoss", "epoch": epoch}]);
    let led_by = |leader: &str, loss: u64, in_sync: Value| json!({"epoch": 6, "leader": leader, "lossEpoch": loss, "inSync": in_sync});
    let denied = "only a person can accept a loss";
    for (case, requests, status, expected) in [
        ("accepted", accepted(5), led_by("c", 6, json!(["c"])), ""),
        (
            "accepted, led by an old one",
            accepted(5),
            led_by("b", 6, json!(["b"])),
            "",
        ),
        (
            "not accepted",
            json!([]),
            led_by("c", 6, json!(["c"])),
            denied,
        ),
        (
            "of another epoch",
            accepted(4),
            led_by("c", 6, json!(["c"])),
            denied,
        ),
        (
            "not told",
            accepted(5),
            json!({"epoch": 6, "leader": "c", "inSync": ["c"]}),
            "accept the loss",
        ),
        (
            "told otherwise",
            accepted(5),
            led_by("c", 5, json!(["c"])),
            denied,
        ),
        (
            "with others",
            accepted(5),
            led_by("c", 6, json!(["a", "c"])),
            denied,
        ),
        (
            "under the same leader",
            accepted(5),
            json!({"lossEpoch": 5, "inSync": ["a"]}),
            denied,
        ),
    ] {
        let object = json!({"spec": {"requests": requests}});
        let old = changed(&register(), &object);
        let new = changed(&old, &json!({"status": status}));
        check::<PercolateReplication>(case, &new, Some(&old), expected);
    }
    let since = changed(&register(), &json!({"status": {"lossEpoch": 3}}));
    for (case, status, expected) in [
        ("remembered", json!({"epoch": 6}), ""),
        ("forgotten", json!({"epoch": 6, "lossEpoch": null}), denied),
    ] {
        let new = changed(&since, &json!({"status": status}));
        check::<PercolateReplication>(case, &new, Some(&since), expected);
    }
}

#[test]
fn the_first_leader_begins_at_epoch_one() {
    let empty = changed(&register(), &json!({"status": null}));
    for (case, epoch, expected) in [
        ("first", 1, ""),
        ("second", 2, "has epoch 1"),
        ("none", 0, "starts at 1"),
    ] {
        let new = changed(&register(), &json!({"status": {"epoch": epoch}}));
        check::<PercolateReplication>(case, &new, Some(&empty), expected);
    }
}

#[test]
fn requests_name_what_they_are_about() {
    for (case, request, expected) in [
        (
            "drop",
            json!({"id": "1", "kind": "Drop", "pod": "acme-1"}),
            "",
        ),
        (
            "drop of nobody",
            json!({"id": "1", "kind": "Drop"}),
            "set pod",
        ),
        (
            "a loss of some epoch",
            json!({"id": "1", "kind": "AcceptLoss"}),
            "set epoch",
        ),
        (
            "handover at an epoch",
            json!({"id": "1", "kind": "HandOver", "epoch": 1}),
            "set epoch",
        ),
        (
            "handover to anybody",
            json!({"id": "1", "kind": "HandOver"}),
            "",
        ),
    ] {
        let new = changed(&register(), &json!({"spec": {"requests": [request]}}));
        check::<PercolateReplication>(case, &new, Some(&register()), expected);
    }
    let none = changed(&register(), &json!({"spec": {"minInSync": 0}}));
    check::<PercolateReplication>("minimum of none", &none, None, "between 1 and 9");
}
