//! Which rooms of a module import which others of it.

use super::graph::Graph;
use super::modules::Module;

/// The graph of the children of `street`, a module of the crate `root`. A name that `street` or another module passes on counts as
/// the room it comes from.
pub(super) fn between_children(root: &Module, street: &Module) -> Graph {
    let mut graph = Graph::default();
    street.children.keys().for_each(|name| graph.room(name));
    for (name, child) in &street.children {
        for module in child.all() {
            for path in &module.named {
                let Some(to) = resolve(root, module, path, DEPTH).and_then(|path| room_of(street, &path))
                else {
                    continue;
                };
                graph.import(name, &to, &place(module));
            }
        }
    }
    graph
}

/// How many passings on are followed.
const DEPTH: usize = 8;

/// The room of `street` in which the item of this absolute path is.
fn room_of(street: &Module, path: &str) -> Option<String> {
    let rest = path.strip_prefix(&street.path)?.strip_prefix("::")?;
    let child = rest.split("::").next()?;
    street.children.contains_key(child).then(|| child.to_owned())
}

/// The absolute path of what `module` calls by `path`; `None` for what is of another crate.
fn resolve(root: &Module, module: &Module, path: &[String], depth: usize) -> Option<String> {
    let (mut base, mut rest) = match path.split_first()? {
        (first, rest) if first == "crate" => (root, rest),
        (first, rest) if first == "self" => (module, rest),
        (first, _) if first == "super" => (module, path),
        (first, rest) if module.children.contains_key(first) => (module.children.get(first)?, rest),
        (first, rest) => {
            let stands_for =
                module.passed_on.get(first).filter(|way| depth > 0 && way.first() != Some(first))?;
            let whole: Vec<String> = stands_for.iter().chain(rest).cloned().collect();
            return resolve(root, module, &whole, depth - 1);
        }
    };
    while let Some((first, after)) = rest.split_first() {
        if first == "super" {
            base = root.find(base.path.rsplit_once("::")?.0)?;
        } else if let Some(child) = base.children.get(first) {
            base = child;
        } else if let Some(way) = base.passed_on.get(first).filter(|_| depth > 0) {
            let whole: Vec<String> = way.iter().chain(after).cloned().collect();
            return resolve(root, base, &whole, depth - 1);
        } else {
            return Some(format!("{}::{first}", base.path));
        }
        rest = after;
    }
    Some(base.path.clone())
}

/// The file of a module, below the root of the workspace.
fn place(module: &Module) -> String {
    let file = module.file.strip_prefix(crate::build::root()).unwrap_or(&module.file);
    file.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deps::modules;

    /// The circles of a crate of these files.
    fn circles(files: &[(&str, &str)]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let root = modules::read("house", &folder.path().join("lib.rs")).unwrap();
        between_children(&root, &root).circles()
    }

    #[test]
    fn a_circle_of_rooms_is_found_however_it_is_written() {
        let street = ("a.rs", "use crate::b::X; pub struct Y(X);");
        let found = |lib: &str, b: &str| circles(&[("lib.rs", lib), street, ("b.rs", b)]).len();
        assert_eq!(found("mod a; mod b;", "pub struct X;"), 0);
        assert_eq!(found("mod a; mod b;", "use super::a::Y; pub struct X;"), 1);
        assert_eq!(found("mod a; mod b; pub use a::Y;", "pub struct X; fn f(_: crate::Y) {}"), 1);
        assert_eq!(found("mod a; mod b;", "pub struct X; fn f() { use crate::{a as room}; }"), 1);
        assert_eq!(found("mod a; mod b;", "pub struct X; #[cfg(test)] mod tests { use crate::a::Y; }"), 0);
    }
}
