//! View.Follow: the rows of a view, and then what each step changes in them.

use std::future::poll_fn;

use tidemill_circuit::view::{self, Followed};
use tidemill_proto::v1::{Change, ReadReply, RowFormat};
use tokio::sync::mpsc;
use tonic::Status;

use super::status::status;
use super::view::Pages;
use crate::changes;
use crate::hall::{Follow, Hall, Rows};
use crate::problem::Problem;

/// Sends the rows that are there and every change from then on, until the view or the pipeline ends, or the client is gone.
pub(super) async fn send(
    hall: &Hall,
    pages: Pages,
    mut follow: Box<dyn Follow>,
    format: RowFormat,
    changes: &mpsc::Sender<Result<Change, Status>>,
) -> Result<(), Status> {
    for page in pages {
        let ReadReply { version, count, rows, more } = page?;
        let (inserted, inserted_count) = (rows, count);
        let change = Change { version, inserted, inserted_count, snapshot: true, more, ..Change::default() };
        if changes.send(Ok(change)).await.is_err() {
            return Ok(());
        }
    }
    loop {
        let followed = tokio::select! {
            biased;
            () = changes.closed() => return Ok(()),
            // What has come before the end is sent before it.
            followed = poll_fn(|cx| follow.poll_next(cx)) => followed,
            () = hall.drained() => return Err(status(Problem::draining())),
        };
        let change = match followed {
            Followed::Changed(change) => change,
            Followed::Lost => return Err(status(Problem::left_behind())),
            Followed::Ended => return Ok(()),
        };
        for message in messages(&change, format)? {
            if changes.send(Ok(message)).await.is_err() {
                return Ok(());
            }
        }
    }
}

/// What a step did, in messages of a bounded size: the rows that went before those that came.
fn messages(change: &view::Change, format: RowFormat) -> Result<Vec<Change>, Status> {
    let version = change.version;
    let pages = |sign| {
        let batches =
            changes::rows(&change.deltas, sign).map_err(|error| status(Problem::internal(error.to_string())))?;
        match batches.is_empty() {
            true => Ok(Vec::new()),
            false => Pages::new(Rows { version, batches, more: false }, format).collect::<Result<Vec<_>, _>>(),
        }
    };
    let went = pages(-1)?.into_iter().map(|page| Change {
        version,
        deleted: page.rows,
        deleted_count: page.count,
        more: true,
        ..Change::default()
    });
    let mut messages: Vec<Change> = went.collect();
    for (index, page) in pages(1)?.into_iter().enumerate() {
        if index > 0 || messages.is_empty() {
            messages.push(Change { version, more: true, ..Change::default() });
        }
        if let Some(last) = messages.last_mut() {
            (last.inserted, last.inserted_count) = (page.rows, page.count);
        }
    }
    if let Some(last) = messages.last_mut() {
        last.more = false;
    }
    Ok(messages)
}
