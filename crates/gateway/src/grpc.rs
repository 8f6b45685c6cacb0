//! gRPC on the port of the standard stack: Ingest, Decide and View, with reflection and health.
//!
//! The one idea: a call is another way to ask for what HTTP asks for. It ends in the same [`Hall`](crate::Hall), is refused
//! by the same [`Problem`](crate::problem::Problem)s, and pays for what it holds out of the same budget; what is gRPC's own
//! is only how messages travel. A stream is read no faster than its messages are taken, so that HTTP/2's windows slow the
//! client down, and it ends when the pipeline does.
//!
//! Reading order: [`services`] which call goes where, [`feed`] how bodies come in, [`status`] how problems go out, then the
//! services one by one.

mod answer;
mod decide;
mod descriptor;
mod feed;
mod follow;
mod ingest;
mod services;
mod status;
mod terms;
mod view;

pub(crate) use services::{HEALTH, Services, is_grpc, refused};
