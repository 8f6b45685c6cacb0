//! Tables that are declared right and wrong, and what is said about it.

use crate::common::{columns, connector};
use tidemill_base::Explain;
use tidemill_connect::{Connector, Rows, Takes};
use tidemill_stage::Cancel;

fn check(pairs: &[(&str, &str)], message: &str, help: &str) {
    let error = connector(pairs).err().unwrap_or_else(|| panic!("{pairs:?} was taken"));
    assert_eq!(error.to_string(), message);
    assert_eq!(error.help().unwrap_or_default(), help);
    assert_eq!(error.kind(), tidemill_base::Kind::Config);
}

#[test]
fn says_what_is_wrong_with_a_table() {
    check(&[], "table 't': table 't' needs the option 'connector'", "add 'connector' = '...' to the WITH clause");
    check(&[("connector", "filesytem")], "table 't': there is no connector 'filesytem'", "did you mean 'filesystem'?");
    check(
        &[("connector", "kafka")],
        "table 't': the connector 'kafka' is not built yet",
        "the connectors are 'filesystem', 'stdin', 'http', 'ring', 'datagen', 'nexmark', 'print', 'blackhole'",
    );
    check(
        &[("connector", "filesystem"), ("format", "json")],
        "table 't': connector 'filesystem' needs the option 'path'",
        "add 'path' = '...' to the WITH clause",
    );
    check(
        &[("connector", "filesystem"), ("path", "/x")],
        "table 't': connector 'filesystem' needs the option 'format'",
        "add 'format' = '...' to the WITH clause",
    );
    check(
        &[("connector", "filesystem"), ("path", "/x"), ("formt", "json")],
        "table 't': connector 'filesystem' has no option 'formt'",
        "did you mean 'format'?",
    );
    check(
        &[("connector", "filesystem"), ("path", "/x"), ("format", "json"), ("source.monitor-intervall", "1 s")],
        "table 't': connector 'filesystem' has no option 'source.monitor-intervall'",
        "did you mean 'source.monitor-interval'?",
    );
    check(
        &[("connector", "datagen"), ("fields.idd.min", "1")],
        "table 't': connector 'datagen' has no option 'fields.idd.min'",
        "did you mean 'fields.id.min'?",
    );
    check(
        &[("connector", "blackhole"), ("digest", "yes")],
        "table 't': option 'digest' = 'yes' is not 'true' or 'false'",
        "give 'digest' 'true' or 'false'",
    );
    check(
        &[("connector", "http"), ("url", "ftp://host/"), ("format", "json")],
        "table 't': option 'url' = 'ftp://host/' is not an address like 'http://host:8080/path'",
        "give 'url' an address like 'http://host:8080/path'",
    );
    check(
        &[("connector", "print"), ("format", "yaml")],
        "table 't': option 'format' = 'yaml' is not 'table' or 'json'",
        "give 'format' 'table' or 'json'",
    );
}

#[test]
fn a_connector_is_only_what_it_is() {
    let source_only = [("stdin", vec![("format", "csv")]), ("datagen", vec![]), ("http", vec![])];
    for (name, pairs) in source_only {
        let connector = open(name, &pairs);
        assert!(connector.is_source() && !connector.is_sink());
        let error = sink(&connector).expect_err("it is no sink");
        assert!(error.to_string().ends_with("is no sink"), "{error}");
        assert!(error.help().is_some_and(|help| help.starts_with("write to 'print'")));
    }
    let sink_only =
        [("print", vec![]), ("blackhole", vec![]), ("http", vec![("url", "http://localhost/"), ("format", "json")])];
    for (name, pairs) in sink_only {
        let connector = open(name, &pairs);
        assert!(!connector.is_source() && connector.is_sink());
        let error = connector.source(columns()).err().expect("it is no source");
        assert!(error.to_string().ends_with("is no source"), "{error}");
    }
}

#[test]
fn an_updating_query_needs_a_sink_that_takes_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().to_str().expect("a plain path");
    for (format, takes) in [("json", false), ("csv", false), ("parquet", false), ("debezium-json", true)] {
        let connector = open("filesystem", &[("path", path), ("format", format)]);
        assert_eq!(connector.takes() == Takes::Changes, takes);
        let rows = Rows { schema: columns(), key: Some(vec![0]), updating: true };
        match connector.sink(rows, &Cancel::new()) {
            Ok(_) => assert!(takes, "{format}"),
            Err(error) => {
                assert!(!takes, "{format}");
                let expected = format!("sink 't': 'filesystem' with 'format' = '{format}' cannot hold retractions");
                assert!(error.to_string().starts_with(&expected), "{error}");
                assert!(error.help().is_some_and(|help| help.contains("debezium-json")));
            }
        }
    }
    assert!(open("blackhole", &[]).takes() == Takes::Changes && open("print", &[]).takes() == Takes::Changes);
}

#[test]
fn knows_what_ends() {
    assert!(open("filesystem", &[("path", "/x"), ("format", "json")]).is_bounded());
    let followed = [("path", "/x"), ("format", "json"), ("source.monitor-interval", "1 s")];
    assert!(!open("filesystem", &followed).is_bounded());
    assert!(open("stdin", &[("format", "json")]).is_bounded());
    assert!(!open("http", &[]).is_bounded());
    assert!(!open("datagen", &[]).is_bounded());
    assert!(open("datagen", &[("number-of-rows", "5")]).is_bounded());
    assert!(!open("nexmark", &[]).is_bounded());
    assert!(open("nexmark", &[("events", "5")]).is_bounded());
}

fn open(name: &str, pairs: &[(&str, &str)]) -> Connector {
    let mut all = vec![("connector", name)];
    all.extend_from_slice(pairs);
    connector(&all).expect("good options")
}

fn sink(connector: &Connector) -> Result<(), tidemill_connect::Error> {
    let rows = Rows { schema: columns(), key: None, updating: false };
    connector.sink(rows, &Cancel::new()).map(drop)
}
