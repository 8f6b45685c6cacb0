//! Bids by their number, drawn field by field so that what nobody reads is not made.
//!
//! Bids are 92 % of the events, and the text that fills them up is most of the work of making one. The draws are those of
//! the crate `nexmark`, in its order and from its kind of generator; a test holds both against each other.

use std::sync::Arc;

use nexmark::config::NexmarkConfig;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

/// Hot auctions and bidders are the first of this many.
const HOT_EVERY: usize = 100;

/// Channels besides the hot ones.
const CHANNELS: u64 = 10_000;

/// The bytes of a bid's other fields, as the crate counts them.
const OTHER_BYTES: usize = 32;

/// A bid.
pub(super) struct Bid {
    pub(super) auction: usize,
    pub(super) bidder: usize,
    pub(super) price: usize,
    pub(super) date_time: u64,
    /// Empty when it is not needed.
    pub(super) extra: String,
    place: usize,
    places: Arc<Vec<Place>>,
}

/// Where a bid was made.
struct Place {
    channel: String,
    url: String,
}

impl Bid {
    pub(super) fn channel(&self) -> &str {
        &self.places[self.place].channel
    }

    pub(super) fn url(&self) -> &str {
        &self.places[self.place].url
    }
}

/// Makes bids.
pub(super) struct Bids {
    config: NexmarkConfig,
    with_extra: bool,
    /// The places that are not hot, by index into the bid's places.
    cold: Vec<usize>,
    bid: Bid,
}

impl Bids {
    pub(super) fn new(config: &NexmarkConfig, with_extra: bool) -> Self {
        let hot = config.hot_channels.iter().zip(&config.hot_urls);
        let mut places: Vec<_> =
            hot.map(|(channel, url)| Place { channel: channel.clone(), url: url.clone() }).collect();
        let cold = (places.len()..places.len() + CHANNELS as usize).collect();
        places.extend((0..CHANNELS).map(Place::cold));
        let bid = Bid {
            auction: 0,
            bidder: 0,
            price: 0,
            date_time: 0,
            extra: String::new(),
            place: 0,
            places: Arc::new(places),
        };
        Bids { config: config.clone(), with_extra, cold, bid }
    }

    /// The bid that is event `number`.
    pub(super) fn make(&mut self, number: usize) -> &Bid {
        let (config, rng) = (&self.config, &mut SmallRng::seed_from_u64(number as u64));
        let round = number / (config.person_proportion + config.auction_proportion + config.bid_proportion);
        // The last auction and person that were made before it.
        let auction = round * config.auction_proportion + config.auction_proportion - 1;
        let person = round * config.person_proportion + config.person_proportion - 1;
        let bid = &mut self.bid;
        bid.auction = config.first_auction_id
            + if rng.gen_range(0..config.hot_auction_ratio) > 0 {
                auction / HOT_EVERY * HOT_EVERY
            } else {
                let oldest = auction.saturating_sub(config.in_flight_auctions);
                oldest + rng.gen_range(0..auction - oldest + 1 + config.auction_id_lead)
            };
        bid.bidder = config.first_person_id
            + if rng.gen_range(0..config.hot_bidder_ratio) > 0 {
                person / HOT_EVERY * HOT_EVERY + 1
            } else {
                let active = config.active_people.min(person + 1);
                person + 1 - active + rng.gen_range(0..active + config.person_id_lead)
            };
        bid.price = (10_f32.powf(rng.r#gen::<f32>() * 6.0) * 100.0).round() as usize;
        bid.place = if rng.gen_range(0..config.hot_channel_ratio) > 0 {
            rng.gen_range(0..config.hot_channels.len())
        } else {
            self.cold.choose(rng).copied().unwrap_or_default()
        };
        let micros_each = config.us_per_unit as f32 / config.first_rate as f32;
        bid.date_time = config.base_time + (number as f32 * micros_each / 1_000.0).round() as u64;
        bid.extra.clear();
        if self.with_extra && config.avg_bid_byte_size >= OTHER_BYTES {
            let average = config.avg_bid_byte_size - OTHER_BYTES;
            let spread = (average + 2) / 5;
            let length = average - spread + if spread == 0 { 0 } else { rng.gen_range(0..2 * spread) };
            bid.extra.extend((0..length).map(|_| char::from(rng.gen_range(b'a'..=b'z'))));
        }
        bid
    }
}

impl Place {
    /// The place of channel `number`: nine in ten have the channel's id in their address.
    fn cold(number: u64) -> Place {
        let mut rng = SmallRng::seed_from_u64(number);
        let folders: Vec<String> = (0..3).map(|_| folder(&mut rng)).collect();
        let mut url = format!("https://www.nexmark.com/{}/item.htm?query=1", folders.join("/"));
        if SmallRng::seed_from_u64(number).gen_range(0..10) > 0 {
            let id = i64::from((number as i32).reverse_bits()).abs();
            url.push_str(&format!("&channel_id={id}"));
        }
        Place { channel: format!("channel-{number}"), url }
    }
}

/// A folder of three or four letters, now and then an underscore.
fn folder(rng: &mut SmallRng) -> String {
    let length = rng.gen_range(3..5_usize);
    let letter = |_| if rng.gen_range(0..13) == 0 { '_' } else { char::from(rng.gen_range(b'a'..=b'z')) };
    (0..length).map(letter).collect()
}
