//! Requests as the fast stack cuts them out of a connection: whatever the bytes are and in whichever pieces they come, it
//! returns, and sees the same requests.

use tidemill_gateway::fast::probe;

/// Reads `input` behind its first byte, which says in which pieces it comes.
pub fn run(input: &[u8]) -> Vec<String> {
    let Some((piece, bytes)) = input.split_first() else { return Vec::new() };
    // Pieces of one byte cost the most to look at; most inputs are short enough for it.
    let least = bytes.len().div_ceil(512).max(1);
    probe(bytes, least + usize::from(*piece))
}

/// Requests of each kind.
pub fn seeds() -> Vec<Vec<u8>> {
    let head =
        "POST /v1/sources/clicks?on_error=skip HTTP/1.1\r\nHost: localhost:8080\r\nContent-Type: application/json\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n\r\n7;a=b\r\n{\"a\":1}\r\n0\r\nX-Sum: 1\r\n\r\n";
    let rest = [
        "Content-Length: 7\r\n\r\n{\"a\":1}",
        chunked,
        "Expect: 100-continue\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        "Content-Length: 1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "Idempotency-Key: \"k\"\r\nPrefer: wait=1\r\n",
    ];
    rest.iter().map(|rest| format!("\0{head}{rest}").into_bytes()).collect()
}
