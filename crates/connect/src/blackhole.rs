//! Takes rows and keeps none, for measurements; `'digest' = 'true'` folds them into a sum that names the result.

use tidemill_base::options::{self, Options as Pairs};
use tidemill_circuit::Delta;

use crate::error::Error;
use crate::sink::{self, Sink, SinkSummary};

/// What the options of `'connector' = 'blackhole'` say.
#[derive(Debug, Clone)]
pub struct Options {
    digest: bool,
}

impl Options {
    pub(crate) fn take(options: &mut Pairs) -> Result<Self, options::Error> {
        Ok(Options { digest: options.boolean("digest")?.unwrap_or_default() })
    }
}

/// A sink that counts.
pub struct Blackhole {
    rows: u64,
    digest: Option<u128>,
}

impl Blackhole {
    pub(crate) fn open(options: &Options) -> Self {
        Blackhole { rows: 0, digest: options.digest.then_some(0) }
    }
}

impl Sink for Blackhole {
    fn write(&mut self, _step: u64, rows: &[Delta]) -> Result<(), Error> {
        self.rows += sink::entries(rows);
        if let Some(digest) = &mut self.digest {
            *digest = rows.iter().map(Delta::digest).fold(*digest, u128::wrapping_add);
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<SinkSummary, Error> {
        let digest = self.digest.map(|digest| format!("{digest:032x}"));
        Ok(SinkSummary { rows: self.rows, digest, ..SinkSummary::default() })
    }

    fn abort(self: Box<Self>) {}
}
