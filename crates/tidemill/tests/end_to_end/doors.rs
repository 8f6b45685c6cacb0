//! Doors that a file describes.

use serde_json::json;

use crate::command::Folder;
use crate::http::request;

const SQL: &str = "CREATE TABLE clicks (page STRING) WITH ('connector' = 'http');
 CREATE MATERIALIZED VIEW pages AS SELECT page, COUNT(*) AS n FROM clicks GROUP BY page;
";

#[test]
fn a_file_describes_doors_and_callers() {
    let folder = Folder::with(SQL);
    let made = folder.run(&["token", "new", "shop", "--scope", "ingest:clicks"]);
    let (token, lines) = made.stdout.split_once('\n').expect("a token and lines");
    assert!(token.starts_with("tm_") && !lines.contains(token), "{lines}");
    let doors = "[[door]]\nlisten = \"127.0.0.1:0\"\n[[door]]\nlisten = \"127.0.0.1:0\"\nstack = \"fast\"\n";
    folder.write("tidemill.toml", &format!("{doors}{lines}"));
    let mut running = folder.start(&["run", "pipeline.sql", "--config", "tidemill.toml"]);
    let address = running.address();
    let (status, _, answer) = request(&address, "POST", "/v1/sources/clicks", "{\"page\": \"a\"}");
    assert!(status == 401 && answer.contains("TM5130"), "{answer}");
    running.signal("INT");
    running.end().failed(130, &[]);
}

#[test]
fn a_changed_file_is_followed_when_that_is_asked_for() {
    let folder = Folder::with(SQL);
    let door = "[[door]]\nlisten = \"127.0.0.1:0\"\nlimits.requests.source = \"100/s\"\n";
    folder.write("tidemill.toml", door);
    let mut running = folder.start(&["run", "pipeline.sql", "--config", "tidemill.toml"]);
    let address = running.address();
    let post = || request(&address, "POST", "/v1/sources/clicks", "{\"page\": \"a\"}").0;
    assert_eq!(post(), 202);
    let lines = folder.run(&["token", "new", "shop", "--scope", "ingest:clicks"]).stdout;
    let lines = lines.split_once('\n').expect("a token and lines").1;
    folder.write("tidemill.toml", &format!("{door}{lines}"));
    running.signal("HUP");
    running.until("the file", |_, said| said.contains("tidemill.toml was read again").then_some(()));
    assert_eq!(post(), 401);
    folder.write("tidemill.toml", "[[dor]]");
    running.signal("HUP");
    running.until("the mistake", |_, said| {
        (said.contains("did you mean [[door]]?") && said.contains("the doors go on as they were")).then_some(())
    });
    assert_eq!(post(), 401);
    folder.write("tidemill.toml", &door.replace("100/s", "1/h"));
    running.signal("HUP");
    running.until("the rate", |_, said| (said.matches("was read again").count() == 2).then_some(()));
    assert_eq!([post(), post()], [202, 429]);
    running.signal("INT");
    running.end().failed(130, &[]);
}

#[test]
fn a_file_that_cannot_be_followed_is_refused() {
    let folder = Folder::with(SQL);
    let check = |text: &str, parts: &[&str]| {
        folder.write("tidemill.toml", text);
        folder.run(&["run", "pipeline.sql", "--config", "tidemill.toml"]).failed(3, parts);
    };
    check("[[door]]\nlisen = \"127.0.0.1:0\"", &["tidemill.toml", "no option 'lisen'", "did you mean 'listen'?"]);
    check("[[door]]\nlisten = \"0.0.0.0:0\"", &["other machines", "[[token]]"]);
    check(&json!({"door": []}).to_string(), &["tidemill.toml", "line 1"]);
}
