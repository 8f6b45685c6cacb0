use serde_json::json;
use tempfile::TempDir;
use tidemill_base::Explain;

use super::*;

/// A folder with table `blocklist (ip STRING, port INT, score INT)` of key (ip, port), whose scores are merged by max.
fn blocklist() -> (TempDir, Table) {
    let folder = TempDir::new().expect("a temporary folder");
    let key = ["ip", "port"].map(str::to_string);
    let schema = declared("ip STRING, port INT, score INT", &key, &["score=max".to_string()]).expect("it is sound");
    let place = Place::open(&folder.path().display().to_string()).expect("the folder is there");
    let table = place.create("blocklist", &schema, "me").expect("there is none");
    (folder, table)
}

fn again(folder: &TempDir) -> Table {
    let place = Place::open(&folder.path().display().to_string()).expect("the folder is there");
    assert_eq!(place.names().expect("they are listed"), ["blocklist"]);
    place.table("blocklist").expect("it is there")
}

fn row(ip: &str, port: i32, score: i32) -> Map<String, Json> {
    match json!({ "ip": ip, "port": port, "score": score }) {
        Json::Object(row) => row,
        _ => unreachable!("it is an object"),
    }
}

fn puts(rows: &[(&str, i32, i32)]) -> Submission {
    let puts = rows.iter().map(|(ip, port, score)| row(ip, *port, *score)).collect();
    Submission { puts, author: "me".to_string(), ..Submission::default() }
}

fn rows(table: &Table, version: Version) -> Vec<(String, i64)> {
    let rows = table.rows(version, &[], 100).expect("it is kept").rows;
    let pair = |row: Map<String, Json>| {
        (format!("{}:{}", row["ip"].as_str().unwrap_or("?"), row["port"]), row["score"].as_i64().unwrap_or(-1))
    };
    rows.into_iter().map(pair).collect()
}

fn pairs(expected: &[(&str, i64)]) -> Vec<(String, i64)> {
    expected.iter().map(|(key, score)| (key.to_string(), *score)).collect()
}

#[test]
fn a_change_without_deps_rests_on_whatever_the_head_is() {
    let (folder, mut one) = blocklist();
    let mut other = again(&folder);
    for round in 0..5 {
        one.submit(&puts(&[("a", 1, round)])).expect("it rests on the head");
        // The other has not read what the first has just written to the same key.
        other.submit(&puts(&[("a", 1, 100 + round), ("b", round, 0)])).expect("it is tried again on the newer head");
    }
    let head = other.head().version();
    let expected = [("a:1", 104), ("b:0", 0), ("b:1", 0), ("b:2", 0), ("b:3", 0), ("b:4", 0)];
    assert_eq!(rows(&other, head), pairs(&expected));
}

#[test]
fn a_change_with_deps_is_held_to_them() {
    let (_folder, mut table) = blocklist();
    let first = table.submit(&puts(&[("a", 1, 1)])).expect("it rests on the head").head;
    table.submit(&puts(&[("b", 1, 1)])).expect("it rests on the head");
    let third = table.submit(&puts(&[("c", 1, 1)])).expect("it rests on the head").head;
    let on = |deps: &[Version], merge| Submission { deps: Some(deps.to_vec()), merge, ..puts(&[("a", 1, 9)]) };
    let refused =
        |table: &mut Table, submission: &Submission| table.submit(submission).expect_err("it is refused").code();
    assert_eq!(refused(&mut table, &on(&[first], false)), "TM1213");
    let merged = table.submit(&on(&[first], true)).expect("it asks for a merge");
    assert!(merged.merged && merged.head > third);
    assert_eq!(rows(&table, merged.head), pairs(&[("a:1", 9), ("b:1", 1), ("c:1", 1)]));
    let unknown = "99-1-1".parse().expect("a version");
    assert_eq!(refused(&mut table, &on(&[unknown], true)), "TM1211");
    let gone = Submission {
        deletes: vec![table.key_object(&[(None, "a"), (None, "1")]).expect("a key")],
        ..Submission::default()
    };
    table.submit(&gone).expect("it rests on the head");
    let overlap = Submission { deps: Some(vec![third]), merge: true, ..puts(&[("a", 1, 3)]) };
    assert_eq!(refused(&mut table, &overlap), "TM1212");
}

#[test]
fn what_was_rolled_back_can_be_merged() {
    let (_folder, mut table) = blocklist();
    let first = table.submit(&puts(&[("a", 1, 1)])).expect("it rests on the head").head;
    let second = table.submit(&puts(&[("b", 1, 2)])).expect("it rests on the head").head;
    let third = table.submit(&puts(&[("c", 1, 3)])).expect("it rests on the head").head;
    let back = Return { version: first, head: Some(second), epoch: 0, author: String::new(), message: String::new() };
    assert_eq!(table.roll_back(&back).expect_err("the head is the third").code(), "TM1213");
    table.roll_back(&Return { head: None, ..back }).expect("it is kept");
    table.submit(&puts(&[("d", 1, 4)])).expect("it rests on the head");
    let merged = table.merge(third, &Submission::default()).expect("it was rolled back");
    assert_eq!(rows(&table, merged.head), pairs(&[("a:1", 1), ("b:1", 2), ("c:1", 3), ("d:1", 4)]));
    assert_eq!(table.merge(first, &Submission::default()).expect_err("the head rests on it").code(), "TM6029");
}

#[test]
fn what_is_older_than_a_version_is_forgotten_for_everybody() {
    let (folder, mut table) = blocklist();
    let heads: Vec<Version> = (0..40)
        .map(|round| table.submit(&puts(&[("a", round % 7, round)])).expect("it rests on the head").head)
        .collect();
    let mut other = again(&folder);
    let would = table.prune(heads[29], "me", true).expect("it was the head");
    assert_eq!((would.forgotten, would.kept), (30, 11), "the empty table is a version too");
    assert_eq!(rows(&table, heads[3]).len(), 4, "nothing was changed");
    assert_eq!(table.prune(heads[29], "me", false).expect("it was the head"), would);
    let all = rows(&table, heads[39]);
    for table in [&mut other, &mut again(&folder)] {
        table.refresh().expect("it is there");
        assert_eq!(table.rows(heads[28], &[], 9).expect_err("it is forgotten").code(), "TM1214");
        assert_eq!(table.diff(heads[28], heads[39]).expect_err("it is forgotten").code(), "TM1214");
        assert_eq!((rows(table, heads[29]).len(), rows(table, heads[39])), (7, all.clone()));
        assert_eq!(table.prune(heads[2], "me", false).expect_err("it is forgotten").code(), "TM1214");
    }
    let late = Submission { deps: Some(vec![heads[2]]), merge: true, ..puts(&[("b", 1, 1)]) };
    assert_eq!(other.submit(&late).expect_err("it rests on what is not kept").code(), "TM1211");
    let head = other.submit(&puts(&[("b", 1, 1)])).expect("it rests on the head").head;
    table.refresh().expect("it is there");
    assert_eq!(rows(&table, head).len(), 8);
    let records = std::fs::read_dir(folder.path().join("tables/blocklist/log")).expect("it is there").count();
    assert!(records < 20, "{records} records are left");
    assert_eq!(table.prune("77-1-1".parse().expect("a version"), "me", false).expect_err("no").code(), "TM1209");
}

#[test]
fn rows_are_found_by_key_and_come_in_its_order() {
    let (_folder, mut table) = blocklist();
    let head = table.submit(&puts(&[("b", 2, 1), ("a", 10, 2), ("a", 9, 3), ("b", -1, 4)])).expect("the head").head;
    assert_eq!(rows(&table, head), pairs(&[("a:9", 3), ("a:10", 2), ("b:-1", 4), ("b:2", 1)]));
    let some = table.rows(head, &[], 2).expect("it is kept");
    assert_eq!((some.rows.len(), some.more), (2, true));
    let one = |parts: &[(Option<&str>, &str)]| table.rows(head, parts, 9).map(|found| found.rows);
    assert_eq!(one(&[(None, "a"), (None, "9")]).ok(), Some(vec![row("a", 9, 3)]));
    assert_eq!(one(&[(Some("port"), "10"), (None, "a")]).ok(), Some(vec![row("a", 10, 2)]));
    assert_eq!(one(&[(None, "a"), (None, "8")]).ok(), Some(vec![]));
    for (parts, code) in [
        (&[(None, "a")][..], "TM6027"),
        (&[(Some("score"), "a"), (None, "9")], "TM6027"),
        (&[(None, "a"), (None, "nine")], "TM1203"),
    ] {
        assert_eq!(one(parts).expect_err("it is no key").code(), code);
    }
}

#[test]
fn differences_name_rows_of_both_sides() {
    let (_folder, mut table) = blocklist();
    let first = table.submit(&puts(&[("a", 1, 1), ("b", 1, 1)])).expect("the head").head;
    let gone = table.key_object(&[(None, "b"), (None, "1")]).expect("a key");
    let second = Submission { deletes: vec![gone], ..puts(&[("a", 1, 2), ("c", 1, 1)]) };
    let second = table.submit(&second).expect("the head").head;
    let changes = table.diff(first, second).expect("both are kept").changes;
    let changes: std::collections::BTreeMap<String, (bool, bool)> =
        changes.iter().map(|one| (one.key["ip"].to_string(), (one.before.is_some(), one.after.is_some()))).collect();
    let expected = [("\"a\"", (true, true)), ("\"b\"", (true, false)), ("\"c\"", (false, true))];
    assert_eq!(changes, expected.map(|(key, sides)| (key.to_string(), sides)).into());
    let nowhere = "77-1-1".parse().expect("a version");
    assert_eq!(table.diff(first, nowhere).expect_err("there is none").code(), "TM1209");
}

#[test]
fn a_place_is_a_folder_that_is_there() {
    let folder = TempDir::new().expect("a temporary folder");
    let nowhere = folder.path().join("nowhere");
    let error = Place::open(&nowhere.display().to_string()).map(|_| ()).expect_err("there is no such folder");
    assert_eq!(error.code(), "TM6026");
    assert!(!nowhere.exists(), "asking makes nothing");
}

/// A declared table `t (...)` with a primary key, and what of it differs from what is there.
fn difference(declared_columns: &str, key: &str, there: &str) -> Option<String> {
    let sql = format!(
        "CREATE TABLE t ({declared_columns}, PRIMARY KEY ({key}) NOT ENFORCED) WITH ('connector' = 'versioned');"
    );
    let pipeline = tidemill_sql::plan(&sql, tidemill_sql::PlanOptions::default()).expect("it is sound");
    let def = pipeline.table("t").expect("it is declared");
    // What the error tells to type makes the table that is declared.
    let command = declare::create_command(def, "s");
    let columns = command.split('"').nth(1).expect("columns in quotes");
    let key: Vec<String> = command.rsplit(' ').next().expect("a key").split(',').map(str::to_string).collect();
    let made = declared(columns, &key, &[]).expect("the command is sound");
    assert_eq!(declare::difference(def, &made), None, "{command}");
    declare::difference(def, &declared(there, &["k".to_string()], &[]).expect("it is sound"))
}

#[test]
fn a_declaration_is_compared_with_the_table_that_is_there() {
    let check = |columns: &str, key: &str, there: &str, expected: Option<&str>| {
        assert_eq!(difference(columns, key, there).as_deref(), expected, "{columns}");
    };
    let all = "k STRING, a BOOLEAN, b TINYINT, c SMALLINT, d INT, e BIGINT, f FLOAT, g DOUBLE, h DECIMAL(10, 2), i BYTES, \
               j DATE, l TIME(0), m TIMESTAMP(3), n TIMESTAMP_LTZ(6), o TIMESTAMP(9), p TIME(6)";
    check(all, "k", all, None);
    check("k VARCHAR(3), v INT", "k", "k STRING, v INT NOT NULL", None);
    check("k STRING, v INT", "k", "k STRING, v BIGINT", Some("it has column 'v' BIGINT, not 'v' INT"));
    check("k STRING, v INT", "k", "k STRING, w INT", Some("it has column 'w' INT, not 'v' INT"));
    check("k STRING, v INT NOT NULL", "k", "k STRING, v INT", Some("its column 'v' may be NULL"));
    check("k STRING, v INT", "k", "k STRING", Some("it has 1 columns, not 2"));
    check("k STRING, v INT", "v", "k STRING, v INT NOT NULL", Some("its primary key is (k), not (v)"));
}

#[test]
fn rows_of_every_type_come_in_columns() {
    let folder = TempDir::new().expect("a temporary folder");
    let columns = "k STRING, a BOOLEAN, b TINYINT, c SMALLINT, d INT, e BIGINT, f FLOAT, g DOUBLE, h DECIMAL(10, 2), \
                   i BYTES, j DATE, l TIME(3), m TIMESTAMP(3), n TIMESTAMP_LTZ(6), o TIMESTAMP(9), p TIME(6)";
    let schema = declared(columns, &["k".to_string()], &[]).expect("it is sound");
    let place = Place::open(&folder.path().display().to_string()).expect("the folder is there");
    let mut table = place.create("t", &schema, "me").expect("there is none");
    let full = json!({
        "k": "x", "a": true, "b": -1, "c": 2, "d": 3, "e": 4, "f": 0.5, "g": 1.5, "h": "12.34", "i": "AAE=", "j": "2024-02-29",
        "l": "01:02:03.004", "m": "2024-01-01 00:00:00.500", "n": "2024-01-01 00:00:00Z", "o": "2024-01-01 00:00:00", "p": "00:00:01",
    });
    let Json::Object(full) = full else { unreachable!("it is an object") };
    let Json::Object(empty) = json!({ "k": "y" }) else { unreachable!("it is an object") };
    table.submit(&Submission { puts: vec![full, empty], ..Submission::default() }).expect("the head");
    let fields = schema.columns().iter().map(|column| {
        let kind = columns::data_type(&column.kind).expect("no arrays");
        arrow_schema::Field::new(&column.name, kind, column.nullable)
    });
    let fields = Arc::new(arrow_schema::Schema::new(fields.collect::<Vec<_>>()));
    let batch = columns::batch(table.head(), &fields).expect("they are its columns");
    let mut lines = Vec::new();
    let mut encoder = tidemill_format::encode::JsonEncoder::new(tidemill_format::JsonOptions::default());
    tidemill_format::Encoder::encode(&mut encoder, &batch, None, &mut lines).expect("every type has a form");
    let lines = String::from_utf8(lines).expect("JSON is text");
    let line =
        |key: &str| lines.lines().find(|line| line.contains(key)).unwrap_or_else(|| panic!("{lines}")).to_string();
    let full: Json = serde_json::from_str(&line("\"x\"")).expect("JSON");
    assert_eq!(
        (&full["a"], &full["b"], &full["g"], &full["j"]),
        (&json!(true), &json!(-1), &json!(1.5), &json!("2024-02-29"))
    );
    assert!(full["h"].to_string().contains("12.34") && full["m"].to_string().contains("00:00:00.5"), "{full}");
    let empty: Json = serde_json::from_str(&line("\"y\"")).expect("JSON");
    let nulls = empty.as_object().expect("an object").values().filter(|value| value.is_null()).count();
    assert_eq!(nulls, 15, "{empty}");
}
