//! Reads that may be old, but not older than asked.

use std::time::{Duration, Instant};

use super::super::fixture::{Answer, Behaviour, Network, Replica, quick_limits};

const LEADER: &str = "https://leader:8000";
const MINUTE: Duration = Duration::from_mins(1);

/// A follower that shows everything acknowledged until so long ago, and its leader.
fn pair(age: Option<Duration>) -> (Replica, Replica) {
    let network = Network::default();
    let leader = Replica::leader();
    network.join(LEADER, &leader);
    let follower = Replica::new(Behaviour::Lead, network, quick_limits());
    follower.follow(LEADER);
    let as_of = age.and_then(|age| Instant::now().checked_sub(age));
    follower.status.send_modify(|status| status.as_of = as_of);
    (leader, follower)
}

/// What a reply says of its age, in seconds.
fn staleness(answer: &Answer) -> Option<f64> {
    answer.header("percolate-staleness").parse().ok()
}

#[tokio::test]
async fn a_follower_serves_what_it_can_prove_and_the_leader_the_rest() {
    for (age, bound, served_by) in [
        (Some(Duration::ZERO), "1m", "follower"),
        (Some(2 * MINUTE), "3m", "follower"),
        (Some(2 * MINUTE), "1m", "leader"),
        (None, "5m", "leader"),
        (Some(Duration::ZERO), "0s", "leader"),
    ] {
        let (leader, follower) = pair(age);
        leader
            .put(
                "/moments/m",
                r#"{"timestamp": "2026-01-31T12:00:00Z", "content": "c"}"#,
            )
            .await;
        for path in ["/moments/m", "/moments", "/resources", "/edges/a/b/c"] {
            for consistency in ["session", "local"] {
                let query = format!("{path}?consistency={consistency}&max_staleness={bound}");
                let answer = follower.get(&query).await;
                assert_eq!(
                    answer.header("percolate-role"),
                    served_by,
                    "{age:?}: {query}: {}",
                    answer.detail()
                );
                let shown = staleness(&answer).expect("it says how old it is");
                let bound = percolate_crds::duration::parse(bound).expect("a duration");
                // A leader that has just been asked took a moment to answer.
                let allowed = bound.max(MINUTE).as_secs_f64();
                assert!(shown <= allowed, "{query}: {shown} s");
            }
        }
    }
}

#[tokio::test]
async fn every_read_says_how_old_it_may_be_where_that_is_known() {
    let (leader, follower) = pair(Some(2 * MINUTE));
    let old = staleness(&follower.get("/resources").await).expect("proven");
    assert!(old >= 120.0, "{old}");
    let fresh = leader.get("/resources?consistency=linearizable").await;
    assert!(staleness(&fresh).is_some_and(|age| age < old));
    let (_leader, unproven) = pair(None);
    assert_eq!(staleness(&unproven.get("/resources").await), None);
}

#[tokio::test]
async fn without_a_leader_nothing_older_is_served_instead() {
    let network = Network::default();
    let follower = Replica::new(Behaviour::Lead, network, quick_limits());
    follower.follow(LEADER);
    let refused = follower.get("/resources?max_staleness=1s").await;
    assert_eq!(
        (refused.code().as_str(), refused.header("retry-after")),
        ("no_leader", "1")
    );
    assert!(
        refused.detail().contains("max_staleness"),
        "{}",
        refused.detail()
    );
}

#[tokio::test]
async fn what_is_no_bound_is_refused() {
    let replica = Replica::leader();
    for query in [
        "max_staleness=",
        "max_staleness=soon",
        "max_staleness=-1s",
        "max_staleness=5",
        "max_staleness=1s&max_staleness=2s",
        "max_staleness=1s&consistency=linearizable",
    ] {
        for path in ["/resources", "/resources/a"] {
            let refused = replica.get(&format!("{path}?{query}")).await;
            assert_eq!(refused.code(), "bad_request", "{path}?{query}");
        }
    }
}
