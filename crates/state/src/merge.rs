//! Two changes of one row made into one, by the merge functions that its columns declare.
//!
//! A table that declares none merges no row. Else the columns that declare one are merged, and the others must agree on
//! both sides. A row that one side deletes and the other gives a value is not merged. Merging commutes: it does not matter
//! which side is which.

use std::cmp::Ordering;

use crate::table::{Column, Merge, Row, Schema, TableError, Type, Value};

/// Why two rows are not merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// Both sides changed what is not declared to be merged.
    Overlap,
    /// The merged value is not one of the column's type.
    Overflow {
        /// The column.
        column: Column,
        /// Its merge function.
        merge: Merge,
    },
}

/// What becomes of a key's row `base` when two sides have made `ours` and `theirs` of it.
///
/// # Errors
/// [`TableError::BadRow`] when a row is not of this table. Inside, why the two are not merged.
pub fn rows(
    schema: &Schema,
    base: Option<&Row>,
    ours: Option<&Row>,
    theirs: Option<&Row>,
) -> Result<Result<Option<Row>, Refused>, TableError> {
    if !schema.merges() {
        return Ok(Err(Refused::Overlap));
    }
    let (ours, theirs) = match (ours, theirs) {
        (Some(ours), Some(theirs)) => (schema.values(ours)?, schema.values(theirs)?),
        (None, None) => return Ok(Ok(None)),
        _ => return Ok(Err(Refused::Overlap)),
    };
    let base = base.map(|row| schema.values(row)).transpose()?.unwrap_or_else(|| vec![Value::Null; ours.len()]);
    let mut merged = Vec::with_capacity(ours.len());
    for (index, column) in schema.columns().iter().enumerate() {
        let (base, ours, theirs) = (&base[index], &ours[index], &theirs[index]);
        match column.merge {
            Some(merge) => match value(merge, &column.kind, base, ours, theirs) {
                Some(value) => merged.push(value),
                None => return Ok(Err(Refused::Overflow { column: column.clone(), merge })),
            },
            None if order(ours, theirs) == Ordering::Equal => merged.push(ours.clone()),
            None => return Ok(Err(Refused::Overlap)),
        }
    }
    schema.row(&merged).map(|row| Ok(Some(row)))
}

/// Merges one column's values; none when the type cannot hold what comes out.
fn value(merge: Merge, kind: &Type, base: &Value, ours: &Value, theirs: &Value) -> Option<Value> {
    match merge {
        Merge::Sum => sum(kind, base, ours, theirs),
        Merge::Union => Some(union(ours, theirs)),
        Merge::Max | Merge::Min => Some(match (ours, theirs) {
            (Value::Null, other) | (other, Value::Null) => other.clone(),
            _ if (order(ours, theirs) == Ordering::Less) == (merge == Merge::Max) => theirs.clone(),
            _ => ours.clone(),
        }),
    }
}

/// `base + (ours - base) + (theirs - base)`.
fn sum(kind: &Type, base: &Value, ours: &Value, theirs: &Value) -> Option<Value> {
    if ours.is_null() && theirs.is_null() {
        return Some(Value::Null);
    }
    match kind {
        Type::Decimal { precision, .. } => {
            let number = |value: &Value| if let Value::Decimal(value) = value { *value } else { 0 };
            // Each has at most 38 digits, 1e38 < 2^127 / 1.7, so the first sum may overflow and is checked.
            let difference = number(ours).checked_sub(number(base))?;
            let total = difference.checked_add(number(theirs))?;
            (total.unsigned_abs() < 10_u128.pow(u32::from(*precision))).then_some(Value::Decimal(total))
        }
        Type::Float | Type::Double => {
            let number = |value: &Value| if let Value::Float(value) = value { *value } else { 0.0 };
            let total = number(ours) + number(theirs) - number(base);
            let narrow = matches!(kind, Type::Float);
            Some(Value::Float(if narrow { f64::from(total as f32) } else { total }))
        }
        _ => {
            let number = |value: &Value| if let Value::Integer(value) = value { i128::from(*value) } else { 0 };
            let total = i64::try_from(number(ours) + number(theirs) - number(base)).ok()?;
            kind.integers()?.contains(&total).then_some(Value::Integer(total))
        }
    }
}

/// The items of both arrays, each once, in their order.
fn union(ours: &Value, theirs: &Value) -> Value {
    let items = match (ours, theirs) {
        (Value::Array(ours), Value::Array(theirs)) => ours.iter().chain(theirs),
        (Value::Array(items), _) | (_, Value::Array(items)) => items.iter().chain(&[]),
        _ => return Value::Null,
    };
    let mut items: Vec<Value> = items.cloned().collect();
    items.sort_by(order);
    items.dedup_by(|a, b| order(a, b) == Ordering::Equal);
    Value::Array(items)
}

/// The order of values of one type: NULL first, one zero, NaN last.
fn order(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Boolean(a), Value::Boolean(b)) => a.cmp(b),
        (Value::Integer(a), Value::Integer(b))
        | (Value::Time(a), Value::Time(b))
        | (Value::Timestamp(a), Value::Timestamp(b)) => a.cmp(b),
        (Value::Float(a), Value::Float(b)) => match (a.is_nan(), b.is_nan()) {
            (false, false) => a.partial_cmp(b).unwrap_or(Ordering::Equal),
            (a, b) => a.cmp(&b),
        },
        (Value::Decimal(a), Value::Decimal(b)) => a.cmp(b),
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Date(a), Value::Date(b)) => a.cmp(b),
        _ => a.to_bytes().cmp(&b.to_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value as Json, json};

    use super::*;

    fn schema(kind: &str, merge: Option<Merge>) -> Schema {
        let column = Column { merge, ..Column::new("v", kind.parse().expect("a type")) };
        let key = Column::new("k", Type::Int);
        Schema::new(vec![key, column], vec!["k".into()]).expect("it is sound")
    }

    fn merged(schema: &Schema, base: Json, ours: Json, theirs: Json) -> Result<Json, Refused> {
        let row = |json: Json| {
            let object = json!({"k": 1, "v": json});
            (json != "absent").then(|| schema.row_from_json(object.as_object().expect("an object")).expect("a row"))
        };
        let row =
            rows(schema, row(base).as_ref(), row(ours).as_ref(), row(theirs).as_ref()).expect("rows of the table")?;
        Ok(row.map_or(json!("absent"), |row| schema.row_to_json(&row).expect("its own")["v"].clone()))
    }

    #[test]
    fn columns_are_merged_as_declared() {
        let check = |kind: &str, merge: Merge, base: Json, ours: Json, theirs: Json, expected: Json| {
            let schema = schema(kind, Some(merge));
            let one = merged(&schema, base.clone(), ours.clone(), theirs.clone());
            let other = merged(&schema, base, theirs, ours);
            assert_eq!((one, other), (Ok(expected.clone()), Ok(expected)), "{kind} {merge}");
        };
        let absent = || json!("absent");
        check("INT", Merge::Sum, json!(10), json!(13), json!(8), json!(11));
        check("INT", Merge::Sum, absent(), json!(3), json!(4), json!(7));
        check("INT", Merge::Sum, json!(5), json!(null), json!(6), json!(1));
        check("INT", Merge::Sum, json!(5), json!(null), json!(null), json!(null));
        check("BIGINT", Merge::Sum, json!(i64::MAX), json!(i64::MAX), json!(i64::MAX), json!(i64::MAX));
        check("DECIMAL(4, 2)", Merge::Sum, json!("1.00"), json!("1.50"), json!("0.75"), json!("1.25"));
        check("DOUBLE", Merge::Sum, json!(0.5), json!(1.5), json!(1.0), json!(2.0));
        check("INT", Merge::Max, json!(1), json!(3), json!(2), json!(3));
        check("INT", Merge::Min, json!(1), json!(null), json!(2), json!(2));
        check("DATE", Merge::Max, absent(), json!("2024-01-02"), json!("2024-01-01"), json!("2024-01-02"));
        check("STRING", Merge::Min, absent(), json!("b"), json!("a"), json!("a"));
        check("DOUBLE", Merge::Max, absent(), json!("NaN"), json!(1), json!("NaN"));
        check("ARRAY<INT>", Merge::Union, json!([1]), json!([3, 1]), json!([2]), json!([1, 2, 3]));
        check("ARRAY<INT>", Merge::Union, json!([1]), json!(null), json!([2, 2]), json!([2]));
        check("INT", Merge::Sum, json!(1), absent(), absent(), absent());
    }

    #[test]
    fn what_is_not_declared_is_not_merged() {
        let plain = schema("INT", None);
        for (ours, theirs) in [(json!(1), json!(1)), (json!(1), json!(2)), (json!("absent"), json!("absent"))] {
            assert_eq!(merged(&plain, json!(0), ours, theirs), Err(Refused::Overlap));
        }
        let sum = schema("TINYINT", Some(Merge::Sum));
        assert_eq!(merged(&sum, json!(0), json!(1), json!("absent")), Err(Refused::Overlap));
        let refused = merged(&sum, json!(0), json!(100), json!(100)).expect_err("128 and more are too many");
        assert!(matches!(refused, Refused::Overflow { column, merge: Merge::Sum } if column.name == "v"));
    }

    #[test]
    fn columns_beside_a_merged_one_must_agree() {
        let columns = vec![
            Column::new("k", Type::Int),
            Column::new("v", Type::Int).merged(Merge::Sum),
            Column::new("w", Type::String(None)),
        ];
        let schema = Schema::new(columns, vec!["k".into()]).expect("it is sound");
        let row = |v: i64, w: &str| {
            schema.row(&[Value::Integer(1), Value::Integer(v), Value::String(w.into())]).expect("a row")
        };
        let merge = |ours: &Row, theirs: &Row| {
            rows(&schema, Some(&row(1, "a")), Some(ours), Some(theirs)).expect("rows of the table")
        };
        assert_eq!(merge(&row(2, "b"), &row(3, "b")), Ok(Some(row(4, "b"))));
        assert_eq!(merge(&row(2, "a"), &row(3, "b")), Err(Refused::Overlap));
    }

    proptest! {
        #[test]
        fn merging_commutes(
            base in prop::option::of(-100..100_i64), ours in prop::option::of(-100..100_i64),
            theirs in prop::option::of(-100..100_i64), which in 0..4_usize,
        ) {
            let merge = [None, Some(Merge::Sum), Some(Merge::Max), Some(Merge::Min)][which];
            let schema = schema("TINYINT", merge);
            let json = |value: Option<i64>| value.map_or(json!("absent"), |value| json!(value));
            let one = merged(&schema, json(base), json(ours), json(theirs));
            prop_assert_eq!(one, merged(&schema, json(base), json(theirs), json(ours)));
        }

        #[test]
        fn sums_add_both_differences(base in -1_000..1_000_i64, ours in -1_000..1_000_i64, theirs in -1_000..1_000_i64) {
            let schema = schema("INT", Some(Merge::Sum));
            let total = merged(&schema, json!(base), json!(base + ours), json!(base + theirs));
            prop_assert_eq!(total, Ok(json!(base + ours + theirs)));
        }
    }
}
