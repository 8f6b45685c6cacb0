//! Where a statement ends: at a semicolon that is in no string, name or comment.

/// Splits text into whole statements, each with its semicolon, and the rest.
pub(crate) fn statements(text: &str) -> (Vec<&str>, &str) {
    let mut statements = Vec::new();
    let (mut start, mut from) = (0, 0);
    while let Some(end) = semicolon(text, from) {
        from = end;
        let statement = &text[start..end];
        if is_set(statement) && !ends_set(statement) {
            continue;
        }
        if !statement.trim_matches(|c: char| c == ';' || c.is_whitespace()).is_empty() {
            statements.push(statement.trim());
        }
        start = end;
    }
    (statements, &text[start..])
}

/// Behind the next semicolon that ends something.
fn semicolon(text: &str, from: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = from;
    while at < bytes.len() {
        let rest = &bytes[at..];
        at += match rest {
            [b';', ..] => return Some(at + 1),
            [quote @ (b'\'' | b'"' | b'`'), rest @ ..] => 2 + rest.iter().position(|byte| byte == quote)?,
            [b'-', b'-', ..] => rest.iter().position(|byte| *byte == b'\n')?,
            [b'/', b'*', rest @ ..] => 4 + rest.windows(2).position(|pair| pair == b"*/")?,
            _ => 1,
        };
    }
    None
}

/// Whether a text begins a statement set, which has semicolons inside.
fn is_set(text: &str) -> bool {
    let mut words = text.split_whitespace().map(str::to_ascii_uppercase);
    let first = words.next();
    let rest: Vec<String> = words.take(3).collect();
    match first.as_deref() {
        Some("BEGIN") => rest.first().is_some_and(|word| word == "STATEMENT"),
        Some("EXECUTE" | "EXPLAIN") => rest.first().is_some_and(|word| word == "STATEMENT"),
        _ => false,
    }
}

fn ends_set(text: &str) -> bool {
    let text = text.trim_end_matches(';').trim_end();
    text.get(text.len().saturating_sub(3)..).is_some_and(|end| end.eq_ignore_ascii_case("END"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str], rest: &str) {
        assert_eq!(statements(text), (expected.to_vec(), rest), "{text}");
    }

    #[test]
    fn statements_end_at_semicolons() {
        check("SELECT 1", &[], "SELECT 1");
        check("SELECT 1;", &["SELECT 1;"], "");
        check("SELECT 1; SELECT\n2;\n", &["SELECT 1;", "SELECT\n2;"], "\n");
        check(";; SELECT 1;", &["SELECT 1;"], "");
    }

    #[test]
    fn semicolons_inside_do_not_count() {
        check("SELECT ';', `;`, \";\";", &["SELECT ';', `;`, \";\";"], "");
        check("SELECT 'it''s; '; x", &["SELECT 'it''s; ';"], " x");
        check("SELECT 1 -- ; no\n;", &["SELECT 1 -- ; no\n;"], "");
        check("SELECT /* ; */ 1;", &["SELECT /* ; */ 1;"], "");
        check("SELECT 'open;", &[], "SELECT 'open;");
        check("SELECT 1 -- ;", &[], "SELECT 1 -- ;");
    }

    #[test]
    fn a_statement_set_is_one_statement() {
        let set = "EXECUTE STATEMENT SET BEGIN INSERT INTO a SELECT 1; INSERT INTO b SELECT 2; END;";
        check(set, &[set], "");
        check("BEGIN STATEMENT SET; INSERT INTO a SELECT 1;", &[], "BEGIN STATEMENT SET; INSERT INTO a SELECT 1;");
    }
}
