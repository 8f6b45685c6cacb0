//! What a field of made-up rows holds.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Float64Array, Int64Array, ListArray, StringArray,
    StructArray, Time32MillisecondArray, TimestampMillisecondArray,
};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{ArrowError, DataType, FieldRef, Fields};
use tidemill_base::hash;
use tidemill_base::options::{self, Options as Pairs};
use tidemill_base::rand::Rng;
use tidemill_base::time::days_from_civil;

/// Characters of a random string or bytes of a random BYTES, as in Flink.
const LENGTH: u64 = 100;

/// Elements of a random ARRAY, as in Flink.
const ELEMENTS: u64 = 3;

/// The digits that a sequence or a random DECIMAL can have.
const DECIMAL_DIGITS_MAX: u8 = 18;

/// Rows that are made together.
pub(super) struct Batch {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) seed: u64,
    /// The time before which each row's times lie.
    pub(super) times: Vec<i64>,
}

/// A field, its name's path, and how its values are made.
#[derive(Debug, Clone)]
pub(super) struct Field {
    path: String,
    data_type: DataType,
    null_rate: f64,
    values: Values,
}

#[derive(Debug, Clone)]
enum Values {
    Boolean,
    Sequence {
        start: i64,
        end: i64,
    },
    Integer {
        min: i64,
        max: i64,
    },
    Float {
        min: f64,
        max: f64,
    },
    Decimal {
        min: i64,
        max: i64,
    },
    Text {
        length: u64,
        varying: bool,
    },
    Bytes {
        length: u64,
        varying: bool,
    },
    /// At most so many milliseconds before now.
    Past {
        millis_max: u64,
    },
    Row(Vec<Field>),
    Array {
        element: Box<Field>,
        length: u64,
    },
    Unsupported,
}

impl Field {
    /// Takes the options of the field called `path`.
    pub(super) fn take(options: &mut Pairs, path: &str, data_type: &DataType) -> Result<Field, options::Error> {
        let key = |option: &str| format!("fields.{path}.{option}");
        let is_sequence = options.choice(&key("kind"), &[("random", false), ("sequence", true)])?.unwrap_or_default();
        let null_rate = options.parse(&key("null-rate"), "a number from 0 to 1", |text| {
            text.parse::<f64>().ok().filter(|rate| (0.0..=1.0).contains(rate))
        })?;
        let values =
            if is_sequence { sequence(options, &key, data_type)? } else { random(options, path, &key, data_type)? };
        Ok(Field {
            path: path.to_string(),
            data_type: data_type.clone(),
            null_rate: null_rate.unwrap_or_default(),
            values,
        })
    }

    pub(super) fn is(&self, name: &str) -> bool {
        self.path == name
    }

    /// Whether its type has values.
    pub(super) fn can_make(&self) -> bool {
        match &self.values {
            Values::Unsupported => false,
            Values::Row(fields) => fields.iter().all(Field::can_make),
            Values::Array { element, .. } => element.can_make(),
            _ => true,
        }
    }

    /// Whether its values depend on the clock.
    pub(super) fn is_time(&self) -> bool {
        match &self.values {
            Values::Past { .. } => true,
            Values::Row(fields) => fields.iter().any(Field::is_time),
            Values::Array { element, .. } => element.is_time(),
            _ => false,
        }
    }

    /// After how many rows it has no more values.
    pub(super) fn rows_max(&self) -> Option<u64> {
        match &self.values {
            Values::Sequence { start, end } => Some(end.abs_diff(*start).saturating_add(1)),
            Values::Row(fields) => fields.iter().filter_map(Field::rows_max).min(),
            _ => None,
        }
    }

    /// The values of the rows in `batch`.
    pub(super) fn make(&self, batch: &Batch) -> Result<ArrayRef, ArrowError> {
        let rows = batch.from..batch.to;
        let site = hash::bytes(self.path.as_bytes());
        let rng = |row: u64| Rng::derived(batch.seed, site, row);
        let nulls = (self.null_rate > 0.0).then(|| {
            let mut valid = Vec::with_capacity(batch.times.len());
            valid.extend(rows.clone().map(|row| Rng::derived(batch.seed, !site, row).next_f64() >= self.null_rate));
            NullBuffer::from(valid)
        });
        let integers = |value: &dyn Fn(u64) -> i64| rows.clone().map(value).collect::<Vec<i64>>();
        let array: ArrayRef = match &self.values {
            Values::Boolean => {
                let values: Vec<bool> = rows.clone().map(|row| rng(row).chance(1, 2)).collect();
                Arc::new(BooleanArray::new(values.into(), nulls))
            }
            Values::Sequence { start, .. } => self.number(integers(&|row| start.saturating_add(row as i64)), nulls)?,
            Values::Integer { min, max } => self.number(integers(&|row| between(&mut rng(row), *min, *max)), nulls)?,
            Values::Decimal { min, max } => self.decimal(integers(&|row| between(&mut rng(row), *min, *max)), nulls)?,
            Values::Float { min, max } => {
                let values: Vec<f64> = rows.clone().map(|row| min + rng(row).next_f64() * (max - min)).collect();
                arrow_cast::cast(&Float64Array::new(values.into(), nulls), &self.data_type)?
            }
            Values::Text { length, varying } => {
                let texts = rows.clone().enumerate().map(|(index, row)| {
                    nulls
                        .as_ref()
                        .is_none_or(|nulls| nulls.is_valid(index))
                        .then(|| text(&mut rng(row), *length, *varying))
                });
                arrow_cast::cast(&texts.collect::<StringArray>(), &self.data_type)?
            }
            Values::Bytes { length, varying } => {
                let values = rows.clone().enumerate().map(|(index, row)| {
                    let bytes = || text(&mut rng(row), *length, *varying).into_bytes();
                    nulls.as_ref().is_none_or(|nulls| nulls.is_valid(index)).then(bytes)
                });
                arrow_cast::cast(&values.collect::<BinaryArray>(), &self.data_type)?
            }
            Values::Past { millis_max } => {
                let times = rows.clone().zip(&batch.times).map(|(row, now)| {
                    now - if *millis_max == 0 { 0 } else { rng(row).below(millis_max.saturating_add(1)) as i64 }
                });
                self.time(times.collect(), nulls)?
            }
            Values::Row(fields) => {
                let columns = fields.iter().map(|field| field.make(batch)).collect::<Result<Vec<_>, _>>()?;
                let DataType::Struct(declared) = &self.data_type else { return Err(self.unmade()) };
                Arc::new(StructArray::try_new_with_length(declared.clone(), columns, nulls, batch.times.len())?)
            }
            Values::Array { element, length } => self.array(element, *length, nulls, batch)?,
            Values::Unsupported => return Err(self.unmade()),
        };
        Ok(array)
    }

    fn number(&self, values: Vec<i64>, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
        arrow_cast::cast(&Int64Array::new(values.into(), nulls), &self.data_type)
    }

    fn decimal(&self, values: Vec<i64>, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
        let DataType::Decimal128(precision, scale) = self.data_type else { return Err(self.unmade()) };
        let values: Vec<i128> = values.into_iter().map(i128::from).collect();
        Ok(Arc::new(Decimal128Array::new(values.into(), nulls).with_precision_and_scale(precision, scale)?))
    }

    fn time(&self, millis: Vec<i64>, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
        if matches!(self.data_type, DataType::Time32(_) | DataType::Time64(_)) {
            let in_day: Vec<i32> = millis.iter().map(|millis| millis.rem_euclid(86_400_000) as i32).collect();
            return arrow_cast::cast(&Time32MillisecondArray::new(in_day.into(), nulls), &self.data_type);
        }
        let zone = match &self.data_type {
            DataType::Timestamp(_, zone) => zone.clone(),
            _ => None,
        };
        let array = TimestampMillisecondArray::new(millis.into(), nulls).with_timezone_opt(zone);
        arrow_cast::cast(&array, &self.data_type)
    }

    /// Lists of `length` elements: row r has the elements numbered from r * length.
    fn array(
        &self,
        element: &Field,
        length: u64,
        nulls: Option<NullBuffer>,
        batch: &Batch,
    ) -> Result<ArrayRef, ArrowError> {
        let DataType::List(declared) = &self.data_type else { return Err(self.unmade()) };
        let times = batch.times.iter().flat_map(|time| std::iter::repeat_n(*time, length as usize)).collect();
        let (from, to) = (batch.from.wrapping_mul(length), batch.to.wrapping_mul(length));
        let values = element.make(&Batch { from, to, seed: batch.seed, times })?;
        let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(length as usize, batch.times.len()));
        Ok(Arc::new(ListArray::try_new(declared.clone(), offsets, values, nulls)?))
    }

    fn unmade(&self) -> ArrowError {
        ArrowError::NotYetImplemented(format!("made-up values of type {}", self.data_type))
    }
}

fn sequence(options: &mut Pairs, key: &dyn Fn(&str) -> String, data_type: &DataType) -> Result<Values, options::Error> {
    let can_count = data_type.is_integer()
        || data_type.is_floating()
        || matches!(data_type, DataType::Utf8 | DataType::Decimal128(_, _));
    if !can_count {
        return Err(options::Error::Invalid {
            key: key("kind"),
            value: "sequence".to_string(),
            expected: format!("'random' for a column of type {}", tidemill_format::sql_name(data_type)),
        });
    }
    let start = required(options, &key("start"))?;
    let end = required(options, &key("end"))?;
    if end < start {
        let expected = format!("at least '{}' = '{start}'", key("start"));
        return Err(options::Error::Invalid { key: key("end"), value: end.to_string(), expected });
    }
    let (least, greatest) = integer_range(data_type);
    for (name, value) in [("start", start), ("end", end)] {
        if value < least || value > greatest {
            let expected = format!("within {least} and {greatest}");
            return Err(options::Error::Invalid { key: key(name), value: value.to_string(), expected });
        }
    }
    Ok(Values::Sequence { start, end })
}

fn required(options: &mut Pairs, key: &str) -> Result<i64, options::Error> {
    options.require(key).and_then(|value| {
        value.trim().parse().map_err(|_| options::Error::Invalid {
            key: key.to_string(),
            value,
            expected: "a whole number like '1000'".to_string(),
        })
    })
}

fn random(
    options: &mut Pairs,
    path: &str,
    key: &dyn Fn(&str) -> String,
    data_type: &DataType,
) -> Result<Values, options::Error> {
    Ok(match data_type {
        DataType::Boolean => Values::Boolean,
        _ if data_type.is_integer() => {
            let (least, greatest) = integer_range(data_type);
            let read = |text: &str| text.parse::<i64>().ok().filter(|value| (least..=greatest).contains(value));
            let expected = format!("a whole number from {least} to {greatest}");
            let min = options.parse(&key("min"), &expected, read)?.unwrap_or(least);
            let max = options.parse(&key("max"), &expected, read)?.unwrap_or(greatest);
            in_order(key, min <= max, &max.to_string())?;
            Values::Integer { min, max }
        }
        DataType::Float32 | DataType::Float64 => {
            let read = |text: &str| text.parse::<f64>().ok().filter(|value| value.is_finite());
            let greatest = if *data_type == DataType::Float32 { f64::from(f32::MAX) } else { f64::MAX / 2.0 };
            let min = options.parse(&key("min"), "a number", read)?.unwrap_or(-greatest);
            let max = options.parse(&key("max"), "a number", read)?.unwrap_or(greatest);
            in_order(key, min <= max, &max.to_string())?;
            Values::Float { min, max }
        }
        DataType::Decimal128(precision, scale) => {
            let greatest = 10_i64.pow(u32::from((*precision).min(DECIMAL_DIGITS_MAX))) - 1;
            let unit = 10_f64.powi(i32::from(*scale));
            let read = |text: &str| {
                let value = (text.parse::<f64>().ok()? * unit).round();
                (value.abs() <= greatest as f64).then_some(value as i64)
            };
            let expected = format!("a number that fits {}", tidemill_format::sql_name(data_type));
            let min = options.parse(&key("min"), &expected, read)?.unwrap_or(-greatest);
            let max = options.parse(&key("max"), &expected, read)?.unwrap_or(greatest);
            in_order(key, min <= max, "smaller")?;
            Values::Decimal { min, max }
        }
        DataType::Utf8 | DataType::Binary => {
            let length = options.integer(&key("length"))?.unwrap_or(LENGTH).min(1 << 20);
            let varying = options.boolean(&key("var-len"))?.unwrap_or_default();
            if *data_type == DataType::Utf8 {
                Values::Text { length, varying }
            } else {
                Values::Bytes { length, varying }
            }
        }
        DataType::Timestamp(_, _) | DataType::Date32 | DataType::Date64 | DataType::Time32(_) | DataType::Time64(_) => {
            let past = options.duration(&key("max-past"))?.unwrap_or_default();
            Values::Past { millis_max: past.as_millis().min(u128::from(u64::MAX >> 1)) as u64 }
        }
        DataType::Struct(fields) => Values::Row(nested(options, path, fields)?),
        DataType::List(element) => {
            let element = Box::new(element_field(options, path, element)?);
            let length = options.integer(&key("length"))?.unwrap_or(ELEMENTS).min(10_000);
            Values::Array { element, length }
        }
        _ => Values::Unsupported,
    })
}

fn nested(options: &mut Pairs, path: &str, fields: &Fields) -> Result<Vec<Field>, options::Error> {
    fields.iter().map(|field| Field::take(options, &format!("{path}.{}", field.name()), field.data_type())).collect()
}

fn element_field(options: &mut Pairs, path: &str, element: &FieldRef) -> Result<Field, options::Error> {
    Field::take(options, &format!("{path}.element"), element.data_type())
}

fn in_order(key: &dyn Fn(&str) -> String, ordered: bool, max: &str) -> Result<(), options::Error> {
    if ordered {
        return Ok(());
    }
    let expected = format!("at least '{}'", key("min"));
    Err(options::Error::Invalid { key: key("max"), value: max.to_string(), expected })
}

fn integer_range(data_type: &DataType) -> (i64, i64) {
    match data_type {
        DataType::Int8 => (i64::from(i8::MIN), i64::from(i8::MAX)),
        DataType::Int16 => (i64::from(i16::MIN), i64::from(i16::MAX)),
        DataType::Int32 => (i64::from(i32::MIN), i64::from(i32::MAX)),
        DataType::Decimal128(precision, scale) => {
            let digits = (i32::from(*precision) - i32::from(*scale)).clamp(0, i32::from(DECIMAL_DIGITS_MAX));
            let greatest = 10_i64.pow(digits as u32) - 1;
            (-greatest, greatest)
        }
        _ => (i64::MIN, i64::MAX),
    }
}

fn between(rng: &mut Rng, min: i64, max: i64) -> i64 {
    match max.abs_diff(min).checked_add(1) {
        Some(count) => min.wrapping_add(rng.below(count) as i64),
        None => rng.next_u64() as i64,
    }
}

fn text(rng: &mut Rng, length: u64, varying: bool) -> String {
    let length = if varying && length > 0 { 1 + rng.below(length) } else { length };
    let mut text = String::with_capacity(length as usize);
    while (text.len() as u64) < length {
        let digits = format!("{:016x}", rng.next_u64());
        text.push_str(&digits[..digits.len().min(length as usize - text.len())]);
    }
    text
}

/// Reads `2024-01-01` or `2024-01-01 12:34:56`, with a `T` or a space, as milliseconds UTC.
pub(crate) fn parse_time(text: &str) -> Option<i64> {
    let text = text.trim_end_matches('Z');
    let (date, time) = text.split_once([' ', 'T']).unwrap_or((text, "00:00:00"));
    let mut date = date.splitn(3, '-').map(str::parse::<u32>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let (time, millis) = time.split_once('.').map_or((time, "0"), |(time, fraction)| (time, fraction));
    let mut time = time.splitn(3, ':').map(str::parse::<i64>);
    let (hour, minute, second) = (time.next()?.ok()?, time.next()?.ok()?, time.next().unwrap_or(Ok(0)).ok()?);
    let millis: i64 = format!("{millis:0<3}").get(..3)?.parse().ok()?;
    let valid = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 60;
    let valid = valid && hour >= 0 && minute >= 0 && second >= 0;
    let in_day = ((hour * 60 + minute) * 60 + second) * 1_000 + millis;
    valid.then(|| days_from_civil(i64::from(year), month, day) * 86_400_000 + in_day)
}
