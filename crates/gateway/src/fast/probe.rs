//! [`probe`]: what must hold for any bytes that somebody sends, to be asked by tests and by a fuzzer.

use super::chunks::Chunks;
use super::head::{self, Fault, Framing, Parsed};

/// Reads bytes as the beginning of a connection, whole and in pieces of `piece` bytes, and names what they are.
///
/// # Panics
/// When it depends on the pieces, or on what comes behind a request.
#[must_use]
pub fn probe(bytes: &[u8], piece: usize) -> Vec<String> {
    let piece = piece.max(1);
    let whole = head::parse(bytes);
    let mut known = 0;
    for end in (piece..bytes.len()).step_by(piece) {
        match (&whole, head::parse(&bytes[..end])) {
            (Parsed::Head(head), part) if end < head.length => assert!(matches!(part, Parsed::Partial), "{part:?}"),
            (Parsed::Head(head), Parsed::Head(part)) => {
                assert_eq!(head.length, part.length, "what comes behind matters")
            }
            (Parsed::Head(_), part) => panic!("the whole is a request, its beginning {part:?}"),
            (Parsed::Partial, part) => assert!(matches!(part, Parsed::Partial), "{part:?}"),
            (Parsed::Fault(_), part) => assert!(!matches!(part, Parsed::Head(_)), "{part:?}"),
        }
        if let Parsed::Head(head) = &whole
            && end < head.length
        {
            known = end;
        }
    }
    match whole {
        Parsed::Partial => vec!["a part".to_string()],
        Parsed::Fault(fault) => vec![format!("{fault:?}")],
        Parsed::Head(head) => {
            assert!(head.length <= bytes.len() && head::may_end(bytes, known), "the end is looked for where it comes");
            let (path, query) = head.target(bytes);
            let mut kinds = vec![
                format!("plain {}, 1.1 {}, open {}", head.plain_post, head.is_11, head.keep_alive),
                format!("expects {}, query {}, path {}", head.expects, query.is_some(), path.len().min(3)),
            ];
            kinds.push(match head.framing {
                Framing::None => "no body".to_string(),
                Framing::Length(length) => format!("a body of {} digits", length.to_string().len()),
                Framing::Chunked => in_pieces(&bytes[head.length..], piece),
            });
            kinds
        }
    }
}

/// What a body in chunks comes to, which does not depend on the pieces it comes in.
fn in_pieces(bytes: &[u8], piece: usize) -> String {
    let whole = unchunk(bytes, bytes.len().max(1));
    assert_eq!(whole, unchunk(bytes, piece), "the body depends on its pieces");
    match whole {
        Ok((data, used, over)) => {
            assert!(data.len() <= used && used <= bytes.len() && (over || used == bytes.len()));
            format!("chunks of {} bytes, over {over}", data.len().min(3))
        }
        Err(fault) => format!("chunks with {fault:?}"),
    }
}

fn unchunk(bytes: &[u8], piece: usize) -> Result<(Vec<u8>, usize, bool), Fault> {
    let (mut chunks, mut data, mut used) = (Chunks::new(), Vec::new(), 0);
    for part in bytes.chunks(piece) {
        let mut at = 0;
        while at < part.len() && !chunks.is_over() {
            let step = chunks.step(&part[at..])?;
            assert!(step.consumed > 0, "each step goes on");
            data.extend_from_slice(&part[at..][step.data]);
            at += step.consumed;
        }
        used += at;
    }
    Ok((data, used, chunks.is_over()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_bytes_are() {
        let check = |text: &str, expected: &str| {
            for piece in 1..=text.len() {
                let kinds = probe(text.as_bytes(), piece);
                assert_eq!(kinds.last().map(String::as_str), Some(expected), "{text:?} in pieces of {piece}");
            }
        };
        let head = "POST /v1/sources/s HTTP/1.1\r\nHost: x\r\n";
        check(head, "a part");
        check(&format!("{head}\r\nPOST"), "no body");
        check(&format!("{head}Content-Length: 12\r\n\r\n"), "a body of 2 digits");
        check(
            &format!("{head}Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\nPOST"),
            "chunks of 1 bytes, over true",
        );
        check(&format!("{head}Transfer-Encoding: chunked\r\n\r\n1\r\nabc"), "chunks with Chunk");
        check("\0", "Syntax");
    }
}
