//! Which images this installation pulled itself. Beside other node agents on the same runtime only these are its to
//! remove: what others pulled may be named by pods of theirs that have no container now. Kept over restarts.

use std::collections::BTreeSet;

use cri::v1;
use store::StoreError;

use metamanager::Objects;

const ROWS: &str = "pulledimage";

/// Notes that an image with this id came by a pull of ours.
pub(super) async fn pulled(objects: &Objects, id: &str) -> Result<(), StoreError> {
    let path = format!("{ROWS}/{id}");
    if objects.get_local(path.clone()).await?.is_some() {
        return Ok(());
    }
    objects.put_local(path, ROWS, id.to_owned(), id.to_owned()).await
}

/// Ids of the images among `present` that we pulled; the others of ours are forgotten.
pub(super) async fn of(objects: &Objects, present: &[v1::Image]) -> Result<BTreeSet<String>, StoreError> {
    let present: BTreeSet<&str> = present.iter().map(|image| image.id.as_str()).collect();
    let (here, gone): (BTreeSet<String>, BTreeSet<String>) =
        objects.list_local(ROWS).await?.into_iter().partition(|id| present.contains(id.as_str()));
    for id in gone {
        objects.delete_local(ROWS, id).await?;
    }
    Ok(here)
}
