//! Rows that look others up in files, and as of the time of a changelog, as queries for Flink are written.

use crate::command::Folder;

const CONTENTS: &str = "CREATE TABLE src (id BIGINT, len INT, content STRING, proctime AS PROCTIME())
   WITH ('connector' = 'filesystem', 'path' = 'src.csv', 'format' = 'csv');
 CREATE TABLE user_table (age INT, id BIGINT, name STRING)
   WITH ('connector' = 'filesystem', 'path' = 'users.csv', 'format' = 'csv');
";

/// Runs a SELECT over both files, and returns its rows, sorted.
fn looked_up(sql: &str) -> String {
    let folder = Folder::with(&format!("{CONTENTS}{sql};"));
    folder.write("src.csv", "1,12,Julian\n2,15,Hello\n3,15,Fabian\n8,11,Hello world\n,5,nobody\n");
    folder.write("users.csv", "33,3,Fabian\n11,1,Julian\n22,2,Jark\n44,2,Hello\n22,2,Jark\n10,,nobody\n");
    let ended = folder.run(&["run", "pipeline.sql", "-o", "csv"]);
    let printed = ended.printed();
    printed.split_once('\n').map(|(_, rows)| rows.to_string()).unwrap_or_default()
}

const JOIN: &str = "user_table FOR SYSTEM_TIME AS OF T.proctime AS D";

#[test]
fn every_row_of_a_file_is_found_that_matches() {
    let select = "SELECT T.id, T.len, D.name, D.age FROM src AS T";
    let found = looked_up(&format!("{select} JOIN {JOIN} ON T.id = D.id"));
    assert_eq!(found, "1,12,Julian,11\n2,15,Hello,44\n2,15,Jark,22\n2,15,Jark,22\n3,15,Fabian,33\n");
    let found = looked_up(&format!("{select} LEFT JOIN {JOIN} ON T.id = D.id AND D.age > 22"));
    assert_eq!(found, ",5,,\n1,12,,\n2,15,Hello,44\n3,15,Fabian,33\n8,11,,\n");
    let found = looked_up(&format!("{select} JOIN {JOIN} ON T.content = D.name AND T.len > D.age"));
    assert_eq!(found, "1,12,Julian,11\n");
    let found = looked_up(&format!(
        "SELECT D.name, COUNT(*), SUM(T.len) FROM src AS T JOIN {JOIN} ON T.id = D.id GROUP BY D.name ORDER BY D.name"
    ));
    assert_eq!(found, "Fabian,1,15\nHello,1,15\nJark,2,30\nJulian,1,12\n");
}

#[test]
fn two_rows_of_a_declared_key_stop_the_pipeline() {
    let folder = Folder::with(
        &format!("{CONTENTS}SELECT T.id, D.name FROM src AS T JOIN {JOIN} ON T.id = D.id;")
            .replace("name STRING)", "name STRING, PRIMARY KEY (id) NOT ENFORCED)"),
    );
    folder.write("src.csv", "1,12,Julian\n");
    folder.write("users.csv", "11,1,Julian\n22,2,Jark\n44,2,Hello\n");
    folder.run(&["run", "pipeline.sql"]).failed(3, &["more than one row with the key {\"id\": 2}"]);
}

#[test]
fn rows_find_the_version_of_a_changelog_at_their_time() {
    let folder = Folder::with(
        "CREATE TABLE orders (order_id STRING, price DECIMAL(10, 2), currency STRING, order_time TIMESTAMP(3),
           WATERMARK FOR order_time AS order_time) WITH ('connector' = 'filesystem', 'path' = 'orders.csv', 'format' = 'csv');
         CREATE TABLE currency_rates (currency STRING, rate DECIMAL(10, 2), update_time TIMESTAMP(3),
           WATERMARK FOR update_time AS update_time - INTERVAL '1' MINUTE, PRIMARY KEY (currency) NOT ENFORCED)
           WITH ('connector' = 'filesystem', 'path' = 'rates.json', 'format' = 'debezium-json');
         SELECT order_id, orders.currency, rate FROM orders
         LEFT JOIN currency_rates FOR SYSTEM_TIME AS OF orders.order_time ON orders.currency = currency_rates.currency;",
    );
    let at = |time: &str| format!("2020-10-10 {time}");
    let orders =
        [("o1", "EUR", "12:00:30"), ("o2", "EUR", "12:03:00"), ("o3", "USD", "12:06:00"), ("o4", "EUR", "12:08:00")];
    let orders = orders.map(|(id, currency, time)| format!("{id},1.00,{currency},{}\n", at(time)));
    folder.write("orders.csv", &orders.concat());
    let row = |rate: &str, time: &str| format!(r#"{{"currency":"EUR","rate":{rate},"update_time":"{}"}}"#, at(time));
    let (first, second) = (row("1.14", "12:00:00"), row("1.18", "12:02:00"));
    let dollar = format!(r#"{{"currency":"USD","rate":1.00,"update_time":"{}"}}"#, at("12:08:30"));
    let changes = [
        format!(r#"{{"before":null,"after":{first},"op":"c"}}"#),
        format!(r#"{{"before":{first},"after":{second},"op":"u"}}"#),
        format!(r#"{{"before":null,"after":{dollar},"op":"c"}}"#),
        // The watermark stands at 12:07:30, from when on there is no rate of the euro.
        format!(r#"{{"before":{second},"after":null,"op":"d"}}"#),
    ];
    folder.write("rates.json", &(changes.join("\n") + "\n"));
    let printed = folder.run(&["run", "pipeline.sql", "-o", "csv"]).printed();
    let mut rows: Vec<&str> = printed.lines().skip(1).collect();
    rows.sort_unstable();
    assert_eq!(rows, ["o1,EUR,1.14", "o2,EUR,1.18", "o3,USD,", "o4,EUR,"]);
}
