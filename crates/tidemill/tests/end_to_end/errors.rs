//! What goes wrong: an exit code, and words that say what, where and how to mend it.

use std::fs;

use crate::command::{Ended, Folder, can_deny};
use crate::run::{ORDERS, ORDERS_JSON};

#[test]
fn wrong_usage_is_exit_code_2() {
    let folder = Folder::with("SELECT 1 AS a;");
    folder.run(&["run"]).failed(2, &["<FILE>"]);
    folder.run(&["run", "pipeline.sql", "--lane", "2"]).failed(2, &["--lanes"]);
    folder.run(&["rum", "pipeline.sql"]).failed(2, &["run"]);
    folder.run(&["run", "pipeline.sql", "--lanes", "0"]).failed(2, &["1..=256"]);
    folder.run(&["run", "pipeline.sql", "-o", "xml"]).failed(2, &["text", "json", "ndjson", "csv"]);
    folder.run(&["run", "nowhere.sql"]).failed(2, &["nowhere.sql cannot be read", "No such file"]);
    folder.run(&["bench", "nexmark", "--queries", "q99"]).failed(2, &["no query 'q99'", "q22"]);
}

#[test]
fn wrong_sql_is_exit_code_3_with_the_place_underlined() {
    let check = |sql: &str, parts: &[&str]| {
        let folder = Folder::with(sql);
        for verb in ["run", "check", "explain"] {
            let ended = folder.run(&[verb, "pipeline.sql"]);
            ended.failed(3, parts);
            assert_eq!(ended.stdout, "");
        }
    };
    check("SELECT 1 AS a;\nSELEC 2;", &["error[TM10", "--> pipeline.sql:2:1", "SELEC 2", "^^^^^"]);
    check("SELECT a FROM orders;", &["orders", "pipeline.sql:1:"]);
    check(&format!("{ORDERS}SELECT prise FROM orders;"), &["prise", "did you mean price?", "pipeline.sql:3:8"]);
    check("SET 'lanse' = '2';\nSELECT 1 AS a;", &["did you mean 'lanes'?", "pipeline.sql:1:"]);
}

#[test]
fn wrong_options_are_exit_code_3_with_the_place_underlined() {
    let check = |options: &str, parts: &[&str]| {
        let folder = Folder::with(&format!("CREATE TABLE t (a BIGINT)\nWITH ({options});\nSELECT a FROM t;"));
        for verb in ["run", "check"] {
            folder.run(&[verb, "pipeline.sql"]).failed(3, parts);
        }
    };
    check("'connector' = 'filesystm', 'path' = 'x'", &["'filesystm'", "did you mean 'filesystem'?", "pipeline.sql:2:"]);
    check(
        "'connector' = 'filesystem', 'path' = 'x', 'formt' = 'json', 'format' = 'json'",
        &["'formt'", "did you mean 'format'?", "pipeline.sql:2:49"],
    );
    check("'connector' = 'datagen', 'rows-per-second' = 'fast'", &["'fast'", "whole number"]);
    check("'connector' = 'kafka'", &["not built yet"]);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let folder = Folder::with(&format!("{ORDERS}SELECT COUNT(*) AS n FROM orders;"));
    let ended = folder.run(&["run", "pipeline.sql"]);
    ended.failed(1, &["orders.json", "does not exist", "help:"]);
    assert_eq!(ended.stdout, "");
}

#[test]
fn a_bad_record_stops_the_run_and_is_shown() {
    let folder = Folder::with(&format!("{ORDERS}SELECT COUNT(*) AS n FROM orders;"));
    folder.write("orders.json", &format!("{ORDERS_JSON}{{\"id\": \"four\"}}\n"));
    let ended = folder.run(&["run", "pipeline.sql"]);
    ended.failed(1, &["orders.json", "line 4", "four", "ignore-parse-errors"]);
    assert_eq!(ended.stdout, "");
}

#[test]
fn a_row_that_fails_stops_the_run_and_is_shown() {
    let sql = format!("{ORDERS}SELECT 10 / (id - 2) AS x FROM orders;");
    let folder = Folder::with(&sql);
    folder.write("orders.json", ORDERS_JSON);
    folder.run(&["run", "pipeline.sql"]).failed(1, &["error[TM2001]", "pipeline.sql:3:", "\"id\": 2"]);
    folder.write("pipeline.sql", &format!("SET 'on-error' = 'dead-letter';\n{sql}"));
    let ended = folder.run(&["run", "pipeline.sql", "-o", "csv"]);
    assert!(ended.stderr.contains("1 row was left out"), "{ended:?}");
    assert_eq!(ended.printed().lines().count(), 3);
}

#[test]
fn a_sink_that_cannot_take_rows_back_is_refused_before_the_run() {
    let folder = Folder::with(&format!(
        "{ORDERS}CREATE TABLE out (name STRING, n BIGINT)
         WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'json');
         INSERT INTO out SELECT name, COUNT(*) FROM orders GROUP BY name;"
    ));
    folder.write("orders.json", ORDERS_JSON);
    folder.run(&["run", "pipeline.sql"]).failed(3, &["'out'", "takes rows back", "Aggregate"]);
    assert!(folder.files("out").is_empty());
}

#[test]
fn a_folder_without_permission_is_named() {
    let folder = Folder::with(&format!(
        "{ORDERS}CREATE TABLE out (id BIGINT)
         WITH ('connector' = 'filesystem', 'path' = 'locked/out', 'format' = 'json');
         INSERT INTO out SELECT id FROM orders;"
    ));
    folder.write("orders.json", ORDERS_JSON);
    let locked = folder.path("locked");
    fs::create_dir(&locked).expect("the folder is ours");
    let mut permissions = fs::metadata(&locked).expect("it is there").permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&locked, permissions.clone()).expect("it is ours");
    if can_deny(&locked) {
        folder.run(&["run", "pipeline.sql"]).failed(1, &["permission denied", "locked"]);
    }
    // A file where the folder should be stands in the way of root too.
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
    fs::set_permissions(&locked, permissions).expect("it is ours");
    folder.write("locked/out", "in the way");
    folder.run(&["run", "pipeline.sql"]).failed(1, &["locked/out"]);
}

#[test]
fn a_port_that_is_taken_is_named() {
    let folder = Folder::with("CREATE TABLE t (a BIGINT) WITH ('connector' = 'http'); SELECT a FROM t;");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("the loopback has free ports");
    let address = taken.local_addr().expect("it is bound").to_string();
    folder.run(&["run", "pipeline.sql", "--listen", &address]).failed(1, &["cannot listen", &address, "--listen"]);
    folder.run(&["run", "pipeline.sql", "--listen", "0.0.0.0:0"]).failed(3, &["refusing", "--insecure"]);
    folder.run(&["run", "pipeline.sql", "--listen", "here"]).failed(3, &["'here'", "HOST:PORT"]);
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing_behind() {
    let folder = Folder::with(
        "CREATE TABLE made (id BIGINT, text STRING)
         WITH ('connector' = 'datagen', 'number-of-rows' = '1000000', 'rows-per-second' = '0', 'fields.text.length' = '100');
         CREATE TABLE out (id BIGINT, text STRING) WITH ('connector' = 'filesystem', 'path' = 'small', 'format' = 'json');
         INSERT INTO out SELECT id, text FROM made;",
    );
    fs::create_dir(folder.path("small")).expect("the folder is ours");
    // A disk of 2 MiB in a name space of its own: it goes away with the command.
    let script = "mount -t tmpfs -o size=2m small small || exit 77
                  \"$0\" run pipeline.sql --state none; code=$?; ls -A small; exit $code";
    let mut command = std::process::Command::new("unshare");
    command.args(["-rm", "sh", "-c", script, env!("CARGO_BIN_EXE_tidemill")]).current_dir(folder.path("."));
    let Ok(output) = command.output() else { return eprintln!("skipped: there is no unshare command here") };
    if output.status.code() == Some(77) || String::from_utf8_lossy(&output.stderr).starts_with("unshare:") {
        return eprintln!("skipped: this user may not mount: {}", String::from_utf8_lossy(&output.stderr));
    }
    let ended = Ended::of(output);
    ended.failed(1, &["no space left", "small", "df -h"]);
    assert_eq!(ended.stdout, "", "nothing is left on the disk");
}
