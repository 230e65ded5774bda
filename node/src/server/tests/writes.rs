use http::StatusCode;
use serde_json::{Value, json};

use super::super::fixture::{Behaviour, Replica, request, with};
use crate::tenant::Unavailable;

#[tokio::test]
async fn the_same_write_under_the_same_key_takes_effect_once() {
    let replica = Replica::leader();
    let write = || {
        with(
            request("PUT", "/resources/r", r#"{"content":"x"}"#),
            "idempotency-key",
            "k1",
        )
    };
    let first = replica.send(write()).await;
    replica.call("DELETE", "/resources/r", "").await;
    let again = replica.send(write()).await;
    assert_eq!(
        (again.status, again.json()),
        (StatusCode::CREATED, first.json())
    );
    assert_eq!(
        replica.get("/resources/r").await.code(),
        "not_found",
        "it was not written again"
    );
}

#[tokio::test]
async fn a_key_is_not_taken_for_another_write() {
    let replica = Replica::leader();
    let write = |content: &str| {
        let body = format!(r#"{{"type":"t","properties":{{"a":"{content}"}}}}"#);
        with(
            request("PUT", "/entities/e", &body),
            "idempotency-key",
            "k1",
        )
    };
    assert_eq!(replica.send(write("one")).await.status, StatusCode::CREATED);
    let other = replica.send(write("two")).await;
    assert!(
        other.status.is_client_error(),
        "{}: a write must not vanish behind another's answer",
        other.status
    );
}

#[tokio::test]
async fn a_batch_happens_as_a_whole_or_not_at_all() {
    let replica = Replica::leader();
    let done = replica
        .call("POST", "/batch", r#"{"ops":[{"op":"put","kind":"resource","id":"a","content":"x"},{"op":"put","kind":"edge","src":"a","type":"t","dst":"b"}]}"#)
        .await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.detail());
    let effects: Vec<Value> = done.json()["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| result["effect"].clone())
        .collect();
    assert_eq!(effects, [json!("created"), json!("created")]);

    let refused = replica
        .call("POST", "/batch", r#"{"ops":[{"op":"put","kind":"resource","id":"b","content":"x"},{"op":"put","kind":"resource","id":"a","content":"other"}]}"#)
        .await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (StatusCode::CONFLICT, "resource_immutable")
    );
    assert_eq!(refused.json()["operation"], 1);
    assert!(
        refused.detail().contains("operation 1"),
        "{}",
        refused.detail()
    );
    assert_eq!(
        replica.get("/resources/b").await.code(),
        "not_found",
        "nothing of the batch was done"
    );
}

#[tokio::test]
async fn a_batch_is_bounded_and_says_by_what() {
    let replica = Replica::leader();
    let batch = |count: usize| {
        let ops: Vec<Value> = (0..count)
            .map(|id| json!({"op": "delete", "kind": "resource", "id": id.to_string()}))
            .collect();
        json!({ "ops": ops }).to_string()
    };
    let refused = replica.call("POST", "/batch", &batch(1001)).await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (StatusCode::PAYLOAD_TOO_LARGE, "too_large")
    );
    assert!(refused.detail().contains("1000"), "{}", refused.detail());
    assert_eq!(
        replica.call("POST", "/batch", &batch(1000)).await.code(),
        "not_found",
        "a thousand are looked at"
    );
    assert_eq!(
        replica.call("POST", "/batch", &batch(0)).await.code(),
        "bad_request"
    );
    let with_header = with(request("POST", "/batch", &batch(1)), "if-match", "*");
    assert_eq!(replica.send(with_header).await.code(), "bad_request");
}

#[tokio::test]
async fn a_write_that_is_not_safe_is_never_acknowledged() {
    use Unavailable as U;
    let cases = [
        (
            U::NotEnoughReplicas {
                in_sync: 1,
                min_in_sync: 2,
            },
            StatusCode::SERVICE_UNAVAILABLE,
            "not_enough_replicas",
        ),
        (U::NoLeader, StatusCode::SERVICE_UNAVAILABLE, "no_leader"),
        (
            U::NotLeader { leader_url: None },
            StatusCode::SERVICE_UNAVAILABLE,
            "no_leader",
        ),
        (
            U::UnknownOutcome,
            StatusCode::SERVICE_UNAVAILABLE,
            "no_leader",
        ),
        (U::Overloaded, StatusCode::TOO_MANY_REQUESTS, "overloaded"),
    ];
    for (unavailable, status, code) in cases {
        let replica = Replica::leader();
        replica.behave(Behaviour::Refuse(unavailable.clone()));
        let refused = replica.put("/resources/r", r#"{"content":"x"}"#).await;
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (status, code),
            "{unavailable:?}"
        );
        assert_eq!(refused.header("retry-after"), "1", "{unavailable:?}");
        assert!(
            refused.detail().contains("again"),
            "{unavailable:?} says what to do: {}",
            refused.detail()
        );
    }
}

#[tokio::test]
async fn a_write_that_is_never_answered_ends_with_an_unknown_outcome() {
    let replica = Replica::leader();
    replica.behave(Behaviour::Hang);
    let answer = replica.put("/resources/r", r#"{"content":"x"}"#).await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (StatusCode::SERVICE_UNAVAILABLE, "no_leader")
    );
    assert!(
        answer.detail().contains("Idempotency-Key"),
        "{}",
        answer.detail()
    );
}
