//! An app writes every kind of item, at any replica, reads its own writes at the others, is told
//! plainly what is wrong with a request, and is never told of success when too few replicas hold a write.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use percolate_crds::names;
use percolate_e2e::api::{Api, Reply, Request};
use percolate_e2e::progress::say;
use percolate_e2e::story::{self, Ground};
use percolate_e2e::tenant::Tenant;
use serde_json::{Value, json};

/// One byte more than a body may have.
const TOO_LARGE: usize = 16 * 1024 * 1024 + 1;
/// One more than a batch may have.
const TOO_MANY: usize = 1001;
const EDGE: &str = "/edges/ada/wrote/notes%2Fa";
/// The leader notices a silent follower in seconds; requests wait for a while before they are refused.
const REFUSAL_LIMIT: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread")]
async fn writes_reach_every_replica_and_errors_say_what_to_do() {
    story::run("write-path", |ground| async move {
        let spec = json!({
            "replicas": 2,
            "storage": {"size": "64Mi"},
            "replication": {"minInSync": 2},
        });
        let tenant = ground.ready_tenant("acme", &spec).await?;
        let api = Api::of(&tenant).await?;
        let pods = Pods::of(&tenant).await?;
        every_kind_is_written_at_one_pod_and_read_at_the_other(&api, &pods).await?;
        a_batch_is_all_or_nothing(&api, &pods).await?;
        a_retried_write_takes_effect_once(&api, &pods).await?;
        what_is_wrong_is_said(&api, &pods).await?;
        strangers_are_turned_away(&api, &pods).await?;
        below_min_in_sync_nothing_is_acknowledged(&ground, &tenant, &api, &pods).await
    })
    .await;
}

struct Pods {
    leader: String,
    follower: String,
}

impl Pods {
    async fn of(tenant: &Tenant) -> Result<Self> {
        let view = tenant.view().await?;
        Ok(Self {
            leader: view.leader().context("no leader")?.to_owned(),
            follower: view.follower().context("no follower")?,
        })
    }
}

async fn every_kind_is_written_at_one_pod_and_read_at_the_other(
    api: &Api,
    pods: &Pods,
) -> Result<()> {
    let cases = [
        (
            "/resources/notes%2Fa",
            json!({"content": "text", "metadata": {"by": "ada"}}),
            "/content",
            json!("text"),
        ),
        (
            "/entities/ada",
            json!({"type": "person", "properties": {"born": 1815}, "labels": ["person"]}),
            "/properties/born",
            json!(1815),
        ),
        (
            EDGE,
            json!({"properties": {"in": 1843}}),
            "/properties/in",
            json!(1843),
        ),
        (
            "/moments/m1",
            json!({"timestamp": "2026-01-31T12:00:00Z", "content": "met"}),
            "/content",
            json!("met"),
        ),
    ];
    for (path, body, pointer, expected) in cases {
        // Written at the follower, which forwards; read at both with the session of the answer.
        let written = api.send(&pods.follower, &Request::put(path, &body)).await?;
        ensure!(
            written.status.as_u16() == 201,
            "PUT {path}: {}",
            written.line()
        );
        ensure!(written.etag().is_some(), "PUT {path}: no ETag");
        ensure!(written.session().is_some(), "PUT {path}: no session");
        for pod in [&pods.leader, &pods.follower] {
            let read = Request::get(path).with_session(written.session());
            let read = api.send(pod, &read).await?;
            ensure!(
                read.body.pointer(pointer) == Some(&expected),
                "{pod} {path}: {}",
                read.line()
            );
            ensure!(
                read.etag() == written.etag(),
                "{pod} {path}: another version"
            );
        }
        let role = api.send(&pods.follower, &Request::get("/status")).await?;
        ensure!(
            role.header("percolate-role") == Some("follower"),
            "{}",
            role.line()
        );
    }
    // The edge first: one whose end is deleted is not shown.
    for path in [EDGE, "/moments/m1", "/entities/ada", "/resources/notes%2Fa"] {
        let gone = api.send(&pods.follower, &Request::delete(path)).await?;
        ensure!(gone.status.is_success(), "DELETE {path}: {}", gone.line());
        let read = Request::get(path).with_session(gone.session());
        expect(
            &api.send(&pods.leader, &read).await?,
            404,
            "not_found",
            path,
        )?;
    }
    Ok(())
}

async fn a_batch_is_all_or_nothing(api: &Api, pods: &Pods) -> Result<()> {
    let entity =
        |id: &str| json!({"op": "put", "kind": "entity", "id": id, "type": "t", "properties": {}});
    let good = json!({"ops": [entity("b1"), entity("b2")]});
    let done = api
        .send(&pods.follower, &Request::post("/batch", &good))
        .await?;
    ensure!(
        done.body["results"]
            .as_array()
            .is_some_and(|all| all.len() == 2),
        "{}",
        done.line()
    );
    let moment = json!({"op": "put", "kind": "moment", "id": "once", "timestamp": "2026-01-31T12:00:00Z", "content": "one"});
    let first = json!({"ops": [moment]});
    ensure!(
        api.send(&pods.leader, &Request::post("/batch", &first))
            .await?
            .status
            .is_success()
    );
    let mut other = moment.clone();
    other["content"] = json!("two");
    let bad = json!({"ops": [entity("b3"), other]});
    let refused = api
        .send(&pods.leader, &Request::post("/batch", &bad))
        .await?;
    expect(&refused, 409, "moment_immutable", "batch")?;
    ensure!(refused.body["operation"] == 1, "{}", refused.line());
    let half = api
        .send(&pods.leader, &Request::get("/entities/b3"))
        .await?;
    expect(
        &half,
        404,
        "not_found",
        "the first operation of a refused batch",
    )
}

async fn a_retried_write_takes_effect_once(api: &Api, pods: &Pods) -> Result<()> {
    let write = |value: u64, key: &str| {
        Request::put(
            "/entities/once",
            &json!({"type": "t", "properties": {"value": value}}),
        )
        .with_idempotency_key(key)
    };
    let first = api.send(&pods.follower, &write(1, "once-1")).await?;
    let second = api.send(&pods.leader, &write(2, "once-2")).await?;
    ensure!(first.etag() != second.etag(), "two writes, one version");
    let again = api.send(&pods.leader, &write(1, "once-1")).await?;
    ensure!(
        again.etag() == first.etag(),
        "{} then {}",
        first.line(),
        again.line()
    );
    let read = Request::get("/entities/once").with_session(second.session());
    let read = api.send(&pods.follower, &read).await?;
    ensure!(read.body["properties"]["value"] == 2, "{}", read.line());
    let misused = api.send(&pods.leader, &write(3, "once-1")).await?;
    expect(&misused, 400, "bad_request", "a key for another write")
}

#[expect(clippy::too_many_lines, reason = "a table of cases")]
async fn what_is_wrong_is_said(api: &Api, pods: &Pods) -> Result<()> {
    let put = |path: &str, body: &str| Request::put(path, &Value::Null).with_body(body);
    let entity = r#"{"type":"t","properties":{}}"#;
    let too_many: Vec<Value> = (0..TOO_MANY)
        .map(|n| json!({"op": "put", "kind": "entity", "id": n.to_string(), "type": "t", "properties": {}}))
        .collect();
    let resource = |text: &str| Request::put("/resources/fixed", &json!({"content": text}));
    ensure!(
        api.send(&pods.leader, &resource("one"))
            .await?
            .status
            .is_success()
    );
    let cases = [
        ("no JSON", put("/entities/a", "{"), 400, "bad_request"),
        ("no object", put("/entities/a", "[1]"), 400, "bad_request"),
        (
            "a number for a word",
            put("/entities/a", r#"{"type":5,"properties":{}}"#),
            400,
            "bad_request",
        ),
        (
            "a field nobody knows",
            put("/entities/a", r#"{"type":"t","properties":{},"colour":1}"#),
            400,
            "bad_request",
        ),
        (
            "an id with a control character",
            put("/entities/a%00b", entity),
            400,
            "bad_request",
        ),
        (
            "an id with a line break",
            put("/entities/a%0Ab", entity),
            400,
            "bad_request",
        ),
        (
            "an id that is no UTF-8",
            put("/entities/%FF", entity),
            400,
            "bad_request",
        ),
        (
            "an id that is too long",
            put(&format!("/entities/{}", "x".repeat(257)), entity),
            400,
            "bad_request",
        ),
        (
            "no time",
            put("/moments/x", r#"{"timestamp":"yesterday","content":""}"#),
            400,
            "bad_request",
        ),
        (
            "an unknown id",
            Request::get("/entities/nobody"),
            404,
            "not_found",
        ),
        (
            "an unknown kind",
            Request::get("/things/a"),
            404,
            "not_found",
        ),
        (
            "too large",
            put(
                "/resources/large",
                &format!(r#"{{"content":"{}"}}"#, "x".repeat(TOO_LARGE)),
            ),
            413,
            "too_large",
        ),
        (
            "too many",
            Request::post("/batch", &json!({"ops": too_many})),
            413,
            "too_large",
        ),
        ("other content", resource("two"), 409, "resource_immutable"),
        (
            "another version",
            resource("two").with_header("if-match", "\"00000000000000000000000000000001.1:9\""),
            412,
            "version_mismatch",
        ),
    ];
    for (case, request, status, code) in cases {
        for pod in [&pods.leader, &pods.follower] {
            let reply = match api.send(pod, &request).await {
                Ok(reply) => reply,
                Err(error) => bail!("{case} at {pod}: no answer: {error:?}"),
            };
            // How a version is written is the server's business: an unreadable one is a bad request.
            let is_unreadable = code == "version_mismatch" && reply.status.as_u16() == 400;
            if !is_unreadable {
                expect(&reply, status, code, case)?;
            }
            let detail = reply.body["detail"].as_str().unwrap_or_default();
            ensure!(detail.len() > 10, "{case}: no detail: {}", reply.line());
        }
    }
    // Dots and slashes are letters like any other in an id: nothing leaves the tenant's own keys.
    let path = "/entities/..%2F..%2Fetc%2Fpasswd";
    let written = api.send(&pods.leader, &put(path, entity)).await?;
    if written.status.is_success() {
        let read = api.send(&pods.leader, &Request::get(path)).await?;
        ensure!(read.body["id"] == "../../etc/passwd", "{}", read.line());
    } else {
        expect(&written, 400, "bad_request", "dots in an id")?;
    }
    Ok(())
}

async fn strangers_are_turned_away(api: &Api, pods: &Pods) -> Result<()> {
    for token in ["wrong", ""] {
        let stranger = api.with_token(token);
        for request in [
            Request::get("/status"),
            Request::get("/entities/ada"),
            Request::delete("/entities/ada"),
        ] {
            let reply = stranger.send(&pods.leader, &request).await?;
            expect(&reply, 401, "unauthorized", "a wrong token")?;
        }
    }
    Ok(())
}

async fn below_min_in_sync_nothing_is_acknowledged(
    ground: &Ground,
    tenant: &Tenant,
    api: &Api,
    pods: &Pods,
) -> Result<()> {
    if ground.installation.cluster.is_none() {
        say("  SKIPPED: too few replicas: processes of your cluster cannot be stopped");
        return Ok(());
    }
    let follower = pods.follower.clone();
    let namespace = ground.namespace.clone();
    let freeze = move |cluster: &percolate_e2e::cluster::Cluster| {
        cluster.freeze_in_pod(&namespace, &follower, names::CONTAINER)
    };
    ground.installation.on_cluster(freeze).await?;
    let write = Request::put(
        "/entities/unsafe",
        &json!({"type": "t", "properties": {"value": 1}}),
    )
    .with_idempotency_key("unsafe-1");
    let begun = Instant::now();
    let refused = loop {
        match api.send(&pods.leader, &write).await {
            Ok(reply) if reply.status.is_success() => {
                bail!(
                    "acknowledged by one replica where two are required: {}",
                    reply.line()
                )
            }
            Ok(reply) if reply.status.as_u16() == 503 => break reply,
            other => ensure!(begun.elapsed() < REFUSAL_LIMIT, "no refusal: {other:?}"),
        }
    };
    let codes = ["not_enough_replicas", "no_leader"];
    ensure!(
        refused.code().is_some_and(|code| codes.contains(&code)),
        "{}",
        refused.line()
    );
    ensure!(
        refused.header("retry-after").is_some(),
        "a 503 without Retry-After: {}",
        refused.line()
    );
    let (follower, namespace) = (pods.follower.clone(), ground.namespace.clone());
    // The kubelet may have killed it meanwhile, which ends the freeze as well.
    let thaw = move |cluster: &percolate_e2e::cluster::Cluster| {
        Ok(cluster
            .thaw_in_pod(&namespace, &follower, names::CONTAINER)
            .is_ok())
    };
    ground.installation.on_cluster(thaw).await?;
    tenant.wait_settled(2, story::READY_LIMIT).await?;
    let begun = Instant::now();
    loop {
        let reply = api.send_to_any(&write).await?;
        if reply.status.is_success() {
            return Ok(());
        }
        ensure!(
            begun.elapsed() < REFUSAL_LIMIT,
            "still refused: {}",
            reply.line()
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn expect(reply: &Reply, status: u16, code: &str, case: &str) -> Result<()> {
    ensure!(
        reply.status.as_u16() == status && reply.code() == Some(code),
        "{case}: expected {status} {code}, got {}",
        reply.line()
    );
    let kind = reply.header("content-type").unwrap_or_default();
    ensure!(
        kind.starts_with("application/problem+json"),
        "{case}: content type {kind}"
    );
    Ok(())
}
