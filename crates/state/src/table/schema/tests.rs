use serde_json::json;
use tidemill_base::Explain;

use super::*;

fn schema() -> Schema {
    let columns = vec![
        Column::new("reason", Type::String(None)),
        Column::new("ip", Type::String(Some(15))),
        Column::new("hits", Type::Int).merged(Merge::Sum),
        Column::new("port", Type::Int).not_null(),
    ];
    Schema::new(columns, vec!["port".into(), "ip".into()]).expect("it is sound")
}

fn object(json: Json) -> Map<String, Json> {
    json.as_object().expect("an object").clone()
}

#[test]
fn a_row_begins_with_its_key() {
    let schema = schema();
    let row = schema.row_from_json(&object(json!({"ip": "1.2.3.4", "port": 80, "hits": 3}))).expect("a row");
    let key = schema.key(&[Value::Integer(80), Value::String("1.2.3.4".into())]).expect("a key");
    assert_eq!(row.key(), key);
    assert_eq!(schema.key_from_json(&object(json!({"ip": "1.2.3.4", "port": 80}))).expect("a key"), key);
    assert_eq!(Json::Object(schema.key_to_json(&key).expect("its own")), json!({"ip": "1.2.3.4", "port": 80}));
    let back = schema.row_to_json(&row).expect("its own");
    assert_eq!(Json::Object(back), json!({"ip": "1.2.3.4", "port": 80, "hits": 3, "reason": null}));
}

#[test]
fn errors_name_the_column_and_what_was_expected() {
    let schema = schema();
    let check = |json: Json, message: &str, code: &str| {
        let error = schema.row_from_json(&object(json)).expect_err("it is refused");
        assert_eq!((error.to_string().as_str(), error.code()), (message, code));
    };
    check(json!({"ip": "x", "port": "a"}), "column 'port' wants INT NOT NULL, not \"a\"", "TM1203");
    check(json!({"ip": "x"}), "column 'port' wants INT NOT NULL, not null", "TM1203");
    check(
        json!({"ip": "1234567890123456", "port": 1}),
        "column 'ip' wants VARCHAR(15) NOT NULL, not \"1234567890123456\"",
        "TM1203",
    );
    check(json!({"ip": "x", "port": 1, "hitz": 1}), "there is no column 'hitz'", "TM1204");
    let error = schema.key_from_json(&object(json!({"ip": "x", "port": 1, "hits": 1}))).expect_err("it is refused");
    assert!(matches!(error, TableError::UnknownColumn { .. }));
    assert!(matches!(schema.row(&[]), Err(TableError::ValueCount { expected: 4, got: 0 })));
    let error = schema.row(&vec![Value::Integer(1); 4]).expect_err("an integer is no text");
    assert!(matches!(error, TableError::BadValue { .. }));
}

#[test]
fn unsound_schemas_are_refused() {
    let check = |columns: Vec<Column>, key: &[&str], message: &str| {
        let key = key.iter().map(|name| (*name).to_string()).collect();
        assert_eq!(Schema::new(columns, key).expect_err("it is unsound").to_string(), message);
    };
    let a = || Column::new("a", Type::Int);
    check(vec![a()], &[], "a versioned table needs a PRIMARY KEY");
    check(vec![a(), a()], &["a"], "column 'a' is declared twice");
    check(vec![a()], &["b"], "the key names no column: 'b'");
    check(vec![a()], &["a", "a"], "the key names column 'a' twice");
    check(vec![a().merged(Merge::Sum)], &["a"], "column 'a' is of the key and cannot be merged");
    let array = Column::new("b", Type::Array(Box::new(Type::Int)));
    check(vec![array.clone()], &["b"], "column 'b' is ARRAY<INT> and cannot be of the key");
    check(vec![a(), array.merged(Merge::Max)], &["a"], "column 'b' is ARRAY<INT> and cannot be merged by max");
    let text = Column::new("b", Type::String(None));
    check(vec![a(), text.clone().merged(Merge::Sum)], &["a"], "column 'b' is STRING and cannot be merged by sum");
    check(vec![a(), text.merged(Merge::Union)], &["a"], "column 'b' is STRING and cannot be merged by union");
}

#[test]
fn a_schema_is_read_from_its_json() {
    let schema = schema();
    let json = serde_json::to_string(&schema).expect("text");
    assert_eq!(serde_json::from_str::<Schema>(&json).expect("its own"), schema);
    let bad = json.replace("\"key\":[\"port\",\"ip\"]", "\"key\":[]");
    assert!(serde_json::from_str::<Schema>(&bad).is_err());
}

#[test]
fn differences_are_told_in_words() {
    let mine = schema();
    assert_eq!(mine.difference(&mine), None);
    let mut columns = mine.columns().to_vec();
    columns[2].merge = None;
    let other = Schema::new(columns.clone(), mine.key_names().to_vec()).expect("it is sound");
    assert_eq!(mine.difference(&other).expect("they differ"), "it has column 'hits' INT merged by sum, not 'hits' INT");
    columns[2].merge = Some(Merge::Sum);
    columns.push(Column::new("more", Type::Int));
    let other = Schema::new(columns.clone(), mine.key_names().to_vec()).expect("it is sound");
    assert_eq!(mine.difference(&other).expect("they differ"), "it has 4 columns, not 5");
    let other = Schema::new(columns, vec!["ip".into()]).expect("it is sound");
    assert_eq!(mine.difference(&other).expect("they differ"), "its primary key is (port, ip), not (ip)");
}

#[test]
fn rows_of_other_tables_are_not_read() {
    let schema = schema();
    for bytes in [vec![], vec![0; 4], vec![3; 40]] {
        assert!(matches!(schema.values(&Row::checked(bytes, 0).expect("small")), Err(TableError::BadRow)));
    }
}
