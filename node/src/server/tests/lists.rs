use serde_json::{Value, json};

use super::super::fixture::Replica;

fn ids(page: &Value) -> Vec<String> {
    page["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["id"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn pages_lead_through_all_items_in_order() {
    let replica = Replica::leader();
    for id in ["c", "a", "a%2Fb", "b"] {
        replica
            .put(&format!("/resources/{id}"), r#"{"content":"x"}"#)
            .await;
    }
    replica.call("DELETE", "/resources/b", "").await;
    let first = replica.get("/resources?limit=2").await.json();
    assert_eq!(ids(&first), ["a", "a/b"]);
    let next = first["next"].as_str().unwrap();
    let second = replica
        .get(&format!(
            "/resources?limit=2&after={}",
            next.replace('/', "%2F")
        ))
        .await
        .json();
    assert_eq!(
        (ids(&second), &second["next"]),
        (vec!["c".to_owned()], &Value::Null)
    );
}

#[tokio::test]
async fn edges_are_listed_with_their_names() {
    let replica = Replica::leader();
    for path in ["/edges/a/knows/b", "/edges/a%2Fx/knows/b"] {
        replica.put(path, "{}").await;
    }
    let first = replica.get("/edges?limit=1").await.json();
    assert_eq!(first["items"][0]["src"], "a");
    let after = first["next"]
        .as_str()
        .unwrap()
        .replace('%', "%25")
        .replace('/', "%2F");
    let second = replica.get(&format!("/edges?after={after}")).await.json();
    assert_eq!(second["items"][0]["src"], "a/x");
    assert_eq!(second["next"], json!(null));
}

#[tokio::test]
async fn lists_are_narrowed_by_label_and_time() {
    let replica = Replica::leader();
    replica
        .put("/entities/a", r#"{"type":"t","labels":["x"]}"#)
        .await;
    replica
        .put("/entities/b", r#"{"type":"t","labels":["y"]}"#)
        .await;
    assert_eq!(ids(&replica.get("/entities?label=y").await.json()), ["b"]);
    let updated_at = replica.get("/entities/b").await.json()["updated_at"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(
        ids(&replica
            .get(&format!("/entities?since={updated_at}"))
            .await
            .json()),
        ["b"]
    );
    assert_eq!(
        ids(&replica
            .get("/entities?since=2100-01-01T00:00:00Z")
            .await
            .json()),
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn a_list_asks_for_what_it_can_get() {
    let replica = Replica::leader();
    let cases = [
        ("/resources?limit=0", "limit"),
        ("/resources?limit=1001", "1000"),
        ("/resources?limit=-1", "limit"),
        ("/resources?limit=many", "limit"),
        ("/resources?label=x", "label"),
        ("/resources?since=yesterday", "yesterday"),
        ("/resources?after=..", ".."),
        ("/resources?colour=red", "colour"),
        ("/resources?consistency=eventual", "eventual"),
        ("/edges?after=a", "after"),
        ("/resources/a?limit=1", "limit"),
    ];
    for (path, reason) in cases {
        let refused = replica.get(path).await;
        assert_eq!(refused.code(), "bad_request", "{path}");
        assert!(
            refused.detail().contains(reason),
            "{path}: {}",
            refused.detail()
        );
    }
}
