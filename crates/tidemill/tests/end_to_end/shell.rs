//! Statements typed into the shell, here through a pipe.

use crate::command::Folder;
use crate::run::{ORDERS, ORDERS_JSON};

fn orders() -> Folder {
    let folder = Folder::with(ORDERS);
    folder.write("orders.json", ORDERS_JSON);
    folder
}

#[test]
fn definitions_are_remembered_and_queries_run() {
    let folder = orders();
    let typed = "CREATE VIEW dear AS\n  SELECT * FROM orders WHERE price > 1;\n\
                 SELECT COUNT(*) AS n FROM dear;\nSELECT id FROM dear\nORDER BY id";
    let ended = folder.run_with(&["sql", "pipeline.sql", "-o", "ndjson"], typed);
    assert_eq!(ended.printed(), "{\"n\":2}\n{\"id\":1}\n{\"id\":2}\n");
}

#[test]
fn describes_what_is_defined() {
    let folder = orders();
    let ended = folder.run_with(&["sql", "pipeline.sql"], "\\d\n\\d orders\n\\q\nSELECT nonsense;");
    assert_eq!(ended.printed(), "table orders\nid    BIGINT\nname  STRING\nprice DOUBLE\n");
}

#[test]
fn errors_end_a_script_with_their_exit_code() {
    let folder = orders();
    let ended = folder.run_with(&["sql", "pipeline.sql"], "SELECT id,\n       prise\nFROM orders;\nSELECT 1 AS a;\n");
    ended.failed(3, &["shell:2:8", "did you mean price?"]);
    assert_eq!(ended.stdout, "");
}
