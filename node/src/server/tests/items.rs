use http::StatusCode;
use serde_json::json;

use super::super::fixture::{Replica, request, with};

#[tokio::test]
async fn an_item_of_each_kind_is_written_read_and_deleted() {
    let replica = Replica::leader();
    let cases = [
        (
            "/resources/docs%2Fa.md",
            r#"{"content":"text","content_type":"text/markdown","metadata":{"a":1}}"#,
            "content",
            json!("text"),
        ),
        (
            "/entities/ada",
            r#"{"type":"person","properties":{"born":1815},"labels":["people"]}"#,
            "labels",
            json!(["people"]),
        ),
        (
            "/edges/ada/wrote/docs%2Fa.md",
            r#"{"properties":{"year":1843}}"#,
            "dst",
            json!("docs/a.md"),
        ),
        (
            "/moments/m1",
            r#"{"timestamp":"2026-01-31T12:00:00Z","content":"text"}"#,
            "timestamp",
            json!("2026-01-31T12:00:00Z"),
        ),
    ];
    for (path, body, member, value) in &cases {
        assert_eq!(
            replica.get(path).await.status,
            StatusCode::NOT_FOUND,
            "{path}"
        );
        let written = replica.put(path, body).await;
        assert_eq!(
            written.status,
            StatusCode::CREATED,
            "{path} {}",
            written.detail()
        );
        let read = replica.get(path).await;
        assert_eq!(read.status, StatusCode::OK, "{path}");
        assert_eq!(read.json()[*member], *value, "{path}");
        assert_eq!(read.header("etag"), written.header("etag"), "{path}");
        assert_eq!(read.json()["version"], written.json()["version"], "{path}");
        assert!(read.json()["updated_at"].is_string(), "{path}");
        let again = replica.put(path, body).await;
        assert_eq!(
            (again.status, again.json()["effect"].clone()),
            (StatusCode::OK, json!("unchanged")),
            "{path}"
        );
    }
    for (path, ..) in cases.iter().rev() {
        let deleted = replica.call("DELETE", path, "").await;
        assert_eq!(
            (deleted.status, deleted.json()["effect"].clone()),
            (StatusCode::OK, json!("deleted")),
            "{path}"
        );
        let gone = replica.get(path).await;
        assert_eq!(
            (gone.status, gone.code().as_str()),
            (StatusCode::NOT_FOUND, "not_found"),
            "{path}"
        );
        assert_eq!(
            replica.call("DELETE", path, "").await.code(),
            "not_found",
            "{path}"
        );
    }
}

#[tokio::test]
async fn an_edge_is_hidden_while_an_end_is_deleted() {
    let replica = Replica::leader();
    for path in ["/entities/a", "/entities/b"] {
        replica.put(path, r#"{"type":"person"}"#).await;
    }
    replica.put("/edges/a/knows/b", "{}").await;
    replica.call("DELETE", "/entities/b", "").await;
    assert_eq!(replica.get("/edges/a/knows/b").await.code(), "not_found");
    replica.put("/entities/b", r#"{"type":"person"}"#).await;
    assert_eq!(replica.get("/edges/a/knows/b").await.status, StatusCode::OK);
}

#[tokio::test]
async fn what_is_immutable_is_superseded_only_knowingly() {
    let replica = Replica::leader();
    let first = replica.put("/resources/r", r#"{"content":"one"}"#).await;
    let etag = first.header("etag").to_owned();
    let refused = replica.put("/resources/r", r#"{"content":"two"}"#).await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (StatusCode::CONFLICT, "resource_immutable")
    );
    assert!(
        refused.detail().contains("If-Match"),
        "{}",
        refused.detail()
    );
    let superseded = replica
        .send(with(
            request("PUT", "/resources/r", r#"{"content":"two"}"#),
            "if-match",
            &etag,
        ))
        .await;
    assert_eq!(superseded.json()["effect"], "updated");
    let late = replica
        .send(with(
            request("PUT", "/resources/r", r#"{"content":"three"}"#),
            "if-match",
            &etag,
        ))
        .await;
    assert_eq!(
        (late.status, late.code().as_str()),
        (StatusCode::PRECONDITION_FAILED, "version_mismatch")
    );
    assert_eq!(replica.get("/resources/r").await.json()["content"], "two");

    let moment =
        |content: &str| format!(r#"{{"timestamp":"2026-01-31T12:00:00Z","content":"{content}"}}"#);
    replica.put("/moments/m", &moment("one")).await;
    assert_eq!(
        replica.put("/moments/m", &moment("two")).await.code(),
        "moment_immutable"
    );
}

#[tokio::test]
async fn a_patch_changes_what_it_names() {
    let replica = Replica::leader();
    replica
        .put(
            "/entities/e",
            r#"{"type":"person","properties":{"a":1,"b":2},"labels":["x"]}"#,
        )
        .await;
    let patched = replica
        .call("PATCH", "/entities/e", r#"{"properties":{"a":null,"c":3}}"#)
        .await;
    assert_eq!(patched.json()["effect"], "updated", "{}", patched.detail());
    let read = replica.get("/entities/e").await.json();
    assert_eq!(
        (&read["properties"], &read["labels"]),
        (&json!({"b": 2, "c": 3}), &json!(["x"]))
    );
    assert_eq!(
        replica.call("PATCH", "/entities/nobody", "{}").await.code(),
        "not_found"
    );
}

#[tokio::test]
async fn a_client_that_has_the_version_gets_no_body() {
    let replica = Replica::leader();
    let etag = replica
        .put("/resources/r", r#"{"content":"x"}"#)
        .await
        .header("etag")
        .to_owned();
    let read = replica
        .send(with(
            request("GET", "/resources/r", ""),
            "if-none-match",
            &etag,
        ))
        .await;
    assert_eq!(
        (read.status, read.body.len()),
        (StatusCode::NOT_MODIFIED, 0)
    );
    let head = replica.call("HEAD", "/resources/r", "").await;
    assert_eq!(
        (head.status, head.body.len(), head.header("etag")),
        (StatusCode::OK, 0, etag.as_str())
    );
}

#[tokio::test]
async fn content_that_is_no_text_comes_back_as_sent() {
    let replica = Replica::leader();
    let written = replica
        .put(
            "/resources/r",
            r#"{"content_base64":"iVBORw==","content_type":"image/png"}"#,
        )
        .await;
    assert_eq!(written.status, StatusCode::CREATED, "{}", written.detail());
    assert_eq!(
        replica.get("/resources/r").await.json()["content_base64"],
        "iVBORw=="
    );
}
