//! Byte streams as clients and attackers send them: requests put together from parts that are right, odd and wrong, and
//! then changed here and there.

use tidemill_base::rand::Rng;

/// A stream of one to four requests for `source` and others, possibly broken.
pub fn stream(rng: &mut Rng, source: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..=rng.below(4).min(rng.below(4)) {
        request(rng, source, &mut bytes);
    }
    if rng.below(3) == 0 {
        for _ in 0..=rng.below(3) {
            change(rng, &mut bytes);
        }
    }
    if rng.below(12) == 0 {
        bytes.truncate(rng.below(bytes.len() as u64 + 1) as usize);
    }
    bytes
}

fn pick<'a>(rng: &mut Rng, from: &[&'a str]) -> &'a str {
    from[rng.below(from.len() as u64) as usize]
}

/// One of `usual` most of the time, else one of `odd`.
fn mostly<'a>(rng: &mut Rng, usual: &[&'a str], odd: &[&'a str]) -> &'a str {
    if rng.below(10) == 0 { pick(rng, odd) } else { pick(rng, usual) }
}

fn request(rng: &mut Rng, source: &str, out: &mut Vec<u8>) {
    let end = mostly(rng, &["\r\n"], &["\n", "\r", "\r\r\n", "\r\n\r\n"]);
    let method = mostly(rng, &["POST"], &["GET", "PUT", "post", "OPTIONS", "P@ST", "CONNECT", "", "DELETE"]);
    let own = format!("/v1/sources/{source}");
    let target = match rng.below(12) {
        0 => "/v1/endpoints/echo".to_string(),
        1 => format!("{own}?on_error=skip"),
        2 => {
            let odd =
                ["?durability=flushed", "?x=1", "?", "?on_error=%zz", "/more", "#part", "?a=b#c", "%73", "{}", "?a|b"];
            format!("{own}{}", pick(rng, &odd))
        }
        3 => {
            let odd = [
                "/",
                "*",
                "/v1/health",
                "/v1/sources",
                "/v1/sources/",
                "/v1/sources/none",
                "/v1/sources/%zz",
                "/v1/source/x",
            ];
            pick(rng, &odd).to_string()
        }
        4 if rng.below(2) == 0 => format!("http://other{own}"),
        _ => own,
    };
    let version =
        mostly(rng, &["HTTP/1.1"], &["HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "http/1.1", "HTTP/1.1 ", "", "HTTP/11"]);
    let body = pick(
        rng,
        &["{\"a\":1}", "{\"a\":1}\n{\"a\":2}", "", "x", "{\"long\":\"0123456789012345678901234567890123456789\"}"],
    );
    let gap = mostly(rng, &[" "], &["  ", "\t", ""]);
    let mut lines = vec![format!("{method}{gap}{target} {version}")];
    if rng.below(30) > 0 {
        lines.push(
            mostly(rng, &["Host: localhost", "host: x:80", "HOST:x"], &["Host:", "Host: a b", "Host: a/b", "Host : x"])
                .to_string(),
        );
    }
    if rng.below(20) > 0 {
        let usual = [
            "Content-Type: application/json",
            "content-type:application/x-ndjson",
            "Content-Type: application/json; charset=utf-8",
        ];
        lines.push(
            mostly(
                rng,
                &usual,
                &["Content-Type: text/plain", "Content-Type:", "Content-Type: application/json; charset=latin1"],
            )
            .to_string(),
        );
    }
    for _ in 0..rng.below(3) {
        lines.push(odd_line(rng));
    }
    let (framing, sent) = framed(rng, body);
    lines.extend(framing);
    for at in (2..lines.len()).rev() {
        lines.swap(at, 1 + rng.below(at as u64) as usize);
    }
    for line in lines {
        out.extend_from_slice(line.as_bytes());
        out.extend_from_slice(if rng.below(40) == 0 { end } else { "\r\n" }.as_bytes());
    }
    out.extend_from_slice(end.as_bytes());
    out.extend_from_slice(sent.as_bytes());
}

fn odd_line(rng: &mut Rng) -> String {
    let usual = [
        "Accept: */*",
        "User-Agent: test",
        "X-Empty:",
        "X-Spaces:   \t a b \t ",
        "Idempotency-Key: \"k1\"",
        "Idempotency-Key: again",
        "Prefer: wait=1",
        "Connection: keep-alive",
        "TE: trailers",
    ];
    let odd = [
        "Connection: close",
        "Connection: close, x",
        "Connection: Keep-Alive, CLOSE",
        "Expect: 100-continue",
        "Expect: 200-ok",
        "Upgrade: h2c",
        "Host: again",
        "Content-Encoding: gzip",
        "Content-Encoding: br",
        "Content-Encoding: identity",
        "X-Tab\t: 1",
        "X-Space : 1",
        ": nothing",
        "X-Nul: a\0b",
        "X-Cr: a\rb",
        "X-Lf: a\nb",
        "X-Fold: a\r\n b",
        " X-Indented: 1",
        "X-Latin: \u{e9}",
        "No colon here",
        "Idempotency-Key: ",
        "Content-Length: 3",
        "Transfer-Encoding: chunked",
    ];
    if rng.below(2) == 0 { pick(rng, &usual) } else { pick(rng, &odd) }.to_string()
}

/// The lines that say where a body ends, and the body as it is sent.
fn framed(rng: &mut Rng, body: &str) -> (Vec<String>, String) {
    let length = body.len();
    match rng.below(20) {
        0 => (vec![], body.to_string()),
        1 => {
            let wrong =
                ["-1", "+7", "7 7", "7,7", "0x7", "007", "99999999999999999999", "9223372036854775807", "", "7a"];
            (vec![format!("Content-Length: {}", pick(rng, &wrong))], body.to_string())
        }
        2 => {
            (vec![format!("Content-Length: {}", (length + rng.below(3) as usize).saturating_sub(1))], body.to_string())
        }
        3 => (vec![format!("Content-Length: {length}"), format!("Content-Length: {length}")], body.to_string()),
        4 => {
            let codings = [
                "chunked, identity",
                "identity",
                "gzip, chunked",
                "chunked, chunked",
                "Chunked",
                " chunked ",
                "xchunked",
                "chunked;q=1",
                ",chunked",
                "chunked,",
                "\"chunked\"",
            ];
            (vec![format!("Transfer-Encoding: {}", pick(rng, &codings))], chunked(rng, body))
        }
        5 => {
            let lines = vec![format!("Content-Length: {length}"), "Transfer-Encoding: chunked".to_string()];
            (lines, chunked(rng, body))
        }
        6..10 => (vec!["Transfer-Encoding: chunked".to_string()], chunked(rng, body)),
        _ => (vec![format!("Content-Length: {length}")], body.to_string()),
    }
}

fn chunked(rng: &mut Rng, body: &str) -> String {
    let (mut sent, mut rest) = (String::new(), body);
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(1 + rng.below(rest.len() as u64) as usize);
        let size = match rng.below(30) {
            0 => format!("{:X}", chunk.len()),
            1 => format!("000{:x}", chunk.len()),
            2 => format!("{:x};name=\"value\"", chunk.len()),
            3 => format!("{:x} ; x", chunk.len()),
            4 => format!("{:x} ", chunk.len()),
            5 => format!("0x{:x}", chunk.len()),
            6 => format!("-{:x}", chunk.len()),
            7 => format!("{:x}", chunk.len() + 1),
            8 => "fffffffffffffffff".to_string(),
            _ => format!("{:x}", chunk.len()),
        };
        let end = mostly(rng, &["\r\n"; 9], &["\n", "\r", "\r\r\n", " \r\n"]);
        sent.push_str(&format!("{size}{end}{chunk}{}", mostly(rng, &["\r\n"; 9], &["\n", "", "\rx"])));
        rest = after;
    }
    let trailer = match rng.below(8) {
        0 => "X-Sum: 1\r\n",
        1 => "X-Sum: 1\r\nContent-Length: 5\r\n",
        2 => mostly(rng, &["X:\r\n"], &["bad line\r\n", " a: b\r\n", "X: a\nY: b\r\n", "X : y\r\n"]),
        _ => "",
    };
    sent + mostly(rng, &["0\r\n"], &["0\n", "00\r\n", "0;x\r\n", ""])
        + trailer
        + mostly(rng, &["\r\n"], &["\n", "", "\r"])
}

/// Changes bytes: cut out, doubled, put in, turned.
fn change(rng: &mut Rng, bytes: &mut Vec<u8>) {
    let length = bytes.len() as u64;
    let at = rng.below(length + 1) as usize;
    let end = at + rng.below((length - at as u64).min(24) + 1) as usize;
    match rng.below(5) {
        0 if at < bytes.len() => bytes[at] ^= 1 << rng.below(8),
        1 => drop(bytes.drain(at..end)),
        2 => {
            let copy = bytes[at..end].to_vec();
            bytes.splice(at..at, copy);
        }
        3 if at < bytes.len() => bytes[at] = rng.next_u64() as u8,
        _ => {
            let tokens = [
                "\r\n",
                "\n",
                "\r",
                " ",
                ":",
                "\0",
                "0\r\n\r\n",
                "\r\n\r\n",
                ";",
                ",",
                "Content-Length: 1\r\n",
                "\t",
                "\u{7f}",
            ];
            bytes.splice(at..at, pick(rng, &tokens).bytes());
        }
    }
}
