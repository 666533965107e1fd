//! The items of a list, read part by part as they are written: a long list is never in memory as a whole.

use std::vec::IntoIter;

use apimachinery::Status;
use tokio::task::JoinHandle;

use crate::stored::{ListQuery, Page, Stored};

/// Reads the part that a query is of, in a task of its own.
pub(crate) type Ask = Box<dyn Fn(ListQuery) -> JoinHandle<Result<Page, Status>> + Send>;

/// What is left of a list.
pub(crate) struct Items {
    here: IntoIter<Stored>,
    /// How later parts are asked for; `None`: there are none.
    rest: Option<(ListQuery, Ask)>,
    coming: Option<JoinHandle<Result<Page, Status>>>,
}

impl Items {
    /// The items of `page`, and no others.
    pub(crate) fn of_page(page: Page) -> Items {
        Items { here: page.items.into_iter(), rest: None, coming: None }
    }

    /// A list whose first part is `page`; `query` is what it was asked for with.
    pub(crate) fn in_parts(ask: Ask, query: ListQuery, page: Page) -> Items {
        let query = ListQuery { at: Some(page.revision), ..query };
        let mut items = Items { here: IntoIter::default(), rest: Some((query, ask)), coming: None };
        items.take(page);
        items
    }

    /// The next item; `None` after the last.
    ///
    /// # Errors
    /// A later part cannot be had, such as 410 if its revision has been forgotten meanwhile.
    pub(crate) async fn next(&mut self) -> Result<Option<Stored>, Status> {
        loop {
            if let Some(item) = self.here.next() {
                return Ok(Some(item));
            }
            let Some(coming) = self.coming.take() else { return Ok(None) };
            let page = coming.await;
            self.take(page.map_err(|error| Status::internal(format!("reading a part of a list: {error}")))??);
        }
    }

    /// A part has come; while its items are written, the next is read.
    fn take(&mut self, page: Page) {
        if let (Some((query, ask)), true, Some(last)) = (&mut self.rest, page.more, page.items.last()) {
            query.after = Some((last.key.namespace.clone(), last.key.name.clone()));
            self.coming = Some(ask(query.clone()));
        }
        self.here = page.items.into_iter();
    }
}

impl Drop for Items {
    fn drop(&mut self) {
        if let Some(coming) = &self.coming {
            coming.abort();
        }
    }
}
