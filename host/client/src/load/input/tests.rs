use std::io::{Cursor, Write};

use mortise_commands::kv::Command;
use prost::Message;
use zip::write::SimpleFileOptions;

use super::super::template::Template;
use super::*;

const CSV: &str = "faa,name,alt\r\n04G,\"Lansdowne, \"\"old\"\"\",1044\n06A,Moton,264\n";

fn open(bytes: impl Into<Vec<u8>>) -> Result<Input<Cursor<Vec<u8>>>, LoadError> {
    Input::open(Cursor::new(bytes.into()), InputOptions::default())
}

fn json(template: &str) -> Mapping {
    Mapping::Json(Template::json(template).unwrap())
}

fn commands(bytes: impl Into<Vec<u8>>, mapping: Mapping, skip: u64) -> Result<Vec<(u64, String)>, LoadError> {
    let mut rows = Vec::new();
    open(bytes)?.read(mapping, skip, |batch| {
        for (row, command) in (batch.first..).zip(batch.commands) {
            rows.push((row, String::from_utf8(command.to_vec()).unwrap()));
        }
        ControlFlow::Continue(())
    })?;
    Ok(rows)
}

fn zipped(files: &[(&str, &str)]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, text) in files {
        archive.start_file(*name, SimpleFileOptions::default()).unwrap();
        archive.write_all(text.as_bytes()).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

fn message(error: LoadError) -> String {
    error.to_string()
}

#[test]
fn csv_rows_become_commands_numbered_from_one() {
    let rows = commands(CSV, json(r#"{"k": "{faa}", "name": "{name}", "alt": "{alt:int}"}"#), 0).unwrap();
    assert_eq!(
        rows,
        [
            (1, r#"{"alt":1044,"k":"04G","name":"Lansdowne, \"old\""}"#.to_owned()),
            (2, r#"{"alt":264,"k":"06A","name":"Moton"}"#.to_owned())
        ]
    );
    assert_eq!(commands(CSV, json(r#""{faa}""#), 1).unwrap(), [(2, "\"06A\"".to_owned())]);
}

#[test]
fn a_zip_is_known_by_its_first_bytes_and_holds_one_file() {
    let packed = zipped(&[("folder/", ""), ("a.csv", CSV)]);
    assert_eq!(open(packed.clone()).unwrap().bytes(), CSV.len() as u64);
    assert_eq!(commands(packed, json(r#""{faa}""#), 0).unwrap().len(), 2);
    let two = message(open(zipped(&[("a.csv", CSV), ("b.csv", CSV)])).map(|_| ()).unwrap_err());
    assert!(two.contains("holds 2: ") && two.contains("b.csv"), "{two}");
    let mut damaged = zipped(&[("a.csv", CSV)]);
    damaged.truncate(40);
    assert!(message(open(damaged).map(|_| ()).unwrap_err()).contains("zip archive"));
    assert!(message(open([0x1f, 0x8b, 8, 0]).map(|_| ()).unwrap_err()).contains("gzip"));
}

#[test]
fn ndjson_lines_are_commands_or_have_columns() {
    let text = "\u{feff}{\"a\": \"x\", \"n\": 7, \"z\": null}\n\n  {\"a\": \"y\", \"n\": 8, \"z\": [1]}";
    let lines = commands(text, Mapping::Lines, 0).unwrap();
    assert_eq!(lines[1], (2, r#"{"a": "y", "n": 8, "z": [1]}"#.to_owned()));
    let mapped = commands(text, json(r#"["{a}", "{n:int}", "{z}"]"#), 0).unwrap();
    assert_eq!(mapped[0].1, r#"["x",7,""]"#);
    assert_eq!(mapped[1].1, r#"["y",8,"[1]"]"#);
}

#[test]
fn kv_rows_become_puts_with_the_whole_row_as_value() {
    let template = |text| Template::plain(text).unwrap();
    let mapping = Mapping::KvPut { key: template("{faa}"), value: template("{json}"), ttl_ms: 0 };
    let mut puts = Vec::new();
    let take = |batch: Batch| {
        puts.extend(batch.commands);
        ControlFlow::Continue(())
    };
    open(CSV).unwrap().read(mapping, 0, take).unwrap();
    let command = Command::decode(puts[0].clone()).unwrap();
    let Some(mortise_commands::kv::command::Operation::Put(put)) = command.operation else {
        panic!("no put")
    };
    assert_eq!(put.key, b"04G".as_slice());
    assert_eq!(put.value, br#"{"faa":"04G","name":"Lansdowne, \"old\"","alt":"1044"}"#.as_slice());
}

#[test]
fn bad_rows_and_files_are_told_with_row_and_column() {
    let alt = || json(r#""{alt:int}""#);
    for (text, mapping, expected) in [
        ("faa,alt\nA,1\nB,x\n", alt(), "row 2, column alt: \"x\" is no integer"),
        ("faa,alt\nA,1\nB\n", alt(), "row 2: line 3 has 1 fields, the header has 2"),
        ("faa,alt\n", json(r#""{height}""#), "there is no column \"height\"; the columns are: faa, alt"),
        ("faa,alt\nA,1\n", Mapping::Lines, "needs a mapping"),
        ("{\"a\": 1}\n{\"a\": }\n", Mapping::Lines, "row 2: it is no JSON"),
        ("{\"a\": 1}\n{\"b\": 1}\n", json(r#""{a}""#), "row 2, column a: it is missing"),
        ("{\"a\": 1}\n7\n", json(r#""{a}""#), "row 2: it is no JSON object"),
        ("[{\"a\": 1}]", Mapping::Lines, "JSON array"),
        ("", Mapping::Lines, "empty"),
    ] {
        let error = message(commands(text, mapping, 0).unwrap_err());
        assert!(error.contains(expected), "{text:?}: {error}");
    }
}

#[test]
fn rows_before_a_bad_one_are_handed_over() {
    let mut rows = 0;
    let take = |batch: Batch| {
        rows += batch.commands.len();
        ControlFlow::Continue(())
    };
    let result = open("a\n1\n2\nx\n").unwrap().read(json(r#""{a:int}""#), 0, take);
    assert!(result.is_err());
    assert_eq!(rows, 2);
}

#[test]
fn batches_are_bounded_and_count_the_bytes_read() {
    let text: String =
        std::iter::once("a\n".to_owned()).chain((0..1_200).map(|n| format!("{n}\n"))).collect();
    let mut batches = Vec::new();
    let take = |batch: Batch| {
        batches.push((batch.first, batch.commands.len(), batch.bytes_read));
        ControlFlow::Continue(())
    };
    open(text.clone()).unwrap().read(json(r#""{a}""#), 0, take).unwrap();
    assert_eq!(batches.iter().map(|batch| batch.0).collect::<Vec<_>>(), [1, 513, 1025]);
    assert_eq!(batches.last().unwrap().2, text.len() as u64);
}
