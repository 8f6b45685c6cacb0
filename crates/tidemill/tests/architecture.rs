//! The house stands as ARCHITECTURE.md says: dependencies point down, and what is fenced is named by its fence alone.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

/// The floor of each crate: it may depend on crates of lower floors only.
const FLOORS: &[(&str, u32)] = &[
    ("tidemill-base", 0),
    ("tidemill-format", 1),
    ("tidemill-stage", 1),
    ("tidemill-circuit", 3),
    ("tidemill-connect", 4),
    ("tidemill-gateway", 5),
    ("tidemill-sql", 5),
    ("tidemill-node", 6),
    ("tidemill", 7),
];

/// Libraries that only these crates may name outside their tests.
const FENCES: &[(&str, &[&str])] = &[
    ("datafusion", &["tidemill-sql"]),
    ("hyper", &["tidemill-gateway"]),
    ("axum", &["tidemill-gateway"]),
    ("clap", &["tidemill"]),
    ("arrow-json", &["tidemill-format"]),
    ("arrow-csv", &["tidemill-format"]),
    ("parquet", &["tidemill-format"]),
    ("arrow-select", &["tidemill-format", "tidemill-circuit", "tidemill-connect", "tidemill-sql"]),
];

fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs, for it runs this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    metadata["packages"].as_array().expect("there are packages").clone()
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
