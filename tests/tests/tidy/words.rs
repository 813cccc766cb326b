//! Words that must not stand in this repository. They are put together here, so that this file does not hold them.

use crate::none;
use crate::repository::{File, files};

/// Folders of a developer's machine: what is found there is found nowhere else.
fn folders() -> Vec<String> {
    ["home", "root", "work", "Users"].iter().map(|name| format!("/{name}/")).collect()
}

/// Hosts of package registries: which one serves a package is the user's setting, and only Cargo.lock names it.
fn hosts() -> Vec<String> {
    let hosts = [
        ["index.crates", "io"],
        ["static.crates", "io"],
        ["rust-lang/crates", "io-index"],
        ["pypi", "org"],
        ["pythonhosted", "org"],
        ["registry.npmjs", "org"],
        ["deb.debian", "org"],
        ["static.rust-lang", "org"],
    ];
    hosts.iter().map(|host| host.join(".")).collect()
}

/// Macros that leave a hole.
fn holes() -> Vec<String> {
    [["to", "do!"], ["unimple", "mented!"]].iter().map(|word| word.concat()).collect()
}

/// Words of wasmtime: our own types have other names.
const TAKEN: [&str; 2] = ["Store", "Engine"];

/// Names for a module without a meaning.
fn drawers() -> Vec<String> {
    [["ut", "ils"], ["ut", "il"], ["com", "mon"], ["hel", "pers"]].iter().map(|word| word.concat()).collect()
}

/// Complaints about one line.
fn of_line(file: &File, line: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for folder in folders() {
        // Within a longer path the name is harmless.
        let begins_a_path = |(at, _): (usize, &str)| {
            !line[..at].ends_with(|before: char| before.is_alphanumeric() || "._-~/}*".contains(before))
        };
        if line.match_indices(&folder).any(begins_a_path) {
            complaints.push(format!("{folder} is a folder of one machine"));
        }
    }
    let is_lock = file.path.ends_with("Cargo.lock");
    complaints.extend(
        hosts()
            .iter()
            .filter(|host| !is_lock && line.contains(*host))
            .map(|host| format!("{host} is a registry")),
    );
    if file.is_rust() {
        complaints.extend(
            holes().iter().filter(|hole| line.contains(*hole)).map(|hole| format!("{hole} is a hole")),
        );
        complaints.extend(of_definition(line));
    }
    complaints
}

/// Complaints about the name that a line of Rust defines.
fn of_definition(line: &str) -> Option<String> {
    let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
    let keyword = words.find(|word| ["struct", "enum", "trait", "type", "union", "mod"].contains(word))?;
    let name = words.next()?;
    if keyword == "mod" {
        return drawers().contains(&name.to_string()).then(|| format!("a module {name} says nothing"));
    }
    let is_prose = line.trim_start().starts_with("//") || line.contains('"');
    // An import's `type Engine = …` in a trait's implementation is not ours to name.
    (TAKEN.contains(&name) && !is_prose).then(|| format!("{name} is wasmtime's word"))
}

fn complaints(file: &File) -> Vec<String> {
    let lines = file.text.lines().enumerate();
    let mut all: Vec<String> = lines
        .flat_map(|(number, line)| {
            of_line(file, line).into_iter().map(move |complaint| (number + 1, complaint))
        })
        .map(|(number, complaint)| format!("{}:{number}: {complaint}", file.path))
        .collect();
    let drawers = drawers();
    let names = file.path.split('/').map(|name| name.strip_suffix(".rs").unwrap_or(name));
    if file.is_rust() && names.into_iter().any(|name| drawers.contains(&name.to_string())) {
        all.push(format!("{}: a file or folder of that name says nothing", file.path));
    }
    all
}

#[test]
fn banned_words_are_absent() {
    none(files().iter().flat_map(complaints).collect());
}

#[test]
fn each_banned_word_is_seen() {
    let seen = |path: &str, text: String| complaints(&File { path: path.into(), text }).len();
    for word in folders() {
        assert_eq!(seen("a.md", format!("see {word}x")), 1, "{word}");
        assert_eq!(seen("a.md", format!("see some{word}x")), 0, "{word} within a path");
    }
    for word in hosts() {
        assert_eq!(seen("deny.toml", format!("url = \"https://{word}/\"")), 1, "{word}");
        assert_eq!(seen("Cargo.lock", format!("source = \"https://{word}/\"")), 0, "{word}");
    }
    for word in holes() {
        assert_eq!(seen("a.rs", format!("    {word}()")), 1, "{word}");
    }
    for word in TAKEN {
        assert_eq!(seen("a.rs", format!("pub struct {word}<T> {{")), 1, "{word}");
        assert_eq!(seen("a.rs", format!("trait {word} {{")), 1, "{word}");
        assert_eq!(seen("a.rs", format!("use wasmtime::{word};\nstruct My{word};")), 0, "{word} of others");
    }
    for word in drawers() {
        assert_eq!(seen("a.rs", format!("mod {word};")), 1, "{word}");
        assert_eq!(seen(&format!("host/{word}/a.rs"), String::new()), 1, "{word}");
        assert_eq!(seen(&format!("host/{word}.rs"), String::new()), 1, "{word}");
    }
}
