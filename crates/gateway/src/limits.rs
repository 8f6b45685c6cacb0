//! [`Limits`]: how many requests a door takes a second, from each address, from each token, for each source and endpoint.
//!
//! Every one is a token bucket. The buckets of addresses are bounded: when there are too many addresses at once, those of
//! which nothing is remembered share a few buckets until the flood is over. The clock is handed in.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use governor::clock::Clock as _;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed, keyed::DashMapStateStore};
use governor::{Quota, RateLimiter};
use tidemill_base::hash;
use tidemill_base::options::parse_duration;
use tidemill_base::time::Clock;

use crate::hall::Hall;
use crate::identity::Digest;
use crate::problem::Problem;

/// Addresses of which something is remembered; more share buckets.
const ADDRESSES_MAX: usize = 1 << 16;

/// Requests between two looks at the number of addresses.
const LOOK_EVERY: u32 = 1 << 10;

/// The buckets that are shared when there are too many addresses.
const SHARED_BUCKETS: u64 = 1 << 12;

/// So many requests in so much time, and how many of them at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Requests, from 1.
    pub count: u32,
    /// The time in which they come.
    pub per: Duration,
    /// Requests that may come at once; the default is `count`.
    pub burst: u32,
}

impl Rate {
    /// Reads `1000/s`, `60/min`, `1000/s burst 5000`.
    pub fn parse(text: &str) -> Option<Self> {
        let (rate, burst) = text.split_once("burst").map_or((text, None), |(rate, burst)| (rate, Some(burst)));
        let (count, unit) = rate.split_once('/')?;
        let number = |text: &str| text.trim().replace('_', "").parse::<u32>().ok().filter(|count| *count > 0);
        let count = number(count)?;
        let unit = unit.trim();
        let unit = if unit.starts_with(|c: char| c.is_ascii_digit()) { unit.to_string() } else { format!("1 {unit}") };
        let per = parse_duration(&unit).filter(|per: &Duration| !(*per / count).is_zero() && unit.len() > 2)?;
        let burst = burst.map_or(Some(count), number)?;
        Some(Rate { count, per, burst })
    }

    fn quota(self) -> Option<Quota> {
        Some(Quota::with_period(self.per / self.count)?.allow_burst(NonZeroU32::new(self.burst)?))
    }

    fn seconds(self) -> u64 {
        whole_seconds(self.per)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.per.as_secs() {
            1 if self.per.subsec_nanos() == 0 => write!(f, "{}/s", self.count),
            _ => write!(f, "{} in {:?}", self.count, self.per),
        }
    }
}

/// The rates of a door; none means no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rates {
    /// From each address (of IPv6, from each network of 64 bits).
    pub address: Option<Rate>,
    /// From each token.
    pub identity: Option<Rate>,
    /// For each source.
    pub source: Option<Rate>,
    /// For each endpoint.
    pub endpoint: Option<Rate>,
}

type One = RateLimiter<NotKeyed, InMemoryState, Ticks, NoOpMiddleware<Nanos>>;
type Many = RateLimiter<u128, DashMapStateStore<u128>, Ticks, NoOpMiddleware<Nanos>>;

/// The clock, as the buckets read it.
#[derive(Clone)]
struct Ticks(Arc<dyn Clock>);

impl governor::clock::Clock for Ticks {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.monotonic().into()
    }
}

/// The buckets of a door.
pub(crate) struct Limits {
    clock: Ticks,
    addresses: Option<(Rate, Arc<Addresses>)>,
    /// In the order of the tokens.
    identities: Option<(Rate, Vec<OfToken>)>,
    sources: Option<(Rate, Named)>,
    endpoints: Option<(Rate, Named)>,
}

/// The bucket of a token.
type OfToken = (Digest, Arc<One>);

/// The buckets of sources or endpoints.
type Named = Arc<BTreeMap<String, One>>;

struct Addresses {
    buckets: Many,
    crowded: AtomicBool,
    count: AtomicU32,
}

impl Limits {
    /// Full buckets for the sources and endpoints of `hall` and the tokens of these digests.
    pub(crate) fn new(rates: &Rates, hall: &Hall, tokens: &[Digest], clock: Arc<dyn Clock>) -> Self {
        let clock = Ticks(clock);
        let with_quota = |rate: Option<Rate>| rate.and_then(|rate| Some((rate, rate.quota()?)));
        let one = |quota: Quota| RateLimiter::direct_with_clock(quota, clock.clone());
        let each = |rate: Option<Rate>, names: Vec<&str>| {
            with_quota(rate).map(|(rate, quota)| {
                let buckets = names.into_iter().map(|name| (name.to_string(), one(quota)));
                (rate, Arc::new(buckets.collect::<BTreeMap<_, _>>()))
            })
        };
        let addresses = with_quota(rates.address).map(|(rate, quota)| {
            let buckets = RateLimiter::dashmap_with_clock(quota, clock.clone());
            (rate, Arc::new(Addresses { buckets, crowded: AtomicBool::new(false), count: AtomicU32::new(0) }))
        });
        let identities = with_quota(rates.identity)
            .map(|(rate, quota)| (rate, tokens.iter().map(|digest| (*digest, Arc::new(one(quota)))).collect()));
        let sources = each(rates.source, hall.inbox_names());
        let endpoints = each(rates.endpoint, hall.endpoint_names());
        Limits { clock, addresses, identities, sources, endpoints }
    }

    /// The buckets for other rates and tokens: those whose rate is the same are as full as these.
    pub(crate) fn renewed(&self, rates: &Rates, hall: &Hall, tokens: &[Digest]) -> Self {
        let mut limits = Limits::new(rates, hall, tokens, self.clock.0.clone());
        keep(&mut limits.addresses, self.addresses.as_ref());
        keep(&mut limits.sources, self.sources.as_ref());
        keep(&mut limits.endpoints, self.endpoints.as_ref());
        if let (Some((rate, buckets)), Some((before, old))) = (&mut limits.identities, &self.identities)
            && rate == before
        {
            for (digest, bucket) in buckets {
                if let Some((_, kept)) = old.iter().find(|(other, _)| other == digest) {
                    *bucket = kept.clone();
                }
            }
        }
        limits
    }

    /// Takes from the bucket of an address.
    pub(crate) fn address(&self, address: IpAddr) -> Result<(), Problem> {
        let Some((rate, addresses)) = &self.addresses else { return Ok(()) };
        addresses.check(key_of(address)).map_err(|wait| exceeded("address", "from this address", *rate, wait, self))
    }

    /// Takes from the bucket of a token.
    pub(crate) fn identity(&self, index: usize) -> Result<(), Problem> {
        let Some((rate, buckets)) = &self.identities else { return Ok(()) };
        self.check(buckets.get(index).map(|(_, bucket)| bucket.as_ref()), "identity", "with this token", *rate)
    }

    /// Takes from the bucket of a source.
    pub(crate) fn source(&self, name: &str) -> Result<(), Problem> {
        let Some((rate, buckets)) = &self.sources else { return Ok(()) };
        self.check(buckets.get(name), "source", "for this source", *rate)
    }

    /// Takes from the bucket of an endpoint.
    pub(crate) fn endpoint(&self, name: &str) -> Result<(), Problem> {
        let Some((rate, buckets)) = &self.endpoints else { return Ok(()) };
        self.check(buckets.get(name), "endpoint", "for this endpoint", *rate)
    }

    fn check(&self, bucket: Option<&One>, policy: &str, whose: &str, rate: Rate) -> Result<(), Problem> {
        let Some(bucket) = bucket else { return Ok(()) };
        bucket.check().map_err(|until| exceeded(policy, whose, rate, until.earliest_possible(), self))
    }
}

/// Goes on with buckets where their rate is the same.
fn keep<T>(fresh: &mut Option<(Rate, Arc<T>)>, before: Option<&(Rate, Arc<T>)>) {
    if let (Some((rate, buckets)), Some((old, kept))) = (fresh, before)
        && rate == old
    {
        *buckets = kept.clone();
    }
}

impl Addresses {
    fn check(&self, key: u128) -> Result<(), Nanos> {
        if self.count.fetch_add(1, Ordering::Relaxed) % LOOK_EVERY == LOOK_EVERY - 1 {
            self.look();
        }
        // Its own bucket while there is room for one, else one of the shared.
        let key = match self.crowded.load(Ordering::Relaxed) {
            true => (2 << 96) | u128::from(hash::bytes(&key.to_le_bytes()) % SHARED_BUCKETS),
            false => key,
        };
        self.buckets.check_key(&key).map_err(|until| until.earliest_possible())
    }

    /// Forgets the addresses whose buckets are full again, when there are many.
    fn look(&self) {
        let too_many = || self.buckets.len() > ADDRESSES_MAX;
        if too_many() {
            self.buckets.retain_recent();
            self.buckets.shrink_to_fit();
        }
        self.crowded.store(too_many(), Ordering::Relaxed);
    }
}

/// What is remembered of an address: all of IPv4, the first 64 bits of IPv6.
fn key_of(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => (1 << 96) | (u128::from(address) >> 64),
    }
}

fn exceeded(policy: &str, whose: &str, rate: Rate, until: Nanos, limits: &Limits) -> Problem {
    let wait = until.as_u64().saturating_sub(limits.clock.now().as_u64());
    let wait = whole_seconds(Duration::from_nanos(wait));
    Problem::too_many(policy, format!("requests come faster than {rate} {whose}"), rate.count, rate.seconds(), wait)
}

/// At least one second, rounded up.
fn whole_seconds(time: Duration) -> u64 {
    (time.as_secs() + u64::from(time.subsec_nanos() > 0)).max(1)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use tidemill_base::time::{ManualClock, Timestamp};

    use super::*;

    fn limits(address: &str) -> (Limits, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::default());
        let rates = Rates { address: Rate::parse(address), identity: Rate::parse("1/s"), ..Rates::default() };
        (Limits::new(&rates, &Hall::new(), &[[0; 32], [1; 32]], clock.clone()), clock)
    }

    #[test]
    fn reads_rates() {
        let check = |text: &str, expected: Option<(u32, u64, u32)>| {
            let found = Rate::parse(text).map(|rate| (rate.count, rate.per.as_millis() as u64, rate.burst));
            assert_eq!(found, expected, "{text}");
        };
        check("1000/s", Some((1000, 1000, 1000)));
        check("60 / min burst 5", Some((60, 60_000, 5)));
        check("1_000/10 s", Some((1000, 10_000, 1000)));
        for bad in ["", "1000", "0/s", "10/s burst 0", "10/parsec", "-1/s", "10/", "1/s burst"] {
            check(bad, None);
        }
    }

    #[test]
    fn a_bucket_refills_with_time() {
        let (limits, clock) = limits("2/s");
        let address = IpAddr::from(Ipv4Addr::LOCALHOST);
        assert!(limits.address(address).is_ok() && limits.address(address).is_ok());
        let reply = limits.address(address).expect_err("the bucket is empty").reply();
        let header = |name| reply.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.to_str().ok());
        assert_eq!(reply.status, 429);
        assert_eq!(header("retry-after"), Some(Some("1")));
        assert_eq!(header("ratelimit-policy"), Some(Some("\"address\";q=2;w=1")));
        assert_eq!(header("ratelimit"), Some(Some("\"address\";r=0;t=1")));
        assert!(limits.address(Ipv4Addr::new(10, 0, 0, 1).into()).is_ok(), "another has a bucket of its own");
        clock.set(Timestamp(500));
        assert!(limits.address(address).is_ok() && limits.address(address).is_err());
    }

    #[test]
    fn tokens_and_names_have_buckets_of_their_own() {
        let (limits, _) = limits("1/s");
        assert!(limits.identity(0).is_ok() && limits.identity(1).is_ok());
        assert!(limits.identity(0).is_err());
        assert!((0..9).all(|_| limits.source("clicks").is_ok()), "no rate was set");
    }

    #[test]
    fn buckets_stay_as_full_as_they_are_where_rates_do_not_change() {
        let (limits, _) = limits("1/s");
        let address = IpAddr::from([10, 0, 0, 1]);
        assert!(limits.address(address).is_ok() && limits.identity(0).is_ok());
        let same = Rates { address: Rate::parse("1/s"), identity: Rate::parse("1/s"), ..Rates::default() };
        let others: [Digest; 3] = [[7; 32], [0; 32], [1; 32]];
        let renewed = limits.renewed(&same, &Hall::new(), &others);
        assert!(renewed.address(address).is_err(), "what was taken stays taken");
        let identities = [0, 1, 2].map(|index| renewed.identity(index).is_ok());
        assert_eq!(identities, [true, false, true], "a token is found by its digest");
        let more = Rates { address: Rate::parse("2/s"), ..Rates::default() };
        let renewed = renewed.renewed(&more, &Hall::new(), &others);
        assert!((0..2).all(|_| renewed.address(address).is_ok()) && renewed.address(address).is_err());
        assert!((0..9).all(|_| renewed.identity(0).is_ok()), "no rate is set any more");
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let (limits, _) = limits("1/s");
        let address = |low: u16, high: u16| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, high, 0, 0, 0, low));
        assert!(limits.address(address(1, 0)).is_ok());
        assert!(limits.address(address(2, 0)).is_err());
        assert!(limits.address(address(1, 1)).is_ok());
        assert!(limits.address(IpAddr::from([127, 0, 0, 1])).is_ok());
        assert!(limits.address("::ffff:127.0.0.1".parse().expect("an address")).is_err(), "it is the same");
    }

    #[test]
    fn what_is_remembered_of_addresses_is_bounded() {
        let (limits, clock) = limits("1/min");
        let buckets = |limits: &Limits| limits.addresses.as_ref().map_or(0, |(_, addresses)| addresses.buckets.len());
        for address in 0..3 * ADDRESSES_MAX as u32 {
            let _ = limits.address(Ipv4Addr::from(address).into());
        }
        let most = ADDRESSES_MAX + LOOK_EVERY as usize + SHARED_BUCKETS as usize;
        assert!(buckets(&limits) <= most, "{}", buckets(&limits));
        clock.set(Timestamp(120_000));
        for _ in 0..LOOK_EVERY {
            let _ = limits.address(Ipv4Addr::LOCALHOST.into());
        }
        assert!(buckets(&limits) <= 2, "the flood is forgotten: {}", buckets(&limits));
    }
}
