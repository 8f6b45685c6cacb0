//! Time in units: rounding to a unit, adding units, counting units between two times.

use arrow_array::ArrayRef;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_schema::{DataType, TimeUnit};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};

use super::call::{Call, Text};
use super::function::Function;
use super::temporal::{DAY, Moment, Moments, SECOND, build_moments, day_number, weekday};

pub(super) const FUNCTIONS: &[Function] = &[
    Function::new(
        "timestampadd",
        "TIMESTAMPADD(STRING, BIGINT, TEMPORAL) -> ANY",
        "A time so many units later. SQL: `TIMESTAMPADD(unit, count, time)`.",
        &[("TIMESTAMPADD(MONTH, 1, DATE '2020-01-31')", "2020-02-29")],
        add,
    )
    .returns_by_literals(added_type),
    Function::new(
        "timestampdiff",
        "TIMESTAMPDIFF(STRING, TEMPORAL, TEMPORAL) -> INT",
        "How many whole units there are from the first time to the second. SQL: `TIMESTAMPDIFF(unit, from, to)`.",
        &[("TIMESTAMPDIFF(DAY, DATE '2020-02-28', DATE '2020-03-01')", "2")],
        difference,
    ),
];

/// A unit of time: so many months, or so many nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Months(i64),
    Week,
    Nanos(i64),
}

impl Unit {
    fn parse(text: &str) -> Option<Unit> {
        Some(match text.to_ascii_uppercase().trim_start_matches("SQL_TSI_") {
            "MILLENNIUM" => Unit::Months(12_000),
            "CENTURY" => Unit::Months(1200),
            "DECADE" => Unit::Months(120),
            "YEAR" => Unit::Months(12),
            "QUARTER" => Unit::Months(3),
            "MONTH" => Unit::Months(1),
            "WEEK" => Unit::Week,
            "DAY" => Unit::Nanos(DAY),
            "HOUR" => Unit::Nanos(3600 * SECOND),
            "MINUTE" => Unit::Nanos(60 * SECOND),
            "SECOND" => Unit::Nanos(SECOND),
            "MILLISECOND" => Unit::Nanos(1_000_000),
            "MICROSECOND" => Unit::Nanos(1000),
            "NANOSECOND" => Unit::Nanos(1),
            _ => return None,
        })
    }

    fn known(text: &str) -> Result<Unit> {
        match Unit::parse(text) {
            Some(unit) => Ok(unit),
            None => {
                exec_err!("{text} is not a unit of time; YEAR, QUARTER, MONTH, WEEK, DAY, HOUR, MINUTE, SECOND are")
            }
        }
    }

    fn floor(self, moment: Moment) -> Moment {
        match self {
            Unit::Nanos(nanos) => Moment { day: moment.day, nanos: moment.nanos - moment.nanos % nanos },
            Unit::Week => Moment { day: moment.day - weekday(moment.day), nanos: 0 },
            Unit::Months(size) => {
                let civil = moment.civil();
                // Centuries and millennia start with their year 1.
                let first = if size >= 1200 { 1 } else { 0 };
                let months = (civil.year - first) * 12 + civil.month - 1;
                let start = months - months.rem_euclid(size);
                Moment { day: day_number(start.div_euclid(12) + first, start.rem_euclid(12) + 1, 1), nanos: 0 }
            }
        }
    }

    fn ceil(self, moment: Moment) -> Moment {
        let floor = self.floor(moment);
        if floor == moment {
            return floor;
        }
        match self {
            Unit::Nanos(nanos) => Moment::from_nanos(floor.day, floor.nanos + nanos),
            Unit::Week => Moment { day: floor.day + 7, nanos: 0 },
            Unit::Months(size) => floor.add_months(size),
        }
    }

    fn add(self, moment: Moment, count: i64) -> Option<Moment> {
        match self {
            Unit::Months(size) => {
                let months = count.checked_mul(size).filter(|months| months.abs() < 12_000_000)?;
                Some(moment.add_months(months))
            }
            Unit::Week => self::Unit::Nanos(DAY).add(moment, count.checked_mul(7)?),
            Unit::Nanos(nanos) => {
                let total = i128::from(count) * i128::from(nanos) + i128::from(moment.nanos);
                let day = i64::try_from(total.div_euclid(DAY.into())).ok()?.checked_add(moment.day)?;
                Some(Moment { day, nanos: total.rem_euclid(DAY.into()) as i64 })
            }
        }
    }

    /// Whole units from `from` to `to`, cut off towards zero.
    fn between(self, from: Moment, to: Moment) -> i64 {
        if to < from {
            return -self.between(to, from);
        }
        match self {
            Unit::Months(size) => {
                let (start, end) = (from.civil(), to.civil());
                let months = (end.year - start.year) * 12 + end.month - start.month;
                (months - i64::from(from.add_months(months) > to)) / size
            }
            Unit::Week => Unit::Nanos(DAY).between(from, to) / 7,
            Unit::Nanos(unit) => {
                let nanos = i128::from(to.day - from.day) * i128::from(DAY) + i128::from(to.nanos - from.nanos);
                (nanos / i128::from(unit)) as i64
            }
        }
    }
}

/// Reads the unit of each row, once when it is a literal.
struct Units<'a> {
    text: Text<'a>,
    shared: Option<Unit>,
}

impl<'a> Units<'a> {
    fn new(text: Text<'a>) -> Result<Self> {
        let shared = match text {
            Text::One(Some(text)) => Some(Unit::known(text)?),
            _ => None,
        };
        Ok(Units { text, shared })
    }

    fn at(&self, row: usize) -> Result<Option<Unit>> {
        match (self.shared, self.text.get(row)) {
            (Some(unit), _) => Ok(Some(unit)),
            (None, Some(text)) => Unit::known(text).map(Some),
            (None, None) => Ok(None),
        }
    }
}

/// FLOOR(time TO unit): the start of the unit a time is in; a week starts on Sunday.
pub(super) fn floor(call: &Call<'_>) -> Result<ArrayRef> {
    round(call, Unit::floor)
}

/// CEIL(time TO unit): the first start of a unit that is not before a time.
pub(super) fn ceil(call: &Call<'_>) -> Result<ArrayRef> {
    round(call, Unit::ceil)
}

fn round(call: &Call<'_>, apply: fn(Unit, Moment) -> Moment) -> Result<ArrayRef> {
    let (moments, units) = (Moments::new(call, 0)?, Units::new(call.text(1)?)?);
    build_moments(call.result, call.rows, call.session.zone, |row| {
        Ok(units.at(row)?.zip(moments.get(row)).map(|(unit, moment)| apply(unit, moment)))
    })
}

/// A date stays a date when whole days are added, and becomes a timestamp else.
fn added_type(types: &[DataType], literals: &[Option<&ScalarValue>]) -> Result<DataType> {
    let unit = match literals.first() {
        Some(Some(ScalarValue::Utf8(Some(text)))) => match Unit::parse(text) {
            Some(unit) => unit,
            None => {
                return plan_err!(
                    "{text} is not a unit of time; YEAR, QUARTER, MONTH, WEEK, DAY, HOUR, MINUTE, SECOND are"
                );
            }
        },
        _ => return plan_err!("TIMESTAMPADD needs a unit such as DAY as its first argument"),
    };
    Ok(match (&types[2], unit) {
        (DataType::Date32, Unit::Nanos(nanos)) if nanos < DAY => DataType::Timestamp(TimeUnit::Microsecond, None),
        (other, _) => other.clone(),
    })
}

fn add(call: &Call<'_>) -> Result<ArrayRef> {
    let (units, count) = (Units::new(call.text(0)?)?, call.numbers::<Int64Type>(1)?);
    let moments = Moments::new(call, 2)?;
    build_moments(call.result, call.rows, call.session.zone, |row| {
        let (Some(unit), Some(count), Some(moment)) = (units.at(row)?, count.get(row), moments.get(row)) else {
            return Ok(None);
        };
        match unit.add(moment, count) {
            Some(moment) => Ok(Some(moment)),
            None => exec_err!("TIMESTAMPADD of {count} units leaves the calendar"),
        }
    })
}

fn difference(call: &Call<'_>) -> Result<ArrayRef> {
    let units = Units::new(call.text(0)?)?;
    let (from, to) = (Moments::new(call, 1)?, Moments::new(call, 2)?);
    call.build_numbers::<Int32Type>(|row| {
        let (Some(unit), Some(from), Some(to)) = (units.at(row)?, from.get(row), to.get(row)) else { return Ok(None) };
        Ok(Some(unit.between(from, to) as i32))
    })
}
