//! The ring from C: a program built with the machine's compiler appends, this process reads.

#![cfg(not(loom))]
#![allow(clippy::print_stderr)]

use std::error::Error;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tidemill_journal::ring::{Consumer, Patience, Ring, Shape};

type Outcome = Result<(), Box<dyn Error>>;

/// What the program answers where the kernel does not let it go without system calls.
const UNABLE: i32 = 77;

/// The newest shared library of this crate that Cargo has built beside this test.
fn library() -> Result<PathBuf, Box<dyn Error>> {
    let test = std::env::current_exe()?;
    let folder = test.parent().ok_or("a test lies in a folder")?;
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("libtidemill_journal") && name.ends_with(".so") {
            found.push((path.metadata()?.modified()?, path));
        }
    }
    Ok(found.into_iter().max().ok_or("Cargo builds the shared library with the tests")?.1)
}

/// Builds the program into `folder`; none where there is no C compiler.
fn build(folder: &Path) -> Result<Option<PathBuf>, Box<dyn Error>> {
    if Command::new("cc").arg("--version").stdout(Stdio::null()).status().is_err() {
        eprintln!("skipped: there is no C compiler `cc` here");
        return Ok(None);
    }
    let (source, library, program) = (Path::new(env!("CARGO_MANIFEST_DIR")), library()?, folder.join("append"));
    let mut cc = Command::new("cc");
    cc.args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1", "-I"]).arg(source.join("include"));
    cc.arg(source.join("tests/ring_c/append.c")).arg(&library).arg("-o").arg(&program);
    let status = cc.status()?;
    match status.success() {
        true => Ok(Some(program)),
        false => Err(format!("cc: {status}").into()),
    }
}

fn start(program: &Path, ring: &Path, records: u64, mode: &str) -> Result<Child, Box<dyn Error>> {
    let mut command = Command::new(program);
    command.arg(ring).arg(records.to_string()).arg(mode);
    Ok(command.stderr(Stdio::piped()).spawn()?)
}

/// Reads until `count` records are there or the program is gone, and checks each.
fn read(consumer: &mut Consumer, count: u64, program: &mut Child) -> Outcome {
    let mut next = 0;
    loop {
        let gone = program.try_wait()?.is_some();
        while let Some(record) = consumer.next()? {
            assert_eq!(record.bytes, format!("c {next}").as_bytes());
            next += 1;
        }
        consumer.release(consumer.position());
        if gone || next >= count {
            return Ok(());
        }
        consumer.wait(Patience::default());
    }
}

#[test]
fn a_c_program_appends_what_this_process_reads() -> Outcome {
    let folder = tempfile::tempdir()?;
    let Some(program) = build(folder.path())? else { return Ok(()) };
    let path = folder.path().join("c.ring");
    let mut consumer = Ring::create(&path, Shape { producers: 1, slots: 64, slot_bytes: 64 })?.consumer()?;
    let mut child = start(&program, &path, 10_000, "plain")?;
    read(&mut consumer, 10_000, &mut child)?;
    let output = child.wait_with_output()?;
    assert!(output.status.success(), "{} {}", output.status, String::from_utf8_lossy(&output.stderr));
    assert_eq!(consumer.position(), 10_000);
    Ok(())
}

#[test]
fn appending_makes_no_system_call() -> Outcome {
    let folder = tempfile::tempdir()?;
    let Some(program) = build(folder.path())? else { return Ok(()) };
    let path = folder.path().join("c.ring");
    let mut consumer = Ring::create(&path, Shape { producers: 1, slots: 64, slot_bytes: 64 })?.consumer()?;
    let mut child = start(&program, &path, 10_000, "strict")?;
    read(&mut consumer, 10_000, &mut child)?;
    let output = child.wait_with_output()?;
    let why = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(UNABLE) {
        eprintln!("skipped: {why}");
        return Ok(());
    }
    assert_eq!(output.status.signal(), None, "killed for a system call");
    assert!(output.status.success(), "{} {why}", output.status);
    assert_eq!(consumer.position(), 10_000);
    Ok(())
}

#[test]
fn a_c_program_is_told_why_it_cannot_open_a_ring() -> Outcome {
    let folder = tempfile::tempdir()?;
    let Some(program) = build(folder.path())? else { return Ok(()) };
    let path = folder.path().join("c.ring");
    let output = start(&program, &path, 1, "plain")?.wait_with_output()?;
    let said = String::from_utf8(output.stderr)?;
    assert!(output.status.code() == Some(2) && said.starts_with("1150 ") && said.contains("TM1150"), "{said}");
    let ring = Ring::create(&path, Shape { producers: 1, slots: 64, slot_bytes: 64 })?;
    let taken = ring.producer()?;
    let output = start(&program, &path, 1, "plain")?.wait_with_output()?;
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8(output.stderr)?);
    drop(taken);
    Ok(())
}
