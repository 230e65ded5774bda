use std::fs;
use std::path::Path;
use std::time::Duration;

use percolate_api::http::Code;

use super::carry_out;
use super::error::ClientError;
use super::import::{self, Counts};
use super::watching;
use crate::cli::{Cli, ClientCommand, Command};
use crate::server::fixture::{Behaviour, HISTORY, Replica, TOKEN};
use crate::tenant::Unavailable;

/// A replica that is reached over a real socket.
struct Node {
    replica: Replica,
    url: String,
}

impl Node {
    async fn start() -> Self {
        // The process's one provider; another test may have been first.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let replica = Replica::leader();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = replica.router.clone();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { replica, url }
    }

    fn command(&self, arguments: &[&str]) -> ClientCommand {
        command(&self.url, arguments)
    }

    async fn run(&self, arguments: &[&str]) -> Result<(), ClientError> {
        carry_out(self.command(arguments)).await
    }

    async fn import(&self, arguments: &[&str]) -> Counts {
        let ClientCommand::Import(arguments) = self.command(&[&["import"], arguments].concat())
        else {
            panic!("not an import")
        };
        import::bring_in(&arguments).await.unwrap().counts
    }

    /// Watch until `count` changes have been seen; `tell` hears of each.
    async fn watch(
        &self,
        arguments: &[&str],
        count: usize,
        tell: impl Fn(usize),
    ) -> (Vec<String>, ClientError) {
        let ClientCommand::Watch(arguments) = self.command(&[&["watch"], arguments].concat())
        else {
            panic!("not a watch")
        };
        let mut seen = vec![];
        let watching = watching::follow(arguments, |change| {
            seen.push(serde_json::to_string(change).unwrap());
            tell(seen.len());
            if seen.len() < count {
                return Ok(());
            }
            Err(ClientError::usage("enough"))
        });
        let ended = tokio::time::timeout(Duration::from_secs(20), watching).await;
        let ended = ended.expect("the watch goes on").unwrap_err();
        (seen, ended)
    }

    async fn export(&self, to: &Path) -> String {
        self.run(&["export", to.to_str().unwrap()]).await.unwrap();
        fs::read_to_string(to).unwrap()
    }
}

fn command(url: &str, arguments: &[&str]) -> ClientCommand {
    let connection = ["--url", url, "--token", TOKEN, "--retry-for", "2"];
    let line = ["percolate"].iter().chain(arguments).chain(&connection);
    match Cli::try_from_arguments(line).unwrap().command {
        Command::Client(command) => *command,
        other => panic!("not for a node: {other:?}"),
    }
}

fn counts(created: usize, unchanged: usize, updated: usize, refused: usize) -> Counts {
    Counts {
        created,
        unchanged,
        updated,
        refused,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_imported_and_imported_again() {
    let node = Node::start().await;
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("docs")).unwrap();
    for n in 0..300 {
        fs::write(
            folder.path().join(format!("docs/{n}.md")),
            format!("# Document {n}"),
        )
        .unwrap();
    }
    let source = folder.path().to_str().unwrap();
    assert_eq!(
        node.import(&[source, "--prefix", "p/"]).await,
        counts(300, 0, 0, 0)
    );
    let read = node.replica.get("/resources/p%2Fdocs%2F7.md").await.json();
    assert_eq!(
        (&read["content"], &read["content_type"]),
        (&"# Document 7".into(), &"text/markdown".into())
    );
    assert_eq!(
        node.import(&[source, "--prefix", "p/"]).await,
        counts(0, 300, 0, 0),
        "to resume is to run it again"
    );

    for n in [7, 250] {
        fs::write(folder.path().join(format!("docs/{n}.md")), "changed").unwrap();
    }
    fs::write(folder.path().join("new.md"), "new").unwrap();
    assert_eq!(
        node.import(&[source, "--prefix", "p/"]).await,
        counts(1, 298, 0, 2)
    );
    assert_eq!(
        node.replica.get("/resources/p%2Fdocs%2F7.md").await.json()["content"],
        "# Document 7"
    );
    assert_eq!(
        node.import(&[source, "--prefix", "p/", "--overwrite"])
            .await,
        counts(0, 299, 2, 0)
    );
    assert_eq!(
        node.replica.get("/resources/p%2Fdocs%2F7.md").await.json()["content"],
        "changed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_back_or_deleted_is_imported_anew() {
    let node = Node::start().await;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.md"), "one").unwrap();
    let source = folder.path().to_str().unwrap();
    assert_eq!(node.import(&[source]).await, counts(1, 0, 0, 0));
    node.run(&["rm", "resource", "a.md"]).await.unwrap();
    assert_eq!(node.import(&[source]).await, counts(1, 0, 0, 0));
    assert_eq!(
        node.replica.get("/resources/a.md").await.json()["content"],
        "one"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_line_does_not_stop_the_others() {
    let node = Node::start().await;
    let folder = tempfile::tempdir().unwrap();
    let lines = folder.path().join("lines.jsonl");
    let mut text: Vec<String> = (0..20)
        .map(|n| format!(r#"{{"kind":"entity","id":"e{n}","type":"t"}}"#))
        .collect();
    text[3] = r#"{"kind":"entity","id":"../e3","type":"t"}"#.to_owned();
    text[4] = "not JSON".to_owned();
    text[17] = r#"{"kind":"entity","id":"e17"}"#.to_owned();
    // The later line about the same item counts.
    text.push(r#"{"kind":"entity","id":"e0","type":"other"}"#.to_owned());
    fs::write(&lines, text.join("\n")).unwrap();
    assert_eq!(
        node.import(&[lines.to_str().unwrap()]).await,
        counts(17, 0, 1, 3)
    );
    assert_eq!(
        node.replica.get("/entities/e0").await.json()["type"],
        "other"
    );
    let failed = node
        .run(&["import", lines.to_str().unwrap()])
        .await
        .unwrap_err();
    assert!(
        matches!(
            failed,
            ClientError::Incomplete {
                refused: 3,
                total: 21
            }
        ),
        "{failed:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_imports_back_to_the_same() {
    let (from, to) = (Node::start().await, Node::start().await);
    let puts: [&[&str]; 6] = [
        &[
            "put",
            "resource",
            "a/b.md",
            "--content",
            "ä \"quoted\"\n",
            "--content-type",
            "text/markdown",
            "-m",
            "n=1",
        ],
        &["put", "resource", "empty", "--content", ""],
        &[
            "put",
            "entity",
            "ada",
            "--type",
            "person",
            "-p",
            "born=1815",
            "-p",
            "tags=[1,null,\"x\",6.706108259809379e299]",
            "-l",
            "b",
            "-l",
            "a",
        ],
        &["put", "edge", "ada", "wrote", "a/b.md", "-p", "year=1843"],
        &[
            "put",
            "moment",
            "m1",
            "--content",
            "x",
            "--timestamp",
            "1999-12-31T23:59:59.123456Z",
            "-m",
            "k=v",
        ],
        &[
            "put",
            "moment",
            "m2",
            "--content",
            "before 1970",
            "--timestamp",
            "1815-12-10T00:00:00+00:00",
        ],
    ];
    for put in puts {
        from.run(put).await.unwrap();
    }
    from.replica
        .put(
            "/resources/image",
            r#"{"content_base64":"iVBORw==","content_type":"image/png"}"#,
        )
        .await;
    let folder = tempfile::tempdir().unwrap();
    let first = folder.path().join("first.jsonl");
    let exported = from.export(&first).await;
    assert_eq!(exported.lines().count(), 7);
    assert!(!exported.contains("version"), "{exported}");
    assert_eq!(
        to.import(&[first.to_str().unwrap()]).await,
        counts(7, 0, 0, 0)
    );
    assert_eq!(
        to.export(&folder.path().join("second.jsonl")).await,
        exported
    );
    assert_eq!(
        to.import(&[first.to_str().unwrap()]).await,
        counts(0, 7, 0, 0)
    );
    let exists = from.run(&["export", first.to_str().unwrap()]).await;
    assert!(
        matches!(exists, Err(ClientError::File { .. })),
        "an export overwrites nothing"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_cannot_write_yet_is_waited_for() {
    let node = Node::start().await;
    node.replica
        .behave(Behaviour::Refuse(Unavailable::NotEnoughReplicas {
            in_sync: 1,
            min_in_sync: 2,
        }));
    let recovering = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        node.replica.behave(Behaviour::Lead);
    };
    let (written, ()) = tokio::join!(
        node.run(&["put", "resource", "r", "--content", "x"]),
        recovering
    );
    written.unwrap();
    node.replica
        .behave(Behaviour::Refuse(Unavailable::NotEnoughReplicas {
            in_sync: 1,
            min_in_sync: 2,
        }));
    let refused = node
        .run(&["put", "resource", "s", "--content", "x"])
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("in sync"),
        "the node's words: {refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_is_told_by_exit_code_and_words() {
    let node = Node::start().await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let unreachable = carry_out(command(&format!("http://{closed}"), &["status"]))
        .await
        .unwrap_err();
    assert!(
        matches!(unreachable, ClientError::Unreachable { .. }),
        "{unreachable:?}"
    );
    let absent = node.run(&["get", "resource", "absent"]).await.unwrap_err();
    assert!(
        matches!(&absent, ClientError::Refused { .. }) && absent.to_string().contains("absent"),
        "{absent:?}"
    );
    let wrong = [
        "percolate",
        "status",
        "--url",
        &node.url,
        "--token",
        "wrong",
    ];
    let Command::Client(wrong) = Cli::try_from_arguments(wrong).unwrap().command else {
        panic!()
    };
    assert!(
        carry_out(*wrong)
            .await
            .unwrap_err()
            .to_string()
            .contains("token")
    );
    let nowhere = carry_out(command("ftp://example", &["status"]))
        .await
        .unwrap_err();
    assert!(matches!(nowhere, ClientError::Usage { .. }), "{nowhere:?}");
    for (command, code) in [(unreachable, 3), (absent, 1), (nowhere, 2)] {
        assert_eq!(
            format!("{:?}", command.exit_code()),
            format!("{:?}", std::process::ExitCode::from(code))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_goes_on_over_lost_connections_and_shows_each_change_once() {
    let node = Node::start().await;
    let (seen, mut counted) = tokio::sync::watch::channel(0);
    let watching = node.watch(&[], 4, |count| seen.send_modify(|known| *known = count));
    let writing = async {
        let put = |id| {
            let path = format!("/resources/{id}");
            let replica = &node.replica;
            async move { replica.put(&path, r#"{"content":"x"}"#).await }
        };
        let serve = |serving| {
            let change = |status: &mut crate::tenant::Status| status.serving = serving;
            node.replica.status.send_modify(change);
        };
        put("a").await;
        counted.wait_for(|count| *count == 1).await.unwrap();
        // From here on the node ends each watch soon after it was opened.
        serve(false);
        tokio::time::sleep(Duration::from_millis(500)).await;
        put("b").await;
        counted.wait_for(|count| *count == 2).await.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        put("c").await;
        counted.wait_for(|count| *count == 3).await.unwrap();
        serve(true);
        node.replica.call("DELETE", "/resources/a", "").await;
    };
    let ((seen, _), ()) = tokio::join!(watching, writing);
    let beginnings = [
        format!(
            r#"{{"event":"put","position":"1.0@{HISTORY}","item":{{"kind":"resource","id":"a","content":"x","#
        ),
        format!(
            r#"{{"event":"put","position":"2.0@{HISTORY}","item":{{"kind":"resource","id":"b","content":"x","#
        ),
        format!(
            r#"{{"event":"put","position":"3.0@{HISTORY}","item":{{"kind":"resource","id":"c","content":"x","#
        ),
        format!(
            r#"{{"event":"delete","position":"4.0@{HISTORY}","item":{{"kind":"resource","id":"a","version":"#
        ),
    ];
    assert_eq!(seen.len(), 4);
    for (line, beginning) in seen.iter().zip(beginnings) {
        assert!(line.starts_with(&beginning), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_begins_where_it_is_told_or_says_why_not() {
    let node = Node::start().await;
    node.replica.put("/resources/a", r#"{"content":"x"}"#).await;
    for path in ["/entities/b", "/entities/c"] {
        node.replica.put(path, r#"{"type":"t"}"#).await;
    }
    for (arguments, expected) in [
        (&["--from", "1"][..], ["2.0", "3.0"]),
        (&["--from", &format!("1.0@{HISTORY}")], ["2.0", "3.0"]),
        (&["--kind", "entities"], ["2.0", "3.0"]),
        (&[], ["1.0", "2.0"]),
    ] {
        let (seen, _) = node.watch(arguments, 2, |_| ()).await;
        for (line, place) in seen.iter().zip(expected) {
            let position = format!(r#""position":"{place}@"#);
            assert!(line.contains(&position), "{arguments:?}: {line}");
        }
    }
    let elsewhere = format!("1@{:032x}", u128::MAX);
    let (_, refused) = node.watch(&["--from", &elsewhere], 1, |_| ()).await;
    assert!(refused.to_string().contains("history"), "{refused}");
    let (_, refused) = node.watch(&["--from", "9"], 1, |_| ()).await;
    assert_eq!(refused.code(), Some(Code::NoLeader), "{refused}");
}
