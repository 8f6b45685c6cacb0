//! SET: what a pipeline can be told, and what Flink can be told that means nothing here.

use std::time::Duration;

use tidemill_base::options::{self, Options};
use tidemill_circuit::expr::OnError;

use crate::error::Error;
use crate::pipeline::{Settings, StateSettings};
use crate::statement::Setting;

/// Settings of Flink's that tune how it runs and change no answer.
const IGNORED: &[&str] = &[
    "client.",
    "cluster.",
    "execution.",
    "jobmanager.",
    "metrics.",
    "pipeline.",
    "python.",
    "rest.",
    "restart-strategy",
    "sql-client.",
    "state.backend",
    "state.changelog",
    "state.checkpoint",
    "state.savepoints.",
    "table.exec.async-lookup.",
    "table.exec.disabled-operators",
    "table.exec.mini-batch.",
    "table.exec.resource.",
    "table.exec.shuffle-mode",
    "table.exec.sink.",
    "table.exec.sort.",
    "table.exec.uid.",
    "table.optimizer.",
    "table.plan.",
    "table.sql-dialect",
    "taskmanager.",
];

/// How buckets are reached, besides `s3.allow-http`.
const S3: [&str; 5] = ["s3.endpoint", "s3.region", "s3.access-key", "s3.secret-key", "s3.session-token"];

/// Takes one SET into the settings.
pub(crate) fn apply(settings: &mut Settings, set: &Setting) -> Result<(), Error> {
    let pair = (set.key.clone(), set.value.clone());
    let mut options = Options::new("SET", [pair]);
    let taken = take(settings, &mut options);
    let ignored = |key: &str| IGNORED.iter().any(|prefix| key.starts_with(prefix));
    let wrong = |source: options::Error, position| Error::Options { source, position: Some(position) };
    taken.map_err(|source| wrong(source, set.value_position))?;
    match options.finish() {
        Ok(()) => Ok(()),
        Err(_) if ignored(&set.key) => {
            settings.ignored.push(set.key.clone());
            Ok(())
        }
        Err(source) => Err(wrong(source, set.key_position)),
    }
}

fn take(settings: &mut Settings, options: &mut Options) -> Result<(), options::Error> {
    let on_error = [("stop", OnError::Stop), ("dead-letter", OnError::DeadLetter), ("null", OnError::Null)];
    set(&mut settings.on_error, options.choice("on-error", &on_error)?);
    for key in ["lanes", "parallelism.default"] {
        let lanes = options.parse(key, "a number of lanes, from 1 to 256", |value| {
            value.parse().ok().filter(|lanes| (1..=256).contains(lanes))
        })?;
        settings.lanes = lanes.or(settings.lanes);
    }
    settings.seed = options.integer("seed")?.or(settings.seed);
    for (key, slot) in [
        ("pipeline.name", &mut settings.name),
        ("side-output.late", &mut settings.late),
        ("side-output.dead-letter", &mut settings.dead_letter),
        ("side-output.bad-records", &mut settings.bad_records),
        ("http.listen", &mut settings.listen),
    ] {
        *slot = options.take(key).or(slot.take());
    }
    take_state(&mut settings.state, options)?;
    let millis = |duration: std::time::Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    set(&mut settings.allowed_lateness_ms, options.duration("allowed-lateness")?.map(millis));
    let idle = options.duration("table.exec.source.idle-timeout")?;
    if let Some(idle) = idle {
        settings.idle_timeout_ms = u64::try_from(idle.as_millis()).ok().filter(|millis| *millis > 0);
    }
    let zone = options.parse("table.local-time-zone", "a time zone like 'Europe/Berlin' or 'UTC'", |value| {
        value.parse::<chrono_tz::Tz>().ok().map(|_| value.to_string())
    })?;
    settings.time_zone = zone.or(settings.time_zone.take());
    Ok(())
}

/// `'state.ttl'` of a pipeline or a view: some when it is given, and then none of `0`, which keeps everything.
pub(super) fn take_ttl(key: &str, options: &mut Options) -> Result<Option<Option<Duration>>, options::Error> {
    Ok(options.duration(key)?.map(|ttl| Some(ttl).filter(|ttl| !ttl.is_zero())))
}

/// The `'state.ttl'` of a materialised view, from its options.
pub(super) fn of_view(settings: &[Setting]) -> Result<Option<Option<Duration>>, Error> {
    let find = |source: &options::Error| settings.iter().find(|setting| setting.key == source.key());
    let pairs = settings.iter().map(|setting| (setting.key.clone(), setting.value.clone()));
    let mut options = Options::new("a materialised view", pairs);
    let ttl = take_ttl("state.ttl", &mut options)
        .map_err(|source| Error::Options { position: find(&source).map(|setting| setting.value_position), source })?;
    options
        .finish()
        .map_err(|source| Error::Options { position: find(&source).map(|setting| setting.key_position), source })?;
    Ok(ttl)
}

/// The milliseconds of a time to live: at least one.
pub(super) fn ttl_ms(ttl: Duration) -> i64 {
    i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX).max(1)
}

fn take_state(state: &mut StateSettings, options: &mut Options) -> Result<(), options::Error> {
    for (key, slot) in [("state.path", &mut state.path), ("state.store", &mut state.store)] {
        *slot = options.take(key).or(slot.take());
    }
    for key in S3 {
        if let Some(value) = options.take(&format!("state.{key}")) {
            state.s3.insert(key.to_string(), value);
        }
    }
    let http = options.boolean("state.s3.allow-http")?;
    state.s3.extend(http.map(|allowed| ("s3.allow-http".to_string(), allowed.to_string())));
    for key in ["table.exec.state.ttl", "state.ttl"] {
        set(&mut state.ttl, take_ttl(key, options)?);
    }
    let memory = options.size("state.memory")?;
    if memory == Some(0) {
        let (key, expected) = ("state.memory".to_string(), "a size above 0, such as '2 GiB'".to_string());
        return Err(options::Error::Invalid { key, value: "0".to_string(), expected });
    }
    state.memory = memory.or(state.memory);
    let level = options.parse("state.durability", "'process' or 'flushed'", |value| {
        ["process", "flushed"].contains(&value).then(|| value.to_string())
    })?;
    state.durability = level.or(state.durability.take());
    for (key, slot) in [
        ("state.snapshot-interval", &mut state.snapshot_interval),
        ("journal.retain-time", &mut state.journal_retain_time),
    ] {
        *slot = options.duration(key)?.or(*slot);
    }
    for (key, slot) in [
        ("state.snapshot-size", &mut state.snapshot_bytes),
        ("journal.retain-size", &mut state.journal_retain_bytes),
        ("journal.quota", &mut state.journal_quota),
        ("journal.segment-size", &mut state.journal_segment_bytes),
    ] {
        *slot = options.size(key)?.or(*slot);
    }
    Ok(())
}

fn set<T>(slot: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *slot = value;
    }
}
