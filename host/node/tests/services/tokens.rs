//! Tokens: wrong, missing, expired, without the scope, for another tenant.

use std::time::{Duration, SystemTime};

use futures::{StreamExt, stream};
use mortise_node::config::{Config, Expiry, Scope, TokenSettings};
use mortise_node::security::Token;
use mortise_proto::v1::{
    ErrorCode, ListTenantsRequest, OpenSessionRequest, StatusRequest, StreamWrite, WriteStreamRequest,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::kit::{Node, PATIENCE, assert_code, bearing, query, write};

pub(crate) fn token(
    name: &str,
    scopes: &[Scope],
    tenants: &[&str],
    expires: Option<Expiry>,
) -> (Token, TokenSettings) {
    let token = Token::generate().unwrap();
    let settings = TokenSettings {
        name: name.into(),
        hash: token.hash(),
        scopes: scopes.to_vec(),
        tenants: tenants.iter().map(ToString::to_string).collect(),
        expires,
    };
    (token, settings)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_needs_a_known_token_that_has_not_expired() {
    let (good, settings) = token("good", &[Scope::TenantRead, Scope::TenantWrite], &["t"], None);
    let past = Expiry::parse("2020-01-01T00:00:00Z").unwrap();
    let (old, old_settings) = token("old", &[Scope::TenantRead, Scope::TenantWrite], &["*"], Some(past));
    let node = Node::with_tenant(|config| config.tokens = vec![settings, old_settings]).await;
    let mut data = node.data().await;

    let missing = data.write(write("t", "ok")).await.unwrap_err();
    assert!(assert_code(&missing, ErrorCode::Unauthenticated).message.contains("authorization"));
    let wrong = data.write(bearing("mrt_wrong", write("t", "ok"))).await.unwrap_err();
    assert_code(&wrong, ErrorCode::Unauthenticated);
    let expired = data.query(bearing(old.secret(), query("t", "get k"))).await.unwrap_err();
    assert!(assert_code(&expired, ErrorCode::Unauthenticated).message.contains("\"old\" has expired"));
    let stream = data.write_stream(bearing("mrt_wrong", stream::empty())).await.unwrap_err();
    assert_code(&stream, ErrorCode::Unauthenticated);

    data.write(bearing(good.secret(), write("t", "put k v"))).await.unwrap();
    let read = data.query(bearing(good.secret(), query("t", "get k"))).await.unwrap();
    assert_eq!(read.into_inner().response, "v");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_reaches_only_its_tenants_and_scopes() {
    let (writer, writer_settings) = token("writer", &[Scope::TenantWrite], &["t"], None);
    let (admin, admin_settings) = token("admin", &[Scope::Admin], &[], None);
    let node = Node::with_tenant(|config| config.tokens = vec![writer_settings, admin_settings]).await;
    node.create_tenant("u").await;
    let (mut data, mut admin_client) = (node.data().await, node.admin().await);
    let (writer, admin) = (writer.secret(), admin.secret());

    data.write(bearing(writer, write("t", "ok"))).await.unwrap();
    let other = data.write(bearing(writer, write("u", "ok"))).await.unwrap_err();
    assert_code(&other, ErrorCode::PermissionDenied);
    // A tenant that does not exist answers like one that is out of reach.
    let absent = data.write(bearing(writer, write("absent", "ok"))).await.unwrap_err();
    assert_code(&absent, ErrorCode::PermissionDenied);
    let session = OpenSessionRequest { tenant: "u".into(), ttl_ms: 0 };
    assert_code(&data.open_session(bearing(writer, session)).await.unwrap_err(), ErrorCode::PermissionDenied);
    let read = data.query(bearing(writer, query("t", "get k"))).await.unwrap_err();
    assert!(assert_code(&read, ErrorCode::PermissionDenied).message.contains("tenant:read"));
    let listed = admin_client.list_tenants(bearing(writer, ListTenantsRequest::default())).await.unwrap_err();
    assert!(assert_code(&listed, ErrorCode::PermissionDenied).message.contains("admin"));

    admin_client.status(bearing(admin, StatusRequest::default())).await.unwrap();
    assert_code(
        &admin_client.status(StatusRequest::default()).await.unwrap_err(),
        ErrorCode::Unauthenticated,
    );
    let unscoped = data.write(bearing(admin, write("t", "ok"))).await.unwrap_err();
    assert_code(&unscoped, ErrorCode::PermissionDenied);

    // On a stream, only the message about the other tenant is refused.
    let message = |tenant: &str, sequence| WriteStreamRequest {
        tenant: tenant.into(),
        writes: vec![StreamWrite { sequence, command: "ok".into(), ..StreamWrite::default() }],
        ..WriteStreamRequest::default()
    };
    let messages = stream::iter([message("u", 1), message("t", 2)]);
    let mut answers = data.write_stream(bearing(writer, messages)).await.unwrap().into_inner();
    let mut denied = Vec::new();
    while let Some(answer) = answers.next().await {
        let answer = answer.unwrap();
        for result in answer.results {
            let error = matches!(&result.result, Some(mortise_proto::v1::write_result::Result::Error(error))
                if error.code() == ErrorCode::PermissionDenied);
            denied.push((answer.tenant.clone(), result.sequence, error));
        }
    }
    denied.sort();
    assert_eq!(denied, [("t".into(), 2, false), ("u".into(), 1, true)]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plugin_is_told_who_asks() {
    let (ann, settings) = token("ann", &[Scope::TenantRead, Scope::TenantWrite], &["t"], None);
    let node = Node::with_tenant(|config| config.tokens = vec![settings]).await;
    let mut data = node.data().await;
    let written = data.write(bearing(ann.secret(), write("t", "who"))).await.unwrap();
    assert_eq!(written.into_inner().reply.unwrap(), "ann");
    let read = data.query(bearing(ann.secret(), query("t", "who"))).await.unwrap();
    assert_eq!(read.into_inner().response, "ann");
    let message = WriteStreamRequest {
        tenant: "t".into(),
        writes: vec![StreamWrite { sequence: 1, command: "who".into(), ..StreamWrite::default() }],
        ..WriteStreamRequest::default()
    };
    let messages = bearing(ann.secret(), stream::iter([message]));
    let mut answers = data.write_stream(messages).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().results.remove(0).result;
    assert_eq!(answer, Some(mortise_proto::v1::write_result::Result::Reply("ann".into())));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_when_its_token_expires() {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let expires = rfc_3339(now + 3);
    assert_eq!(expires.at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs(), now + 3);
    let (token, settings) = token("brief", &[Scope::TenantWrite], &["t"], Some(expires));
    let node = Node::with_tenant(|config: &mut Config| config.tokens = vec![settings]).await;
    let mut data = node.data().await;
    let (sender, messages) = mpsc::unbounded_channel();
    let message = |sequence| WriteStreamRequest {
        tenant: "t".into(),
        writes: vec![StreamWrite { sequence, command: "ok".into(), ..StreamWrite::default() }],
        ..WriteStreamRequest::default()
    };
    sender.send(message(1)).unwrap();
    let request = bearing(token.secret(), UnboundedReceiverStream::new(messages));
    let mut answers = data.write_stream(request).await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().results.len(), 1);
    let left = expires.at.duration_since(SystemTime::now()).unwrap_or_default();
    tokio::time::sleep(left + Duration::from_millis(10)).await;
    sender.send(message(2)).unwrap();
    let ended = tokio::time::timeout(PATIENCE, answers.message()).await.unwrap().unwrap_err();
    assert_code(&ended, ErrorCode::Unauthenticated);
    node.stop().await;
}

/// The second `seconds` after 1970, as TOML writes it. Howard Hinnant's `civil_from_days`.
fn rfc_3339(seconds: u64) -> Expiry {
    let (days, rest) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = (march_month + 2) % 12 + 1;
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hours, minutes, seconds) = (rest / 3600, rest / 60 % 60, rest % 60);
    Expiry::parse(&format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}Z")).unwrap()
}
