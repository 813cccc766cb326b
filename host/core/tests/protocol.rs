//! PROTOCOL.md names each rule's place and story: both have to be there, and no story may be missing from it.

#![allow(clippy::unwrap_used, clippy::expect_used)] // What stands in the repository is there, or the test fails.

use std::collections::BTreeSet;
use std::path::Path;

/// The words between backquotes in the rows of PROTOCOL.md's tables, a column at a time.
fn named(column: usize) -> BTreeSet<String> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("PROTOCOL.md"))
        .expect("PROTOCOL.md is there");
    let rules = text.split("## Rules").nth(1).and_then(|rules| rules.split("\n## ").next());
    let rules = rules.expect("PROTOCOL.md has rules");
    let rows = rules.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---")).skip(1);
    let cells = rows.filter_map(|row| row.split(" | ").nth(column));
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[test]
fn every_story_tells_a_rule_and_every_rule_has_its_story() {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/replica/scripts");
    let present: BTreeSet<String> = std::fs::read_dir(scripts)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.contains('.'))
        .collect();
    assert_eq!(named(2), present);
}

#[test]
fn every_place_that_a_rule_names_is_there() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files: BTreeSet<String> = named(1).into_iter().filter(|word| word.ends_with(".rs")).collect();
    assert!(files.len() > 10, "{files:?}");
    let mut code = String::new();
    for file in &files {
        let found =
            [source.join("replica").join(file), source.join(file)].into_iter().find(|path| path.exists());
        code += &std::fs::read_to_string(found.unwrap_or_else(|| panic!("no file {file}"))).unwrap();
    }
    for name in named(1).into_iter().filter(|word| !word.ends_with(".rs")) {
        let is_there = code.contains(&format!("fn {name}(")) || code.contains(&format!("enum {name} "));
        assert!(is_there, "nothing is called {name}");
    }
}
