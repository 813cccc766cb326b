//! What a call's span tells: the caller's trace, and who it is.

use std::io;
use std::sync::{Arc, Mutex};

use mortise_node::config::{Scope, TokenSettings};
use mortise_node::security::Token;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::kit::{Node, bearing, query};

/// The log, for the test to read.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl io::Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// On one thread, so that a subscriber of this thread sees the whole call and nothing of other tests.
#[tokio::test]
async fn a_call_has_a_span_with_the_callers_trace_and_principal() {
    let (page, token) = (Page::default(), Token::generate().unwrap());
    let settings = TokenSettings {
        name: "ann".into(),
        hash: token.hash(),
        scopes: vec![Scope::TenantRead],
        tenants: vec!["t".into()],
        expires: None,
    };
    let node = Node::with_tenant(|config| config.tokens = vec![settings]).await;
    let mut data = node.data().await;
    let writer = page.clone();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_max_level(tracing::Level::INFO)
        .with_span_events(FmtSpan::CLOSE)
        .with_writer(move || writer.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let mut request = bearing(token.secret(), query("t", "get k"));
    request.metadata_mut().insert("traceparent", format!("00-{trace}-{parent}-01").parse().unwrap());
    data.query(request).await.unwrap();
    node.stop().await;
    drop(guard);
    let log = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
    let call =
        log.lines().find(|line| line.contains("\"method\":\"Query\"")).unwrap_or_else(|| panic!("{log}"));
    for field in [("trace_id", trace), ("parent_id", parent), ("principal", "ann")] {
        assert!(call.contains(&format!("\"{}\":\"{}\"", field.0, field.1)), "{field:?}: {call}");
    }
}
