//! Counts every request that a router answers, by the pattern of its route.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;

use super::Metrics;

/// The route of requests that no pattern matched: their paths are the client's to choose, and a
/// label must not be.
const NO_ROUTE: &str = "none";

/// The methods that are labels; a client may invent others.
const METHODS: [&str; 6] = ["GET", "HEAD", "PUT", "PATCH", "POST", "DELETE"];

/// `router`, with its requests counted in `metrics`.
pub fn counted(router: Router, metrics: Arc<Metrics>) -> Router {
    router.layer(middleware::from_fn_with_state(metrics, count))
}

async fn count(State(metrics): State<Arc<Metrics>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let named = METHODS
        .into_iter()
        .find(|name| *name == request.method().as_str());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let route = route.as_ref().map_or(NO_ROUTE, MatchedPath::as_str);
    let method = named.unwrap_or("other");
    metrics.observe_request(method, route, response.status().as_u16(), began.elapsed());
    response
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::get;
    use tower::ServiceExt;

    use super::super::tests::status;
    use super::*;

    #[tokio::test]
    async fn requests_are_counted_by_pattern_whatever_the_client_sends() {
        let metrics = Arc::new(Metrics::new());
        let router = Router::new().route("/items/{id}", get(|| async { "item" }));
        let router = counted(router, Arc::clone(&metrics));
        for (method, path) in [
            ("GET", "/items/a"),
            ("GET", "/items/b"),
            ("BREW", "/items/a"),
            ("GET", "/x/y"),
        ] {
            let request = Request::builder()
                .method(method)
                .uri(path)
                .body(Body::empty())
                .unwrap();
            router.clone().oneshot(request).await.unwrap();
        }
        let text = metrics.encode(&status());
        for (labels, count) in [
            ("method=\"GET\",route=\"/items/{id}\",status=\"2xx\"", 2),
            ("method=\"other\",route=\"/items/{id}\",status=\"4xx\"", 1),
            ("method=\"GET\",route=\"none\",status=\"4xx\"", 1),
        ] {
            let line = format!("percolate_node_request_duration_seconds_count{{{labels}}} {count}");
            assert!(
                text.lines().any(|shown| shown == line),
                "{line} is not in\n{text}"
            );
        }
    }
}
