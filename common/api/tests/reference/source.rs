//! Structs of the configuration, read from their source: what serde and the compiler know, and the texts they do not.

use std::collections::BTreeMap;

use syn::{Attribute, Expr, Field, Item, Lit, Meta, Type};

/// One field, as it is in the file.
pub(crate) struct Member {
    /// The key in YAML.
    pub key: String,
    pub kind: Kind,
    /// The doc comment on one line.
    pub meaning: String,
}

/// What a key holds.
#[derive(Clone)]
pub(crate) enum Kind {
    /// A value of its own; how it is called.
    Plain(&'static str),
    /// Keys below it: those of the struct of this name.
    Struct(String),
    /// A list of such structs.
    Structs(String),
}

pub(crate) struct Structs(BTreeMap<String, Vec<Member>>);

impl Structs {
    pub(crate) fn parse(files: &[&str]) -> Structs {
        let items = files.iter().flat_map(|text| syn::parse_file(text).unwrap().items);
        let structs = items.filter_map(|item| match item {
            Item::Struct(item) => Some((item.ident.to_string(), item)),
            _ => None,
        });
        Structs(structs.map(|(name, item)| (name, item.fields.iter().map(member).collect())).collect())
    }

    pub(crate) fn members(&self, name: &str) -> &[Member] {
        self.0.get(name).unwrap_or_else(|| panic!("no struct {name}"))
    }
}

fn member(field: &Field) -> Member {
    let name = field.ident.as_ref().unwrap().to_string();
    let renamed = field.attrs.iter().find_map(renamed);
    let lines: Vec<String> = field.attrs.iter().filter_map(doc).collect();
    Member { key: renamed.unwrap_or_else(|| camel(&name)), kind: kind(&field.ty), meaning: lines.join(" ") }
}

fn doc(attribute: &Attribute) -> Option<String> {
    let Meta::NameValue(meta) = &attribute.meta else { return None };
    let Expr::Lit(value) = &meta.value else { return None };
    match &value.lit {
        Lit::Str(text) if meta.path.is_ident("doc") => Some(text.value().trim().to_owned()),
        _ => None,
    }
}

/// `x` of `#[serde(rename = "x")]`.
fn renamed(attribute: &Attribute) -> Option<String> {
    let mut found = None;
    if attribute.path().is_ident("serde") {
        attribute
            .parse_nested_meta(|meta| {
                let text: syn::LitStr = meta.value()?.parse()?;
                found = meta.path.is_ident("rename").then(|| text.value());
                Ok(())
            })
            .unwrap();
    }
    found
}

/// serde's `rename_all = "camelCase"`.
fn camel(name: &str) -> String {
    let mut words = name.split('_');
    let mut out = words.next().unwrap_or_default().to_owned();
    for word in words {
        let (first, rest) = word.split_at(1);
        out.push_str(&first.to_uppercase());
        out.push_str(rest);
    }
    out
}

fn kind(of: &Type) -> Kind {
    let Type::Path(path) = of else { panic!("a type of no name") };
    let last = path.path.segments.last().unwrap();
    let inner = || match &last.arguments {
        syn::PathArguments::AngleBracketed(list) => match list.args.last().unwrap() {
            syn::GenericArgument::Type(inner) => kind(inner),
            _ => panic!("{} of no type", last.ident),
        },
        _ => panic!("{} of nothing", last.ident),
    };
    match last.ident.to_string().as_str() {
        "String" => Kind::Plain("string"),
        "bool" => Kind::Plain("bool"),
        "u8" | "u16" | "u32" | "i64" => Kind::Plain("integer"),
        "BTreeMap" => Kind::Plain("map"),
        "Option" => inner(),
        "Vec" => match inner() {
            Kind::Struct(name) => Kind::Structs(name),
            _ => Kind::Plain("list of strings"),
        },
        name => Kind::Struct(name.to_owned()),
    }
}
