//! A deleted tenant keeps or loses its volumes as its policy says, and stays while it is protected.

use std::time::Duration;

use anyhow::{Result, ensure};
use percolate_crds::{conditions, names};
use percolate_e2e::api::{Api, Request};
use percolate_e2e::story::{self, GONE_LIMIT, Ground, READY_LIMIT};
use percolate_e2e::tenant::Tenant;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread")]
async fn each_policy_does_what_it_says() {
    story::run("deletion", |ground| async move {
        retained_data_come_back_with_a_tenant_of_the_same_name(&ground).await?;
        a_protected_tenant_stays(&ground).await?;
        deleted_data_are_gone(&ground).await
    })
    .await;
}

fn spec(policy: &str) -> Value {
    json!({"replicas": 2, "storage": {"size": "64Mi"}, "deletionPolicy": policy})
}

async fn retained_data_come_back_with_a_tenant_of_the_same_name(ground: &Ground) -> Result<()> {
    let tenant = ground.ready_tenant("keeper", &spec("Retain")).await?;
    write(&tenant).await?;
    let epoch = tenant.view().await?.epoch();
    tenant.delete(GONE_LIMIT).await?;
    pods_are_gone(&tenant).await?;
    let left = objects(&tenant).await?;
    ensure!(left.claims == 2, "{} of 2 volumes were kept", left.claims);
    ensure!(left.registers == 1, "the register was not kept");
    let tenant = ground.ready_tenant("keeper", &spec("Retain")).await?;
    ensure!(
        tenant.view().await?.epoch() > epoch,
        "the register began anew"
    );
    read(&tenant).await?;
    tenant.delete(GONE_LIMIT).await
}

async fn a_protected_tenant_stays(ground: &Ground) -> Result<()> {
    let mut protected = spec("Delete");
    protected["deletionProtection"] = json!(true);
    let tenant = ground.ready_tenant("vault", &protected).await?;
    let resource = tenant.resource();
    tenant
        .kubectl(&["delete", &resource, "--wait=false"])
        .await?;
    tenant
        .wait_condition(conditions::RECONCILING, "True", "DeletionProtected", SOON)
        .await?;
    write(&tenant).await?;
    ensure!(
        tenant.view().await?.ready_pods().len() == 2,
        "a protected tenant lost pods"
    );
    tenant
        .patch(&json!({"spec": {"deletionProtection": false}}))
        .await?;
    tenant.delete(GONE_LIMIT).await?;
    everything_is_gone(&tenant).await
}

async fn deleted_data_are_gone(ground: &Ground) -> Result<()> {
    let tenant = ground.ready_tenant("fleeting", &spec("Delete")).await?;
    write(&tenant).await?;
    tenant.delete(GONE_LIMIT).await?;
    everything_is_gone(&tenant).await?;
    let tenant = ground.ready_tenant("fleeting", &spec("Delete")).await?;
    let api = Api::of(&tenant).await?;
    let reply = api.send_to_any(&Request::get("/entities/mine")).await?;
    ensure!(
        reply.status.as_u16() == 404,
        "data of a deleted tenant are back: {}",
        reply.line()
    );
    Ok(())
}

async fn write(tenant: &Tenant) -> Result<()> {
    let api = Api::of(tenant).await?;
    let body = json!({"type": "note", "properties": {"text": "kept"}});
    let reply = api
        .send_to_any(&Request::put("/entities/mine", &body))
        .await?;
    ensure!(reply.status.is_success(), "{}", reply.line());
    Ok(())
}

async fn read(tenant: &Tenant) -> Result<()> {
    let api = Api::of(tenant).await?;
    for pod in api.pods() {
        let reply = api.send(&pod, &Request::get("/entities/mine")).await?;
        ensure!(
            reply.body["properties"]["text"] == "kept",
            "{pod}: {}",
            reply.line()
        );
    }
    Ok(())
}

struct Objects {
    claims: usize,
    registers: usize,
    others: Vec<String>,
}

/// What Kubernetes still has of the tenant.
async fn objects(tenant: &Tenant) -> Result<Objects> {
    let label = format!("{}={}", names::TENANT_LABEL, tenant.name);
    let kinds = "pvc,preplication,statefulset,service,secret,configmap,serviceaccount,role,rolebinding,pdb,networkpolicy";
    let listed = tenant
        .kubectl(&["get", kinds, "-l", &label, "-o", "name"])
        .await?;
    let count = |kind: &str| listed.lines().filter(|name| name.starts_with(kind)).count();
    Ok(Objects {
        claims: count("persistentvolumeclaim/"),
        registers: count("percolatereplication."),
        others: listed
            .lines()
            .filter(|name| {
                !name.starts_with("persistentvolumeclaim/")
                    && !name.starts_with("percolatereplication.")
            })
            .map(str::to_owned)
            .collect(),
    })
}

async fn pods_are_gone(tenant: &Tenant) -> Result<()> {
    tenant
        .wait("its pods are gone", READY_LIMIT, |view| {
            view.pods.is_empty()
        })
        .await
        .map(drop)
}

async fn everything_is_gone(tenant: &Tenant) -> Result<()> {
    pods_are_gone(tenant).await?;
    let begun = std::time::Instant::now();
    loop {
        let left = objects(tenant).await?;
        if left.claims + left.registers + left.others.len() == 0 {
            return Ok(());
        }
        ensure!(
            begun.elapsed() < SOON,
            "{} volumes, {} registers and {:?} are left",
            left.claims,
            left.registers,
            left.others
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
