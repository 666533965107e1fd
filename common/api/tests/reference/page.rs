//! The page as Markdown.

use std::fmt::Write;

use api::config::keys::{Otherwise, Rule};

use crate::keys::Key;

const HEAD: &str = "\
# Configuration reference

<!-- Made by `cargo xtask docs --write` from the types in common/api/src/config; change the doc comments there. -->

Every key of `cloudcore.yaml` and `edgecore.yaml`. A key that is left out has its default; a file needs `apiVersion`, `kind` and
what differs. `keadm init` and `keadm join` write both files, and set any key with `--set key.path=value`.

Files of KubeEdge 1.12 to 1.23 are taken as they are. Each file has two tables here: the keys that the program acts on, and
the keys of KubeEdge that it does not act on. Of those, a value that asks for what is not done is a *warning* at each
start, and one that must not be passed over is an *error*, with which the program does not start. Keys that neither KubeEdge
nor the program has are warned of, too. `cloudcore --check` and `edgecore --check` say all of it without starting anything;
`--defaultconfig` prints the defaults and `--minconfig` a first file.

The column *KubeEdge* says what KubeEdge 1.23 has: *same*, the key with this default; *yes*, the key, with a default that
depends on the machine or the program; a value, the key with this other default; *older*, only before 1.23; *kubelet*, a key
of the kubelet's own file, which KubeEdge does not write; *no*, the key is Causeway's.
";

/// `files`: name of the file, of its program, its keys, and what becomes of KubeEdge's others.
pub(crate) fn render(files: &[(&str, &str, Vec<Key>, &[Rule])]) -> String {
    let mut page = HEAD.to_owned();
    for (file, program, keys, rules) in files {
        // Writing to a String does not fail.
        let _ = write!(
            page,
            "\n## {file}\n\nRead from `/etc/kubeedge/config/{file}` unless `{program} --config` names another.\n"
        );
        for (section, keys) in sections(keys) {
            let _ = write!(
                page,
                "\n### {file}: {section}\n\n| key | type | default | KubeEdge | meaning |\n|---|---|---|---|---|\n"
            );
            for key in keys {
                let Key { path, kind, default, meaning, kubeedge } = key;
                let _ = writeln!(page, "| `{path}` | {kind} | {default} | {kubeedge} | {} |", cell(meaning));
            }
        }
        let _ = write!(
            page,
            "\n### {file}: keys of KubeEdge that {program} does not act on\n\n| key | values without effect | any other value |\n|---|---|---|\n"
        );
        for rule in *rules {
            let usual: Vec<String> = rule.usual().iter().map(|value| format!("`{value}`")).collect();
            let (usual, told) = match rule.otherwise() {
                Otherwise::Harmless(reason) => ("all".to_owned(), reason.to_owned()),
                Otherwise::Warn(text) => (usual.join(", "), format!("warning: {text}")),
                Otherwise::Refuse(text) => (usual.join(", "), format!("**error**: {text}")),
            };
            let _ = writeln!(page, "| `{}` | {usual} | {} |", rule.key(), cell(&told));
        }
    }
    page
}

/// The keys by what they are below: `modules.<module>`, or the first part.
fn sections(keys: &[Key]) -> Vec<(String, Vec<&Key>)> {
    let mut sections: Vec<(String, Vec<&Key>)> = Vec::new();
    for key in keys {
        let section = section(&key.path);
        match sections.last_mut() {
            Some((last, keys)) if *last == section => keys.push(key),
            _ => sections.push((section, vec![key])),
        }
    }
    sections
}

fn section(path: &str) -> String {
    let parts: Vec<&str> = path.split('.').collect();
    match parts.as_slice() {
        ["modules", "edged", "tailoredKubeletConfig", ..] => parts[..3].join("."),
        ["modules", module, ..] => format!("modules.{module}"),
        _ => "the program".to_owned(),
    }
}

/// A `|` would end the cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
