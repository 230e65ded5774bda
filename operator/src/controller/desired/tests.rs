//! The objects of a tenant, as snapshots, and what must hold for all of them.

use percolate_crds::{names, tenant::DeletionPolicy};
use serde_json::Value;

use super::{Desired, Surroundings, desired};
use crate::controller::{
    fixtures::{defaults, delays, manifest, nothing, now, settled, tenant},
    observe::{ChildKind, Observed},
    plan::plan,
    validate::{Tenant, validate},
};

fn objects(tenant: &Tenant, observed: &Observed) -> Vec<Desired> {
    let plan = plan(tenant, observed, &delays(), now());
    let surroundings = Surroundings {
        api_server_ports: vec![443, 6443],
    };
    desired(tenant, &plan, observed, &surroundings)
}

fn find(objects: &[Desired], kind: ChildKind) -> &Value {
    &objects
        .iter()
        .find(|object| object.kind == kind)
        .unwrap()
        .object
}

#[test]
fn objects_of_a_new_tenant() {
    let text: Vec<String> = objects(&tenant(2), &nothing())
        .iter()
        .map(|object| serde_json::to_string_pretty(&object.object).unwrap())
        .collect();
    insta::assert_snapshot!(text.join("\n"));
}

#[test]
fn every_object_is_labelled_owned_and_hashed_and_the_register_comes_before_the_pods() {
    let objects = objects(&tenant(2), &nothing());
    for object in &objects {
        let metadata = &object.object["metadata"];
        let name = &object.name;
        assert_eq!(metadata["labels"][names::TENANT_LABEL], "acme", "{name}");
        assert_eq!(
            metadata["labels"][names::APP_MANAGED_BY],
            names::MANAGED_BY,
            "{name}"
        );
        assert_eq!(
            metadata["annotations"][names::DESIRED_HASH_ANNOTATION],
            object.hash,
            "{name}"
        );
        let owned = metadata["ownerReferences"][0]["uid"].is_string();
        let retained = object.kind == ChildKind::PercolateReplication;
        assert_eq!(owned, !retained, "{name}");
    }
    let position = |kind| objects.iter().position(|object| object.kind == kind);
    assert!(position(ChildKind::PercolateReplication) < position(ChildKind::StatefulSet));
}

#[test]
fn the_same_wish_has_the_same_hash_and_another_wish_another() {
    let hashes = |tenant: &Tenant| -> Vec<String> {
        objects(tenant, &settled(2))
            .into_iter()
            .map(|object| object.hash)
            .collect()
    };
    let plain = hashes(&tenant(2));
    assert_eq!(plain, hashes(&tenant(2)));
    let mut other = tenant(2);
    other.image = "example.org/percolate-node:2".to_owned();
    let changed = hashes(&other);
    let differing = plain
        .iter()
        .zip(&changed)
        .filter(|(left, right)| left != right)
        .count();
    assert_eq!(differing, 1, "an image concerns the StatefulSet alone");
}

#[test]
fn volumes_go_with_the_tenant_only_where_that_is_asked_for_and_not_held_back() {
    for (policy, protected, when_deleted, register_owned) in [
        (DeletionPolicy::Retain, false, "Retain", false),
        (DeletionPolicy::Delete, false, "Delete", true),
        (DeletionPolicy::Delete, true, "Retain", true),
    ] {
        let mut tenant = tenant(2);
        tenant.deletion_policy = policy;
        tenant.deletion_protection = protected;
        let objects = objects(&tenant, &settled(2));
        let retention =
            &find(&objects, ChildKind::StatefulSet)["spec"]["persistentVolumeClaimRetentionPolicy"];
        assert_eq!(retention["whenDeleted"], when_deleted, "{policy:?}");
        assert_eq!(retention["whenScaled"], "Retain", "{policy:?}");
        let register = find(&objects, ChildKind::PercolateReplication);
        assert_eq!(
            register["metadata"]["ownerReferences"].is_array(),
            register_owned,
            "{policy:?}"
        );
    }
}

#[test]
fn the_size_of_present_volumes_stands_until_the_set_is_replaced() {
    let mut larger = tenant(2);
    larger.storage.size = "20Gi".to_owned();
    let size = |observed: &Observed| {
        find(&objects(&larger, observed), ChildKind::StatefulSet)["spec"]["volumeClaimTemplates"][0]
            ["spec"]["resources"]["requests"]["storage"]
            .clone()
    };
    assert_eq!(size(&settled(2)), "10Gi");
    let mut replaced = settled(2);
    replaced.stateful_set = None;
    assert_eq!(size(&replaced), "20Gi");
}

#[test]
fn a_template_is_passed_on_and_cannot_displace_what_selects_the_pods() {
    let mut manifest = manifest(2);
    let template: percolate_crds::tenant::PodTemplate = serde_json::from_value(serde_json::json!({
        "resources": {"limits": {"memory": "1Gi"}},
        "nodeSelector": {"disk": "fast"},
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "topologySpreadConstraints": [{"topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"}],
        "priorityClassName": "high",
        "labels": {"team": "search", "app.kubernetes.io/name": "other"},
        "annotations": {"note": "hello"},
    }))
    .unwrap();
    manifest.spec.template = Some(template);
    let tenant = validate(&manifest, &defaults()).unwrap();
    let objects = objects(&tenant, &settled(2));
    let pod = &find(&objects, ChildKind::StatefulSet)["spec"]["template"];
    assert_eq!(pod["metadata"]["labels"]["team"], "search");
    assert_eq!(
        pod["metadata"]["labels"]["app.kubernetes.io/name"],
        "percolate"
    );
    assert_eq!(pod["metadata"]["annotations"]["note"], "hello");
    let spec = &pod["spec"];
    assert_eq!(
        spec["containers"][0]["resources"]["limits"]["memory"],
        "1Gi"
    );
    assert_eq!(spec["nodeSelector"]["disk"], "fast");
    assert!(spec["affinity"]["nodeAffinity"].is_object());
    assert_eq!(spec["tolerations"][0]["key"], "dedicated");
    assert_eq!(spec["priorityClassName"], "high");
    let spread = &spec["topologySpreadConstraints"];
    assert_eq!(spread.as_array().map(Vec::len), Some(1));
    assert_eq!(spread[0]["whenUnsatisfiable"], "DoNotSchedule");
}

#[test]
fn affinity_that_is_none_is_refused_with_its_place() {
    let mut manifest = manifest(2);
    manifest.spec.template = Some(percolate_crds::tenant::PodTemplate {
        affinity: Some(serde_json::json!({"nodeAffinity": "somewhere"})),
        ..Default::default()
    });
    let error = validate(&manifest, &defaults()).unwrap_err().to_string();
    assert!(
        error.starts_with("spec.template.affinity is not"),
        "{error}"
    );
}
