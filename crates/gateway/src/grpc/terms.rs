//! What the messages of Ingest and Decide ask for besides what is in them.

use std::time::Duration;

use tidemill_proto::v1;
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};

use super::feed::Tab;
use crate::guard::Caller;
use crate::hall::{BodyKind, Durability, Terms};
use crate::problem::Problem;

/// The longest idempotency key.
const KEY_BYTES_MAX: usize = 255;

/// How much earlier than the client's own deadline the fallback answers, at most, so that it still gets there.
const MARGIN_MAX: Duration = Duration::from_millis(5);

/// Who calls, and what the call holds.
pub(super) fn caller<T>(request: &Request<T>) -> Result<(Caller, Tab), Status> {
    let extensions = request.extensions();
    match (extensions.get::<Caller>(), extensions.get::<Tab>()) {
        (Some(caller), Some(tab)) => Ok((caller.clone(), tab.clone())),
        // The door lets nobody in without them.
        _ => Err(Status::internal("the call came through no door")),
    }
}

/// What a message asks for, on its own feet.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked {
    pub(super) durability: Option<Durability>,
    pub(super) skip_bad: bool,
    pub(super) key: Option<String>,
    pub(super) kind: BodyKind,
}

impl Asked {
    pub(super) fn new(durability: i32, skip_bad: bool, key: String, kind: BodyKind) -> Result<Self, Problem> {
        let durability = match v1::Durability::try_from(durability) {
            Ok(v1::Durability::Unspecified) => None,
            Ok(v1::Durability::Process) => Some(Durability::Process),
            Ok(v1::Durability::Flushed) => Some(Durability::Flushed),
            Ok(v1::Durability::Memory) | Err(_) => {
                let detail = format!("durability {durability} cannot be asked for");
                return Err(Problem::bad_query(detail, "durability is DURABILITY_PROCESS or DURABILITY_FLUSHED"));
            }
        };
        let readable = key.len() <= KEY_BYTES_MAX && key.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if !readable {
            let help = "send a key of 1 to 255 visible ASCII characters, or none";
            return Err(Problem::bad_query("the idempotency_key cannot be read", help));
        }
        Ok(Asked { durability, skip_bad, key: Some(key).filter(|key| !key.is_empty()), kind })
    }

    pub(super) fn terms(&self) -> Terms<'_> {
        let Asked { durability, skip_bad, key, kind } = self;
        Terms {
            durability: *durability,
            skip_bad: *skip_bad,
            idempotency_key: key.as_deref(),
            kind: *kind,
            ..Terms::default()
        }
    }
}

/// A level as messages name it.
pub(super) fn durability(level: Option<Durability>) -> v1::Durability {
    match level {
        None | Some(Durability::Memory) => v1::Durability::Memory,
        Some(Durability::Process) => v1::Durability::Process,
        Some(Durability::Flushed) => v1::Durability::Flushed,
    }
}

/// How long a call's client waits for it, less what an answer needs to get there.
pub(super) fn timeout(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    // The specification has at most eight digits.
    let value: u64 = digits.parse().ok().filter(|_| digits.len() <= 8 && digits.bytes().all(|b| b.is_ascii_digit()))?;
    let whole = match unit {
        "H" => Duration::from_secs(value * 3_600),
        "M" => Duration::from_secs(value * 60),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    };
    Some(whole - (whole / 10).min(MARGIN_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_leaves_time_for_the_answer_to_get_there() {
        let check = |text: &'static str, micros: Option<u64>| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", text.parse().expect("it is ASCII"));
            assert_eq!(timeout(&metadata), micros.map(Duration::from_micros), "{text}");
        };
        check("1S", Some(995_000));
        check("10m", Some(9_000));
        check("1000u", Some(900));
        check("2M", Some(119_995_000));
        for wrong in ["", "S", "1", "1x", "-1S", "+1S", "123456789S", "1.5S"] {
            check(wrong, None);
        }
        assert_eq!(timeout(&MetadataMap::new()), None);
    }

    #[test]
    fn what_cannot_be_asked_for_is_refused() {
        let asked = |durability, key: &str| Asked::new(durability, false, key.to_string(), BodyKind::Json);
        assert_eq!(asked(0, "").expect("nothing is asked").key, None);
        assert_eq!(asked(3, "k").expect("both can be").durability, Some(Durability::Flushed));
        for (durability, key) in [(1, ""), (9, ""), (0, "a\nb"), (0, "ü"), (0, &"k".repeat(256))] {
            assert!(asked(durability, key).is_err(), "{durability} {key}");
        }
    }
}
