//! TLS in front of the standard stack.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertifiedKey, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tidemill_gateway::{Options, TlsOptions};

use super::Door;
use super::client::{Client, get, request};

fn certificate(folder: &Path, name: &str) -> (TlsOptions, String) {
    let CertifiedKey::<KeyPair> { cert, signing_key } =
        rcgen::generate_simple_self_signed(vec!["localhost".to_string()]).expect("a certificate");
    let tls = TlsOptions::of(folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
    std::fs::write(&tls.key, signing_key.serialize_pem()).expect("a folder takes files");
    std::fs::write(&tls.certificate, cert.pem()).expect("a folder takes files");
    (tls, cert.pem())
}

/// A connection by TLS that trusts `root`, and shows a certificate of its own when it has one.
fn connect(
    address: SocketAddr,
    root: &str,
    own: Option<&TlsOptions>,
    alpn: &[u8],
) -> std::io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(root.as_bytes()).expect("a certificate")).expect("a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let builder = builder.with_root_certificates(roots);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let chain = vec![CertificateDer::from_pem_file(&own.certificate).expect("a certificate")];
            let key = PrivateKeyDer::from_pem_file(&own.key).expect("a key");
            builder.with_client_auth_cert(chain, key).expect("they go together")
        }
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    let name = ServerName::try_from("localhost").expect("a name");
    let mut connection = ClientConnection::new(Arc::new(config), name).expect("a connection");
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    Ok(StreamOwned::new(connection, stream))
}

/// The status of `GET /v1/health`.
fn health(stream: &mut StreamOwned<ClientConnection, TcpStream>) -> std::io::Result<String> {
    stream.write_all(&request("GET", "/v1/health", &[], b""))?;
    let mut text = vec![0; 4096];
    let count = stream.read(&mut text)?;
    Ok(String::from_utf8_lossy(&text[9..count.min(12)]).to_string())
}

#[test]
fn speaks_tls_with_the_protocol_that_was_chosen() {
    let folder = tempfile::tempdir().expect("a folder");
    let (tls, root) = certificate(folder.path(), "server");
    let door = Door::with(Options { tls: Some(tls), ..Options::default() });
    let address = door.server().address();
    let mut stream = connect(address, &root, None, b"http/1.1").expect("a handshake");
    assert_eq!(health(&mut stream).expect("an answer"), "200");
    let newer = connect(address, &root, None, b"h2").expect("a handshake");
    assert_eq!(newer.conn.alpn_protocol(), Some(&b"h2"[..]));
    assert!(connect(address, &root, None, b"spdy/1").is_err());
}

#[test]
fn a_changed_certificate_is_taken_and_open_connections_go_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let (tls, old) = certificate(folder.path(), "server");
    let tls = TlsOptions { reload: Duration::from_millis(20), ..tls };
    let door = Door::with(Options { tls: Some(tls), ..Options::default() });
    let address = door.server().address();
    let mut before = connect(address, &old, None, b"http/1.1").expect("a handshake");
    assert_eq!(health(&mut before).expect("an answer"), "200");
    let (_, new) = certificate(folder.path(), "server");
    // The door looks again by itself; every try until then is refused by this side.
    while connect(address, &new, None, b"http/1.1").is_err() {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(health(&mut before).expect("an answer"), "200", "it goes on with what it began with");
    assert!(connect(address, &old, None, b"http/1.1").is_err());
}

#[test]
fn clients_show_a_certificate_where_they_must() {
    let folder = tempfile::tempdir().expect("a folder");
    let (tls, root) = certificate(folder.path(), "server");
    let (client, _) = certificate(folder.path(), "client");
    let (stranger, _) = certificate(folder.path(), "stranger");
    let tls = TlsOptions { clients: Some(client.certificate.clone()), ..tls };
    // Who comes is known, so that others may come.
    let door = Door::with(Options { tls: Some(tls), ..Options::default() });
    let ask = |own: Option<&TlsOptions>| {
        connect(door.server().address(), &root, own, b"http/1.1").and_then(|mut stream| health(&mut stream))
    };
    assert_eq!(ask(Some(&client)).expect("an answer"), "200");
    assert!(ask(None).is_err());
    assert!(ask(Some(&stranger)).is_err());
}

#[test]
fn nonsense_and_silence_end_a_handshake_and_nobody_else_notices() {
    let folder = tempfile::tempdir().expect("a folder");
    let (tls, root) = certificate(folder.path(), "server");
    let tls = TlsOptions { handshake_timeout: Duration::from_millis(200), ..tls };
    let door = Door::with(Options { tls: Some(tls), ..Options::default() });
    let address = door.server().address();
    let mut good = connect(address, &root, None, b"http/1.1").expect("a handshake");
    let plain = request("GET", "/v1/health", &[], b"");
    for beginning in [&b""[..], b"\x16\x03\x01", b"\x16\x03\x01\xff\xff\0\0\0\0", &[0xff; 70_000], &plain] {
        let mut stream = TcpStream::connect(address).expect("the door listens");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket has time-outs");
        let _ = stream.write_all(beginning);
        let mut rest = Vec::new();
        // An alert, or nothing: never an answer, and always an end.
        let _ = stream.read_to_end(&mut rest);
        assert!(!rest.starts_with(b"HTTP"), "{beginning:?}");
    }
    assert_eq!(health(&mut good).expect("an answer"), "200");
}

#[test]
fn a_door_without_tls_survives_those_who_speak_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_, root) = certificate(folder.path(), "server");
    let door = Door::open();
    assert!(connect(door.server().address(), &root, None, b"h2").is_err());
    let mut client = Client::new(&door);
    client.send(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]);
    client.finish();
    assert!(client.answer().is_none_or(|answer| answer.status == 400));
    assert_eq!(get(&door, "/v1/health").status, 200);
}
