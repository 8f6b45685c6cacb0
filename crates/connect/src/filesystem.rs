//! Files: a file, a folder or a pattern is read, each file a partition; rows are written to a folder, whole files only.

mod find;
mod part;
mod read;
mod replay;
mod staging;
mod write;

use std::path::PathBuf;
use std::time::Duration;

use tidemill_base::options::{self, Options as Pairs};
use tidemill_format::Format;

pub use read::Files;
pub use write::FileSink;

/// A file of a sink is completed when it has grown to this many bytes.
const ROLL_BYTES: u64 = 128 << 20;

/// What the options of `'connector' = 'filesystem'` say.
#[derive(Debug, Clone)]
pub struct Options {
    path: PathBuf,
    format: Format,
    /// How often to look for new files; none reads what is there and ends.
    monitor_interval: Option<Duration>,
    roll_bytes: u64,
    /// A file of a sink is completed at the first write after this time.
    roll_after: Option<Duration>,
    success_file: Option<String>,
    /// The folder's value for null and the empty string.
    default_partition: String,
}

impl Options {
    pub(crate) fn take(options: &mut Pairs) -> Result<Self, options::Error> {
        let path = options.require("path")?;
        let path = PathBuf::from(path.strip_prefix("file://").unwrap_or(&path));
        let format = Format::from_options(options)?;
        let monitor_interval = options.duration("source.monitor-interval")?.filter(|interval| !interval.is_zero());
        let commit = options.choice("sink.partition-commit.policy.kind", &[("success-file", ())])?;
        let name = options.take("sink.partition-commit.success-file.name").unwrap_or_else(|| "_SUCCESS".to_string());
        take_flinks(options)?;
        Ok(Options {
            path,
            format,
            monitor_interval,
            roll_bytes: options.size("sink.rolling-policy.file-size")?.unwrap_or(ROLL_BYTES).max(1),
            roll_after: options.duration("sink.rolling-policy.rollover-interval")?,
            success_file: commit.map(|()| name),
            default_partition: options
                .take("partition.default-name")
                .unwrap_or_else(|| "__HIVE_DEFAULT_PARTITION__".to_string()),
        })
    }

    /// Whether reading ends by itself.
    pub(crate) fn is_bounded(&self) -> bool {
        self.monitor_interval.is_none()
    }

    pub(crate) fn format(&self) -> &Format {
        &self.format
    }

    /// The same in another format.
    pub(crate) fn writing(self, format: Format) -> Self {
        Options { format, ..self }
    }
}

/// Takes options of Flink that say when a partition is committed: here it always is when the sink finishes.
fn take_flinks(options: &mut Pairs) -> Result<(), options::Error> {
    options.duration("sink.rolling-policy.check-interval")?;
    options.duration("sink.partition-commit.delay")?;
    options.choice("sink.partition-commit.trigger", &[("process-time", ()), ("partition-time", ())])?;
    options.take("sink.partition-commit.watermark-time-zone");
    options.choice("partition.time-extractor.kind", &[("default", ())])?;
    options.take("partition.time-extractor.timestamp-pattern");
    options.take("partition.time-extractor.timestamp-formatter");
    Ok(())
}
