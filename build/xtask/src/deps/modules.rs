//! The modules of a crate, read from its sources: what each names, and what it passes on under another path.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use syn::visit::Visit;
use syn::{Item, UseTree};

/// A module and what is in it. Tests are left out.
pub(super) struct Module {
    /// `edged::pods::worker`.
    pub path: String,
    pub file: PathBuf,
    pub children: BTreeMap<String, Module>,
    /// Paths that its code names, as they are written, among them those of its imports.
    pub named: Vec<Vec<String>>,
    /// What others may call by a name of this module: the name, and the path it stands for.
    pub passed_on: BTreeMap<String, Vec<String>>,
}

/// Reads a crate whose root is this file.
pub(super) fn read(name: &str, root: &Path) -> Result<Module> {
    let folder = root.parent().context("a crate's root has a folder")?;
    of_file(name.to_owned(), root, folder)
}

fn of_file(path: String, file: &Path, folder: &Path) -> Result<Module> {
    let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let parsed = syn::parse_file(&text).with_context(|| format!("parsing {}", file.display()))?;
    of_items(path, &parsed.items, file, folder)
}

fn of_items(path: String, items: &[Item], file: &Path, folder: &Path) -> Result<Module> {
    let mut module = Module {
        path,
        file: file.to_owned(),
        children: BTreeMap::new(),
        named: Vec::new(),
        passed_on: BTreeMap::new(),
    };
    for item in items {
        match item {
            Item::Mod(child) if is_test(&child.attrs) => {}
            Item::Mod(child) => {
                let (name, below) = (child.ident.to_string(), folder.join(child.ident.to_string()));
                let path = format!("{}::{name}", module.path);
                let read = match &child.content {
                    Some((_, items)) => of_items(path, items, file, &below)?,
                    None => of_file(path, &source(&below), &below)?,
                };
                module.children.insert(name, read);
            }
            Item::Use(used) if !is_test(&used.attrs) => module.import(&mut Vec::new(), &used.tree),
            other => Paths(&mut module.named).visit_item(other),
        }
    }
    Ok(module)
}

/// The file of the module whose folder this would be.
fn source(below: &Path) -> PathBuf {
    let (beside, inside) = (below.with_extension("rs"), below.join("mod.rs"));
    if beside.exists() { beside } else { inside }
}

/// True of what only tests have.
fn is_test(attributes: &[syn::Attribute]) -> bool {
    let is_cfg_test = |attribute: &syn::Attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|what| what.is_ident("test"))
    };
    attributes.iter().any(is_cfg_test)
}

impl Module {
    fn import(&mut self, way: &mut Vec<String>, tree: &UseTree) {
        match tree {
            UseTree::Path(path) => {
                way.push(path.ident.to_string());
                self.import(way, &path.tree);
                way.pop();
            }
            UseTree::Group(group) => group.items.iter().for_each(|item| self.import(way, item)),
            UseTree::Name(name) => self.pass_on(way, &name.ident, &name.ident),
            UseTree::Rename(rename) => self.pass_on(way, &rename.ident, &rename.rename),
            UseTree::Glob(_) => self.named.push(way.clone()),
        }
    }

    fn pass_on(&mut self, way: &[String], ident: &syn::Ident, called: &syn::Ident) {
        let mut path = way.to_vec();
        // `use a::{self}` is `a` itself.
        if ident != "self" {
            path.push(ident.to_string());
        }
        let called = if called == "self" { path.last().cloned() } else { Some(called.to_string()) };
        if let Some(called) = called {
            self.passed_on.insert(called, path.clone());
        }
        self.named.push(path);
    }

    /// The module with this path, which begins with the crate's name.
    pub(super) fn find(&self, path: &str) -> Option<&Module> {
        if path == self.path {
            return Some(self);
        }
        let rest = path.strip_prefix(&self.path)?.strip_prefix("::")?;
        let child = rest.split("::").next()?;
        self.children.get(child)?.find(path)
    }

    /// This module and all below it.
    pub(super) fn all(&self) -> Vec<&Module> {
        let below = self.children.values().flat_map(Module::all);
        std::iter::once(self).chain(below).collect()
    }
}

/// Collects the paths that code names.
struct Paths<'a>(&'a mut Vec<Vec<String>>);

impl<'ast> Visit<'ast> for Paths<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Struct(item) => &item.attrs,
            Item::Mod(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            _ => &Vec::new(),
        };
        if !is_test(attributes) {
            syn::visit::visit_item(self, item);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.0.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        syn::visit::visit_path(self, path);
    }

    fn visit_item_use(&mut self, used: &'ast syn::ItemUse) {
        // An import inside a function.
        fn paths(way: &mut Vec<String>, tree: &UseTree, found: &mut Vec<Vec<String>>) {
            match tree {
                UseTree::Path(path) => {
                    way.push(path.ident.to_string());
                    paths(way, &path.tree, found);
                    way.pop();
                }
                UseTree::Group(group) => group.items.iter().for_each(|item| paths(way, item, found)),
                UseTree::Name(name) => {
                    found.push(way.iter().cloned().chain([name.ident.to_string()]).collect())
                }
                UseTree::Rename(name) => {
                    found.push(way.iter().cloned().chain([name.ident.to_string()]).collect())
                }
                UseTree::Glob(_) => found.push(way.clone()),
            }
        }
        paths(&mut Vec::new(), &used.tree, self.0);
    }
}
