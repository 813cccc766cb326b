//! The commands in README.md are run as a newcomer would type them, so they stay true.
//!
//! Every fenced block marked `sh` runs, in order, in one bash session at the repository's root, which ends at the
//! first command that fails. A block marked `sh no-run` is not run. Two commands are special: `cargo xtask test`
//! is left out, since it is what runs this; and `cargo xtask dev` goes into the background, is awaited until it
//! says `ready`, and is stopped at the end.

use crate::run::{run, say};
use crate::{build, setup};
use anyhow::{Context, Result, ensure};
use mortise_artifacts::{tools, workspace_root};
use std::fs;
use std::process::Command;

/// What stands before the README's commands.
const PROLOGUE: &str = r#"set -euo pipefail
server=
begin() {
  "$@" >"$SERVER_LOG" 2>&1 &
  server=$!
  for _ in $(seq 600); do
    if grep -q '^ready' "$SERVER_LOG"; then return; fi
    if ! kill -0 "$server" 2>/dev/null; then break; fi
    sleep 0.2
  done
  echo "$* did not become ready:" >&2
  cat "$SERVER_LOG" >&2
  exit 1
}
finish() {
  if [ -n "$server" ] && kill -0 "$server" 2>/dev/null; then
    # Not SIGINT: bash starts background jobs with that one ignored.
    kill -TERM "$server"
    wait "$server" || echo "the server ended with status $?" >&2
  fi
}
trap finish EXIT
"#;

/// Runs the README's commands, on a node with an empty data folder.
pub(crate) fn check() -> Result<()> {
    setup::ensure(setup::ALL)?;
    build::host()?;
    let path = workspace_root().join("README.md");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let blocks = blocks(&text);
    ensure!(!blocks.is_empty(), "README.md has no command to run");
    say(&format!("running the {} blocks of commands in README.md", blocks.len()));

    let folder = tools::host_target().join("readme");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let file = folder.join("commands.sh");
    fs::write(&file, script(&blocks)).with_context(|| format!("write {}", file.display()))?;
    let mut bash = Command::new("bash");
    bash.arg(&file).current_dir(workspace_root());
    run(bash.env("DATA", folder.join("data")).env("SERVER_LOG", folder.join("server.log")))
}

/// A fenced block to run: the number of its first line, and its lines.
#[derive(Debug, PartialEq, Eq)]
struct Block<'a> {
    line: usize,
    commands: Vec<&'a str>,
}

/// The blocks marked `sh` and not `no-run`.
fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let Some(info) = line.strip_prefix("```") else { continue };
        let commands =
            lines.by_ref().map(|(_, line)| line).take_while(|line| !line.starts_with("```")).collect();
        let mut words = info.split_whitespace();
        if words.next() == Some("sh") && !words.any(|word| word == "no-run") {
            blocks.push(Block { line: number + 2, commands });
        }
    }
    blocks
}

/// One bash script of all blocks.
fn script(blocks: &[Block<'_>]) -> String {
    let mut script = PROLOGUE.to_string();
    for block in blocks {
        script.push_str(&format!("echo '── README.md, line {} ──'\n", block.line));
        for command in &block.commands {
            let is = |task: &str| {
                command.strip_prefix(task).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
            };
            match command {
                _ if is("cargo xtask test") => {}
                // The node must neither see nor change a developer's own data.
                command if is("cargo xtask dev") => {
                    script.push_str(&format!("begin {command} --data \"$DATA\"\n"))
                }
                command => script.push_str(&format!("{command}\n")),
            }
        }
    }
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# Title\n\n```sh\ncargo xtask dev --quiet\n```\nText.\n\n```sh no-run\nrm -rf everything\n```\n\n\
                        ```rust\nfn main() {}\n```\n```sh\ncargo xtask test\necho a \\\n  b\n```\n";

    #[test]
    fn only_blocks_marked_sh_are_run() {
        let found = blocks(TEXT);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0], Block { line: 4, commands: vec!["cargo xtask dev --quiet"] });
        assert_eq!(found[1].commands, ["cargo xtask test", "echo a \\", "  b"]);
    }

    #[test]
    fn a_server_goes_to_the_background_and_the_verification_is_left_out() {
        let script = script(&blocks(TEXT));
        assert!(script.contains("\nbegin cargo xtask dev --quiet --data \"$DATA\"\n"));
        assert!(script.contains("\necho a \\\n  b\n"));
        assert!(!script.contains("xtask test"));
        assert!(!script.contains("everything"));
    }

    /// Runs the prologue with a stand-in for the node.
    fn session(commands: &str) -> (bool, String) {
        let folder =
            std::env::temp_dir().join(format!("mortise-readme-{}-{}", std::process::id(), commands.len()));
        fs::create_dir_all(&folder).unwrap();
        let mut bash = Command::new("bash");
        bash.arg("-c").arg(format!("{PROLOGUE}{commands}")).env("SERVER_LOG", folder.join("log"));
        let output = bash.output().unwrap();
        fs::remove_dir_all(&folder).unwrap();
        let both = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&both).into_owned())
    }

    #[test]
    fn the_session_awaits_ready_and_stops_the_server() {
        let (passed, printed) =
            session("begin bash -c 'echo ready; exec sleep 600'\necho served by $server\n");
        assert!(passed && printed.contains("served by"), "{printed}");
        let pid = printed.split_whitespace().nth(2).unwrap();
        assert!(!std::path::Path::new("/proc").join(pid).exists(), "the server still runs");
    }

    #[test]
    fn the_session_ends_where_a_command_or_the_server_fails() {
        let (passed, printed) = session("false\necho not reached\n");
        assert!(!passed && !printed.contains("not reached"), "{printed}");
        let (passed, printed) = session("begin bash -c 'echo port in use; exit 3'\n");
        assert!(!passed && printed.contains("port in use"), "{printed}");
    }
}
