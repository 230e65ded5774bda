use http::StatusCode;

use super::super::fixture::{HISTORY, Replica, request, with};
use crate::tenant::{Role, SessionToken};

#[tokio::test]
async fn every_answer_says_where_the_client_stands() {
    let replica = Replica::leader();
    let written = replica.put("/resources/r", r#"{"content":"x"}"#).await;
    assert_eq!(
        written.session(),
        SessionToken {
            incarnation: HISTORY,
            epoch: 1,
            index: 1
        }
    );
    for path in [
        "/resources/r",
        "/resources/absent",
        "/resources",
        "/status",
        "/nowhere",
        "/resources/..",
    ] {
        let answer = replica.get(path).await;
        assert_eq!(answer.header("percolate-role"), "leader", "{path}");
        assert_eq!(answer.session().index, 1, "{path}");
    }
    replica
        .status
        .send_modify(|status| status.role = Role::Follower);
    assert_eq!(
        replica.get("/status").await.header("percolate-role"),
        "follower"
    );
}

#[tokio::test]
async fn a_session_that_is_ahead_waits_for_this_replica() {
    let replica = Replica::leader();
    replica.put("/resources/r", r#"{"content":"x"}"#).await;
    let ahead = SessionToken {
        incarnation: HISTORY,
        epoch: 1,
        index: 2,
    }
    .to_string();
    let reading = replica.send(with(
        request("GET", "/resources/r", ""),
        "percolate-session",
        &ahead,
    ));
    let writing = async {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        replica.put("/resources/s", r#"{"content":"x"}"#).await
    };
    let (read, _) = tokio::join!(reading, writing);
    assert_eq!((read.status, read.session().index), (StatusCode::OK, 2));
}

#[tokio::test]
async fn sessions_of_others_are_told_so() {
    let replica = Replica::leader();
    let cases = [
        (
            format!("{:032x}.1.0", u128::MAX),
            StatusCode::GONE,
            "resync_required",
        ),
        (
            "nonsense".to_owned(),
            StatusCode::BAD_REQUEST,
            "bad_request",
        ),
        (
            format!("{:032x}.1.-1", 7),
            StatusCode::BAD_REQUEST,
            "bad_request",
        ),
        (
            format!("{:032x}.1.99999999999999999999999", 7),
            StatusCode::BAD_REQUEST,
            "bad_request",
        ),
    ];
    for (session, status, code) in cases {
        let answer = replica
            .send(with(
                request("GET", "/resources", ""),
                "percolate-session",
                &session,
            ))
            .await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (status, code),
            "{session}"
        );
    }
}

#[tokio::test]
async fn only_who_has_the_token_gets_in() {
    let replica = Replica::leader();
    for path in ["/status", "/resources/r", "/nowhere"] {
        for token in [None, Some("Bearer wrong"), Some("Basic secret")] {
            let mut asked = request("GET", path, "");
            asked.headers_mut().remove("authorization");
            let asked = token.map_or(asked, |token| {
                with(request("GET", path, ""), "authorization", token)
            });
            let answer = replica.send(asked).await;
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (StatusCode::UNAUTHORIZED, "unauthorized"),
                "{path}"
            );
            assert_eq!(answer.header("www-authenticate"), "Bearer");
            assert!(
                !answer.headers.contains_key("percolate-session"),
                "a stranger learns nothing"
            );
        }
    }
}

#[tokio::test]
async fn long_answers_are_compressed_for_who_reads_zstd() {
    let replica = Replica::leader();
    let content = "text ".repeat(10_000);
    replica
        .put("/resources/r", &format!(r#"{{"content":"{content}"}}"#))
        .await;
    let plain = replica.get("/resources/r").await;
    let packed = replica
        .send(with(
            request("GET", "/resources/r", ""),
            "accept-encoding",
            "gzip, zstd",
        ))
        .await;
    assert_eq!(packed.header("content-encoding"), "zstd");
    assert!(packed.body.len() < plain.body.len() / 10);
    assert_eq!(
        zstd::bulk::decompress(&packed.body, 1 << 20).unwrap(),
        plain.body
    );
    let short = replica
        .send(with(
            request("GET", "/status", ""),
            "accept-encoding",
            "zstd",
        ))
        .await;
    assert!(!short.headers.contains_key("content-encoding"));
}

#[tokio::test]
async fn problems_are_problem_json() {
    let replica = Replica::leader();
    let answer = replica.get("/resources/absent").await;
    assert_eq!(answer.header("content-type"), "application/problem+json");
    let problem = answer.json();
    assert_eq!(
        (&problem["status"], &problem["code"]),
        (&404.into(), &"not_found".into())
    );
    assert!(problem["detail"].as_str().unwrap().contains("absent"));
}

#[tokio::test]
async fn the_status_shows_the_replica() {
    let status = Replica::leader().get("/status").await.json();
    assert_eq!(
        (&status["tenant_id"], &status["node"], &status["role"]),
        (&"acme".into(), &"acme-0".into(), &"leader".into())
    );
}
