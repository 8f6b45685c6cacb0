//! Bodies: held within a budget, unpacked within limits of length.
//!
//! Every byte held for a body is paid for out of one budget for all connections ([`Budget`]), the packed as well as the
//! unpacked ones, so that neither many clients nor a small body that unpacks to a huge one can fill the memory.

use std::io::Read;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::asked::Encoding;
use crate::problem::Problem;

/// The unit in which the budget is paid.
const UNIT_BYTES: usize = 4 << 10;

/// How much is unpacked between two looks at the limits.
const INFLATE_BYTES: usize = 64 << 10;

/// Zstandard windows are at most this many powers of two bytes long: 8 MiB, as RFC 9659 has it for HTTP.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Bytes that all bodies together may hold.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Arc<Semaphore>);

impl Budget {
    /// A budget of `bytes`.
    pub(crate) fn new(bytes: usize) -> Self {
        Budget(Arc::new(Semaphore::new((bytes / UNIT_BYTES).min(Semaphore::MAX_PERMITS))))
    }

    /// Pays for bytes; they are given back when the permit is dropped.
    pub(crate) fn pay(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
        let paid = self.0.clone().try_acquire_many_owned(units);
        paid.map_err(|_| spent())
    }

    /// The bytes that were paid for.
    pub(crate) fn covered(paid: &OwnedSemaphorePermit) -> usize {
        paid.num_permits() * UNIT_BYTES
    }

    /// Whether bytes could be paid for that are not held for long.
    pub(crate) fn check(&self, bytes: usize) -> Result<(), Problem> {
        if bytes.div_ceil(UNIT_BYTES) <= self.0.available_permits() { Ok(()) } else { Err(spent()) }
    }
}

fn spent() -> Problem {
    Problem::full("the bodies of all requests together are more than is held at once")
}

/// A body that has arrived, and what was paid for it.
#[derive(Debug)]
pub(crate) struct Body {
    /// The bytes, as they were sent.
    pub bytes: Vec<u8>,
    paid: OwnedSemaphorePermit,
}

/// The problem of a body that is longer than may be.
pub(crate) fn too_large(bytes_max: usize) -> Problem {
    Problem::too_large(format!("a body may be {bytes_max} bytes long"))
}

impl Body {
    /// An empty body with room for `bytes`, which are paid for.
    pub(crate) fn with_room(bytes: usize, budget: &Budget) -> Result<Self, Problem> {
        Ok(Body { paid: budget.pay(bytes)?, bytes: Vec::with_capacity(bytes) })
    }

    /// Adds bytes; the whole is at most `bytes_max` long.
    pub(crate) fn add(&mut self, data: &[u8], budget: &Budget, bytes_max: usize) -> Result<(), Problem> {
        if self.bytes.len() + data.len() > bytes_max {
            return Err(too_large(bytes_max));
        }
        self.grow(data.len(), budget)?;
        self.bytes.extend_from_slice(data);
        Ok(())
    }

    /// Pays for `more` bytes to come.
    fn grow(&mut self, more: usize, budget: &Budget) -> Result<(), Problem> {
        let owed = (self.bytes.len() + more).div_ceil(UNIT_BYTES);
        let paid = self.paid.num_permits();
        if owed > paid {
            self.paid.merge(budget.pay((owed - paid) * UNIT_BYTES)?);
        }
        Ok(())
    }

    /// Undoes `encoding`; the result is at most `bytes_max` long.
    pub(crate) fn inflate(self, encoding: Encoding, budget: &Budget, bytes_max: usize) -> Result<Body, Problem> {
        match encoding {
            Encoding::Identity => Ok(self),
            Encoding::Gzip => unpack(flate2::read::MultiGzDecoder::new(self.bytes.as_slice()), budget, bytes_max),
            Encoding::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::new(self.bytes.as_slice())
                    .map_err(|error| Problem::internal(format!("zstd cannot start: {error}")))?;
                decoder
                    .window_log_max(ZSTD_WINDOW_LOG_MAX)
                    .map_err(|error| Problem::internal(format!("zstd cannot start: {error}")))?;
                unpack(decoder, budget, bytes_max)
            }
        }
    }
}

fn unpack(packed: impl Read, budget: &Budget, bytes_max: usize) -> Result<Body, Problem> {
    let mut held = Body { bytes: Vec::new(), paid: budget.pay(0)? };
    let mut packed = packed.take(bytes_max as u64 + 1);
    loop {
        held.grow(INFLATE_BYTES, budget)?;
        let read = packed.by_ref().take(INFLATE_BYTES as u64).read_to_end(&mut held.bytes);
        let read = read.map_err(|error| Problem::bad_body(format!("the body cannot be unpacked: {error}")))?;
        if held.bytes.len() > bytes_max {
            return Err(Problem::too_large(format!("an unpacked body may be {bytes_max} bytes long")));
        }
        if read == 0 {
            return Ok(held);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn body(bytes: Vec<u8>, budget: &Budget) -> Body {
        let paid = budget.pay(bytes.len()).expect("the budget is ample");
        Body { bytes, paid }
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).expect("memory takes everything");
        encoder.finish().expect("memory takes everything")
    }

    fn unpacked(packed: Vec<u8>, encoding: Encoding, bytes_max: usize) -> Result<Vec<u8>, Problem> {
        let budget = Budget::new(64 << 20);
        body(packed, &budget).inflate(encoding, &budget, bytes_max).map(|body| body.bytes)
    }

    #[test]
    fn unpacks_what_was_packed() {
        let text = b"{\"a\":1}\n".repeat(50_000);
        for (packed, encoding) in [
            (gzip(&text), Encoding::Gzip),
            (zstd::encode_all(text.as_slice(), 3).expect("memory takes everything"), Encoding::Zstd),
            (text.clone(), Encoding::Identity),
        ] {
            assert_eq!(unpacked(packed, encoding, text.len()).ok().as_ref(), Some(&text), "{encoding:?}");
        }
    }

    #[test]
    fn refuses_bombs_and_broken_packing() {
        let bomb = vec![b' '; 1_000_001];
        let zstd = zstd::encode_all(bomb.as_slice(), 3).expect("memory takes everything");
        for (packed, encoding) in [(gzip(&bomb), Encoding::Gzip), (zstd, Encoding::Zstd)] {
            let mut cut = packed.clone();
            cut.truncate(packed.len() / 2);
            let problem = unpacked(packed, encoding, 1_000_000).expect_err("one byte too many");
            assert_eq!(problem.reply().status, 413);
            let problem = unpacked(cut, encoding, 10_000_000).expect_err("half of it is missing");
            assert_eq!(problem.reply().status, 400);
        }
    }

    #[test]
    fn gives_back_what_was_paid() {
        let budget = Budget::new(64 << 10);
        let one = budget.pay(40 << 10).expect("it fits");
        assert_eq!(budget.pay(40 << 10).expect_err("it does not").reply().status, 429);
        drop(one);
        drop(budget.pay(64 << 10).expect("it fits again"));
    }
}
