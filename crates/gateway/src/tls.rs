//! TLS in front of the standard stack: a certificate from files, which are read again when they change.
//!
//! Connections that are open keep the certificate they began with. Files that cannot be used stop a door from opening;
//! later they are a warning, and the door goes on with the certificate it has.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;

use crate::error::Error;

/// How a door proves who it is, and whether its callers have to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsOptions {
    /// The file of the certificate and those that lead from it to a root, in PEM.
    pub certificate: PathBuf,
    /// The file of the certificate's private key, in PEM.
    pub key: PathBuf,
    /// The file of the roots that the certificates of clients lead to, in PEM; none asks clients for no certificate.
    pub clients: Option<PathBuf>,
    /// How often the files are looked at; default 10 s.
    pub reload: Duration,
    /// How long a client may take for the handshake; default 10 s.
    pub handshake_timeout: Duration,
}

impl TlsOptions {
    /// The certificate and the key in these files, and defaults.
    pub fn of(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        let seconds = Duration::from_secs(10);
        let (certificate, key) = (certificate.into(), key.into());
        TlsOptions { certificate, key, clients: None, reload: seconds, handshake_timeout: seconds }
    }
}

/// The certificate of a door.
pub(crate) struct Identity {
    options: TlsOptions,
    provider: Arc<CryptoProvider>,
    current: Arc<Current>,
    /// What the files were like when they were last read.
    seen: [Option<Stamp>; 2],
}

/// When a file was changed, and how long it is.
type Stamp = (SystemTime, u64);

/// The certificate that new connections get.
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Current")
    }
}

impl Identity {
    /// Reads the files: what to look at again later, and what connections are served by.
    pub(crate) fn open(options: &TlsOptions) -> Result<(Self, Arc<ServerConfig>), Error> {
        let provider = Arc::new(default_provider());
        let seen = stamps(options);
        let key = Arc::new(read(options, &provider)?);
        let current = Arc::new(Current(RwLock::new(key)));
        let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let wrong = |path: &Path, problem: String| Error::Certificate { path: path.to_path_buf(), problem };
        let builder = builder.map_err(|error| wrong(&options.certificate, error.to_string()))?;
        let builder = match &options.clients {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for root in certificates(path)? {
                    roots.add(root).map_err(|error| wrong(path, error.to_string()))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| wrong(path, error.to_string()))?)
            }
        };
        let mut config = builder.with_cert_resolver(current.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok((Identity { options: options.clone(), provider, current, seen }, Arc::new(config)))
    }

    /// Looks at the files every now and then, for as long as it is polled.
    pub(crate) async fn watch(mut self) {
        loop {
            tokio::time::sleep(self.options.reload).await;
            let looked = tokio::task::spawn_blocking(move || {
                self.look();
                self
            });
            match looked.await {
                Ok(identity) => self = identity,
                Err(_) => return,
            }
        }
    }

    /// Takes the certificate of files that have changed.
    fn look(&mut self) {
        let seen = stamps(&self.options);
        if seen == self.seen {
            return;
        }
        self.seen = seen;
        let path = self.options.certificate.display();
        match read(&self.options, &self.provider) {
            Ok(key) => {
                *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
                tracing::info!(%path, "the certificate was read again");
            }
            Err(error) => {
                tracing::warn!(%error, "the changed certificate cannot be used; the door keeps the one it has")
            }
        }
    }
}

fn stamps(options: &TlsOptions) -> [Option<Stamp>; 2] {
    [&options.certificate, &options.key].map(|path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let wrong = |problem: String| Error::Certificate { path: path.to_path_buf(), problem };
    let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match found {
        Ok(found) if found.is_empty() => Err(wrong("there is no certificate in it".to_string())),
        Ok(found) => Ok(found),
        Err(error) => Err(wrong(error.to_string())),
    }
}

fn read(options: &TlsOptions, provider: &CryptoProvider) -> Result<CertifiedKey, Error> {
    let chain = certificates(&options.certificate)?;
    let wrong = |path: &Path, problem: String| Error::Certificate { path: path.to_path_buf(), problem };
    let key = PrivateKeyDer::from_pem_file(&options.key).map_err(|error| wrong(&options.key, error.to_string()))?;
    CertifiedKey::from_der(chain, key, provider)
        .map_err(|error| wrong(&options.key, format!("it does not go with {}: {error}", options.certificate.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, name: &str) -> TlsOptions {
        let made = rcgen::generate_simple_self_signed(vec![name.to_string()]).expect("a certificate");
        let options = TlsOptions::of(folder.join("certificate.pem"), folder.join("key.pem"));
        std::fs::write(&options.certificate, made.cert.pem()).expect("a folder takes files");
        std::fs::write(&options.key, made.signing_key.serialize_pem()).expect("a folder takes files");
        options
    }

    fn leaf(identity: &Identity) -> Vec<u8> {
        identity.current.0.read().expect("nothing panics").cert[0].to_vec()
    }

    #[test]
    fn takes_a_changed_certificate_and_keeps_a_good_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let options = write(folder.path(), "one.example");
        let (mut identity, _) = Identity::open(&options).expect("the files are good");
        let first = leaf(&identity);
        write(folder.path(), "another.example");
        identity.look();
        let second = leaf(&identity);
        assert_ne!(first, second);
        std::fs::write(&options.certificate, "no certificate").expect("a folder takes files");
        identity.look();
        assert_eq!(leaf(&identity), second);
        std::fs::remove_file(&options.key).expect("it was there");
        identity.look();
        assert_eq!(leaf(&identity), second);
    }

    #[test]
    fn says_what_is_wrong_with_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let check = |options: &TlsOptions, part: &str| {
            let error = Identity::open(options).err().expect(part).to_string();
            assert!(error.contains(part), "{error}");
        };
        check(&TlsOptions::of("/nowhere/c.pem", "/nowhere/k.pem"), "/nowhere/c.pem");
        let options = write(folder.path(), "one.example");
        let other = tempfile::tempdir().expect("a folder");
        let strange = write(other.path(), "two.example");
        check(&TlsOptions { key: strange.key.clone(), ..options.clone() }, "does not go with");
        check(&TlsOptions { clients: Some(options.key.clone()), ..options.clone() }, "no certificate in it");
        std::fs::write(&options.key, "").expect("a folder takes files");
        check(&options, "key.pem");
    }
}
