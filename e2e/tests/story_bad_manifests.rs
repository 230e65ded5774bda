//! A manifest with a mistake is refused with a sentence that says what to do; what only shows later
//! is a condition, and mending the manifest mends the tenant.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use percolate_crds::conditions;
use percolate_e2e::story::{self, GONE_LIMIT, Ground, READY_LIMIT};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_told_where_they_can_be_seen() {
    story::run("bad-manifests", |ground| async move {
        refused_at_once(&ground).await?;
        refused_as_changes(&ground).await?;
        an_unknown_storage_class_is_a_condition(&ground).await?;
        an_image_that_cannot_be_pulled_is_a_condition(&ground).await
    })
    .await;
}

/// (what is wrong, name, spec, words of the answer)
#[expect(clippy::too_many_lines, reason = "a table of cases")]
async fn refused_at_once(ground: &Ground) -> Result<()> {
    let long = "x".repeat(41);
    let cases: [(&str, &str, Value, &str); 14] = [
        (
            "an upper-case id",
            "a",
            json!({"tenantId": "Acme"}),
            "choose another id",
        ),
        (
            "an id that leaves its directory",
            "a",
            json!({"tenantId": "../b"}),
            "choose another id",
        ),
        (
            "an id that ends with a dash",
            "a",
            json!({"tenantId": "b-"}),
            "choose another id",
        ),
        (
            "an id that is too long",
            "a",
            json!({"tenantId": long}),
            "tenantId",
        ),
        (
            "a name that is too long",
            &long,
            json!({}),
            "choose another name",
        ),
        (
            "a name that begins with a digit",
            "1a",
            json!({}),
            "choose another name",
        ),
        (
            "a negative number of replicas",
            "a",
            json!({"replicas": -1}),
            "between 0",
        ),
        (
            "too many replicas",
            "a",
            json!({"replicas": 10}),
            "between 0",
        ),
        (
            "a word for a number",
            "a",
            json!({"replicas": "two"}),
            "replicas",
        ),
        (
            "no size",
            "a",
            json!({"storage": {"size": "0"}}),
            "like 10Gi",
        ),
        (
            "a size in words",
            "a",
            json!({"storage": {"size": "large"}}),
            "like 10Gi",
        ),
        (
            "more in sync than there are",
            "a",
            json!({"replicas": 1, "replication": {"minInSync": 2}}),
            "lower minInSync or raise replicas",
        ),
        (
            "a takeover that is too hasty",
            "a",
            json!({"replication": {"takeoverAfter": "600ms"}}),
            "three heartbeats",
        ),
        (
            "an unknown policy",
            "a",
            json!({"deletionPolicy": "Burn"}),
            "deletionPolicy",
        ),
    ];
    for (case, name, spec, words) in cases {
        refused(case, ground.tenant(name).apply(&spec).await, words)?;
    }
    // `kubectl` asks the server for strict validation: an unknown field is a mistake, not a wish.
    let manifest = ground
        .tenant("a")
        .manifest(&json!({"hibernate": true}))
        .to_string();
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), manifest)?;
    let path = file.path().to_string_lossy();
    let applied = ground.kubectl(&["apply", "-f", &path]).await.map(drop);
    refused("a field that does not exist", applied, "hibernate")?;
    ensure!(
        ground
            .kubectl(&["get", "ptenant", "-o", "name"])
            .await?
            .is_empty(),
        "a refused manifest left a tenant"
    );
    Ok(())
}

async fn refused_as_changes(ground: &Ground) -> Result<()> {
    // Suspended: what is tested is the API server's answer, and pods would only take time.
    let tenant = ground.tenant("fixed");
    let spec =
        json!({"tenantId": "fixed", "suspend": true, "replicas": 1, "storage": {"size": "64Mi"}});
    tenant.apply(&spec).await?;
    let cases = [
        (
            "another id",
            json!({"tenantId": "other"}),
            "create a new tenant instead",
        ),
        (
            "no id",
            json!({"tenantId": null}),
            "create a new tenant instead",
        ),
        (
            "a smaller volume",
            json!({"storage": {"size": "32Mi"}}),
            "can only grow",
        ),
        (
            "another storage class",
            json!({"storage": {"storageClassName": "other"}}),
            "create a new tenant",
        ),
        (
            "another access mode",
            json!({"storage": {"accessMode": "ReadWriteOncePod"}}),
            "create a new tenant",
        ),
        (
            "a negative number of replicas",
            json!({"replicas": -1}),
            "between 0",
        ),
    ];
    for (case, change, words) in cases {
        refused(case, tenant.patch(&json!({"spec": change})).await, words)?;
    }
    let scaled = tenant.scale(-1).await.map(drop);
    refused("scaled below zero", scaled, "")?;
    tenant.patch(&json!({"spec": {"suspend": false}})).await?;
    tenant.delete(GONE_LIMIT).await
}

async fn an_unknown_storage_class_is_a_condition(ground: &Ground) -> Result<()> {
    let tenant = ground.tenant("classless");
    tenant
        .apply(&json!({"storage": {"size": "64Mi", "storageClassName": "no-such-class"}}))
        .await?;
    for (kind, status) in [
        (conditions::STALLED, "True"),
        (conditions::STORAGE_HEALTHY, "False"),
    ] {
        let condition = tenant
            .wait_condition(kind, status, "StorageClassNotFound", LIMIT)
            .await?;
        ensure!(
            condition.message.contains("no-such-class"),
            "the message does not name the class: {}",
            condition.message
        );
    }
    tenant.delete(GONE_LIMIT).await
}

async fn an_image_that_cannot_be_pulled_is_a_condition(ground: &Ground) -> Result<()> {
    let tenant = ground.tenant("imageless");
    let spec = json!({
        "image": "percolate.local/no-such-image:1",
        "replicas": 1,
        "storage": {"size": "64Mi"},
    });
    tenant.apply(&spec).await?;
    let condition = tenant
        .wait_condition(conditions::STALLED, "True", "ImagePullFailed", LIMIT)
        .await?;
    ensure!(
        condition.message.contains("no-such-image"),
        "the message does not name the image: {}",
        condition.message
    );
    tenant.patch(&json!({"spec": {"image": null}})).await?;
    tenant.wait_settled(1, READY_LIMIT).await?;
    tenant.delete(GONE_LIMIT).await
}

fn refused(case: &str, outcome: Result<()>, words: &str) -> Result<()> {
    match outcome {
        Ok(()) => bail!("{case} was accepted"),
        Err(error) => {
            let sentence = format!("{error:#}");
            ensure!(
                sentence.contains(words),
                "{case}: the answer does not say {words:?}: {sentence}"
            );
            Ok(())
        }
    }
}
