//! [`Feed`]: what the driver knows of one source: its news for the next step, and who has been silent for how long.

use std::collections::BTreeMap;
use std::time::Duration;

use tidemill_circuit::decode::Block;
use tidemill_circuit::step::SourceInput;
use tidemill_connect::{Origin, Position, SourceEvent};

/// One source, seen from the driver.
#[derive(Debug)]
pub(crate) struct Feed {
    /// The source's name in the plan.
    pub(crate) name: String,
    /// What its partitions are, by their number.
    pub(crate) origins: Vec<Origin>,
    /// A block that did not fit into the last step.
    pub(crate) held: Option<Block>,
    /// Whether more may come.
    pub(crate) open: bool,
    /// Whether requests come in through it.
    pub(crate) requests: bool,
    /// Whether it is read to its end before the others: rows of others are looked up in it.
    pub(crate) first: bool,
    news: SourceInput,
    idle_timeout: Option<Duration>,
    heard: BTreeMap<u32, Heard>,
}

/// When a partition was heard of last.
#[derive(Debug, Clone, Copy)]
struct Heard {
    at: Duration,
    idle: bool,
}

impl Feed {
    pub(crate) fn new(name: &str, idle_timeout: Option<Duration>) -> Self {
        Feed {
            name: name.to_string(),
            origins: Vec::new(),
            held: None,
            open: true,
            requests: false,
            first: false,
            news: news_of(name),
            idle_timeout,
            heard: BTreeMap::new(),
        }
    }

    /// Goes on with partitions that an earlier run has opened.
    pub(crate) fn resume(&mut self, positions: &[Position]) {
        for (position, partition) in positions.iter().zip(0..) {
            self.origins.push(position.origin.clone());
            if !position.ended {
                self.heard.insert(partition, Heard { at: Duration::ZERO, idle: false });
            }
        }
    }

    /// Notes an event; a block is handed back, for the driver to say when it is taken.
    pub(crate) fn note(&mut self, event: Option<SourceEvent>, at: Duration) -> Option<Block> {
        match event {
            None => self.open = false,
            Some(SourceEvent::Opened { partition, origin }) => {
                self.origins.push(origin);
                self.news.opened.push(partition);
                self.heard.insert(partition, Heard { at, idle: false });
            }
            Some(SourceEvent::Block(block)) => {
                self.heard.insert(block.partition, Heard { at, idle: false });
                return Some(block);
            }
            Some(SourceEvent::Ended { partition }) => {
                self.news.ended.push(partition);
                self.heard.remove(&partition);
            }
            Some(SourceEvent::Complete) => {
                self.news.complete = true;
                self.open = false;
            }
        }
        None
    }

    /// Puts a block into the next step.
    pub(crate) fn take(&mut self, block: Block) {
        self.news.blocks.push(block);
    }

    /// Marks partitions that have been silent for too long.
    pub(crate) fn mark_idle(&mut self, now: Duration) {
        let Some(timeout) = self.idle_timeout else { return };
        for (partition, heard) in &mut self.heard {
            if !heard.idle && now.saturating_sub(heard.at) >= timeout {
                heard.idle = true;
                self.news.idle.push(*partition);
            }
        }
    }

    /// When the next partition will have been silent for too long.
    pub(crate) fn idle_at(&self) -> Option<Duration> {
        let timeout = self.idle_timeout?;
        self.heard.values().filter(|heard| !heard.idle).map(|heard| heard.at.saturating_add(timeout)).min()
    }

    /// The news for the next step; none when there is none.
    pub(crate) fn news(&mut self) -> Option<SourceInput> {
        self.has_news().then(|| std::mem::replace(&mut self.news, news_of(&self.name)))
    }

    /// Whether there is news for the next step.
    pub(crate) fn has_news(&self) -> bool {
        let SourceInput { source: _, blocks, opened, ended, idle, complete } = &self.news;
        !(blocks.is_empty() && opened.is_empty() && ended.is_empty() && idle.is_empty() && !complete)
    }
}

fn news_of(name: &str) -> SourceInput {
    SourceInput { source: name.to_string(), ..SourceInput::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(partition: u32) -> Option<SourceEvent> {
        let origin = Origin { name: "file".to_string(), size: None, modified: None, digest: None };
        Some(SourceEvent::Opened { partition, origin })
    }

    #[test]
    fn tells_each_piece_of_news_once() {
        let mut feed = Feed::new("t", None);
        assert!(!feed.has_news());
        feed.note(opened(0), Duration::ZERO);
        feed.note(Some(SourceEvent::Ended { partition: 0 }), Duration::ZERO);
        feed.note(Some(SourceEvent::Complete), Duration::ZERO);
        let news = feed.news().expect("three pieces");
        assert_eq!((news.opened, news.ended, news.complete), (vec![0], vec![0], true));
        assert!(!feed.open && feed.news().is_none());
    }

    #[test]
    fn a_source_that_was_stopped_is_not_complete() {
        let mut feed = Feed::new("t", None);
        feed.note(None, Duration::ZERO);
        assert!(!feed.open && feed.news().is_none());
    }

    #[test]
    fn a_silent_partition_becomes_idle_once() {
        let second = Duration::from_secs(1);
        let mut feed = Feed::new("t", Some(second));
        feed.note(opened(0), Duration::ZERO);
        feed.note(opened(1), second / 2);
        assert_eq!(feed.idle_at(), Some(second));
        feed.mark_idle(second);
        assert_eq!(feed.news().map(|news| news.idle), Some(vec![0]));
        assert_eq!(feed.idle_at(), Some(second + second / 2));
        feed.mark_idle(second);
        assert!(feed.news().is_none());
    }
}
