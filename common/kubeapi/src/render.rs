//! Objects and lists in the form a client asked for. Full objects are never parsed for JSON: stored bodies get a prefix.

use std::borrow::Cow;

use apimachinery::{Status, schema};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::faces;
use crate::parts::Items;
use crate::pieces::{Listing, Pieces};
use crate::protobuf;
use crate::registry::Served;
use crate::respond::{self, Answer, Form, Wanted};
use crate::stored::{Page, Stored};
use crate::tables;

/// What `rows[].object` of a Table holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Include {
    None,
    Metadata,
    Object,
}

impl Include {
    /// Reads `includeObject`; empty is `Metadata`.
    ///
    /// # Errors
    /// 400 for another word.
    pub fn parse(text: &str) -> Result<Include, Status> {
        match text {
            "" | "Metadata" => Ok(Include::Metadata),
            "None" => Ok(Include::None),
            "Object" => Ok(Include::Object),
            other => Err(Status::bad_request(format!("unrecognized includeObject value {other:?}"))),
        }
    }
}

const METADATA: &str = "PartialObjectMetadata";

/// Renders objects of one resource in the form that a client asked for.
pub struct Renderer {
    served: Served,
    form: Form,
    is_protobuf: bool,
    include: Include,
    /// `{"kind":"Pod","apiVersion":"v1",`
    prefix: String,
    /// The schema has defaults, which what was stored before it had them may lack.
    has_defaults: bool,
}

impl Renderer {
    pub fn new(served: &Served, form: Form, include: Include) -> Renderer {
        let prefix = format!(
            "{{\"kind\":{},\"apiVersion\":{},",
            Value::from(served.resource.kind.as_str()),
            Value::from(served.api_version())
        );
        let has_defaults = served.version().schema.as_ref().is_some_and(schema::has_defaults);
        Renderer { served: served.clone(), form, is_protobuf: false, include, prefix, has_defaults }
    }

    pub(crate) fn wanted(served: &Served, wanted: Wanted, include: Include) -> Renderer {
        Renderer { is_protobuf: wanted.is_protobuf, ..Renderer::new(served, wanted.form, include) }
    }

    /// An answer with one object.
    pub(crate) fn answer(&self, code: u16, stored: &Stored) -> Result<Answer, Status> {
        Ok(match self.is_protobuf {
            true => respond::bytes(code, protobuf::MEDIA_TYPE, self.encoded(stored)?),
            false => respond::bytes(code, "application/json", self.object(stored)?),
        })
    }

    /// One object in Protobuf, in its envelope.
    fn encoded(&self, stored: &Stored) -> Result<Vec<u8>, Status> {
        match self.form {
            Form::Metadata(version) => protobuf::object(version, METADATA, &self.body(stored)?),
            _ => {
                protobuf::object(&self.served.api_version(), &self.served.resource.kind, &self.body(stored)?)
            }
        }
    }

    /// What is stored, with the defaults that a custom resource's schema has by now.
    fn completed<'a>(&self, stored: &'a Stored) -> Result<Cow<'a, str>, Status> {
        match &self.served.version().schema {
            Some(schema) if self.has_defaults => {
                let mut value = stored.value()?;
                schema::defaults(&mut value, schema);
                Ok(Cow::Owned(value.to_string()))
            }
            _ => Ok(Cow::Borrowed(&stored.body)),
        }
    }

    /// What is stored, with the names of fields that the served version has.
    fn body<'a>(&self, stored: &'a Stored) -> Result<Cow<'a, str>, Status> {
        match faces::differs(&self.served) {
            true => Ok(Cow::Owned(self.typed(stored.value()?).to_string())),
            false => Ok(Cow::Borrowed(&stored.body)),
        }
    }

    /// The content type of watches.
    pub(crate) fn stream_type(&self) -> &'static str {
        if self.is_protobuf { protobuf::STREAM_TYPE } else { "application/json" }
    }

    /// One event of a watch; only the first table of a stream has its columns.
    ///
    /// # Errors
    /// 500 if the object does not parse.
    pub(crate) fn event(&self, kind: &str, stored: &Stored, first: bool) -> Result<Bytes, Status> {
        Ok(match self.is_protobuf {
            true => protobuf::event(kind, &self.encoded(stored)?),
            false => format!("{{\"type\":\"{kind}\",\"object\":{}}}\n", self.watched(stored, first)?).into(),
        })
    }

    /// One event of a watch with an object that is made for it: a bookmark or a Status.
    pub(crate) fn event_of(&self, kind: &str, object: &Value) -> Bytes {
        match self.is_protobuf.then(|| protobuf::answer(&object.to_string())) {
            Some(Ok(Some(object))) => protobuf::event(kind, &object),
            _ => format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n").into(),
        }
    }

    /// One object as JSON text.
    ///
    /// # Errors
    /// 500 if the object does not parse.
    pub fn object(&self, stored: &Stored) -> Result<String, Status> {
        Ok(match self.form {
            Form::Object => self.full(stored)?,
            Form::Metadata(version) => partial(&self.typed(stored.value()?), version).to_string(),
            Form::Table(_) => {
                self.table(&[stored], json!({ "resourceVersion": stored.revision.to_string() }), true)?
            }
        })
    }

    /// One object of a watch; only the first table of a stream has its columns.
    ///
    /// # Errors
    /// 500 if the object does not parse.
    pub fn watched(&self, stored: &Stored, first: bool) -> Result<String, Status> {
        match self.form {
            Form::Table(_) => {
                self.table(&[stored], json!({ "resourceVersion": stored.revision.to_string() }), first)
            }
            _ => self.object(stored),
        }
    }

    /// An object that carries a resourceVersion and nothing else.
    pub fn bookmark(&self, revision: i64, initial_end: bool) -> Value {
        let mut metadata = json!({ "resourceVersion": revision.to_string() });
        if initial_end {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        match self.form {
            Form::Object => {
                json!({ "kind": self.served.resource.kind, "apiVersion": self.served.api_version(), "metadata": metadata })
            }
            Form::Metadata(version) => {
                json!({ "kind": METADATA, "apiVersion": version, "metadata": metadata })
            }
            Form::Table(version) => {
                // The object has a row, as in kube-apiserver's.
                let now = daemon::clock::unix_seconds();
                let printer = tables::Printer::of(&self.served);
                let row = self.row(&printer, json!({ "metadata": metadata }), version, now);
                json!({ "kind": "Table", "apiVersion": version, "metadata": { "resourceVersion": revision.to_string() },
                    "columnDefinitions": null, "rows": [row] })
            }
        }
    }

    /// True if a list can be written while it is read: a Table is made of all its rows.
    pub(crate) fn takes_parts(&self) -> bool {
        !matches!(self.form, Form::Table(_))
    }

    /// A list of one page; `continuation` is the token of the next one.
    ///
    /// # Errors
    /// 500 if an object does not parse that has to be parsed.
    pub async fn list(self, page: Page, continuation: &str) -> Result<Answer, Status> {
        let mut metadata = json!({ "resourceVersion": page.revision.to_string() });
        if !continuation.is_empty() {
            metadata["continue"] = json!(continuation);
        }
        if let Some(remaining) = page.remaining {
            metadata["remainingItemCount"] = json!(remaining);
        }
        if let Form::Table(_) = self.form {
            let items: Vec<&Stored> = page.items.iter().collect();
            return Ok(respond::bytes(200, "application/json", self.table(&items, metadata, true)?));
        }
        self.items(metadata, Items::of_page(page)).await
    }

    /// A list that is read while it is written. Not for Tables ([`Renderer::takes_parts`]).
    ///
    /// # Errors
    /// As for [`Renderer::list`], and those of reading the first items.
    pub(crate) async fn list_in_parts(self, revision: i64, items: Items) -> Result<Answer, Status> {
        self.items(json!({ "resourceVersion": revision.to_string() }), items).await
    }

    async fn items(self, metadata: Value, items: Items) -> Result<Answer, Status> {
        let (kind, api_version) = match self.form {
            Form::Table(_) => return Err(Status::internal("a Table is made as a whole")),
            Form::Metadata(version) => (format!("{METADATA}List"), version.to_owned()),
            Form::Object => (self.served.resource.list_kind.clone(), self.served.api_version()),
        };
        if self.is_protobuf {
            let list = (api_version, kind);
            let write = move |item: &Stored, message, out: &mut Vec<u8>| {
                protobuf::append(message, &self.body(item)?, out)
            };
            return Listing::new(list, &metadata, items, write)?.answer().await;
        }
        let head = format!(
            "{{\"kind\":{},\"apiVersion\":{},\"metadata\":{metadata},\"items\":[",
            Value::from(kind),
            Value::from(api_version)
        );
        Pieces::new(head, items, move |item, text| self.item(item, text)).answer().await
    }

    /// Appends an item of a list.
    fn item(&self, item: &Stored, text: &mut String) -> Result<(), Status> {
        let shared = faces::differs(&self.served);
        match self.form {
            // Items of lists of built-in kinds are bare, as upstream's.
            Form::Object if !self.served.resource.custom && !shared => text.push_str(&item.body),
            Form::Object => text.push_str(&self.full(item)?),
            _ => text.push_str(&self.object(item)?),
        }
        Ok(())
    }

    fn full(&self, stored: &Stored) -> Result<String, Status> {
        if faces::differs(&self.served) {
            return Ok(self.typed(stored.value()?).to_string());
        }
        // Bodies always have metadata, so what follows the brace is never empty.
        let body = self.completed(stored)?;
        Ok(format!("{}{}", self.prefix, body.get(1..).unwrap_or("}")))
    }

    fn table(&self, items: &[&Stored], metadata: Value, columns: bool) -> Result<String, Status> {
        let now = daemon::clock::unix_seconds();
        let printer = tables::Printer::of(&self.served);
        let Form::Table(version) = self.form else { return Err(Status::internal("no Table was asked for")) };
        let rows = items.iter().map(|item| {
            let mut value = item.value()?;
            if let Some(schema) = self.served.version().schema.as_ref().filter(|_| self.has_defaults) {
                schema::defaults(&mut value, schema);
            }
            Ok(self.row(&printer, value, version, now))
        });
        let rows = rows.collect::<Result<Vec<Value>, Status>>()?;
        let columns = if columns { printer.columns() } else { Value::Null };
        Ok(json!({
            "kind": "Table", "apiVersion": version, "metadata": metadata,
            "columnDefinitions": columns, "rows": rows,
        })
        .to_string())
    }

    fn row(&self, printer: &tables::Printer, value: Value, version: &str, now: i64) -> Value {
        let cells = printer.cells(&value, now);
        let object = match self.include {
            Include::None => Value::Null,
            Include::Metadata => partial(&self.typed(value), version),
            Include::Object => self.typed(value),
        };
        json!({ "cells": cells, "object": object })
    }

    /// `value` with `kind` and `apiVersion`.
    pub fn typed(&self, mut value: Value) -> Value {
        faces::from_stored(&self.served, &mut value);
        value["kind"] = json!(self.served.resource.kind);
        value["apiVersion"] = json!(self.served.api_version());
        value
    }
}

fn partial(value: &Value, version: &str) -> Value {
    json!({ "kind": METADATA, "apiVersion": version, "metadata": value["metadata"] })
}
