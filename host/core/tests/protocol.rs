//! PROTOCOL.md names each rule's place and story: both have to be there, and no story may be missing from it.

#![allow(clippy::unwrap_used, clippy::expect_used)] // What stands in the repository is there, or the test fails.

use std::collections::BTreeSet;
use std::path::Path;

use mortise_core::replica::Rare;

fn read(path: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("read {}: {error}", file.display()))
}

/// The rows of the table below this heading of PROTOCOL.md, cell by cell.
fn rows(heading: &str) -> Vec<Vec<String>> {
    let text = read("PROTOCOL.md");
    let section = text.split(&format!("## {heading}\n")).nth(1).and_then(|rest| rest.split("\n## ").next());
    let section = section.expect("PROTOCOL.md has this heading");
    let lines = section.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---")).skip(1);
    let cells = |line: &str| line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect();
    lines.map(cells).collect()
}

/// The words between backquotes.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// What a column of the rules' table names.
fn named(column: usize) -> BTreeSet<String> {
    rows("Rules").iter().filter_map(|row| row.get(column)).flat_map(|cell| quoted(cell)).collect()
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
    let mut names = 0;
    for row in rows("Rules") {
        // A name stands in the file that was named last before it.
        let mut place: Option<(String, String)> = None;
        for word in quoted(&row[1]) {
            if word.ends_with(".rs") {
                let paths = [source.join("replica").join(&word), source.join(&word)];
                let path =
                    paths.iter().find(|path| path.exists()).unwrap_or_else(|| panic!("no file {word}"));
                place = Some((word, std::fs::read_to_string(path).unwrap()));
                continue;
            }
            let (file, code) = place.as_ref().unwrap_or_else(|| panic!("{word}: in which file?"));
            let is_there = code.contains(&format!("fn {word}(")) || code.contains(&format!("enum {word} "));
            assert!(is_there, "{file} has nothing called {word}");
            names += 1;
        }
    }
    assert!(names > 20, "only {names} names");
}

/// The variants of an enum in this source.
fn variants(source: &str, name: &str) -> BTreeSet<String> {
    let body =
        source.split(&format!("pub enum {name} {{\n")).nth(1).and_then(|rest| rest.split("\n}").next());
    let lines = body.expect("the enum is there").lines();
    let names = lines.filter_map(|line| line.strip_prefix("    ")?.strip_suffix(','));
    names.filter(|name| name.chars().all(char::is_alphanumeric)).map(str::to_owned).collect()
}

#[test]
fn what_is_rare_is_listed_whole() {
    let rare: BTreeSet<String> = Rare::ALL.iter().map(|rare| format!("{rare:?}")).collect();
    assert_eq!(rare, variants(&read("src/replica/effect.rs"), "Rare"));
}

#[test]
fn every_mutant_stands_in_the_table_with_the_configuration_that_notices_it() {
    let variants = variants(&read("src/replica/mutants.rs"), "Mutant");
    let table = rows("Mutants");
    let first: Vec<String> = table.iter().flat_map(|row| quoted(&row[0])).collect();
    assert_eq!(first.iter().cloned().collect::<BTreeSet<_>>(), variants);
    assert_eq!(first.len(), variants.len(), "a mutant stands in the table twice");
    let searched = read("../../tests/model/src/configurations.rs");
    for row in &table {
        let noticed = format!("(Mutant::{}, \"{}\")", quoted(&row[0])[0], quoted(&row[2]).concat());
        let by_model = quoted(&row[2]).is_empty() || searched.contains(&noticed);
        assert!(by_model, "the model has no {noticed}");
        assert!(row[2] != "–" || row[3] != "–", "nobody notices {}", row[0]);
    }
}

#[test]
fn every_test_that_a_trap_names_is_there() {
    let table = rows("Other traps");
    for row in &table {
        let files: Vec<String> =
            quoted(&row[2]).into_iter().map(|file| read(&format!("../../{file}"))).collect();
        let names = quoted(&row[3]);
        assert!(!files.is_empty() && !names.is_empty(), "{}: neither file nor test", row[0]);
        for name in names {
            let is_there = files.iter().any(|text| text.contains(&format!("fn {name}(")));
            assert!(is_there, "{}: no test is called {name}", row[0]);
        }
    }
    assert!(table.len() >= 8, "{table:?}");
}
