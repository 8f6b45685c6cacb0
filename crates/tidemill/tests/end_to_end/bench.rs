//! The benchmark measures what it runs.

use crate::command::Folder;

#[test]
fn measures_each_query_in_a_process_of_its_own() {
    let folder = Folder::new();
    let arguments = ["bench", "nexmark", "--queries", "q0,q1", "--events", "20000", "-o", "json"];
    let printed = folder.run(&arguments).printed();
    let measured: serde_json::Value = serde_json::from_str(&printed).expect("it is JSON");
    let measured = measured.as_array().expect("an array");
    assert_eq!(measured.len(), 2);
    for (one, query) in measured.iter().zip(["q0", "q1"]) {
        assert_eq!(one["query"], query);
        assert_eq!(one["records"], 20_000);
        assert!(one["peak_bytes"].as_u64().is_some_and(|bytes| bytes > 1 << 20), "{one}");
        assert!(one["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{one}");
    }
}

#[test]
fn every_query_of_nexmark_runs() {
    let printed = Folder::new().run(&["bench", "nexmark", "--events", "5000", "-o", "json"]).printed();
    let measured: serde_json::Value = serde_json::from_str(&printed).expect("it is JSON");
    assert_eq!(measured.as_array().map(Vec::len), Some(24), "{printed}");
}

#[test]
fn a_query_that_does_not_run_is_told() {
    let ended = Folder::new().run(&["bench", "nexmark", "--queries", "q0", "--data", "nowhere"]);
    ended.failed(1, &["q0 did not run", "error[TM"]);
}
