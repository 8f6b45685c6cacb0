//! A public suite over HTTP/2 as the door speaks it; `make h2spec` has it.

use std::process::Command;

use crate::Door;

#[test]
#[ignore = "needs h2spec: make h2spec"]
fn a_public_suite_finds_no_fault() {
    let Some(h2spec) = std::env::var_os("TIDEMILL_H2SPEC") else { panic!("TIDEMILL_H2SPEC names no h2spec") };
    let door = Door::open();
    let port = door.server().address().port().to_string();
    let arguments = ["--host", "127.0.0.1", "--port", &port, "--path", "/v1/health", "--timeout", "5"];
    let run = Command::new(h2spec).args(arguments).output().expect("h2spec runs");
    let text = String::from_utf8_lossy(&run.stdout).to_string();
    println!("{}", text.lines().rev().take(2).collect::<Vec<_>>().join("\n"));
    assert!(run.status.success(), "{text}");
}
