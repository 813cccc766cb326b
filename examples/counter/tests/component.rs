//! The compiled counter, run as a node runs it.

use anyhow::Result;
use mortise_testkit::{Tenant, conformance};
use serde_json::json;

#[test]
fn what_is_added_can_be_read() -> Result<()> {
    let mut tenant = Tenant::build("mortise-example-counter")?;
    assert_eq!(tenant.query_json(&json!("value")), Ok(json!(0)));
    assert_eq!(tenant.apply_json(&json!({"add": {"by": 5}})), Ok(json!(5)));
    assert_eq!(tenant.apply_json(&json!({"add": {"by": -7}})), Ok(json!(-2)));
    assert_eq!(tenant.query_json(&json!("value")), Ok(json!(-2)));
    tenant.assert_snapshot_roundtrip();
    Ok(())
}

#[test]
fn an_overflow_is_refused_and_changes_nothing() -> Result<()> {
    let mut tenant = Tenant::build("mortise-example-counter")?;
    tenant.apply_json(&json!({"add": {"by": i64::MAX}})).ok();
    let rejection = tenant.apply_rejected(br#"{"add": {"by": 1}}"#);
    assert_eq!(rejection.code, "overflow");
    assert_eq!(tenant.query_json(&json!("value")), Ok(json!(i64::MAX)));
    Ok(())
}

#[test]
fn what_is_no_command_is_refused() -> Result<()> {
    let mut tenant = Tenant::build("mortise-example-counter")?;
    for command in
        ["", "{}", "[]", r#"{"add": {}}"#, r#"{"add": {"by": 1, "x": 1}}"#, r#"{"add": {"by": 1.5}}"#]
    {
        assert_eq!(tenant.apply_rejected(command.as_bytes()).code, "malformed", "{command}");
    }
    Ok(())
}

#[test]
fn the_component_conforms() -> Result<()> {
    let report = conformance(&mortise_artifacts::bytes("mortise-example-counter")?, 1)?;
    assert_eq!(report.examples_applied, 1);
    assert!(report.garbage_rejected > 0);
    Ok(())
}
