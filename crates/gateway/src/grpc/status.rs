//! Problems as gRPC tells them: a code, a sentence, and the problem itself as a detail.

use bytes::Bytes;
use http::StatusCode;
use prost::Message as _;
use tidemill_format::Rejected;
use tidemill_proto::v1;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use crate::problem::{Problem, RECORDS_NAMED_MAX};

/// The type of the detail.
const DETAIL: &str = "type.googleapis.com/tidemill.v1.Problem";

/// When clients with a policy of retries try again, in milliseconds.
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// What the trailer of a call that failed holds: `google.rpc.Status`.
#[derive(Clone, PartialEq, prost::Message)]
struct RichStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

/// What a call fails with.
#[derive(Debug)]
pub(super) struct Failure {
    code: Code,
    retry_seconds: Option<u64>,
    problem: v1::Problem,
}

impl Failure {
    /// The same, of the request with this number on its stream.
    pub(super) fn of_request(mut self, id: u64) -> Self {
        self.problem.id = id;
        self
    }

    /// The bad records, each with its place.
    pub(super) fn with_records(mut self, records: &[Rejected]) -> Self {
        self.problem.records = bad_records(records);
        self.problem.help = "correct them, or set skip_bad to have the others taken".to_string();
        self
    }

    /// The problem alone, for an answer on a stream that goes on.
    pub(super) fn into_problem(self) -> v1::Problem {
        self.problem
    }

    /// Whether the same request may be taken in a moment.
    pub(super) fn is_full(&self) -> bool {
        self.code == Code::ResourceExhausted
    }
}

impl Failure {
    /// A problem that was made into a document already.
    pub(super) fn of_document(status: u16, document: &[u8]) -> Self {
        #[derive(Default, serde::Deserialize)]
        #[serde(default)]
        struct Document {
            code: String,
            detail: String,
            help: String,
        }
        let Document { code, detail, help } = serde_json::from_slice(document).unwrap_or_default();
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let problem = v1::Problem { code, detail, help, ..v1::Problem::default() };
        Failure { code: self::code(status), retry_seconds: None, problem }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        let told = problem.told();
        let code = code(told.status);
        let problem = v1::Problem {
            code: told.code.to_string(),
            detail: told.detail.to_string(),
            help: told.help.unwrap_or_default().to_string(),
            ..v1::Problem::default()
        };
        Failure { code, retry_seconds: told.retry_seconds, problem }
    }
}

impl From<Failure> for Status {
    fn from(Failure { code, retry_seconds, problem }: Failure) -> Self {
        let message = match problem.help.as_str() {
            "" => problem.detail.clone(),
            help => format!("{}; {help}", problem.detail),
        };
        let detail = prost_types::Any { type_url: DETAIL.to_string(), value: problem.encode_to_vec() };
        let rich = RichStatus { code: code.into(), message: message.clone(), details: vec![detail] };
        let mut metadata = MetadataMap::new();
        if let Some(seconds) = retry_seconds {
            metadata.insert(PUSHBACK, (seconds * 1_000).into());
        }
        Status::with_details_and_metadata(code, message, Bytes::from(rich.encode_to_vec()), metadata)
    }
}

/// A problem as a status.
pub(super) fn status(problem: Problem) -> Status {
    Failure::from(problem).into()
}

/// The bad records of a message.
pub(super) fn bad_records(records: &[Rejected]) -> Vec<v1::BadRecord> {
    let named = records.iter().take(RECORDS_NAMED_MAX);
    let record = |wrong: &Rejected| v1::BadRecord {
        record: wrong.record,
        line: wrong.line,
        column: wrong.column,
        byte: wrong.byte,
        reason: wrong.reason.clone(),
        text: wrong.text.clone(),
    };
    named.map(record).collect()
}

/// The code that stands for a status of HTTP.
fn code(status: StatusCode) -> Code {
    match status {
        StatusCode::UNAUTHORIZED => Code::Unauthenticated,
        StatusCode::FORBIDDEN => Code::PermissionDenied,
        StatusCode::NOT_FOUND => Code::NotFound,
        StatusCode::CONFLICT => Code::Aborted,
        StatusCode::TOO_MANY_REQUESTS => Code::ResourceExhausted,
        StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
        StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => Code::DeadlineExceeded,
        status if status.is_client_error() => Code::InvalidArgument,
        _ => Code::Internal,
    }
}
