//! A public suite over HTTP/2 as the door speaks it; `make h2spec` has it.

use std::process::Command;

use super::Door;

/// What the suite finds fault with, and why it stays so.
const KNOWN: [(&str, &str); 2] = [
    ("Sends invalid connection preface", "HTTP/1.1 is spoken on the same port, and says 400 before it closes"),
    (
        "Sends a HEADERS frame that contains a pseudo-header field as trailers",
        "the answer needs no body, and has been sent when the trailers come",
    ),
];

#[test]
#[ignore = "needs h2spec: make h2spec"]
fn a_public_suite_finds_no_fault_but_what_is_known() {
    let Some(h2spec) = std::env::var_os("TIDEMILL_H2SPEC") else { panic!("TIDEMILL_H2SPEC names no h2spec") };
    let door = Door::open();
    let port = door.server().address().port().to_string();
    let arguments = ["--host", "127.0.0.1", "--port", &port, "--path", "/v1/health", "--timeout", "5"];
    let run = Command::new(h2spec).args(arguments).output().expect("h2spec runs");
    let text = String::from_utf8_lossy(&run.stdout).to_string();
    let faults: Vec<&str> = text
        .lines()
        .filter(|line| line.contains('×'))
        .filter(|line| !KNOWN.iter().any(|(known, _)| line.contains(known)))
        .collect();
    assert!(faults.is_empty(), "{faults:?}\n{text}");
    // All of it has run: a suite that stops early finds nothing.
    assert!(text.contains("tests, ") && text.contains(" 0 skipped"), "{text}");
}
