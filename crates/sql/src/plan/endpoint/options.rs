//! What WITH says of an endpoint, and whether its fallback is an answer.

use std::sync::Arc;
use std::time::Duration;

use arrow_schema::{Field, Schema, SchemaRef};
use serde_json::{Map, Value};
use tidemill_base::options::{self, Options};
use tidemill_base::{Position, suggest};
use tidemill_format::{Decoded, JsonDecoder, JsonOptions};

use crate::error::Error;
use crate::pipeline::EndpointOptions;
use crate::statement::{CreateEndpoint, Name, Setting};
use crate::types::{name_of, quoted};

const DEADLINE: Duration = Duration::from_millis(100);
const WAITING_MAX: u64 = 65_536;
const LAG_MIN: Duration = Duration::from_millis(2);
const IDEMPOTENCY_WINDOW: Duration = Duration::from_secs(60);
const IDEMPOTENCY_BYTES: u64 = 64 << 20;

/// What WITH says.
pub(super) struct Said {
    /// The table that requests become rows of.
    pub(super) record: Option<Name>,
    /// Whether an answer may depend on nothing but rows that came before.
    pub(super) strict: bool,
    /// How it behaves.
    pub(super) options: EndpointOptions,
    /// Where the fallback stands.
    pub(super) fallback_position: Option<Position>,
}

/// Reads the options of an endpoint.
pub(super) fn read(create: &CreateEndpoint) -> Result<Said, Error> {
    let settings = &create.options;
    let pairs = settings.iter().map(|setting| (setting.key.clone(), setting.value.clone()));
    let mut options = Options::new("an endpoint", pairs);
    let of = |key: &str| settings.iter().find(|setting| setting.key == key);
    let wrong = |source: options::Error| {
        let place = |setting: &Setting| match source {
            options::Error::Unknown { .. } => setting.key_position,
            _ => setting.value_position,
        };
        let position = of(source.key()).map(place);
        Error::Options { source, position }
    };
    let taken = take(&mut options).map_err(wrong)?;
    options.finish().map_err(wrong)?;
    let (record, strict, options) = taken;
    let record = record.zip(of("record")).map(|(text, setting)| Name { text, position: setting.value_position });
    if options.sheds_to_fallback && options.fallback.is_none() {
        return Err(Error::Definition {
            problem: "'shed' = 'fallback' needs a fallback".to_string(),
            position: of("shed").map_or(create.name.position, |setting| setting.value_position),
            help: Some("add 'fallback' = '{..}', or write 'shed' = 'reject'".to_string()),
        });
    }
    Ok(Said { record, strict, options, fallback_position: of("fallback").map(|setting| setting.value_position) })
}

fn take(options: &mut Options) -> Result<(Option<String>, bool, EndpointOptions), options::Error> {
    let above_zero = |key: &str, value: Duration| match value.is_zero() {
        false => Ok(value),
        true => Err(options::Error::Invalid {
            key: key.to_string(),
            value: "0".to_string(),
            expected: "a duration above 0 like '5 ms'".to_string(),
        }),
    };
    let record = options.take("record");
    let strict = options.boolean("strict")?.unwrap_or(false);
    let deadline = above_zero("deadline", options.duration("deadline")?.unwrap_or(DEADLINE))?;
    let fallback = options.take("fallback");
    let durability = options.choice("durability", &[("process", "process"), ("flushed", "flushed")])?;
    let shed = options.choice("shed", &[("reject", false), ("fallback", true)])?;
    let waiting_max = options.parse("waiting.max", "a number of requests above 0", |value| {
        value.replace('_', "").parse::<u64>().ok().filter(|count| *count > 0)
    })?;
    let lag_max = above_zero("lag.max", options.duration("lag.max")?.unwrap_or_else(|| lag_max(deadline)))?;
    let idempotency_window = options.duration("idempotency.window")?.unwrap_or(IDEMPOTENCY_WINDOW);
    let idempotency_bytes = options.size("idempotency.bytes")?.unwrap_or(IDEMPOTENCY_BYTES);
    let options = EndpointOptions {
        deadline,
        fallback,
        durability: durability.map(str::to_string),
        sheds_to_fallback: shed.unwrap_or(false),
        waiting_max: usize::try_from(waiting_max.unwrap_or(WAITING_MAX)).unwrap_or(usize::MAX),
        lag_max,
        idempotency_window,
        idempotency_bytes,
    };
    Ok((record, strict, options))
}

/// How much work may wait before a request: a quarter of the time it has, because the circuit may have to share its
/// processor, and the request's way there and back takes time too.
fn lag_max(deadline: Duration) -> Duration {
    (deadline / 4).max(LAG_MIN).min(deadline / 2).max(Duration::from_nanos(1))
}

/// The fallback as an answer has it: its columns in their order, those that are not given null.
pub(super) fn fallback(text: &str, answer: &SchemaRef, position: Position) -> Result<String, Error> {
    let wrong = |problem: String, help: String| Error::Definition { problem, position, help: Some(help) };
    let names = answer.fields().iter().map(|field| field.name().as_str());
    let columns = names.clone().collect::<Vec<_>>().join(", ");
    let example = format!("write a JSON object with the answer's columns: {columns}");
    let given: Map<String, Value> = match serde_json::from_str(text) {
        Ok(Value::Object(given)) => given,
        Ok(_) => return Err(wrong("the fallback is no JSON object".to_string(), example)),
        Err(error) => return Err(wrong(format!("the fallback is no JSON: {error}"), example)),
    };
    for name in given.keys() {
        if answer.index_of(name).is_err() {
            let help = match suggest::nearest(name, names.clone()) {
                Some(meant) => format!("did you mean {}?", quoted(meant)),
                None => format!("its columns are {columns}"),
            };
            return Err(wrong(format!("the fallback has {}, which is no column of the answer", quoted(name)), help));
        }
    }
    let mut whole = Vec::new();
    for field in answer.fields() {
        let value = given.get(field.name()).cloned().unwrap_or(Value::Null);
        if !is(&value, field) {
            let help = format!("{} is {}", quoted(field.name()), name_of(field.data_type()));
            return Err(wrong(format!("the fallback's {} cannot be {value}", quoted(field.name())), help));
        }
        whole.push(format!("{}:{value}", Value::from(field.name().as_str())));
    }
    Ok(format!("{{{}}}", whole.join(",")))
}

/// Whether a value can be one of a column.
fn is(value: &Value, field: &Field) -> bool {
    let schema = Arc::new(Schema::new(vec![field.clone().with_name("value").with_nullable(true)]));
    let Ok(mut decoder) = JsonDecoder::new(JsonOptions::default(), schema) else { return true };
    let mut decoded = Decoded::default();
    let body = serde_json::json!({ "value": value }).to_string();
    decoder.decode_body(body.as_bytes(), &mut decoded).is_ok() && decoded.rejected.is_empty()
}
