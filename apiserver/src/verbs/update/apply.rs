//! Server-side apply, of objects that are there or are made by it.

use apimachinery::Status;
use apimachinery::decode::Strict;
use apimachinery::listing::Asked as _;
use apimachinery::object;
use apimachinery::rbac::{Attributes, What};
use kubeapi::respond::Answer;
use serde_json::{Value, json};

use super::{Part, modify, part};
use crate::authorise::authorise;
use crate::verbs::decode::{Directive, drop_unknown};
use crate::verbs::ownership::Ownership;
use crate::verbs::{Call, create};

/// Server-side apply: of an object that is there, or makes it.
pub(super) async fn apply(
    call: Call<'_>,
    directive: Directive,
    ownership: Ownership,
    read: Strict,
) -> Result<Answer, Status> {
    let target = &call.target;
    let mut config = read.value.clone();
    if !config.is_object() {
        return Err(Status::bad_request("error decoding patch: the patch is not a map"));
    }
    let named = object::name(&config);
    if !named.is_empty() && named != target.name {
        let message =
            format!("the name of the object ({named}) does not match the name on the URL ({})", target.name);
        return Err(Status::bad_request(message));
    }
    object::metadata(&mut config).insert("name".to_owned(), json!(target.name));
    let force = call.query.flag("force");
    let renderer = kubeapi::render::Renderer::new(
        &target.served,
        kubeapi::respond::Form::Object,
        kubeapi::render::Include::None,
    );
    // What is merged is decoded as well: amounts become canonical, and null is the same as missing.
    let merge = |live: &Value| {
        let mut new = renderer.typed(ownership.apply(target, live, &config, force)?);
        drop_unknown(&target.served, &mut new).map_err(Status::bad_request)?;
        directive.applied(&call, &read)?;
        Ok(new)
    };
    let missing = call.backend.storage.get(&target.key()).await?.is_none();
    if missing && part(target)? == Part::Main {
        may_create(&call)?;
        if !object::uid(&config).is_empty() {
            let resource = &target.served.resource;
            let why = format!(
                "uid mismatch: the provided object specified uid {}, and no existing object was found",
                object::uid(&config)
            );
            return Err(Status::conflict(&resource.group, &resource.plural, &target.name, &why));
        }
        let value = merge(&json!({}))?;
        let caller = crate::verbs::caller(&call, "CreateOptions")?;
        let ownership = ownership.applied();
        let stored = create::insert(call.backend, target, value, &ownership, Some(&caller)).await?;
        return call.answer(201, &stored);
    }
    let done = Ownership::of_request(&call, "PatchOptions", true)?.applied();
    let stored = modify(&call, &done, merge).await?;
    call.answer(200, &stored)
}

/// Who applies what is not there makes it, which takes another right than a change.
pub(super) fn may_create(call: &Call<'_>) -> Result<(), Status> {
    let (resource, target) = (&call.target.served.resource, &call.target);
    let what = What::Resource {
        group: &resource.group,
        resource: &resource.plural,
        subresource: "",
        namespace: &target.namespace,
        name: &target.name,
    };
    authorise(call.backend, &call.user, &Attributes::new("create", what))
}
