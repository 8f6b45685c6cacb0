//! [`Push`]: sends rows to an HTTP server, a request a batch.
//!
//! A request that failed for a reason that may pass is sent again after a wait that doubles, with jitter so that many
//! senders do not come back at the same moment. The server may see a batch twice; it never misses one.

use std::time::Duration;

use arrow_schema::SchemaRef;
use tidemill_base::options::{self, Options as Pairs};
use tidemill_base::rand::Rng;
use tidemill_circuit::Delta;
use tidemill_format::{Encoder, Format};
use tidemill_stage::Cancel;
use ureq::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::changelog::Changelog;
use crate::error::Error;
use crate::sink::{self, Sink, SinkSummary};

/// The first wait before a request is sent again.
const WAIT_MIN: Duration = Duration::from_millis(100);

/// The longest wait.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// The most bytes of an answer that an error shows.
const BODY_SHOWN: u64 = 2_000;

/// What the options of `'connector' = 'http'` with a `'url'` say.
#[derive(Debug, Clone)]
pub struct Options {
    url: String,
    uri: Uri,
    method: Method,
    headers: HeaderMap,
    format: Format,
    batch_rows: usize,
    batch_bytes: usize,
    retries: u64,
    timeout: Duration,
}

impl Options {
    pub(crate) fn take(options: &mut Pairs) -> Result<Self, options::Error> {
        let url = options.require("url")?;
        let uri = url.parse::<Uri>().ok().filter(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
        });
        let uri = uri.ok_or_else(|| options::Error::Invalid {
            key: "url".to_string(),
            value: url.clone(),
            expected: "an address like 'http://host:8080/path'".to_string(),
        })?;
        let format = Format::from_options(options)?;
        let methods = [("POST", Method::POST), ("PUT", Method::PUT), ("PATCH", Method::PATCH)];
        let method = options.parse("method", "one of 'POST', 'PUT', 'PATCH'", |value| {
            methods.iter().find(|(name, _)| *name == value).map(|(_, method)| method.clone())
        })?;
        let headers = headers(options, &format)?;
        Ok(Options {
            url,
            uri,
            method: method.unwrap_or(Method::POST),
            headers,
            format,
            batch_rows: options.integer("sink.batch.rows")?.unwrap_or(1_000).max(1) as usize,
            batch_bytes: options.size("sink.batch.bytes")?.unwrap_or(1 << 20).max(1) as usize,
            retries: options.integer("sink.retries")?.unwrap_or(5),
            timeout: options.duration("sink.timeout")?.unwrap_or(Duration::from_secs(30)),
        })
    }

    pub(crate) fn format(&self) -> &Format {
        &self.format
    }

    /// The same in another format.
    pub(crate) fn writing(self, format: Format) -> Self {
        Options { format, ..self }
    }
}

fn headers(options: &mut Pairs, format: &Format) -> Result<HeaderMap, options::Error> {
    let mut headers = HeaderMap::new();
    let content_type = match format {
        Format::Csv(_) => "text/csv",
        Format::Parquet => "application/vnd.apache.parquet",
        Format::Json(_) | Format::DebeziumJson(_) | Format::UpsertJson(..) => "application/x-ndjson",
    };
    headers.insert("content-type", HeaderValue::from_static(content_type));
    for (name, value) in options.take_prefixed("header.") {
        let (Ok(name), Ok(value)) = (HeaderName::try_from(name.as_str()), HeaderValue::try_from(value.as_str())) else {
            let (key, expected) = (format!("header.{name}"), "a name and value that HTTP can carry".to_string());
            return Err(options::Error::Invalid { key, value, expected });
        };
        headers.insert(name, value);
    }
    Ok(headers)
}

/// A server as a sink.
pub struct Push {
    table: String,
    options: Options,
    schema: SchemaRef,
    /// How rows that are taken back are told; none when rows only come.
    changelog: Option<Changelog>,
    agent: ureq::Agent,
    cancel: Cancel,
    rng: Rng,
    body: Vec<u8>,
    body_rows: usize,
    summary: SinkSummary,
}

/// How one attempt went.
enum Attempt {
    Done,
    /// It may go better later.
    Failed(String),
    /// It will never go better.
    Refused(Error),
}

impl Push {
    pub(crate) fn open(
        table: &str,
        options: &Options,
        schema: SchemaRef,
        changelog: Option<Changelog>,
        cancel: &Cancel,
    ) -> Result<Self, Error> {
        let wrong = |error| Error::Format { table: table.to_string(), path: None, error };
        options.format.encoder(schema.clone()).map_err(wrong)?;
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(options.timeout))
            .user_agent(concat!("tidemill/", env!("CARGO_PKG_VERSION")))
            .max_redirects(0);
        let config = if options.uri.scheme_str() == Some("https") { config.tls_config(tls()) } else { config };
        Ok(Push {
            table: table.to_string(),
            options: options.clone(),
            schema,
            changelog,
            agent: config.build().new_agent(),
            cancel: cancel.clone(),
            rng: Rng::seeded(tidemill_base::hash::bytes(options.url.as_bytes())),
            body: Vec::new(),
            body_rows: 0,
            summary: SinkSummary::default(),
        })
    }

    fn encode(&mut self, delta: &Delta) -> Result<(), Error> {
        let mut encoder = self.encoder()?;
        let mut at = 0;
        while at < delta.rows() {
            let length = (self.options.batch_rows - self.body_rows).min(delta.rows() - at);
            // Whether a batch is full in bytes is only known after the rows are written: so by small pieces.
            let piece = delta.slice(at, length.min(64));
            let encoded = encoder.encode(piece.batch(), piece.weights(), &mut self.body);
            encoded.map_err(|error| self.failed(error))?;
            at += piece.rows();
            self.body_rows += piece.rows();
            if self.body_rows >= self.options.batch_rows || self.body.len() >= self.options.batch_bytes {
                encoder.finish(&mut self.body).map_err(|error| self.failed(error))?;
                self.send()?;
                encoder = self.encoder()?;
            }
        }
        encoder.finish(&mut self.body).map_err(|error| self.failed(error))?;
        self.send()
    }

    fn encoder(&self) -> Result<Box<dyn Encoder>, Error> {
        self.options.format.encoder(self.schema.clone()).map_err(|error| self.failed(error))
    }

    /// Sends what was gathered, again and again if need be.
    fn send(&mut self) -> Result<(), Error> {
        if self.body_rows == 0 {
            self.body.clear();
            return Ok(());
        }
        let mut wait = WAIT_MIN;
        for attempt in 0.. {
            let message = match self.attempt() {
                Attempt::Done => break,
                Attempt::Refused(error) => return Err(error),
                Attempt::Failed(message) => message,
            };
            if attempt >= self.options.retries {
                let (table, url) = (self.table.clone(), self.options.url.clone());
                return Err(Error::Unreachable { table, url, attempts: attempt + 1, message });
            }
            tracing::warn!(table = %self.table, url = %self.options.url, attempt, message, "Rows will be sent again.");
            let jittered = wait.mul_f64(0.5 + self.rng.next_f64());
            if !self.cancel.sleep_through_drain(jittered) {
                return Err(Error::Stopped { table: self.table.clone() });
            }
            wait = (wait * 2).min(WAIT_MAX);
        }
        self.summary.bytes += self.body.len() as u64;
        self.summary.pieces += 1;
        self.body.clear();
        self.body_rows = 0;
        Ok(())
    }

    fn attempt(&self) -> Attempt {
        let mut request = Request::new(self.body.as_slice());
        *request.method_mut() = self.options.method.clone();
        *request.uri_mut() = self.options.uri.clone();
        *request.headers_mut() = self.options.headers.clone();
        let mut response = match self.agent.run(request) {
            Ok(response) => response,
            Err(error) => return Attempt::Failed(error.to_string()),
        };
        let status = response.status().as_u16();
        if (200..300).contains(&status) {
            // Reading the answer to its end lets the connection be used again.
            let _ = response.body_mut().with_config().limit(BODY_SHOWN).read_to_vec();
            return Attempt::Done;
        }
        let mut body = Vec::new();
        let mut answer = std::io::Read::take(response.body_mut().as_reader(), BODY_SHOWN);
        // What could be read of the answer is all that can be shown.
        let _ = std::io::Read::read_to_end(&mut answer, &mut body);
        let body = String::from_utf8_lossy(&body).trim().to_string();
        if status >= 500 || matches!(status, 408 | 425 | 429) {
            return Attempt::Failed(format!("{status}: {body}"));
        }
        Attempt::Refused(Error::Refused { table: self.table.clone(), url: self.options.url.clone(), status, body })
    }

    fn failed(&self, error: tidemill_format::Error) -> Error {
        Error::Format { table: self.table.clone(), path: None, error }
    }
}

/// TLS by ring, trusting what the machine trusts.
fn tls() -> TlsConfig {
    let loaded = rustls_native_certs::load_native_certs();
    for error in &loaded.errors {
        tracing::warn!(%error, "A certificate of the machine could not be loaded.");
    }
    let certificates = loaded.certs.iter().map(|certificate| Certificate::from_der(certificate.as_ref()).to_owned());
    TlsConfig::builder()
        .root_certs(RootCerts::from(certificates))
        .unversioned_rustls_crypto_provider(std::sync::Arc::new(rustls::crypto::ring::default_provider()))
        .build()
}

impl Sink for Push {
    fn write(&mut self, _step: u64, rows: &[Delta]) -> Result<(), Error> {
        match &self.changelog {
            Some(changelog) => {
                let told = changelog.told(&self.table, rows)?;
                self.encode(&told)?;
            }
            None => {
                let what = format!("'http' with 'format' = '{}'", self.options.format.name());
                sink::refuse_retractions(&self.table, &what, rows)?;
                rows.iter().try_for_each(|delta| self.encode(delta))?;
            }
        }
        self.summary.rows += sink::entries(rows);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<SinkSummary, Error> {
        Ok(self.summary)
    }

    fn abort(self: Box<Self>) {}
}
