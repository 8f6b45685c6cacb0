//! A run that was written down, run again.

use crate::command::Folder;
use crate::run::{ORDERS, ORDERS_JSON};

fn recorded(sql: &str, stdin: &str) -> Folder {
    let folder = Folder::with(sql);
    folder.write("orders.json", &ORDERS_JSON.repeat(500));
    let ended = folder.run_with(&["run", "pipeline.sql", "-o", "csv", "--record", "run.log", "--lanes", "2"], stdin);
    ended.printed();
    folder
}

fn by_name() -> Folder {
    recorded(&format!("{ORDERS}SELECT name, SUM(price) AS s FROM orders GROUP BY name;"), "")
}

#[test]
fn a_replay_gives_what_the_run_gave() {
    let folder = by_name();
    let ended = folder.run(&["replay", "run.log"]);
    assert!(ended.stderr.contains("steps with 1,500 records gave what they gave"), "{ended:?}");
    assert_eq!(ended.printed(), "");
}

#[test]
fn random_numbers_are_replayed_too() {
    let folder = recorded(&format!("{ORDERS}SELECT id, RAND() AS r, UUID() AS u FROM orders;"), "");
    folder.run(&["replay", "run.log"]).printed();
}

#[test]
fn what_cannot_be_read_again_is_in_the_record() {
    let folder = recorded(
        "CREATE TABLE t (a BIGINT) WITH ('connector' = 'stdin', 'format' = 'json'); SELECT SUM(a) AS s FROM t;",
        "{\"a\": 1}\n{\"a\": 41}\n",
    );
    folder.run(&["replay", "run.log"]).printed();
}

#[test]
fn a_changed_file_refuses_replay() {
    let folder = by_name();
    folder.write("orders.json", &ORDERS_JSON.repeat(501));
    folder.run(&["replay", "run.log"]).failed(1, &["orders.json", "changed"]);
}

#[test]
fn a_changed_record_is_noticed() {
    let folder = by_name();
    let log = std::fs::read_to_string(folder.path("run.log")).expect("it was written");
    let done = log.find("{\"done\"").expect("there are trailers");
    let at = done + log[done..].find("\"digest\":\"").expect("trailers have digests") + "\"digest\":\"".len();
    let other = if log[at..].starts_with('0') { "1" } else { "0" };
    folder.write("changed.log", &format!("{}{other}{}", &log[..at], &log[at + 1..]));
    folder.run(&["replay", "changed.log"]).failed(1, &["of the replay differs", "digest"]);
}

#[test]
fn a_record_that_was_cut_off_is_replayed_as_far_as_it_goes() {
    let folder = by_name();
    let log = std::fs::read_to_string(folder.path("run.log")).expect("it was written");
    let whole: Vec<&str> = log.lines().collect();
    let last = whole.len() - 1;
    let cut = format!("{}\n{}", whole[..last].join("\n"), &whole[last][..whole[last].len() / 2]);
    folder.write("cut.log", &cut);
    let ended = folder.run(&["replay", "cut.log"]);
    assert!(ended.stderr.contains("the record has no end"), "{ended:?}");
    ended.printed();
}

#[test]
fn what_is_no_record_is_refused() {
    let folder = by_name();
    folder.run(&["replay", "orders.json"]).failed(1, &["orders.json"]);
    folder.run(&["replay", "nowhere.log"]).failed(1, &["nowhere.log", "No such file"]);
    folder.run(&["run", "pipeline.sql", "--record", "no/folder/run.log"]).failed(1, &["no/folder/run.log"]);
}

#[test]
fn steps_do_not_depend_on_timing() {
    let folder = Folder::with(
        "CREATE TABLE a (id BIGINT) WITH ('connector' = 'filesystem', 'path' = 'a', 'format' = 'json');
         CREATE TABLE b (id BIGINT) WITH ('connector' = 'filesystem', 'path' = 'b', 'format' = 'csv');
         SELECT COUNT(*) AS n FROM (SELECT id FROM a UNION ALL SELECT id FROM b);",
    );
    folder.write("a/1.json", &"{\"id\": 1}\n".repeat(70_000));
    folder.write("a/2.json", &"{\"id\": 2}\n".repeat(30_000));
    folder.write("b/1.csv", &"3\n".repeat(90_000));
    let steps = |log: &str, lanes: &str| {
        let arguments = ["run", "pipeline.sql", "-o", "csv", "--seed", "1", "--lanes", lanes, "--record", log];
        assert_eq!(folder.run(&arguments).printed(), "n\n190000\n");
        let text = std::fs::read_to_string(folder.path(log)).expect("it was written");
        let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
        lines.filter_map(|line| line["step"]["header"]["sources"].as_array().cloned()).collect::<Vec<_>>()
    };
    let first = steps("first.log", "1");
    assert!(first.len() >= 3, "190,000 rows are more than two steps: {}", first.len());
    assert_eq!(steps("second.log", "1"), first);
    assert_eq!(steps("third.log", "2"), first, "lanes do not cut steps");
}
