//! A store in an object store that speaks S3.
//!
//! A name is taken by a conditional write (`If-None-Match: *`), which the object store decides. A request whose answer
//! was lost may have been done, so a write is tried again with care: if the name is then taken by the very bytes that
//! were to be written, it was the first attempt that took it. Rivals therefore write contents that differ, such as their
//! own versions.
//!
//! Requests run on a small runtime of the store's own, so that any thread may call and wait, one of another runtime too.

use std::future::Future;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path;
use object_store::{
    ClientConfigKey, ClientOptions, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, RetryConfig,
};
use tidemill_base::options::{self, Options};
use tokio::runtime::{Builder, Runtime};

use super::{Store, StoreError, check_name};

/// How often a write is tried when nobody knows what became of it, and how long is waited after the first time; twice as
/// long after each.
const WRITES_MAX: u32 = 4;
const WRITE_PAUSE: Duration = Duration::from_millis(100);

/// How long a connection, a request and a request with all its repetitions may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);
const RETRY_TIMEOUT: Duration = Duration::from_secs(60);
const RETRIES_MAX: usize = 4;

const ALLOW_HTTP: AmazonS3ConfigKey = AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp);

/// How to reach an object store. What is not said here comes from the environment, `AWS_ENDPOINT`, `AWS_REGION`,
/// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_ALLOW_HTTP` and so on.
#[derive(Clone, Default)]
pub struct S3 {
    /// The server, such as `https://minio.example:9000`; Amazon's when not given.
    pub endpoint: Option<String>,
    /// The region; `us-east-1` when not given.
    pub region: Option<String>,
    /// Who asks.
    pub access_key: Option<String>,
    /// The secret of who asks.
    pub secret_key: Option<String>,
    /// The token of a session that ends.
    pub session_token: Option<String>,
    /// Whether an endpoint without TLS may be asked.
    pub allow_http: bool,
}

impl std::fmt::Debug for S3 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3").field("endpoint", &self.endpoint).field("region", &self.region).finish_non_exhaustive()
    }
}

impl S3 {
    /// Takes `s3.endpoint`, `s3.region`, `s3.access-key`, `s3.secret-key`, `s3.session-token` and `s3.allow-http`.
    ///
    /// # Errors
    /// An option that cannot be read.
    pub fn take(options: &mut Options) -> Result<Self, options::Error> {
        Ok(S3 {
            endpoint: options.take("s3.endpoint"),
            region: options.take("s3.region"),
            access_key: options.take("s3.access-key"),
            secret_key: options.take("s3.secret-key"),
            session_token: options.take("s3.session-token"),
            allow_http: options.boolean("s3.allow-http")?.unwrap_or(false),
        })
    }

    /// What is said here over what the environment says over our own limits of time.
    fn builder(&self, bucket: &str) -> AmazonS3Builder {
        let client = ClientOptions::new().with_connect_timeout(CONNECT_TIMEOUT).with_timeout(REQUEST_TIMEOUT);
        let mut builder = AmazonS3Builder::new().with_client_options(client);
        for (key, value) in std::env::vars_os() {
            if let (Some(key), Some(value)) = (key.to_str(), value.to_str())
                && key.starts_with("AWS_")
                && let Ok(key) = key.to_ascii_lowercase().parse()
            {
                builder = builder.with_config(key, value);
            }
        }
        let given = [
            (AmazonS3ConfigKey::S3Endpoint, &self.endpoint),
            (AmazonS3ConfigKey::Region, &self.region),
            (AmazonS3ConfigKey::AccessKeyId, &self.access_key),
            (AmazonS3ConfigKey::SecretAccessKey, &self.secret_key),
            (AmazonS3ConfigKey::Token, &self.session_token),
        ];
        for (key, value) in given {
            if let Some(value) = value {
                builder = builder.with_config(key, value);
            }
        }
        if self.allow_http {
            builder = builder.with_config(ALLOW_HTTP, "true");
        }
        builder.with_bucket_name(bucket)
    }
}

/// Whether a server without TLS would be asked although nobody has allowed it.
fn is_insecure(builder: &AmazonS3Builder) -> bool {
    let endpoint = [AmazonS3ConfigKey::S3Endpoint, AmazonS3ConfigKey::Endpoint];
    let endpoint = endpoint.iter().find_map(|key| builder.get_config_value(key));
    let allowed = builder.get_config_value(&ALLOW_HTTP).is_some_and(|allowed| allowed == "true");
    endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")) && !allowed
}

/// Objects in a bucket.
#[derive(Debug)]
pub struct Bucket {
    /// For what may be repeated as it stands.
    reads: Arc<dyn ObjectStore>,
    /// For writes, which this file repeats itself.
    writes: Arc<dyn ObjectStore>,
    address: String,
    folder: String,
    runtime: Option<Runtime>,
}

impl Bucket {
    /// The store in `folder` of `bucket`; an empty folder is the whole bucket. Nothing is asked of the server yet.
    ///
    /// # Errors
    /// [`StoreError::BadAddress`] when the options contradict each other, or the machine gives no thread.
    pub fn open(bucket: &str, folder: &str, s3: &S3) -> Result<Self, StoreError> {
        let address = if folder.is_empty() { format!("s3://{bucket}") } else { format!("s3://{bucket}/{folder}") };
        let bad = |reason: String| StoreError::BadAddress { address: address.clone(), reason };
        if !folder.is_empty() {
            check_name(folder)?;
        }
        let builder = s3.builder(bucket);
        if is_insecure(&builder) {
            let how = "allow that by 's3.allow-http' = 'true' or AWS_ALLOW_HTTP=true";
            return Err(bad(format!("its endpoint has no TLS; {how}")));
        }
        let build = |retries| -> Result<Arc<dyn ObjectStore>, StoreError> {
            let retry = RetryConfig { max_retries: retries, retry_timeout: RETRY_TIMEOUT, ..RetryConfig::default() };
            let store = builder.clone().with_retry(retry).build().map_err(|error| bad(error.to_string()))?;
            Ok(Arc::new(store))
        };
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("tidemill-store")
            .enable_all()
            .build()
            .map_err(|error| bad(error.to_string()))?;
        let (reads, writes) = (build(RETRIES_MAX)?, build(0)?);
        Ok(Bucket { reads, writes, folder: folder.to_string(), runtime: Some(runtime), address })
    }

    fn path(&self, name: &str) -> Result<Path, StoreError> {
        check_name(name)?;
        Ok(if self.folder.is_empty() { Path::from(name) } else { Path::from(format!("{}/{name}", self.folder)) })
    }

    /// Runs a request and waits for it.
    fn wait<T: Send + 'static>(
        &self,
        verb: &'static str,
        name: &str,
        request: impl Future<Output = object_store::Result<T>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (done, answer) = sync_channel(1);
        if let Some(runtime) = &self.runtime {
            // Nobody hears the answer only when this thread has panicked.
            runtime.spawn(async move { drop(done.send(request.await)) });
        }
        match answer.recv() {
            Ok(answer) => answer.map_err(|error| self.failed(verb, name, &error)),
            Err(_) => Err(self.broken(verb, name, "the request was dropped".to_string())),
        }
    }

    fn broken(&self, verb: &'static str, name: &str, reason: String) -> StoreError {
        StoreError::Failed { store: self.describe(), verb, name: name.to_string(), reason }
    }

    fn failed(&self, verb: &'static str, name: &str, error: &object_store::Error) -> StoreError {
        let (store, name) = (self.describe(), name.to_string());
        match error {
            object_store::Error::NotFound { .. } => StoreError::NotFound { store, name },
            object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. } => {
                StoreError::Exists { store, name }
            }
            _ => StoreError::Failed { store, verb, name, reason: error.to_string() },
        }
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        // Waiting for the runtime's end is forbidden inside another runtime, and nothing of ours is running.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Store for Bucket {
    fn put_new(&self, name: &str, content: Bytes) -> Result<(), StoreError> {
        let path = self.path(name)?;
        let mut pause = WRITE_PAUSE;
        for attempt in 1.. {
            let (store, path, payload) = (self.writes.clone(), path.clone(), content.clone());
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            let put = async move { store.put_opts(&path, payload.into(), options).await };
            match self.wait("write", name, put) {
                Err(StoreError::Exists { .. }) if attempt > 1 && self.get(name)? == content => return Ok(()),
                Err(StoreError::Failed { .. }) if attempt < WRITES_MAX => {
                    std::thread::sleep(pause);
                    pause *= 2;
                }
                // A bucket that is not there.
                Err(StoreError::NotFound { .. }) => {
                    return Err(self.broken("write", name, "the bucket is not there".to_string()));
                }
                put => return put.map(drop),
            }
        }
        Ok(())
    }

    fn get(&self, name: &str) -> Result<Bytes, StoreError> {
        let (store, path) = (self.reads.clone(), self.path(name)?);
        self.wait("read", name, async move { store.get(&path).await?.bytes().await })
    }

    fn get_range(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, StoreError> {
        let (store, path) = (self.reads.clone(), self.path(name)?);
        let end = offset.saturating_add(length);
        let range = async move {
            let size = store.head(&path).await?.size;
            match size >= end {
                true if length == 0 => Ok(Some(Bytes::new())),
                true => store.get_range(&path, offset..end).await.map(Some),
                false => Ok(None),
            }
        };
        let short = || StoreError::TooShort { store: self.describe(), name: name.to_string(), end };
        self.wait("read", name, range)?.ok_or_else(short)
    }

    fn list(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let below = match (folder.is_empty(), self.folder.is_empty()) {
            (true, true) => None,
            (true, false) => Some(Path::from(self.folder.as_str())),
            (false, _) => Some(self.path(folder)?),
        };
        let store = self.reads.clone();
        let list =
            async move { store.list(below.as_ref()).map_ok(|object| object.location).try_collect::<Vec<_>>().await };
        let skip = if self.folder.is_empty() { 0 } else { self.folder.len() + 1 };
        let found = self.wait("list", folder, list)?;
        let names = found.iter().filter_map(|path| path.as_ref().get(skip..));
        let mut names: Vec<String> = names.filter(|name| check_name(name).is_ok()).map(str::to_string).collect();
        names.sort_unstable();
        Ok(names)
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        let (store, path) = (self.reads.clone(), self.path(name)?);
        match self.wait("remove", name, async move { store.delete(&path).await }) {
            Err(StoreError::NotFound { .. }) => Ok(()),
            deleted => deleted,
        }
    }

    fn describe(&self) -> String {
        self.address.clone()
    }
}
