//! A public suite over HTTP/2 as the door speaks it; `make h2spec` has it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
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

/// How often a fault has to be found. The suite asks for what needs no body: where it goes on to send one, an answer that is
/// faster than the next frame has ended the stream, and the suite takes the answer for the verdict on that frame.
const RUNS: usize = 5;

/// The cases that the suite finds fault with, and all that it says.
fn run(h2spec: &OsStr, port: u16) -> (BTreeSet<String>, String) {
    let port = port.to_string();
    let arguments = ["--host", "127.0.0.1", "--port", &port, "--path", "/v1/health", "--timeout", "5"];
    let run = Command::new(h2spec).args(arguments).output().expect("h2spec runs");
    let text = String::from_utf8_lossy(&run.stdout).to_string();
    // All of it has run: a suite that stops early finds nothing.
    assert!(text.contains("145 tests, ") && text.contains(" 0 skipped"), "{text}");
    let faults = text.lines().filter_map(|line| line.rsplit_once('×')).map(|(_, case)| case.trim().to_string());
    (faults.filter(|case| !KNOWN.iter().any(|(known, _)| case.contains(known))).collect(), text)
}

#[test]
#[ignore = "needs h2spec: make h2spec"]
fn a_public_suite_finds_no_fault_but_what_is_known() {
    let Some(h2spec) = std::env::var_os("TIDEMILL_H2SPEC") else { panic!("TIDEMILL_H2SPEC names no h2spec") };
    let door = Door::open();
    let port = door.server().address().port();
    let (mut faults, mut text) = run(&h2spec, port);
    for _ in 1..RUNS {
        if faults.is_empty() {
            break;
        }
        let (again, said) = run(&h2spec, port);
        faults.retain(|case| again.contains(case));
        text = said;
    }
    assert!(faults.is_empty(), "{faults:?}\n{text}");
}
