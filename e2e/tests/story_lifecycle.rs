//! A platform engineer applies a tenant, looks at it with `kubectl`, scales it, stops it and goes on,
//! and finds in every output what they would look for. Records the README's samples.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use percolate_crds::conditions;
use percolate_e2e::api::{Api, Request};
use percolate_e2e::story::{self, READY_LIMIT, record_sample};
use percolate_e2e::tenant::Tenant;
use serde_json::json;

const SOON: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_is_applied_watched_scaled_stopped_and_resumed() {
    story::run("lifecycle", |ground| async move {
        let spec = json!({"replicas": 2, "storage": {"size": "64Mi"}});
        let tenant = ground.ready_tenant("acme", &spec).await?;
        it_reads_as_one_expects(&tenant).await?;
        every_condition_is_there(&tenant).await?;
        suspended_it_is_left_alone(&tenant).await?;
        it_scales_by_command(&tenant).await?;
        stopped_it_keeps_its_data(&tenant).await
    })
    .await;
}

async fn it_reads_as_one_expects(tenant: &Tenant) -> Result<()> {
    tenant
        .kubectl(&[
            "wait",
            "ptenant/acme",
            "--for=condition=Ready",
            "--timeout=60s",
        ])
        .await?;
    let short = tenant.kubectl(&["get", "ptenant"]).await?;
    has_columns(
        &short,
        &["NAME", "READY", "LEADER", "REPLICAS", "IN-SYNC", "AGE"],
    )?;
    has_cells(&short, &["acme", "True", "acme-", "2/2"])?;
    record_sample("get-ptenant", &with_command("get ptenant", &short))?;
    let wide = tenant.kubectl(&["get", "ptenant", "-o", "wide"]).await?;
    has_columns(&wide, &["EPOCH", "REASON"])?;
    has_cells(&wide, &["Serving"])?;
    let whole = tenant
        .kubectl(&[
            "get",
            "ptenant,preplication,statefulset,pod,service",
            "-o",
            "wide",
        ])
        .await?;
    has_cells(
        &whole,
        &[
            "service/acme-rw",
            "service/acme-ro",
            "statefulset.apps/acme",
        ],
    )?;
    record_sample(
        "get-ptenant-wide",
        &with_command("get ptenant -o wide", &wide),
    )?;
    let described = tenant.kubectl(&["describe", "ptenant", "acme"]).await?;
    has_cells(
        &described,
        &["Conditions:", "ReplicationHealthy", "AllInSync", "Events:"],
    )?;
    let events = described.split("Events:").nth(1).unwrap_or_default();
    ensure!(
        !events.contains("<none>"),
        "a tenant that was just made has events:\n{described}"
    );
    record_sample(
        "describe-ptenant",
        &with_command("describe ptenant acme", &described),
    )
}

async fn every_condition_is_there(tenant: &Tenant) -> Result<()> {
    let view = tenant.view().await?;
    for kind in conditions::TYPES {
        let condition = view
            .condition(kind)
            .with_context(|| format!("the condition {kind} is missing"))?;
        let is_documented = conditions::TABLE.iter().any(|reason| {
            reason.name == condition.reason
                && reason.status_on(kind) == Some(condition.status.as_str())
        });
        ensure!(
            is_documented,
            "{condition:?} is not in the documented table"
        );
    }
    Ok(())
}

async fn suspended_it_is_left_alone(tenant: &Tenant) -> Result<()> {
    tenant.patch(&json!({"spec": {"suspend": true}})).await?;
    tenant
        .wait_condition(conditions::SUSPENDED, "True", "SuspendedBySpec", SOON)
        .await?;
    tenant.scale(3).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let pods = tenant.view().await?.pods.len();
    ensure!(pods == 2, "a suspended tenant was scaled to {pods} pods");
    tenant
        .patch(&json!({"spec": {"suspend": false, "replicas": 2}}))
        .await?;
    tenant.wait_settled(2, SOON).await.map(drop)
}

async fn it_scales_by_command(tenant: &Tenant) -> Result<()> {
    let said = tenant.scale(3).await?;
    has_cells(&said, &["percolatetenant.percolationlabs.ai/acme scaled"])?;
    tenant.wait_settled(3, READY_LIMIT).await?;
    let short = tenant.kubectl(&["get", "ptenant", "acme"]).await?;
    has_cells(&short, &["3/3"])?;
    let sample = [
        with_command("scale ptenant/acme --replicas=3", &said),
        with_command("get ptenant acme", &short),
    ];
    record_sample("scale", &sample.concat())
}

async fn stopped_it_keeps_its_data(tenant: &Tenant) -> Result<()> {
    let api = Api::of(tenant).await?;
    let kept = json!({"type": "note", "properties": {"text": "kept"}});
    let written = api
        .send_to_any(&Request::put("/entities/kept", &kept))
        .await?;
    ensure!(written.status.is_success(), "{}", written.line());
    let claims = tenant.kubectl(&["get", "pvc", "-o", "name"]).await?;
    let epoch = tenant.view().await?.epoch();
    tenant.scale(0).await?;
    let stopped = tenant
        .wait("every pod is stopped", READY_LIMIT, |view| {
            view.pods.is_empty() && view.is(conditions::READY, "False")
        })
        .await?;
    let reason = stopped
        .condition(conditions::READY)
        .map(|condition| condition.reason.as_str());
    ensure!(
        reason == Some("Stopped"),
        "Ready is False because of {reason:?}"
    );
    ensure!(stopped.epoch() >= epoch, "the register was not kept");
    ensure!(
        tenant.kubectl(&["get", "pvc", "-o", "name"]).await? == claims,
        "a stopped tenant keeps its volumes"
    );
    tenant.scale(2).await?;
    tenant.wait_settled(2, READY_LIMIT).await?;
    let api = Api::of(tenant).await?;
    for pod in api.pods() {
        let read = api.send(&pod, &Request::get("/entities/kept")).await?;
        ensure!(
            read.body["properties"]["text"] == "kept",
            "{pod} answers {}",
            read.line()
        );
    }
    Ok(())
}

fn has_columns(table: &str, columns: &[&str]) -> Result<()> {
    let head = table.lines().next().unwrap_or_default();
    for column in columns {
        ensure!(head.contains(column), "no column {column} in:\n{table}");
    }
    Ok(())
}

fn has_cells(text: &str, cells: &[&str]) -> Result<()> {
    for cell in cells {
        ensure!(text.contains(cell), "no {cell:?} in:\n{text}");
    }
    Ok(())
}

fn with_command(arguments: &str, output: &str) -> String {
    format!("$ kubectl {arguments}\n{}\n", output.trim_end())
}
