//! View: rows go out, all of one version, at once or in pages.

use std::pin::Pin;
use std::sync::Arc;

use arrow_array::RecordBatch;
use bytes::Bytes;
use tidemill_format::encode::JsonEncoder;
use tidemill_format::{Encoder as _, JsonOptions, protobuf};
use tidemill_proto::v1::view_server::View;
use tidemill_proto::v1::{Change, FollowRequest, ReadReply, ReadRequest, RowFormat};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::follow;
use super::status::status;
use super::terms::caller;
use crate::hall::{Hall, KeyPart, Lookup, LookupError, Rows};
use crate::identity::Need;
use crate::problem::Problem;

/// The rows that Read answers unless the request says otherwise, and at most.
const LIMIT_DEFAULT: usize = 1_000;
const LIMIT_MAX: usize = 100_000;

/// The rows of the first page, and of any.
const PAGE_ROWS_FIRST: usize = 256;
const PAGE_ROWS_MAX: usize = 8_192;

/// The bytes of a page, about: clients take 4 MiB unless they are told otherwise.
const PAGE_BYTES: usize = 256 << 10;

/// Changes that are made and have not left: the others wait as rows.
const CHANGES_WAITING_MAX: usize = 4;

/// The service.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) hall: Arc<Hall>,
}

#[tonic::async_trait]
impl View for Service {
    type ScanStream = Pin<Box<dyn Stream<Item = Result<ReadReply, Status>> + Send>>;
    type FollowStream = Pin<Box<dyn Stream<Item = Result<Change, Status>> + Send>>;

    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<ReadReply>, Status> {
        let (name, lookup, format) = asked(request, LIMIT_DEFAULT, LIMIT_MAX)?;
        let work = move |rows: Rows| {
            let count = rows.batches.iter().map(RecordBatch::num_rows).sum::<usize>() as u64;
            let Rows { version, batches, more } = rows;
            Ok(ReadReply { version, count, rows: encoded(&batches, format)?, more })
        };
        self.rows(name, lookup, work).await.map(Response::new).map_err(status)
    }

    async fn scan(&self, request: Request<ReadRequest>) -> Result<Response<Self::ScanStream>, Status> {
        let (name, lookup, format) = asked(request, usize::MAX, usize::MAX)?;
        let pages = self.rows(name, lookup, move |rows| Ok(Pages::new(rows, format))).await.map_err(status)?;
        Ok(Response::new(Box::pin(tokio_stream::iter(pages))))
    }

    async fn follow(&self, request: Request<FollowRequest>) -> Result<Response<Self::FollowStream>, Status> {
        let (caller, tab) = caller(&request)?;
        tab.settle();
        let FollowRequest { view, format } = request.into_inner();
        caller.may(Need::Read(&view)).map_err(status)?;
        let format = row_format(format).map_err(status)?;
        let found = self.hall.view(&view);
        let found = found.map_err(|missing| status(Problem::not_found("view", &view, missing.help)))?.clone();
        let begun = tokio::task::spawn_blocking(move || found.follow()).await;
        let begun = begun.map_err(|error| Problem::internal(format!("reading the view failed: {error}")));
        let (rows, follow) = begun.map_err(status)?.map_err(|error| status(problem(error)))?;
        let (changes, sent) = mpsc::channel(CHANGES_WAITING_MAX);
        let hall = self.hall.clone();
        tokio::spawn(async move {
            let ended = follow::send(&hall, Pages::new(rows, format), follow, format, &changes).await;
            if let Err(failed) = ended {
                // Nobody is there to hear it when the client has gone.
                let _ = changes.send(Err(failed)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(sent))))
    }
}

impl Service {
    /// Reads rows and does `work` with them, where waiting for locks and long loops do no harm.
    async fn rows<T: Send + 'static>(
        &self,
        name: String,
        lookup: Lookup,
        work: impl FnOnce(Rows) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let view = self.hall.view(&name).map_err(|missing| Problem::not_found("view", &name, missing.help))?.clone();
        let read = move || work(view.read(&lookup).map_err(problem)?);
        let done = tokio::task::spawn_blocking(read).await;
        done.unwrap_or_else(|error| Err(Problem::internal(format!("reading the view failed: {error}"))))
    }
}

/// What a request asks for.
fn asked(request: Request<ReadRequest>, default: usize, most: usize) -> Result<(String, Lookup, RowFormat), Status> {
    let (caller, tab) = caller(&request)?;
    tab.settle();
    let ReadRequest { view, key, limit, format } = request.into_inner();
    caller.may(Need::Read(&view)).map_err(status)?;
    let limit = match limit as usize {
        0 => default,
        limit if limit <= most => limit,
        limit => {
            let help = format!("limit is a whole number up to {most}; Scan has no limit");
            return Err(status(Problem::bad_query(format!("limit {limit} cannot be"), help)));
        }
    };
    let part = |part: tidemill_proto::v1::KeyPart| KeyPart {
        column: Some(part.column).filter(|column| !column.is_empty()),
        value: part.value,
    };
    let lookup = Lookup { key: key.into_iter().map(part).collect(), by: Vec::new(), limit };
    Ok((view, lookup, row_format(format).map_err(status)?))
}

pub(super) fn row_format(format: i32) -> Result<RowFormat, Problem> {
    match RowFormat::try_from(format) {
        Ok(RowFormat::Unspecified) => Ok(RowFormat::Json),
        Ok(format) => Ok(format),
        Err(_) => {
            let help = "format is ROW_FORMAT_JSON, ROW_FORMAT_ROWS or ROW_FORMAT_COLUMNS";
            Err(Problem::bad_query(format!("there is no format {format}"), help))
        }
    }
}

fn problem(error: LookupError) -> Problem {
    match error {
        LookupError::Key { problem, .. } => {
            Problem::bad_query(problem, "set key to the values of the view's key, each by its column or in their order")
        }
        LookupError::Failed(reason) => Problem::internal(reason),
    }
}

/// Rows in the format that was asked for.
pub(super) fn encoded(batches: &[RecordBatch], format: RowFormat) -> Result<Bytes, Problem> {
    let mut out = Vec::new();
    let written = match format {
        RowFormat::Unspecified | RowFormat::Json => {
            let mut encoder = JsonEncoder::new(JsonOptions::default());
            batches.iter().try_for_each(|batch| encoder.encode(batch, None, &mut out))
        }
        RowFormat::Rows => batches.iter().try_for_each(|batch| protobuf::rows(batch, &mut out)),
        RowFormat::Columns => protobuf::columns(batches, &mut out),
    };
    written.map_err(|error| Problem::internal(error.to_string()))?;
    Ok(Bytes::from(out))
}

/// Rows page by page, each made when the one before has left.
pub(super) struct Pages {
    version: u64,
    batches: std::vec::IntoIter<RecordBatch>,
    /// What is left of the batch that is being sent.
    batch: Option<RecordBatch>,
    page_rows: usize,
    format: RowFormat,
    /// Whether there are rows that the limit leaves out.
    more: bool,
    ended: bool,
}

impl Pages {
    pub(super) fn new(rows: Rows, format: RowFormat) -> Self {
        let Rows { version, batches, more } = rows;
        let mut batches = batches.into_iter();
        let batch = batches.next();
        Pages { version, batches, batch, page_rows: PAGE_ROWS_FIRST, format, more, ended: false }
    }
}

impl Iterator for Pages {
    type Item = Result<ReadReply, Status>;

    fn next(&mut self) -> Option<Self::Item> {
        if std::mem::replace(&mut self.ended, self.batch.is_none()) {
            return None;
        }
        // An empty view has one page, which tells its version.
        let (mut parts, mut count) = (Vec::new(), 0);
        while count < self.page_rows
            && let Some(batch) = self.batch.take()
        {
            let taken = batch.num_rows().min(self.page_rows - count);
            let left = batch.num_rows() - taken;
            parts.push(batch.slice(0, taken));
            count += taken;
            self.batch = if left > 0 { Some(batch.slice(taken, left)) } else { self.batches.next() };
        }
        let rows = encoded(&parts, self.format);
        self.ended |= self.batch.is_none() || rows.is_err();
        let bytes = rows.as_ref().map_or(0, Bytes::len);
        if let Some(rows) = (count * PAGE_BYTES).checked_div(bytes) {
            self.page_rows = rows.clamp(1, PAGE_ROWS_MAX);
        }
        let more = !self.ended || self.more;
        Some(rows.map(|rows| ReadReply { version: self.version, count: count as u64, rows, more }).map_err(status))
    }
}
