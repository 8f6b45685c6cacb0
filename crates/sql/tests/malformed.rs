//! Every way to get SQL wrong has a file, and the whole answer beside it.
//!
//! `UPDATE_GOLDEN=1 cargo test -p tidemill-sql --test malformed` writes the answers anew; read them before they are kept.

use std::fs;
use std::path::{Path, PathBuf};

use tidemill_sql::error::render;
use tidemill_sql::statement::parse;

#[test]
fn malformed_statements_say_what_where_and_how_to_fix_it() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    let files = sql_files();
    assert!(files.len() >= 50, "only {} files", files.len());
    for file in files {
        let expected = file.with_extension("expected");
        let answer = answer(&file);
        if update {
            fs::write(&expected, &answer).expect("the golden file can be written");
        }
        let kept = fs::read_to_string(&expected).unwrap_or_default();
        if kept != answer {
            wrong.push(format!("{}\n-- expected\n{kept}-- found\n{answer}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{} answers differ\n\n{}", wrong.len(), wrong.join("\n"));
}

fn answer(file: &Path) -> String {
    let text = fs::read_to_string(file).expect("the file can be read");
    let name = file.file_name().and_then(|name| name.to_str()).expect("the file has a name");
    match parse(&text) {
        Ok(_) => panic!("{name} was accepted"),
        Err(error) => render(&error, name, &text),
    }
}

fn sql_files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/malformed");
    let entries = fs::read_dir(folder).expect("the folder is there");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("the folder can be read").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "sql"));
    files.sort();
    files
}
