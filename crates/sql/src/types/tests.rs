//! Each type: what it reads as, what it is in Arrow, what it is called again.

use super::*;

fn check(text: &str, arrow: DataType, shown: &str) {
    let read = parse_text(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(read.to_arrow(), arrow, "{text}");
    assert_eq!(read.to_string(), shown, "{text}");
    assert_eq!(parse_text(shown).as_ref(), Ok(&read), "{shown} reads as what it was written from");
    assert_eq!(planned(&read.to_ast()), Some(read), "{text} passes through the AST");
}

fn fails(text: &str, message: &str) {
    let error = parse_text(text).expect_err(text);
    assert_eq!(error.to_string(), message, "{text}");
}

#[test]
fn reads_texts_and_bytes() {
    check("CHAR", DataType::Utf8, "CHAR(1)");
    check("char(3)", DataType::Utf8, "CHAR(3)");
    check("VARCHAR", DataType::Utf8, "STRING");
    check("VARCHAR(2147483647)", DataType::Utf8, "STRING");
    check("VARCHAR(7) NOT NULL", DataType::Utf8, "VARCHAR(7) NOT NULL");
    check("CHARACTER VARYING(7)", DataType::Utf8, "VARCHAR(7)");
    check("STRING", DataType::Utf8, "STRING");
    check("BYTES", DataType::Binary, "BYTES");
    check("BINARY(4)", DataType::Binary, "BINARY(4)");
    check("VARBINARY(4)", DataType::Binary, "VARBINARY(4)");
}

#[test]
fn reads_numbers() {
    check("BOOLEAN", DataType::Boolean, "BOOLEAN");
    check("DECIMAL", DataType::Decimal128(10, 0), "DECIMAL(10, 0)");
    check("NUMERIC(5)", DataType::Decimal128(5, 0), "DECIMAL(5, 0)");
    check("DEC(38, 38)", DataType::Decimal128(38, 38), "DECIMAL(38, 38)");
    check("TINYINT", DataType::Int8, "TINYINT");
    check("SMALLINT", DataType::Int16, "SMALLINT");
    check("INTEGER", DataType::Int32, "INT");
    check("BIGINT", DataType::Int64, "BIGINT");
    check("FLOAT", DataType::Float32, "FLOAT");
    check("DOUBLE PRECISION", DataType::Float64, "DOUBLE");
}

#[test]
fn reads_times_by_precision() {
    check("DATE", DataType::Date32, "DATE");
    check("TIME", DataType::Time32(TimeUnit::Millisecond), "TIME(0)");
    check("TIME(6) WITHOUT TIME ZONE", DataType::Time64(TimeUnit::Microsecond), "TIME(6)");
    check("TIMESTAMP", DataType::Timestamp(TimeUnit::Microsecond, None), "TIMESTAMP(6)");
    check("TIMESTAMP(0)", DataType::Timestamp(TimeUnit::Millisecond, None), "TIMESTAMP(0)");
    check("TIMESTAMP(3) WITHOUT TIME ZONE", DataType::Timestamp(TimeUnit::Millisecond, None), "TIMESTAMP(3)");
    check("TIMESTAMP(4)", DataType::Timestamp(TimeUnit::Microsecond, None), "TIMESTAMP(4)");
    check("TIMESTAMP(9)", DataType::Timestamp(TimeUnit::Nanosecond, None), "TIMESTAMP(9)");
    let ltz = DataType::Timestamp(TimeUnit::Millisecond, Some(Arc::from("UTC")));
    check("TIMESTAMP(3) WITH LOCAL TIME ZONE", ltz.clone(), "TIMESTAMP_LTZ(3)");
    check("TIMESTAMP_LTZ(3)", ltz, "TIMESTAMP_LTZ(3)");
    check("INTERVAL DAY(2) TO SECOND(3)", DataType::Interval(IntervalUnit::MonthDayNano), "INTERVAL DAY TO SECOND");
    check("INTERVAL YEAR", DataType::Interval(IntervalUnit::YearMonth), "INTERVAL YEAR TO MONTH");
}

#[test]
fn reads_types_inside_types() {
    let list = |item: Field| DataType::List(Arc::new(item));
    let ints = list(Field::new("item", DataType::Int32, true));
    check("ARRAY<INT>", ints.clone(), "ARRAY<INT>");
    check("INT ARRAY", ints.clone(), "ARRAY<INT>");
    check("ARRAY<ARRAY<INT>>", list(Field::new("item", ints.clone(), true)), "ARRAY<ARRAY<INT>>");
    check("ARRAY<INT NOT NULL>", list(Field::new("item", DataType::Int32, false)), "ARRAY<INT NOT NULL>");
    let row =
        DataType::Struct(Fields::from(vec![Field::new("id", DataType::Int64, true), Field::new("Tags", ints, false)]));
    check("ROW<id BIGINT, Tags ARRAY<INT> NOT NULL>", row.clone(), "ROW<`id` BIGINT, `Tags` ARRAY<INT> NOT NULL>");
    check("ROW(id BIGINT 'the id', Tags ARRAY<INT> NOT NULL)", row, "ROW<`id` BIGINT, `Tags` ARRAY<INT> NOT NULL>");
    check(
        "ROW<a ROW<b ROW<`c d` INT>>>",
        DataType::Struct(Fields::from(vec![Field::new(
            "a",
            DataType::Struct(Fields::from(vec![Field::new(
                "b",
                DataType::Struct(Fields::from(vec![Field::new("c d", DataType::Int32, true)])),
                true,
            )])),
            true,
        )])),
        "ROW<`a` ROW<`b` ROW<`c d` INT>>>",
    );
}

#[test]
fn maps_have_keys_that_are_never_null() {
    let read = parse_text("MAP<STRING, ARRAY<INT>>").expect("a map");
    let DataType::Map(entries, false) = read.to_arrow() else { panic!("not a map") };
    let DataType::Struct(pair) = entries.data_type() else { panic!("no entries") };
    assert!(!pair[0].is_nullable() && pair[1].is_nullable());
    assert_eq!(read.to_string(), "MAP<STRING, ARRAY<INT>>");
}

#[test]
fn names_arrow_types_in_flink_words() {
    for name in [
        "STRING",
        "BYTES",
        "BOOLEAN",
        "DECIMAL(5, 2)",
        "TINYINT",
        "SMALLINT",
        "INT",
        "BIGINT",
        "FLOAT",
        "DOUBLE",
        "DATE",
        "TIME(3)",
        "TIME(9)",
        "TIMESTAMP(3)",
        "TIMESTAMP(6)",
        "TIMESTAMP_LTZ(9)",
        "INTERVAL DAY TO SECOND",
        "INTERVAL YEAR TO MONTH",
        "ARRAY<INT>",
        "ARRAY<INT NOT NULL>",
        "MAP<STRING, DOUBLE>",
        "ROW<a INT, `select` STRING NOT NULL>",
    ] {
        assert_eq!(name_of(&parse_text(name).expect(name).to_arrow()), name);
    }
    assert_eq!(name_of(&DataType::Utf8View), "STRING");
    assert_eq!(name_of(&DataType::Null), "NULL");
}

#[test]
fn refuses_what_is_no_type() {
    fails("", "expected a type, found the end of the statement");
    fails("STRNG", "there is no type STRNG");
    fails("TEXT", "there is no type TEXT");
    fails("MULTISET<INT>", "MULTISET is not supported");
    fails("DECIMAL(39)", "the precision of DECIMAL cannot be 39");
    fails("DECIMAL(3, 4)", "the scale of DECIMAL cannot be 4");
    fails("TIMESTAMP(10)", "the precision of TIMESTAMP cannot be 10");
    fails("VARCHAR(0)", "a length cannot be 0");
    fails("ARRAY", "expected `<`, found the end of the statement");
    fails("ARRAY<INT", "expected `>`, found the end of the statement");
    fails("ARRAY<INT>>", "expected one `>` only, found `>>`");
    fails("ROW<a INT, a INT>", "ROW has two fields named a");
    fails("INT NOT", "expected NULL, found the end of the statement");
    fails(&format!("{}INT{}", "ARRAY<".repeat(50), ">".repeat(50)), "more than 32 types inside each other");
}
