//! Records of a pipeline's journal: whatever the bytes are, they are told in one line.

use std::path::Path;

use bytes::Bytes;
use tidemill_node::journal::Teller;

const INPUT: u8 = 1;
const LINE: u8 = 2;
const LINE_CHARS_MAX: usize = 16 << 10;

/// One record of each kind, in the form that restarts must read for ever.
pub fn seeds() -> Vec<Vec<u8>> {
    let header = r#"{"step":{"header":{"step":7,"now":1700000000000,"last":false,"seed":3,"lanes":2,"sources":[{"source":"bids","blocks":[{"partition":0,"from":1,"to":2,"records":3}],"opened":[0],"ended":[],"idle":[],"complete":false,"watermark":-9223372036854775808}],"tables":[{"table":"blocklist","version":"4-16777217"}]},"delivered":6}}"#;
    let lines = [
        r#"{"run":{"format":1,"build":"0.1.0","name":"q.sql","sql":"SELECT 1","lanes":2,"seed":3,"snapshot":0,"journal":"00ff"}}"#,
        r#"{"opened":{"source":"bids","partition":0,"origin":{"name":"a.json","size":12,"modified":1700000000000,"digest":"00ff"}}}"#,
        header,
        r#"{"done":{"step":7,"outputs":[{"name":"out","rows":5,"digest":"00"}],"late_rows":0,"dead_rows":0,"bad_records":1}}"#,
        r#"{"shown":{"sequence":4}}"#,
        r#"{"snapshot":{"sequence":4,"step":7}}"#,
    ];
    let input = [&[INPUT][..], &9_u64.to_le_bytes(), &2_u32.to_le_bytes(), b"{\"a\": 1}\n{\"a\": 2}\n"].concat();
    lines.iter().map(|line| [&[LINE], line.as_bytes()].concat()).chain([input]).collect()
}

/// Tells `input` as a record: its first byte is the kind.
pub fn run(input: &[u8]) -> Vec<String> {
    let Some((kind, payload)) = input.split_first() else { return vec!["nothing".to_string()] };
    let told = Teller::of(Path::new("/nowhere")).describe(*kind, 0, &Bytes::copy_from_slice(payload));
    assert!(!told.chars().any(char::is_control), "a record is told in one line: {told:?}");
    assert!(told.chars().count() <= LINE_CHARS_MAX, "{} characters", told.chars().count());
    vec![behaviour(&told)]
}

/// What was told, without what it quotes of the record.
fn behaviour(told: &str) -> String {
    let ours = match told.split_once(':') {
        Some((start @ ("input" | "start" | "opened"), _)) => start,
        _ => told.split(['`', '"', '\'']).next().unwrap_or_default(),
    };
    let words =
        ours.split_whitespace().filter(|word| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b':'));
    words.take(14).collect::<Vec<_>>().join(" ")
}
