use crate::tenant::Unavailable;

use super::*;

const LEADER: &str = "https://leader:8000";

fn pair() -> (Replica, Replica, Network) {
    let network = Network::default();
    let leader = Replica::leader();
    network.join(LEADER, &leader);
    let follower = Replica::new(Behaviour::Lead, network.clone(), quick_limits());
    follower.follow(LEADER);
    (leader, follower, network)
}

#[tokio::test]
async fn a_follower_passes_the_writes_of_a_stream_to_the_leader() {
    let (leader, follower, network) = pair();
    let mut stream = Open::at(&follower).await;
    stream.send(write(5, vec![put("r", "text")]));
    let reply = stream.replies.message().await.unwrap().unwrap();
    assert_eq!((reply.id, word(&reply).as_str()), (5, "applied 1"));
    assert!(
        reply.session.ends_with(".1"),
        "the session is the leader's: {}",
        reply.session
    );
    stream.send(write(6, vec![put("r", "other")]));
    assert_eq!(stream.reply().await, (6, "resource_immutable".to_owned()));
    assert_eq!(leader.get("/resources/r").await.json()["content"], "text");
    let seen = network.seen.lock().unwrap();
    assert_eq!(seen.len(), 2);
    for headers in seen.iter() {
        assert!(
            headers.contains_key("percolate-forwarded") && headers.contains_key("idempotency-key")
        );
    }
}

#[tokio::test]
async fn unary_calls_are_relayed_too() {
    let (leader, follower, _) = pair();
    let mut client = client(&follower);
    let written = client
        .write(asked(write(5, vec![put("r", "text")])))
        .await
        .unwrap();
    assert_eq!(word(written.get_ref()), "applied 1");
    assert_eq!(
        leader.get("/resources/r").await.status,
        http::StatusCode::OK
    );
    let linearizable = proto::GetRequest {
        consistency: proto::Consistency::Linearizable.into(),
        ..get("r")
    };
    let read = client.get(asked(linearizable)).await.unwrap().into_inner();
    assert!(read.item.is_some(), "read at the leader");
}

#[tokio::test]
async fn a_read_may_be_as_old_as_it_says_and_the_leader_has_what_is_younger() {
    let (leader, follower, _) = pair();
    leader.put("/resources/r", r#"{"content": "text"}"#).await;
    let minute = std::time::Duration::from_mins(1);
    let as_of = std::time::Instant::now().checked_sub(2 * minute);
    follower.status.send_modify(|status| status.as_of = as_of);
    let bounded = |minutes: u64| proto::GetRequest {
        max_staleness_ms: Some(minutes * 60_000),
        ..get("r")
    };
    let mut client = client(&follower);
    let young = client.get(asked(bounded(1))).await.unwrap().into_inner();
    assert!(young.staleness_ms.is_some_and(|age| age <= 60_000));
    let here = client.get(asked(bounded(3))).await.unwrap_err();
    assert_eq!(reason(&here), "not_found", "the follower has nothing");
    let never_stale = proto::GetRequest {
        consistency: proto::Consistency::Linearizable.into(),
        ..bounded(3)
    };
    let refused = client.get(asked(never_stale)).await.unwrap_err();
    assert_eq!(reason(&refused), "bad_request");
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_and_the_write_done_once() {
    let (leader, follower, network) = pair();
    *network.lost_answers.lock().unwrap() = 1;
    let mut stream = Open::at(&follower).await;
    stream.send(write(1, vec![put("r", "text")]));
    assert_eq!(stream.reply().await, (1, "applied 1".to_owned()));
    assert_eq!(network.seen.lock().unwrap().len(), 2);
    let version = leader.get("/resources/r").await.json()["version"].to_string();
    assert!(version.contains(":1"), "{version}");
}

#[tokio::test]
async fn a_write_goes_one_hop_only() {
    let network = Network::default();
    let (one, other) = ("https://one:8000", "https://other:8000");
    let first = Replica::new(Behaviour::Lead, network.clone(), quick_limits());
    let second = Replica::new(Behaviour::Lead, network.clone(), quick_limits());
    first.follow(other);
    second.follow(one);
    network.join(one, &first);
    network.join(other, &second);
    let mut stream = Open::at(&first).await;
    stream.send(write(1, vec![put("r", "text")]));
    assert_eq!(stream.reply().await, (1, "no_leader".to_owned()));
    first.behave(Behaviour::Lead);
    first
        .status
        .send_modify(|status| status.role = crate::tenant::Role::Leader);
    stream.send(write(2, vec![put("r", "text")]));
    assert_eq!(
        stream.reply().await,
        (2, "applied 1".to_owned()),
        "the stream goes on"
    );
}

#[tokio::test]
async fn a_leader_that_is_deposed_meanwhile_passes_the_write_on() {
    let (leader, deposed, _network) = pair();
    // It does not know yet: its driver refuses, its status still says that it leads.
    deposed
        .status
        .send_modify(|status| status.role = crate::tenant::Role::Leader);
    deposed.behave(Behaviour::Refuse(Unavailable::NotLeader {
        leader_url: Some(LEADER.to_owned()),
    }));
    let mut stream = Open::at(&deposed).await;
    stream.send(write(1, vec![put("r", "text")]));
    assert_eq!(stream.reply().await, (1, "applied 1".to_owned()));
    assert_eq!(
        leader.get("/resources/r").await.status,
        http::StatusCode::OK
    );
}

#[tokio::test]
async fn an_unknown_outcome_is_asked_for_again_only_under_a_key() {
    let leader = Replica::new(Behaviour::Forget, Network::default(), quick_limits());
    let mut stream = Open::at(&leader).await;
    stream.send(write(1, vec![put("r", "text")]));
    assert_eq!(stream.reply().await, (1, "no_leader".to_owned()));
    stream.send(proto::WriteRequest {
        idempotency_key: Some("key".to_owned()),
        ..write(2, vec![put("s", "text")])
    });
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    leader.behave(Behaviour::Lead);
    assert_eq!(stream.reply().await, (2, "applied 1".to_owned()));
}
