//! What cannot be an endpoint says what, where, and how to fix it.

use tidemill_base::Explain;
use tidemill_sql::error::render;
use tidemill_sql::{PlanOptions, plan};

/// The text stands on the fourth line, and what is wrong in it starts with `at`.
fn check(text: &str, at: &str, message: &str, help: &str) {
    let tables = "CREATE TABLE payments (id BIGINT NOT NULL, card STRING, amount DOUBLE, seen AS PROCTIME()) WITH ('connector' = 'http');\n\
                  CREATE TABLE bid (card STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'x');\n\
                  CREATE VIEW cards AS SELECT card, COUNT(*) AS n FROM payments GROUP BY card;\n";
    let whole = format!("{tables}{text}");
    let error = plan(&whole, PlanOptions::default()).expect_err(text);
    let shown = render(&error, "t.sql", &whole);
    assert_eq!(error.to_string(), message, "{text}\n{shown}");
    let place = error.position().map(|position| (position.line, text.get(position.column as usize - 1..)));
    assert!(matches!(place, Some((4, Some(rest))) if rest.starts_with(at)), "{text}\n{place:?}\n{shown}");
    assert!(error.help().unwrap_or_default().contains(help), "{text}\n{shown}");
}

#[test]
fn what_a_request_is_has_to_be_known() {
    check(
        "CREATE ENDPOINT s AS SELECT 1 FROM request",
        "s AS",
        "nothing says what a request of s has",
        "name its columns",
    );
    let recorded = |options: &str, columns: &str| {
        format!("CREATE ENDPOINT s {columns} WITH ('record' = '{options}') AS SELECT card FROM payments")
    };
    check(&recorded("payment", ""), "'payment'", "there is no table payment", "did you mean payments?");
    check(&recorded("cards", ""), "'cards'", "'record' names cards, which is a view", "'connector' = 'http'");
    check(
        &recorded("bid", ""),
        "'bid'",
        "requests cannot become rows of bid: its connector is not 'http'",
        "read FROM request",
    );
    check(
        &recorded("payments", "(id BIGINT, crad STRING)"),
        "crad",
        "there is no column crad in the records of payments",
        "did you mean card?",
    );
    check(
        &recorded("payments", "(id BIGINT, seen TIMESTAMP_LTZ(3))"),
        "seen",
        "there is no column seen in the records of payments",
        "not part of a record",
    );
    check(
        &recorded("payments", "(id BIGINT, card INT)"),
        "card INT",
        "card is INT here and STRING in payments",
        "declare it as STRING",
    );
    check(
        &recorded("payments", "(card STRING)"),
        "s (card",
        "id of payments is NOT NULL, and a request does not have it",
        "add id",
    );
}

#[test]
fn the_query_leads_from_the_request_row_by_row() {
    let recorded = |query: &str| format!("CREATE ENDPOINT s WITH ('record' = 'payments') AS {query}");
    let only = |what: &str| {
        format!("{what} between a request and its answer is not supported: an answer is made of the request's row")
    };
    check(&recorded("SELECT card, COUNT(*) AS n FROM payments GROUP BY card"), "card", &only("GROUP BY"), "look it up");
    check(
        &recorded("SELECT card FROM payments ORDER BY amount LIMIT 3"),
        "card FROM",
        &only("ORDER BY with LIMIT"),
        "in a view",
    );
    check(&recorded("SELECT DISTINCT card FROM payments"), "SELECT DISTINCT", &only("DISTINCT"), "in a view");
    check(
        &recorded("SELECT card FROM payments UNION ALL SELECT card FROM bid"),
        "SELECT card FROM payments UNION",
        &only("UNION"),
        "FROM payments alone",
    );
    check(
        &recorded("SELECT card FROM bid"),
        "SELECT card FROM bid",
        "the query reads FROM bid, and a request comes as a row of payments",
        "read FROM payments",
    );
    check(&recorded("SELECT 1 AS a"), "SELECT 1", "the query does not read the request", "FROM payments");
    check(
        &recorded("SELECT card FROM request"),
        "request",
        "there is no table or view request",
        "a request is a row of that table",
    );
    check(
        &recorded("SELECT card FROM payments WHERE 1 > 2"),
        "SELECT card",
        "the query of s never gives a row",
        "cannot be true",
    );
    check(
        "CREATE ENDPOINT s (card STRING) AS SELECT card FROM payments",
        "SELECT card FROM payments",
        "the query reads FROM payments, and a request comes as a row of request",
        "'record' = 'payments'",
    );
    check(
        &recorded("SELECT p.card FROM payments AS p JOIN cards AS c ON c.card = p.card"),
        "c.card = p.card",
        &only("JOIN"),
        "look it up",
    );
    check(
        &recorded("SELECT card FROM payments WHERE card IN (SELECT card FROM cards)"),
        "card IN",
        &only("a query inside an expression"),
        "look it up",
    );
    let random = "SELECT e, UUID() AS u FROM payments CROSS JOIN UNNEST(ARRAY[1, 2]) AS u (e)";
    check(&recorded(random), "SELECT e", &only("RAND or UUID over UNNEST"), "below UNNEST");
}

#[test]
fn lookups_name_what_rows_are_found_by() {
    let joined = |on: &str| {
        format!(
            "CREATE ENDPOINT s WITH ('record' = 'payments') AS SELECT p.card FROM payments AS p JOIN cards FOR SYSTEM_TIME AS OF PROCTIME() AS c ON {on}"
        )
    };
    check(
        &joined("c.n > p.id"),
        "cards FOR",
        "rows are looked up by columns of the view cards, and nothing of the left side is said to equal one",
        "write ON b.k = ..",
    );
    check(
        &joined("c.n = p.id").replace("SELECT p.card", "SELECT p.card, RAND() AS r"),
        "SELECT p.card",
        "RAND or UUID over rows of which several come of one row of the source is not supported yet",
        "in a query below the lookup",
    );
    let strict = joined("c.card = p.card").replace("'payments')", "'payments', 'strict' = 'true')");
    check(
        &strict,
        "cards FOR",
        "'strict' = 'true' refuses to look rows up in cards, which payments feeds",
        "write OVER",
    );
}

#[test]
fn options_are_checked_and_suggested() {
    let of = |options: &str| {
        format!("CREATE ENDPOINT s (a STRING) WITH ({options}) AS SELECT a AS decision, 1 AS score FROM request")
    };
    check(&of("'deadlin' = '5 ms'"), "'deadlin'", "an endpoint has no option 'deadlin'", "did you mean 'deadline'?");
    check(
        &of("'deadline' = 'soon'"),
        "'soon'",
        "option 'deadline' = 'soon' is not a duration like '5 s', '100 ms' or '1 min'",
        "5 s",
    );
    check(
        &of("'deadline' = '0 ms'"),
        "'0 ms'",
        "option 'deadline' = '0' is not a duration above 0 like '5 ms'",
        "above 0",
    );
    check(
        &of("'durability' = 'never'"),
        "'never'",
        "option 'durability' = 'never' is not one of 'process', 'flushed'",
        "process",
    );
    check(&of("'shed' = 'fallback'"), "'fallback'", "'shed' = 'fallback' needs a fallback", "'fallback' = '{..}'");
    check(
        &of("'waiting.max' = '0'"),
        "'0'",
        "option 'waiting.max' = '0' is not a number of requests above 0",
        "above 0",
    );
    check(
        &of("'fallback' = 'no'"),
        "'no'",
        "the fallback is no JSON: expected ident at line 1 column 2",
        "decision, score",
    );
    check(&of("'fallback' = '[]'"), "'[]'", "the fallback is no JSON object", "decision, score");
    check(
        &of("'fallback' = '{\"decison\": \"x\"}'"),
        "'{",
        "the fallback has decison, which is no column of the answer",
        "did you mean decision?",
    );
    check(&of("'fallback' = '{\"score\": \"high\"}'"), "'{", "the fallback's score cannot be \"high\"", "score is INT");
}

#[test]
fn names_are_taken_once() {
    let one = "CREATE ENDPOINT s (a STRING) AS SELECT a FROM request; ";
    check(
        &format!("{one}CREATE ENDPOINT s (a STRING) AS SELECT a FROM request"),
        "s (a STRING)",
        "s exists already",
        "another name",
    );
    check(
        "CREATE ENDPOINT cards (a STRING) AS SELECT a FROM request",
        "cards (a",
        "cards exists already",
        "another name",
    );
    check(
        &format!("{one}CREATE VIEW s AS SELECT card FROM bid"),
        "s AS SELECT card",
        "s exists already",
        "another name",
    );
    let recorded = "CREATE ENDPOINT s WITH ('record' = 'payments') AS SELECT card FROM payments; ";
    check(
        &format!("{recorded}DROP TABLE payments"),
        "payments",
        "payments is in use: the statements of a file run together",
        "remove the DROP",
    );
}

#[test]
fn windows_of_wall_clocks_and_orders_that_cannot_be_say_why() {
    let over = |order: &str| {
        format!(
            "SELECT COUNT(*) OVER (PARTITION BY card ORDER BY {order} RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW) FROM bid"
        )
    };
    check(&over("card"), "card ORDER", "RANGE counts by a time, and card is STRING", "ROWS");
    check(
        "SELECT LAG(card, 0) OVER (ORDER BY ts) FROM bid",
        "card, 0",
        "LAG looks a number of rows back, written out, from 1",
        "LAG(x, 1)",
    );
    check(
        "SELECT n, ROW_NUMBER() OVER (ORDER BY PROCTIME()) FROM (SELECT card, COUNT(*) AS n FROM bid GROUP BY card)",
        "SELECT n",
        "ORDER BY processing time is for rows that are never taken back",
        "a column that the rows carry",
    );
}
