//! Clients in Go and in Python, generated from the services' files and from `tidemill proto`, talk to the built command.
//!
//! What they need is fetched once, below cargo's folder for tests: a compiler of Protocol Buffers by pip, Go's plugins by the
//! module proxy. Where that cannot be had a test says so and is skipped, except in CI, which has to have it.

// Tests say what they skip and how long they took to get ready.
#![allow(clippy::print_stdout, clippy::print_stderr)]

#[path = "../end_to_end/command.rs"]
#[allow(dead_code)]
mod command;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use command::Folder;

const SQL: &str = "
 CREATE TABLE payments (
   card STRING NOT NULL, amount DECIMAL(10, 2), `at` TIMESTAMP(3), tags ARRAY<STRING>, place ROW<city STRING, zip INT>,
   limits MAP<STRING, BIGINT>, seen AS PROCTIME()
 ) WITH ('connector' = 'http');
 CREATE MATERIALIZED VIEW cards AS
   SELECT card, COUNT(*) AS n, SUM(amount) AS total, MAX(`at`) AS last_at FROM payments GROUP BY card;
 CREATE MATERIALIZED VIEW places AS SELECT card, tags, place, limits FROM payments WHERE place IS NOT NULL;
 CREATE ENDPOINT score (card STRING, amount DECIMAL(10, 2)) WITH ('record' = 'payments', 'deadline' = '30 s') AS
   SELECT card,
     COUNT(*) OVER (PARTITION BY card ORDER BY seen ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS n
   FROM payments;
";

const GRPCIO: &str = "grpcio-tools==1.85.1";
const GO_PLUGINS: [&str; 2] =
    ["google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12", "google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2"];

/// Runs a command; why it failed, else.
fn done(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

fn tools() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients")
}

/// A Python that has the compiler and the library of gRPC.
fn python() -> Result<PathBuf, String> {
    static READY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let get = || {
        let folder = tools().join("python");
        let python = folder.join("bin/python");
        let has = |python: &Path| done(Command::new(python).args(["-c", "import grpc_tools.protoc, grpc"])).is_ok();
        if !has(&python) {
            done(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
            done(Command::new(&python).args(["-m", "pip", "install", "--quiet", GRPCIO]))?;
        }
        Ok(python)
    };
    READY.get_or_init(get).clone()
}

/// Where Go's plugins are.
fn go_plugins() -> Result<PathBuf, String> {
    let folder = tools().join("go");
    for plugin in GO_PLUGINS {
        let name = plugin.split(['/', '@']).rev().nth(1).unwrap_or_default();
        if !folder.join(name).exists() {
            done(Command::new("go").args(["install", plugin]).env("GOBIN", &folder))?;
        }
    }
    Ok(folder)
}

/// What was got ready; none when the test is skipped.
fn ready<T>(what: &str, got: Result<T, String>) -> Option<T> {
    match got {
        Ok(got) => Some(got),
        Err(reason) if std::env::var_os("CI").is_some() => panic!("{what} must be tested in CI: {reason}"),
        Err(reason) => {
            println!("skipped: {what} cannot be had: {reason}");
            None
        }
    }
}

/// Compiles all files below `proto` in the folder.
fn compile(folder: &Folder, python: &Path, arguments: &[impl AsRef<OsStr>]) {
    let files = folder.files("proto").into_iter().map(|(name, _)| folder.path(&name));
    let mut compiler = Command::new(python);
    compiler.args(["-m", "grpc_tools.protoc", "-I"]).arg(folder.path("proto")).args(arguments).args(files);
    done(&mut compiler).expect("the files are sound");
}

/// A folder with the pipeline and the files of its services, tables and views.
fn pipeline() -> Folder {
    let folder = Folder::with(SQL);
    for name in ["payments", "cards", "places"] {
        folder.run(&["proto", name, "pipeline.sql", "--out", "proto"]).printed();
    }
    folder.run(&["proto", "score", "pipeline.sql", "--answer", "--out", "proto"]).printed();
    folder
}

/// Runs a client against the pipeline.
fn talk(folder: &Folder, client: &mut Command) {
    let mut server = folder.start(&["run", "pipeline.sql", "--listen", "127.0.0.1:0", "--state", "state"]);
    let address = server.address();
    let output = client.arg(&address).output().expect("the client starts");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && told.trim_end().ends_with("all is well"),
        "{told}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    server.signal("INT");
    assert_eq!(server.end().code, Some(130));
}

#[test]
fn a_python_client_pushes_asks_reads_and_follows() {
    let Some(python) = ready("a Python client", python()) else { return };
    let folder = pipeline();
    std::fs::create_dir(folder.path("made")).expect("the folder is ours");
    let made = folder.path("made").display().to_string();
    compile(&folder, &python, &[format!("--python_out={made}"), format!("--grpc_python_out={made}")]);
    folder.write("made/client.py", include_str!("python/client.py"));
    talk(&folder, Command::new(&python).arg(folder.path("made/client.py")));
}

#[test]
fn a_go_client_pushes_asks_reads_and_follows() {
    let got = python().and_then(|python| Ok((python, go_plugins()?)));
    let Some((python, plugins)) = ready("a Go client", got) else { return };
    let folder = pipeline();
    for (name, text) in [
        ("made/go.mod", include_str!("go/go.mod.txt")),
        ("made/go.sum", include_str!("go/go.sum.txt")),
        ("made/main.go", include_str!("go/main.go.txt")),
    ] {
        folder.write(name, text);
    }
    let made = folder.path("made").display().to_string();
    let arguments = [
        format!("--plugin={}", plugins.join("protoc-gen-go").display()),
        format!("--plugin={}", plugins.join("protoc-gen-go-grpc").display()),
        format!("--go_out={made}"),
        format!("--go-grpc_out={made}"),
        "--go_opt=module=tidemill.dev/proto".to_string(),
        "--go-grpc_opt=module=tidemill.dev/proto".to_string(),
    ];
    compile(&folder, &python, &arguments);
    let go = |arguments: &[&str]| done(Command::new("go").args(arguments).current_dir(folder.path("made")));
    if ready("a Go client's libraries", go(&["mod", "download"])).is_some() {
        go(&["build", "-o", "client", "."]).expect("the client is sound");
        talk(&folder, &mut Command::new(folder.path("made/client")));
    }
}

#[test]
fn messages_are_printed_for_what_a_pipeline_declares() {
    let folder = Folder::with(SQL);
    let table = folder.run(&["proto", "payments", "pipeline.sql"]).printed();
    assert!(table.contains("message PaymentsColumns {") && table.contains("optional string card = 1;"), "{table}");
    assert!(!table.contains("seen"), "a computed column is in no message: {table}");
    assert_eq!(folder.run(&["proto", "score", "pipeline.sql"]).printed(), table, "requests are rows of the table");
    assert_eq!(folder.run_with(&["proto", "payments"], SQL).printed(), table);
    let view = folder.run(&["proto", "cards", "pipeline.sql"]).printed();
    assert!(view.contains("optional int64 n = 2;"), "{view}");
    folder.run(&["proto", "payment", "pipeline.sql"]).failed(2, &["declares no 'payment'", "did you mean 'payments'?"]);
    let answer = folder.run(&["proto", "score", "pipeline.sql", "--answer"]).printed();
    assert!(answer.contains("message ScoreAnswerRows {") && answer.contains("optional int64 n = 2;"), "{answer}");
    assert!(!answer.contains("origin"), "what a row is the answer to is no column: {answer}");
    let none = folder.run(&["proto", "payments", "pipeline.sql", "--answer"]);
    none.failed(2, &["declares no endpoint 'payments'", "there are 'score'"]);
    folder.run(&["proto"]).failed(2, &["say which table"]);
    folder.run(&["proto", "--out", "proto"]).printed();
    assert_eq!(folder.files("proto").len(), 4);
}
