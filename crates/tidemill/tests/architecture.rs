//! The house stands as ARCHITECTURE.md says: dependencies point down, and what is fenced is named by its fence alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The floor of each crate: it may depend on crates of lower floors only.
const FLOORS: &[(&str, u32)] = &[
    ("tidemill-base", 0),
    ("tidemill-proto", 0),
    ("tidemill-format", 1),
    ("tidemill-journal", 1),
    ("tidemill-stage", 1),
    ("tidemill-state", 2),
    ("tidemill-circuit", 3),
    ("tidemill-connect", 4),
    ("tidemill-gateway", 5),
    ("tidemill-sql", 5),
    ("tidemill-node", 6),
    ("tidemill", 7),
];

/// Packages beside the house: they may use every floor, and no floor uses them.
const BESIDE: &[&str] = &["tidemill-fuzz", "tidemill-sim"];

/// Libraries that only these crates may name outside their tests.
const FENCES: &[(&str, &[&str])] = &[
    ("datafusion", &["tidemill-sql"]),
    ("hyper", &["tidemill-gateway"]),
    ("clap", &["tidemill"]),
    ("libc", &["tidemill-journal"]),
    ("object_store", &["tidemill-state"]),
    ("arrow-json", &["tidemill-format"]),
    ("csv-core", &["tidemill-format"]),
    ("parquet", &["tidemill-format"]),
    ("nexmark", &["tidemill-connect"]),
    ("protox", &["tidemill-proto"]),
    ("tonic", &["tidemill-gateway", "tidemill-proto"]),
];

fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs, for it runs this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let packages = metadata["packages"].as_array().expect("there are packages");
    packages.iter().filter(|package| !BESIDE.contains(&package["name"].as_str().unwrap_or_default())).cloned().collect()
}

/// The names of the libraries that a package's own code may use; what only its tests use is left out.
fn dependencies(package: &Value) -> Vec<&str> {
    let dependencies = package["dependencies"].as_array().expect("a package lists its dependencies");
    let ours = dependencies.iter().filter(|dependency| dependency["kind"] != "dev");
    ours.filter_map(|dependency| dependency["name"].as_str()).collect()
}

#[test]
fn dependencies_point_down() {
    let floors: BTreeMap<&str, u32> = FLOORS.iter().copied().collect();
    let packages = packages();
    for package in &packages {
        let name = package["name"].as_str().expect("a package has a name");
        let floor = floors.get(name).unwrap_or_else(|| panic!("give {name} a floor in ARCHITECTURE.md and here"));
        for below in dependencies(package) {
            assert!(!BESIDE.contains(&below), "{name} may not depend on {below}, which stands beside the house");
            if let Some(other) = floors.get(below) {
                assert!(other < floor, "{name} (floor {floor}) may not depend on {below} (floor {other})");
            }
        }
    }
    assert_eq!(packages.len(), FLOORS.len(), "every floor has its crate");
}

#[test]
fn what_is_fenced_is_named_by_its_fence_alone() {
    for package in &packages() {
        let name = package["name"].as_str().expect("a package has a name");
        for below in dependencies(package) {
            if let Some((library, fence)) = FENCES.iter().find(|(library, _)| *library == below) {
                assert!(fence.contains(&name), "{library} belongs into {fence:?}, not into {name}");
            }
        }
    }
}

/// Every file below `folder` whose name ends in `ending`.
fn files(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("the entry can be read").path();
        if path.is_dir() {
            files(&path, ending, found);
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
}

#[test]
fn every_error_code_has_its_page() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut sources = Vec::new();
    for (name, _) in FLOORS {
        files(&root.join("crates").join(name.trim_start_matches("tidemill-")).join("src"), ".rs", &mut sources);
    }
    let mut codes: BTreeSet<String> = BTreeSet::new();
    for source in sources {
        let text = std::fs::read_to_string(&source).expect("sources are text");
        let quoted = text.split('"').filter(|piece| piece.len() == 6 && piece.starts_with("TM"));
        codes.extend(quoted.filter(|code| code[2..].bytes().all(|b| b.is_ascii_digit())).map(str::to_string));
    }
    assert!(codes.len() > 50, "the codes are found: {codes:?}");
    let page = |code: &String| root.join(format!("docs/errors/{code}.md"));
    let missing: Vec<_> = codes.iter().filter(|code| !page(code).exists()).collect();
    assert!(missing.is_empty(), "write docs/errors/CODE.md for {missing:?}");
}
