use std::time::Duration;

use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use percolate_core::identity::Incarnation;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::super::fixture::{Answer, Behaviour, HISTORY, Network, Replica, request, with};
use super::super::limits::Limits;
use crate::tenant::{Role, SessionToken};

const DOCUMENT: &str = r#"{"content":"x"}"#;

/// How long a stream may take to say something, or its end.
const PATIENCE: Duration = Duration::from_secs(10);

/// An open watch.
struct Watching {
    body: Body,
    arrived: String,
    session: SessionToken,
}

#[derive(Debug, Clone, PartialEq)]
struct Event {
    id: String,
    name: String,
    data: Value,
}

impl Watching {
    async fn open(replica: &Replica, asked: Request<Body>) -> Self {
        let response = replica.router.clone().oneshot(asked).await.unwrap();
        let (parts, body) = response.into_parts();
        let head = (parts.status, &parts.headers["content-type"]);
        assert_eq!(
            head,
            (StatusCode::OK, &"text/event-stream".parse().unwrap())
        );
        Self {
            body,
            arrived: String::new(),
            session: parts.headers["percolate-session"]
                .to_str()
                .unwrap()
                .parse()
                .unwrap(),
        }
    }

    async fn from(replica: &Replica, query: &str) -> Self {
        Self::open(replica, request("GET", &format!("/watch{query}"), "")).await
    }

    /// Whatever stands before the next empty line; `None` at the end of the stream.
    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.arrived.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.arrived = rest;
                return Some(block);
            }
            let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await;
            let frame = frame.expect("the watch says something")?.unwrap();
            self.arrived += std::str::from_utf8(&frame.into_data().unwrap()).unwrap();
        }
    }

    async fn event(&mut self) -> Option<Event> {
        let block = loop {
            let block = self.block().await?;
            if !block.starts_with(':') {
                break block;
            }
        };
        let field = |name: &str| {
            let lines = block.lines();
            let mut values = lines.filter_map(|line| line.strip_prefix(&format!("{name}: ")));
            let value = values.next().unwrap_or_default().to_owned();
            assert_eq!(values.next(), None, "{block}");
            value
        };
        Some(Event {
            id: field("id"),
            name: field("event"),
            data: serde_json::from_str(&field("data")).unwrap(),
        })
    }

    /// All events up to the first that says that everything has been sent, without that one.
    async fn changes(&mut self) -> Vec<Event> {
        let mut changes = vec![];
        loop {
            let event = self.event().await.expect("the watch goes on");
            if event.name == "reached" {
                return changes;
            }
            changes.push(event);
        }
    }
}

fn id(place: &str) -> String {
    format!("{place}@{HISTORY}")
}

fn token(incarnation: Incarnation, index: u64) -> String {
    SessionToken {
        incarnation,
        epoch: 1,
        index,
    }
    .to_string()
}

fn shown(events: &[Event]) -> Vec<String> {
    let line = |event: &Event| {
        let place = event.id.split('@').next().unwrap();
        let name = [&event.data["id"], &event.data["src"]];
        let name = name.into_iter().find_map(Value::as_str).unwrap();
        format!("{place} {} {name}", event.name)
    };
    events.iter().map(line).collect()
}

/// A history with an update, a delete, a batch and an edge.
async fn history(replica: &Replica) {
    for (path, body) in [
        ("/entities/a", r#"{"type":"t"}"#),
        ("/resources/b", DOCUMENT),
        ("/entities/a", r#"{"type":"t","properties":{"n":1}}"#),
    ] {
        replica.put(path, body).await;
    }
    replica.call("DELETE", "/resources/b", "").await;
    let batch = r#"{"ops":[
        {"op":"put","kind":"resource","id":"c","content":"1"},
        {"op":"put","kind":"resource","id":"d","content":"2"},
        {"op":"put","kind":"edge","src":"a","type":"has","dst":"c"}]}"#;
    let done = replica.call("POST", "/batch", batch).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.detail());
}

const HISTORY_SHOWN: [&str; 5] = [
    "3.0 put a",
    "4.0 delete b",
    "5.0 put c",
    "5.1 put d",
    "5.2 put a",
];

#[tokio::test]
async fn a_watch_shows_every_item_as_reads_do_and_then_what_changes() {
    let replica = Replica::leader();
    history(&replica).await;
    let mut watching = Watching::from(&replica, "").await;
    assert_eq!(watching.session.index, 5);
    let changes = watching.changes().await;
    assert_eq!(shown(&changes), HISTORY_SHOWN);
    assert_eq!(changes[0].id, id("3.0"), "with its history");
    for (event, path) in [
        (0, "/entities/a"),
        (2, "/resources/c"),
        (4, "/edges/a/has/c"),
    ] {
        let read = replica.get(path).await.json();
        assert_eq!(changes[event].data, read, "{path}");
    }
    let deleted = &changes[1].data;
    assert_eq!(
        (&deleted["kind"], &deleted["id"]),
        (&json!("resource"), &json!("b"))
    );
    assert_eq!(deleted["version"].as_object().unwrap().len(), 1);
    assert!(deleted["updated_at"].is_string() && deleted["etag"].is_string());

    replica.call("DELETE", "/edges/a/has/c", "").await;
    let [event, reached] = [watching.event().await, watching.event().await].map(Option::unwrap);
    assert_eq!((event.id, event.name.as_str()), (id("6.0"), "delete"));
    let names = ["kind", "src", "type", "dst"].map(|name| event.data[name].clone());
    assert_eq!(names, ["edge", "a", "has", "c"].map(Value::from));
    assert_eq!((reached.id, reached.name.as_str()), (id("6"), "reached"));
    assert_eq!(reached.data, json!({"session": token(HISTORY, 6)}));
}

#[tokio::test]
async fn a_watch_goes_on_exactly_after_the_event_it_names() {
    let replica = Replica::leader();
    history(&replica).await;
    let places = ["3.0", "4.0", "5.0", "5.1", "5.2"];
    for (n, place) in places.into_iter().enumerate() {
        // The header is what a standard client adds to the URL it began with.
        for (query, header) in [
            (format!("?from={place}"), None),
            (format!("?from={}", id(place)), None),
            ("?from=0".to_owned(), Some(id(place))),
            ("?from=7".to_owned(), Some(place.to_owned())),
        ] {
            let mut asked = request("GET", &format!("/watch{query}"), "");
            if let Some(last) = &header {
                asked = with(asked, "last-event-id", last);
            }
            let mut watching = Watching::open(&replica, asked).await;
            let rest = shown(&watching.changes().await);
            assert_eq!(rest, HISTORY_SHOWN[n + 1..], "{query} {header:?}");
        }
    }
    for (from, expected) in [
        ("0", &HISTORY_SHOWN[..]),
        ("2", &HISTORY_SHOWN),
        ("3", &HISTORY_SHOWN[1..]),
        ("4", &HISTORY_SHOWN[2..]),
        ("5", &[]),
        ("5.4294967295", &[]),
    ] {
        let mut watching = Watching::from(&replica, &format!("?from={from}")).await;
        assert_eq!(shown(&watching.changes().await), expected, "{from}");
    }
}

#[tokio::test]
async fn a_kind_is_watched_alone() {
    let replica = Replica::leader();
    history(&replica).await;
    for (kind, expected) in [
        ("resource", &["4.0 delete b", "5.0 put c", "5.1 put d"][..]),
        ("entity", &["3.0 put a"]),
        ("edge", &["5.2 put a"]),
        ("moment", &[]),
    ] {
        let mut watching = Watching::from(&replica, &format!("?kind={kind}")).await;
        assert_eq!(shown(&watching.changes().await), expected, "{kind}");
        replica.put(&format!("/resources/{kind}"), DOCUMENT).await;
        let next = watching.event().await.unwrap();
        let is_resource = kind == "resource";
        assert_eq!(next.name, if is_resource { "put" } else { "reached" });
    }
}

#[tokio::test]
async fn a_follower_serves_watches_itself() {
    let network = Network::default();
    let replica = Replica::new(Behaviour::Lead, network.clone(), Limits::default());
    history(&replica).await;
    replica.follow("https://leader:8000");
    let asked = with(request("GET", "/watch", ""), "accept-encoding", "zstd");
    let mut watching = Watching::open(&replica, asked).await;
    assert_eq!(shown(&watching.changes().await), HISTORY_SHOWN);
    let head = replica.call("HEAD", "/watch", "").await;
    assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));
    assert!(network.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_watch_that_is_ahead_of_this_replica_waits_for_it() {
    let replica = Replica::new(Behaviour::Lead, Network::default(), Limits::default());
    replica.put("/resources/a", DOCUMENT).await;
    for (query, session) in [("?from=3.0", None), ("", Some(token(HISTORY, 4)))] {
        let mut asked = request("GET", &format!("/watch{query}"), "");
        if let Some(session) = &session {
            asked = with(asked, "percolate-session", session);
        }
        let writing = async {
            for name in ["b", "c"] {
                tokio::time::sleep(Duration::from_millis(20)).await;
                replica
                    .put(&format!("/resources/{name}{}", query.len()), DOCUMENT)
                    .await;
            }
        };
        let (mut watching, ()) = tokio::join!(Watching::open(&replica, asked), writing);
        let seen = shown(&watching.changes().await);
        match session {
            None => assert_eq!(seen, [""; 0]),
            Some(_) => assert!(seen.len() >= 4, "{seen:?}"),
        }
    }
}

#[tokio::test]
async fn a_watch_that_stays_ahead_is_refused_here_and_nowhere_else() {
    let network = Network::default();
    let limits = Limits {
        deadline: Duration::from_millis(2_500),
        ..Limits::default()
    };
    let replica = Replica::new(Behaviour::Lead, network.clone(), limits);
    replica.put("/resources/a", DOCUMENT).await;
    replica.follow("https://leader:8000");
    let refused = replica.get("/watch?from=99").await;
    let said = (
        refused.status,
        refused.code(),
        refused.header("retry-after"),
    );
    let unavailable = StatusCode::SERVICE_UNAVAILABLE;
    assert_eq!(said, (unavailable, "no_leader".to_owned(), "1"));
    let detail = refused.detail();
    assert!(
        detail.contains("up to 1") && detail.contains("99"),
        "{detail}"
    );
    assert!(
        network.seen.lock().unwrap().is_empty(),
        "a stream cannot be passed on"
    );
}

#[tokio::test]
async fn what_no_watch_can_continue_after_is_refused() {
    let replica = Replica::leader();
    let other = Incarnation(u128::MAX);
    let bad = (StatusCode::BAD_REQUEST, "bad_request");
    let gone = (StatusCode::GONE, "resync_required");
    let huge = "9".repeat(40);
    let cases = [
        ("?from=-1", None, bad, "from: expected an index"),
        ("?from=", None, bad, "from: expected an index"),
        ("?from=%2B1", None, bad, "+1"),
        ("?from=one", None, bad, "one"),
        ("?from=1.2.3", None, bad, "1.2.3"),
        ("?from=1@x", None, bad, "1@x"),
        (&format!("?from={huge}"), None, bad, "999"),
        ("?from=1&from=2", None, bad, "from"),
        ("?from=1&label=x", None, bad, "label"),
        ("?kind=thing", None, bad, "thing"),
        ("?kind=resources", None, bad, "resource"),
        ("?consistency=local", None, bad, "consistency"),
        (
            "",
            Some(("last-event-id", "x".to_owned())),
            bad,
            "Last-Event-ID: ",
        ),
        (
            "?from=0",
            Some(("last-event-id", String::new())),
            bad,
            "Last-Event-ID: ",
        ),
        (
            "?from=x",
            Some(("last-event-id", "1".to_owned())),
            bad,
            "from: ",
        ),
        (
            "",
            Some(("last-event-id", token(HISTORY, 1))),
            bad,
            "Last-Event-ID: ",
        ),
        (
            "",
            Some(("percolate-session", "x".to_owned())),
            bad,
            "session",
        ),
        (
            "",
            Some(("percolate-session", token(other, 0))),
            gone,
            "history",
        ),
        (
            "",
            Some(("last-event-id", format!("0@{other}"))),
            gone,
            "history",
        ),
        (&format!("?from=1.0@{other}"), None, gone, "history"),
    ];
    for (query, header, (status, code), reason) in cases {
        let mut asked = request("GET", &format!("/watch{query}"), "");
        if let Some((name, value)) = &header {
            asked = with(asked, name, value);
        }
        let refused = replica.send(asked).await;
        let said = (refused.status, refused.code());
        assert_eq!(said, (status, code.to_owned()), "{query} {header:?}");
        let detail = refused.detail();
        assert!(detail.contains(reason), "{query} {header:?}: {detail}");
    }
    let post = replica.call("POST", "/watch", "").await;
    assert_eq!(post.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn more_watches_than_places_are_sent_away() {
    let limits = Limits {
        watches: 2,
        ..Limits::default()
    };
    let replica = Replica::new(Behaviour::Lead, Network::default(), limits);
    let open = || {
        let text = replica.metrics.encode(&replica.handle.status());
        let line = text
            .lines()
            .find(|line| line.starts_with("percolate_node_open_watches "));
        line.unwrap().rsplit(' ').next().unwrap().to_owned()
    };
    let mut first = Watching::from(&replica, "").await;
    let _second = Watching::from(&replica, "").await;
    let refused: Answer = replica.get("/watch").await;
    let said = (
        refused.status,
        refused.code(),
        refused.header("retry-after"),
    );
    let overloaded = StatusCode::TOO_MANY_REQUESTS;
    assert_eq!(said, (overloaded, "overloaded".to_owned(), "1"));
    assert!(
        refused.detail().contains("2 watches"),
        "{}",
        refused.detail()
    );
    assert_eq!(replica.get("/status").await.status, StatusCode::OK);
    first.changes().await;
    assert_eq!(open(), "2");
    drop(first);
    assert_eq!(open(), "1");
    assert_eq!(replica.get("/watch?from=x").await.code(), "bad_request");
    let _third = Watching::from(&replica, "").await;
}

#[tokio::test]
async fn watches_end_when_the_node_stops() {
    let replica = Replica::leader();
    let mut watching = Watching::from(&replica, "").await;
    watching.changes().await;
    replica.stopping.cancel();
    assert_eq!(watching.event().await, None);
    assert_eq!(replica.get("/watch").await.code(), "overloaded");
}

#[tokio::test]
async fn a_watch_ends_where_the_history_does() {
    let replica = Replica::leader();
    let mut watching = Watching::from(&replica, "").await;
    watching.changes().await;
    replica.status.send_modify(|status| status.loss = 8);
    assert_eq!(watching.event().await, None);
}

#[tokio::test]
async fn a_replica_that_does_not_serve_loses_its_watches() {
    let limits = Limits {
        watch_unserved: Duration::from_millis(200),
        deadline: Duration::from_millis(100),
        ..Limits::default()
    };
    let replica = Replica::new(Behaviour::Lead, Network::default(), limits);
    let serve = |serving| {
        replica
            .status
            .send_modify(|status| status.serving = serving);
    };
    let mut watching = Watching::from(&replica, "").await;
    watching.changes().await;
    serve(false);
    tokio::time::sleep(Duration::from_millis(50)).await;
    serve(true);
    tokio::time::sleep(Duration::from_millis(300)).await;
    replica.put("/resources/a", DOCUMENT).await;
    assert_eq!(shown(&watching.changes().await), ["1.0 put a"]);
    serve(false);
    assert_eq!(watching.event().await, None);

    // A follower is in sync and has what its leader promised; a learner has not.
    for (role, status) in [
        (Role::Follower, StatusCode::OK),
        (Role::Learner, StatusCode::SERVICE_UNAVAILABLE),
        (Role::Joining, StatusCode::SERVICE_UNAVAILABLE),
    ] {
        replica.status.send_modify(|status| status.role = role);
        let answer = replica.call("HEAD", "/watch", "").await;
        assert_eq!(answer.status, status, "{role:?}");
    }
}

#[tokio::test]
async fn an_idle_watch_shows_that_it_lives() {
    let limits = Limits {
        watch_heartbeat: Duration::from_millis(20),
        ..Limits::default()
    };
    let replica = Replica::new(Behaviour::Lead, Network::default(), limits);
    let mut watching = Watching::from(&replica, "").await;
    watching.changes().await;
    for _ in 0..3 {
        assert_eq!(watching.block().await.unwrap(), ": heartbeat");
    }
}

#[tokio::test]
async fn a_reader_that_rests_holds_up_nobody_and_misses_nothing() {
    let replica = Replica::leader();
    replica.put("/resources/a", DOCUMENT).await;
    let mut resting = Watching::from(&replica, "").await;
    assert_eq!(resting.event().await.unwrap().name, "put");
    for n in 0..600 {
        let body = format!(r#"{{"type":"t","properties":{{"n":{n}}}}}"#);
        let written = replica.put(&format!("/entities/{}", n % 300), &body).await;
        assert!(written.status.is_success(), "{}", written.detail());
    }
    assert_eq!(resting.event().await.unwrap().name, "reached");
    let changes = resting.changes().await;
    let numbers: Vec<_> = changes
        .iter()
        .map(|event| event.data["properties"]["n"].as_u64().unwrap())
        .collect();
    assert_eq!(
        numbers,
        (300..600).collect::<Vec<_>>(),
        "each once, as it is now"
    );
}
