//! Messages of a `generated.proto`: the part of the language that Kubernetes' generator writes, one field a line.

use anyhow::{Context, Result, bail};

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub name: String,
    pub fields: Vec<Field>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub number: u8,
    pub shape: Shape,
    /// A type of the language, or a message by its whole name.
    pub of: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    One,
    Repeated,
    /// Of texts to the field's type.
    Map,
}

const SCALARS: [&str; 6] = ["string", "bool", "int32", "int64", "double", "bytes"];

/// The name of the package and its messages.
pub(super) fn parse(text: &str) -> Result<(String, Vec<Message>)> {
    let (mut package, mut messages) = (String::new(), Vec::<Message>::new());
    let mut is_open = false;
    for line in text.lines().map(|line| line.split("//").next().unwrap_or_default().trim()) {
        if let Some(rest) = line.strip_prefix("package ") {
            rest.trim_end_matches(';').clone_into(&mut package);
        } else if let Some(rest) = line.strip_prefix("message ") {
            let name = rest.trim_end_matches('{').trim().to_owned();
            messages.push(Message { name, fields: vec![] });
            is_open = true;
        } else if line == "}" {
            is_open = false;
        } else if is_open && !line.is_empty() {
            let field = field(line, &package).with_context(|| format!("the line `{line}`"))?;
            messages.last_mut().context("a field of no message")?.fields.push(field);
        }
    }
    if package.is_empty() {
        bail!("no package is named");
    }
    Ok((package, messages))
}

fn field(line: &str, package: &str) -> Result<Field> {
    let (declared, number) = line.trim_end_matches(';').rsplit_once('=').context("no number")?;
    let number = number.trim().parse().context("a number above 255")?;
    let (shape, of) = match declared.trim().split_once(' ').context("no type")? {
        ("optional" | "required", rest) => (Shape::One, rest),
        ("repeated", rest) => (Shape::Repeated, rest),
        ("map<string,", rest) => (Shape::Map, rest),
        (other, _) => bail!("`{other}` is not known"),
    };
    let of = of.split([' ', '>']).next().unwrap_or_default();
    let of = match of.strip_prefix('.') {
        Some(whole) => whole.to_owned(),
        None if SCALARS.contains(&of) => of.to_owned(),
        None => format!("{package}.{of}"),
    };
    Ok(Field { number, shape, of })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_fields_with_numbers_and_whole_names() {
        let text = "syntax = \"proto2\";\npackage k8s.io.a.v1;\n// message No {\nmessage A {\n  // text = 3;\n  optional B b = 1;\n\n\
                    \x20 repeated .k8s.io.m.v1.C cs = 2;\n  map<string, string> d = 13;\n}\n";
        let (package, messages) = parse(text).unwrap();
        let field = |number, shape, of: &str| Field { number, shape, of: of.to_owned() };
        let fields = vec![
            field(1, Shape::One, "k8s.io.a.v1.B"),
            field(2, Shape::Repeated, "k8s.io.m.v1.C"),
            field(13, Shape::Map, "string"),
        ];
        assert_eq!(
            (package.as_str(), messages),
            ("k8s.io.a.v1", vec![Message { name: "A".to_owned(), fields }])
        );
        assert!(parse("package a;\nmessage A {\n  group X = 1;\n}").is_err());
    }
}
