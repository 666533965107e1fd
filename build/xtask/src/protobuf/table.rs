//! The table of messages (`apimachinery::messages::format`) from packages.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result, ensure};
use apimachinery::messages::format::{DEPTH, MAGIC, NOWHERE, flag, kind, of};

use super::protos::{Field, Message, Shape};
use super::{Package, gotypes};
use crate::schemas::is_stable;
use crate::schemas::strings::Strings;

/// Messages that are no object in JSON, by the end of their name.
const SPECIAL: [(&str, u8); 11] = [
    (".meta.v1.Time", kind::TIME),
    (".meta.v1.MicroTime", kind::MICRO_TIME),
    (".meta.v1.Duration", kind::DURATION),
    (".meta.v1.FieldsV1", kind::RAW),
    (".api.resource.Quantity", kind::QUANTITY),
    (".util.intstr.IntOrString", kind::INT_OR_STRING),
    (".runtime.RawExtension", kind::RAW),
    (".apiextensions.v1.JSON", kind::RAW),
    (".apiextensions.v1.JSONSchemaPropsOrBool", kind::SCHEMA_OR_BOOL),
    (".apiextensions.v1.JSONSchemaPropsOrArray", kind::SCHEMA_OR_LIST),
    (".apiextensions.v1.JSONSchemaPropsOrStringArray", kind::SCHEMA_OR_TEXTS),
];

/// Unstable versions that servers answer with all the same.
const UNSTABLE: [&str; 1] = ["k8s.io.api.apidiscovery.v2beta1"];

/// A message with what Go says of its fields, in the order of their numbers.
struct Known<'a> {
    kind: u8,
    fields: Vec<(&'a Field, gotypes::Tagged)>,
}

struct Builder<'a> {
    packages: HashMap<&'a str, &'a Package>,
    known: BTreeMap<String, Known<'a>>,
}

pub(super) fn table(packages: &[Package]) -> Result<Vec<u8>> {
    let by_name = packages.iter().map(|package| (package.name.as_str(), package)).collect();
    let mut builder = Builder { packages: by_name, known: BTreeMap::new() };
    let mut roots = Vec::new();
    for package in packages {
        if !is_stable(&package.version) && !UNSTABLE.contains(&package.name.as_str()) {
            continue;
        }
        for message in package.messages.iter().filter(|message| package.types.is_kind(&message.name)) {
            let name = format!("{}.{}", package.name, message.name);
            builder.take(&name)?;
            roots.push((package.group.clone(), package.version.clone(), message.name.clone(), name));
        }
    }
    roots.sort();
    builder.write(&roots)
}

impl<'a> Builder<'a> {
    fn find(&self, name: &str) -> Result<(&'a Package, &'a Message)> {
        let (package, message) = name.rsplit_once('.').context("a message without a package")?;
        let package = self.packages.get(package).with_context(|| format!("no package {package}"))?;
        let found = package.messages.iter().find(|one| one.name == message);
        Ok((package, found.with_context(|| format!("no message {name}"))?))
    }

    /// Takes in a message and what it refers to.
    fn take(&mut self, name: &str) -> Result<()> {
        if self.known.contains_key(name) {
            return Ok(());
        }
        let (package, message) = self.find(name)?;
        let special = SPECIAL.iter().find(|(end, _)| name.ends_with(end)).map(|(_, kind)| *kind);
        let has_go =
            message.fields.iter().any(|field| package.types.field(&message.name, field.number).is_some());
        let kind = match (special, message.fields.as_slice()) {
            (Some(kind), _) => kind,
            // A Go type that is a list of texts.
            (None, [field]) if !has_go && field.shape == Shape::Repeated => kind::LIST,
            (None, _) => kind::STRUCT,
        };
        let mut fields = Vec::new();
        for field in &message.fields {
            let tagged = package.types.field(&message.name, field.number).cloned();
            let tagged = match (kind, tagged) {
                (kind::STRUCT, tagged) => {
                    tagged.with_context(|| format!("no Go field of number {} in {name}", field.number))?
                }
                // The name is of no use where JSON is something else.
                (_, tagged) => tagged.unwrap_or_default(),
            };
            fields.push((field, tagged));
        }
        fields.sort_by_key(|(field, _)| field.number);
        let referred: Vec<String> = fields
            .iter()
            .filter(|(field, _)| field.of.contains('.'))
            .map(|(field, _)| field.of.clone())
            .collect();
        self.known.insert(name.to_owned(), Known { kind, fields });
        referred.iter().try_for_each(|name| self.take(name))
    }

    /// Names in JSON with their places.
    fn names(&self, message: &str, place: &[u8], out: &mut Vec<(String, [u8; DEPTH])>) -> Result<()> {
        for (index, (field, tagged)) in self.known[message].fields.iter().enumerate() {
            let index = u8::try_from(index)?;
            let place: Vec<u8> = place.iter().copied().chain([index]).collect();
            ensure!(place.len() <= DEPTH && index != NOWHERE, "{message} is inlined too deep, or too large");
            if tagged.is_inline {
                self.names(&field.of, &place, out)?;
            } else {
                let mut whole = [NOWHERE; DEPTH];
                whole.iter_mut().zip(&place).for_each(|(to, from)| *to = *from);
                out.push((tagged.json.clone(), whole));
            }
        }
        Ok(())
    }

    fn write(&self, roots: &[(String, String, String, String)]) -> Result<Vec<u8>> {
        let numbers: HashMap<&str, u16> = self
            .known
            .keys()
            .enumerate()
            .map(|(at, name)| Ok((name.as_str(), short(at)?)))
            .collect::<Result<_>>()?;
        let mut strings = Strings::default();
        let (mut messages, mut fields, mut names, mut lines) = (vec![], vec![], vec![], vec![]);
        let (mut field_count, mut name_count) = (0, 0);
        for (name, known) in &self.known {
            let mut found = Vec::new();
            if known.kind == kind::STRUCT {
                self.names(name, &[], &mut found)?;
            }
            found.sort_by(|(one, _), (other, _)| (one.len(), one).cmp(&(other.len(), other)));
            ensure!(found.windows(2).all(|two| two[0].0 != two[1].0), "{name} has a name twice");
            let mut parts = name.rsplit('.');
            let (last, version) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            let text = strings.index(&format!("{version}.{last}"));
            for number in [text, field_count, name_count, found.len()] {
                messages.extend(short(number)?.to_le_bytes());
            }
            messages.extend([u8::try_from(known.fields.len())?, known.kind]);
            for (field, tagged) in &known.fields {
                fields.extend([field.number, scalar(&field.of), flags(field, tagged, self), 0]);
                fields.extend(short(strings.index(&tagged.json))?.to_le_bytes());
                fields.extend(numbers.get(field.of.as_str()).copied().unwrap_or_default().to_le_bytes());
            }
            for (text, place) in &found {
                names.extend(short(strings.index(text))?.to_le_bytes());
                names.push(u8::try_from(text.len())?);
                names.extend(place);
            }
            (field_count, name_count) = (field_count + known.fields.len(), name_count + found.len());
        }
        for (group, version, kind, message) in roots {
            for text in [group, version, kind] {
                lines.extend(short(strings.index(text))?.to_le_bytes());
            }
            lines.extend(numbers[message.as_str()].to_le_bytes());
        }
        let mut out = MAGIC.to_vec();
        for count in [strings.all().len(), self.known.len(), field_count, name_count, roots.len()] {
            out.extend(short(count)?.to_le_bytes());
        }
        let mut offset: u32 = 0;
        for text in strings.all() {
            out.extend(offset.to_le_bytes());
            offset += u32::try_from(text.len())?;
        }
        out.extend(offset.to_le_bytes());
        for part in [messages, fields, names, lines] {
            out.extend(part);
        }
        strings.all().iter().for_each(|text| out.extend(text.as_bytes()));
        Ok(out)
    }
}

fn scalar(name: &str) -> u8 {
    match name {
        "string" => of::STRING,
        "bool" => of::BOOL,
        "int32" => of::INT32,
        "int64" => of::INT64,
        "double" => of::DOUBLE,
        "bytes" => of::BYTES,
        _ => of::MESSAGE,
    }
}

fn flags(field: &Field, tagged: &gotypes::Tagged, builder: &Builder<'_>) -> u8 {
    // A Go list may be nil.
    let is_list = builder.known.get(&field.of).is_some_and(|known| known.kind == kind::LIST);
    let all = [
        (field.shape == Shape::Repeated, flag::REPEATED),
        (field.shape == Shape::Map, flag::MAP),
        (tagged.is_pointer || is_list, flag::POINTER),
        (tagged.omits_empty, flag::OMIT_EMPTY),
        (tagged.omits_zero, flag::OMIT_ZERO),
        (tagged.is_inline, flag::INLINE),
    ];
    all.iter().filter(|(is, _)| *is).map(|(_, flag)| flag).sum()
}

fn short(number: usize) -> Result<u16> {
    u16::try_from(number).context("there is more than the table can number")
}
