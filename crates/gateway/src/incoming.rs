//! Bodies as the standard stack reads them: within limits of length and time.

use http::Request;
use http::Version;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};

use crate::body::{Body, too_large};
use crate::door::Door;
use crate::problem::Problem;

/// Whether a request announces no body at all.
pub(crate) fn is_bodiless(request: &Request<Incoming>) -> bool {
    let headers = request.headers();
    let says_length = headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING);
    request.version() < Version::HTTP_2 && request.body().is_end_stream() && !says_length
}

/// Reads a whole body.
pub(crate) async fn read(body: &mut Incoming, door: &Door) -> Result<Body, Problem> {
    tokio::time::timeout(door.options.body_timeout, collect(body, door))
        .await
        .unwrap_or_else(|_| Err(Problem::slow_body()))
}

async fn collect(body: &mut Incoming, door: &Door) -> Result<Body, Problem> {
    let bytes_max = door.options.body_bytes_max;
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > bytes_max {
        return Err(too_large(bytes_max));
    }
    let mut held = Body::with_room(announced, &door.budget)?;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Problem::bad_body(format!("the body broke off: {error}")))?;
        if let Ok(data) = frame.into_data() {
            held.add(&data, &door.budget, bytes_max)?;
        }
    }
    Ok(held)
}
