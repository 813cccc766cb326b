//! What callers and operators get wrong: a typed error at once or at the deadline, and nothing written twice.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use futures::future::join_all;
use mortise_client::{
    Client, ClientError, ErrorKind, Options, Tenant, TookEffect, WatchOptions, WriterOptions,
};

use super::command;
use super::server::{Faults, Node, Running};

/// What calls here may take, and how much later they may end on a machine that is busy with other things.
const TIMEOUT: Duration = Duration::from_millis(400);
const MARGIN: Duration = Duration::from_secs(5);
/// What nobody waits for here.
const LONG: Duration = Duration::from_secs(60);

fn tenant_at(endpoints: Vec<String>, timeout: Duration) -> Tenant {
    let options = Options { endpoints, timeout, ..Options::default() };
    Client::lazy(&options).unwrap().tenant("t")
}

fn writing(timeout: Duration) -> WriterOptions {
    WriterOptions { timeout: Some(timeout), ..WriterOptions::default() }
}

async fn started(faults: Faults) -> Running {
    Node::new(faults).start().await
}

fn executed(node: &Node) -> Vec<Vec<u8>> {
    node.state.lock().unwrap().executed.clone()
}

/// What each kind of call of a tenant that cannot be reached comes to.
async fn errors_of(tenant: &Tenant) -> [ClientError; 4] {
    let (write, query, writer, watch) = tokio::join!(
        tenant.write("w"),
        tenant.query("q"),
        tenant.writer(WriterOptions::default()),
        tenant.watch(WatchOptions::default()),
    );
    [write.unwrap_err(), query.unwrap_err(), writer.unwrap_err(), watch.unwrap_err()]
}

#[tokio::test]
async fn dead_seeds_are_an_error_at_the_deadline_that_says_why() {
    // Nobody listens at either.
    let seeds = vec!["http://127.0.0.1:1".into(), "http://127.0.0.1:2".into()];
    let begun = Instant::now();
    for error in errors_of(&tenant_at(seeds, TIMEOUT)).await {
        assert_eq!((error.kind(), error.took_effect()), (ErrorKind::DeadlineExceeded, TookEffect::No));
        assert!(error.is_retryable() && error.message().contains("refused"), "{error}");
    }
    assert!(begun.elapsed() < TIMEOUT + MARGIN, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_live_seed_among_dead_ones_is_enough() {
    let running = started(Faults::default()).await;
    let seeds = ["http://127.0.0.1:1", "http://127.0.0.1:2", &running.endpoint];
    let options = Options { endpoints: seeds.map(str::to_owned).into(), ..Options::default() };
    for client in [Client::lazy(&options).unwrap(), Client::connect(&options).await.unwrap()] {
        client.tenant("t").write("w").await.unwrap();
        let writer = client.tenant("t").writer(WriterOptions::default()).await.unwrap();
        assert_eq!(writer.write("s").await.unwrap(), "re:s");
    }
    assert_eq!(executed(&running.node).len(), 4);
}

#[tokio::test]
async fn a_seed_that_speaks_something_else_is_an_error_at_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // So that it is not reset before its answer is read.
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let begun = Instant::now();
    for error in errors_of(&tenant_at(vec![format!("http://{address}")], TIMEOUT)).await {
        let kind = error.kind();
        assert!([ErrorKind::DeadlineExceeded, ErrorKind::Unavailable].contains(&kind), "{error}");
    }
    assert!(begun.elapsed() < TIMEOUT + MARGIN, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn nodes_that_all_go_down_are_waited_for_until_the_deadline_and_found_again() {
    let node = Node::new(Faults::default());
    let (one, two) = (node.start().await, node.peer().start().await);
    let endpoints = vec![one.endpoint.clone(), two.endpoint.clone()];
    let tenant = tenant_at(endpoints, TIMEOUT);
    let writer = tenant.writer(writing(TIMEOUT)).await.unwrap();
    writer.write("first").await.unwrap();
    let address = one.endpoint.trim_start_matches("http://").to_owned();
    drop((one, two));
    // What it sends before it notices is in doubt.
    let _ = writer.write("lost").await;
    while writer.trouble().is_none() {
        tokio::task::yield_now().await;
    }
    let begun = Instant::now();
    let (write, query, streamed) = tokio::join!(tenant.write("w"), tenant.query("q"), writer.write("s"));
    for error in [write.unwrap_err(), query.unwrap_err(), streamed.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{error}");
        assert_eq!(error.took_effect(), TookEffect::No, "{error}");
        assert!(error.message().contains("refused"), "{error}");
    }
    assert!(begun.elapsed() < TIMEOUT + MARGIN, "{:?}", begun.elapsed());
    let _again = node.start_at(&address).await;
    assert_eq!(writer.write("second").await.unwrap(), "re:second");
    assert_eq!(executed(&node), [b"first".as_slice(), b"second"], "what was given up is not sent later");
}

#[tokio::test]
async fn a_deadline_in_the_past_sends_nothing() {
    let running = started(Faults::default()).await;
    let late = tenant_at(vec![running.endpoint.clone()], Duration::ZERO);
    for error in errors_of(&late).await {
        assert_eq!((error.kind(), error.took_effect()), (ErrorKind::DeadlineExceeded, TookEffect::No));
    }
    let tenant = tenant_at(vec![running.endpoint.clone()], TIMEOUT);
    let writer = tenant.writer(writing(Duration::ZERO)).await.unwrap();
    let errors = [
        writer.write("w").await.unwrap_err(),
        writer.send_early("w").await.unwrap_err(),
        writer.write_batch((0..3).map(command).collect()).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!((error.kind(), error.took_effect()), (ErrorKind::DeadlineExceeded, TookEffect::No));
    }
    writer.close().await.unwrap();
    let state = running.node.state.lock().unwrap();
    assert_eq!((state.executed.len(), state.messages), (0, 0));
    assert!(running.node.queries.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_deadline_holds_while_a_stream_is_being_opened() {
    let running = started(Faults { streams_hang: true, ..Faults::default() }).await;
    let options = Options { silence_timeout: LONG, ..Options::new(&running.endpoint) };
    let tenant = Client::lazy(&options).unwrap().tenant("t");
    let writer = tenant.writer(writing(TIMEOUT)).await.unwrap();
    let begun = Instant::now();
    let error = writer.write("w").await.unwrap_err();
    assert_eq!((error.kind(), error.took_effect()), (ErrorKind::DeadlineExceeded, TookEffect::No));
    assert!(begun.elapsed() < TIMEOUT + MARGIN, "{:?}", begun.elapsed());
    assert!(executed(&running.node).is_empty());
}

#[tokio::test]
async fn a_server_that_does_not_know_the_calls_is_an_error_at_once() {
    // As a seed is that names the port of administration.
    let endpoint = format!("http://{}", super::cluster::Node::default().start().await);
    let begun = Instant::now();
    for error in errors_of(&tenant_at(vec![endpoint], LONG)).await {
        assert_eq!((error.kind(), error.took_effect()), (ErrorKind::Protocol, TookEffect::No), "{error}");
        assert!(error.message().contains("does not know this call"), "{error}");
    }
    assert!(begun.elapsed() < MARGIN, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_older_server_without_streams_ends_the_writer_and_has_executed_nothing() {
    let running = started(Faults { without_streams: true, ..Faults::default() }).await;
    let tenant = tenant_at(vec![running.endpoint.clone()], TIMEOUT);
    let writer = tenant.writer(WriterOptions::default()).await.unwrap();
    for _ in 0..2 {
        let error = writer.write("w").await.unwrap_err();
        assert_eq!((error.kind(), error.took_effect()), (ErrorKind::Protocol, TookEffect::No), "{error}");
    }
    assert!(executed(&running.node).is_empty());
}

#[tokio::test]
async fn an_answer_that_lacks_what_it_must_have_is_not_asked_for_twice() {
    let running = started(Faults { answers_nothing: true, ..Faults::default() }).await;
    let tenant = tenant_at(vec![running.endpoint.clone()], TIMEOUT);
    let error = tenant.write("w").await.unwrap_err();
    assert_eq!((error.kind(), error.took_effect()), (ErrorKind::Protocol, TookEffect::Unknown), "{error}");
    assert_eq!(executed(&running.node), [b"w"]);
}

#[tokio::test]
async fn a_command_over_the_limit_is_its_own_error_and_the_others_are_written_once() {
    // tonic's server takes 4 MiB.
    let running = started(Faults::default()).await;
    let tenant = tenant_at(vec![running.endpoint.clone()], LONG);
    let writer = tenant.writer(writing(LONG)).await.unwrap();
    let sizes = [10, 300 << 10, 5 << 20, 400 << 10, 6 << 20, 10];
    let writes = sizes.map(|bytes| writer.write(vec![b'x'; bytes]));
    for (bytes, result) in sizes.into_iter().zip(join_all(writes).await) {
        let kind = result.map_err(|error| error.kind());
        if bytes > 4 << 20 {
            assert_eq!(kind, Err(ErrorKind::TooLarge), "{bytes}");
        } else {
            assert_eq!(kind.unwrap().len(), bytes + 3, "{bytes}");
        }
    }
    assert_eq!(executed(&running.node).len(), 4);
    let error = tenant.write(vec![b'x'; 5 << 20]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
    // What no node can be set to take is not even sent.
    let large = vec![b'x'; 64 << 20];
    let errors = [
        writer.write(large.clone()).await.unwrap_err(),
        tenant.write(large.clone()).await.unwrap_err(),
        tenant.query(large).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!((error.kind(), error.took_effect()), (ErrorKind::TooLarge, TookEffect::No));
    }
    assert_eq!(executed(&running.node).len(), 4);
}
