//! The client library, where another node comes to be behind its address.

use std::time::Duration;

use mortise_client::kv::Kv;
use mortise_client::{Client, ClientError, ErrorKind, Options, Tenant, TookEffect, WriterOptions};
use tokio::runtime::Runtime;

use crate::kit::{Node, dev_at, folder};

/// How long a call may take here.
const TIMEOUT: Duration = Duration::from_secs(2);

async fn tenant(node: &Node) -> Tenant {
    let options = Options { timeout: TIMEOUT, ..Options::new(node.endpoint()) };
    Client::connect(&options).await.unwrap().tenant("kv")
}

async fn writing(tenant: &Tenant) -> Kv {
    let options = WriterOptions { timeout: Some(TIMEOUT), ..WriterOptions::default() };
    Kv::with_writer(tenant.clone(), tenant.writer(options).await.unwrap())
}

fn check_refused(error: &ClientError) {
    assert_eq!((error.kind(), error.took_effect()), (ErrorKind::DeadlineExceeded, TookEffect::No), "{error}");
    assert!(error.message().contains("of another cluster"), "{error}");
}

/// Two nodes that do the same first things give their first sessions the same number: what was sent again in a session
/// would be executed by a node that was wiped, or by another one that has come to be at the address.
#[test]
fn another_node_at_the_address_is_not_written_to() {
    let folder = folder();
    let [first, second] = ["first", "second"].map(|name| folder.path().join(name));
    let node = Node::start(&first);
    let (address, admin) = (node.address(), node.admin_address());
    Runtime::new().unwrap().block_on(async {
        let ours = tenant(&node).await;
        let (written, called) = (writing(&ours).await, Kv::new(ours.clone()));
        written.put("k", "first", 0).await.unwrap();
        node.kill();

        let node = Node::launch(&mut dev_at(&second, &address, &admin));
        let theirs = tenant(&node).await;
        let other = writing(&theirs).await;
        check_refused(&written.put("k", "late", 0).await.unwrap_err());
        check_refused(&called.put("k", "late", 0).await.unwrap_err());
        check_refused(&called.get("k").await.unwrap_err());
        assert_eq!(other.get("k").await.unwrap(), None, "nothing was written there");
        node.kill();

        // And where the node is back, nothing has happened.
        let _node = Node::launch(&mut dev_at(&first, &address, &admin));
        assert_eq!(written.put("k", "second", 0).await.unwrap().version, 2);
        assert_eq!(called.get("k").await.unwrap().unwrap().value, b"second");
    });
}
