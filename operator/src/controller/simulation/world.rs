//! What the rest of the cluster does between two passes: the StatefulSet's controller makes and
//! removes pods and volumes, and nodes lead, follow and answer.

use serde_json::{Value, json};

use super::server::{Server, collection, revision};

const PODS: &str = "/api/v1/namespaces/tenants/pods";
const CLAIMS: &str = "/api/v1/namespaces/tenants/persistentvolumeclaims";
const SET: &str = "/apis/apps/v1/namespaces/tenants/statefulsets/acme";
const REGISTER: &str =
    "/apis/percolationlabs.ai/v1alpha1/namespaces/tenants/percolatereplications/acme";

/// One step of everything that is not the operator.
pub(crate) fn step(server: &Server) {
    stateful_set(server);
    nodes(server);
}

fn stateful_set(server: &Server) {
    let snapshot = server.snapshot();
    let Some(set) = snapshot.get(SET) else {
        return;
    };
    let replicas = set["spec"]["replicas"].as_i64().unwrap();
    let template = &set["spec"]["template"];
    for ordinal in 0..9 {
        let name = format!("acme-{ordinal}");
        let (pod, claim) = (format!("{PODS}/{name}"), format!("{CLAIMS}/data-{name}"));
        if ordinal >= replicas {
            server.remove(&pod);
            continue;
        }
        if !snapshot.contains_key(&claim) {
            server.put(&claim, new_claim(&name, set));
        }
        if !snapshot.contains_key(&pod) {
            server.put(&pod, new_pod(&name, template));
        }
    }
    let mut set = set.clone();
    set["status"] = json!({
        "replicas": replicas,
        "observedGeneration": set["metadata"]["generation"],
        "updateRevision": revision(template),
    });
    server.put(SET, set);
}

fn new_claim(pod: &str, set: &Value) -> Value {
    let template = &set["spec"]["volumeClaimTemplates"][0];
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": format!("data-{pod}"), "namespace": "tenants",
            "labels": template["metadata"]["labels"],
        },
        "spec": template["spec"],
        "status": {"phase": "Bound", "capacity": template["spec"]["resources"]["requests"]},
    })
}

fn new_pod(name: &str, template: &Value) -> Value {
    let mut labels = template["metadata"]["labels"].clone();
    labels["controller-revision-hash"] = revision(template).into();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "tenants", "labels": labels},
        "spec": template["spec"],
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{
                "name": "percolate", "ready": true, "restartCount": 0,
                "image": "", "imageID": "", "state": {"running": {}},
            }],
        },
    })
}

/// A pod that runs, with the replica on its volume.
#[derive(Clone)]
struct Node {
    pod: String,
    replica: String,
}

fn nodes(server: &Server) {
    let snapshot = server.snapshot();
    let Some(register) = snapshot.get(REGISTER) else {
        return;
    };
    let nodes: Vec<Node> = collection(&snapshot, "pods")
        .values()
        .map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned())
        .map(|pod| Node {
            // The replica's identity is on its volume.
            replica: snapshot[&format!("{CLAIMS}/data-{pod}")]["metadata"]["uid"]
                .as_str()
                .unwrap()
                .to_owned(),
            pod,
        })
        .collect();
    let mut register = register.clone();
    if register["status"].is_null() {
        let Some(first) = nodes
            .first()
            .filter(|_| register["spec"]["bootstrap"] == true)
        else {
            return;
        };
        register["status"] = json!({
            "incarnation": "0".repeat(32), "epoch": 1,
            "leader": first.replica, "leaderPod": first.pod,
            "inSync": [first.replica],
            "replicas": [{"replicaId": first.replica, "pod": first.pod}],
        });
    } else {
        work(&mut register, &nodes);
    }
    server.put(REGISTER, register);
}

fn work(register: &mut Value, nodes: &[Node]) {
    let requests = register["spec"]["requests"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let status = &mut register["status"];
    let is_in_sync = |status: &Value, node: &Node| {
        status["inSync"]
            .as_array()
            .unwrap()
            .contains(&node.replica.clone().into())
    };
    let is_dropped = |node: &Node| {
        requests
            .iter()
            .any(|request| request["kind"] == "Drop" && request["pod"] == node.pod.as_str())
    };
    let lead = |status: &mut Value, node: &Node| {
        status["epoch"] = (status["epoch"].as_i64().unwrap() + 1).into();
        status["leader"] = node.replica.clone().into();
        status["leaderPod"] = node.pod.clone().into();
    };
    // Whoever led and is gone, or is to go, is followed by somebody in sync.
    let leader = nodes
        .iter()
        .find(|node| status["leader"] == node.replica.as_str());
    if leader.is_none_or(&is_dropped) {
        let successor = nodes
            .iter()
            .find(|node| is_in_sync(status, node) && !is_dropped(node));
        let Some(successor) = successor else {
            return;
        };
        lead(status, successor);
        return;
    }
    let mut answers = Vec::new();
    for request in &requests {
        answers.push(json!({"id": request["id"], "outcome": "Done", "message": ""}));
        if request["kind"] == "HandOver" {
            let successor = nodes
                .iter()
                .find(|node| request["pod"] == node.pod.as_str());
            if let Some(successor) = successor.filter(|node| is_in_sync(status, node)) {
                lead(status, successor);
            }
        }
    }
    status["answers"] = answers.into();
    // One change of membership a step, as compare-and-swap has it.
    let members: Vec<&Node> = nodes.iter().filter(|node| !is_dropped(node)).collect();
    status["inSync"] = members
        .iter()
        .map(|node| Value::from(node.replica.clone()))
        .collect();
    status["replicas"] = members
        .iter()
        .map(|node| json!({"replicaId": node.replica, "pod": node.pod}))
        .collect();
}
