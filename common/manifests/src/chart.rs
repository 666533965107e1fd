//! The files: the plain manifests and the Helm chart.

use crate::document::Document;
use crate::{Installation, Values, documents, schema, yaml};

/// A file and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Below the folder of all of them.
    pub path: String,
    /// What it holds.
    pub text: String,
}

/// Says where a file comes from.
const MADE: &str = "Made by `cargo xtask chart --write` from common/manifests; change it there.";

/// The manifests of an installation as one text, ready for `kubectl apply -f -`. With the custom resource definitions, if asked
/// for: CloudCore has no right to make them.
pub fn plain(installation: &Installation, definitions: bool) -> String {
    let documents = documents(&Values::of(installation));
    let texts = documents.iter().filter(|document| document.when.is_there()).map(Document::text);
    let (namespace, rest): (Vec<_>, Vec<_>) = texts.enumerate().partition(|(number, _)| *number == 0);
    let definitions = api::crds::ALL.iter().filter(|_| definitions).map(|(_, text)| (*text).to_owned());
    let all = namespace.into_iter().map(|(_, text)| text).chain(definitions);
    all.chain(rest.into_iter().map(|(_, text)| text)).collect::<Vec<_>>().join("---\n")
}

/// All files that are made, below `manifests/`.
pub fn files() -> Vec<File> {
    let mut example = Installation::default();
    example.cloud_core.modules.cloud_hub.advertise_address = vec![EXAMPLE.to_owned()];
    let head = yaml::comment(MADE, 0) + &yaml::comment(BEFORE, 0);
    let plain = File { path: "cloudcore/cloudcore.yaml".to_owned(), text: head + &plain(&example, true) };
    let chart = chart().into_iter();
    let chart = chart.map(|file| File { path: format!("charts/cloudcore/{}", file.path), ..file });
    [plain].into_iter().chain(chart).collect()
}

/// Stands in the plain manifests where an operator's own address has to be.
const EXAMPLE: &str = "cloudcore.example.com";
const BEFORE: &str = "Before kubectl apply: put the address by which edges reach CloudCore in the place of cloudcore.example.com, and your \
                      registry's image in that of causeway/cloudcore; keadm manifest generate does both.";

/// All files of the chart.
pub fn chart() -> Vec<File> {
    let file = |path: &str, text: String| File { path: path.to_owned(), text };
    let made = yaml::comment(MADE, 0);
    let mut files = vec![
        file("Chart.yaml", format!("{made}{}", DESCRIPTION.replace("VERSION", env!("CARGO_PKG_VERSION")))),
        file("values.yaml", format!("{made}{}", yaml::render(&schema::values()))),
        file("values.schema.json", format!("{:#}\n", schema::schema())),
        file("README.md", README.to_owned()),
        file("templates/NOTES.txt", NOTES.to_owned()),
        file("templates/checks.yaml", CHECKS.to_owned()),
    ];
    // Helm makes the namespace itself.
    let documents = documents(&Values::template());
    for document in documents.iter().filter(|document| document.file != "namespace") {
        files.push(file(&format!("templates/{}.yaml", document.file), template(document)));
    }
    files.extend(api::crds::ALL.iter().map(|(name, text)| {
        let plural = name.split('.').next().unwrap_or(name);
        file(&format!("crds/{plural}.yaml"), (*text).to_owned())
    }));
    files
}

fn template(document: &Document) -> String {
    match &document.when {
        crate::Switch::When(condition) => {
            format!("{{{{- if {condition} }}}}\n{}{{{{- end }}}}\n", document.text())
        }
        _ => document.text(),
    }
}

const DESCRIPTION: &str = include_str!("chart/Chart.yaml");
const README: &str = include_str!("chart/README.md");
const NOTES: &str = include_str!("chart/NOTES.txt");
/// Makes no object; says what cannot work.
const CHECKS: &str = include_str!("chart/checks.yaml");
