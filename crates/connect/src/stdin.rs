//! Standard input, line by line as it comes: one partition, ended by its end.
//!
//! A read from a terminal or pipe cannot be taken back, so it happens on a thread of its own that is left behind when the
//! pipeline stops.

use std::io::{self, Read};
use std::thread;

use arrow_schema::SchemaRef;
use tidemill_base::options::{self, Options as Pairs};
use tidemill_circuit::decode::{Block, MakeDecoder};
use tidemill_format::{Cutter, Format};
use tidemill_stage::{Cancel, Halt, Sender};

use crate::blocks::{Blocks, Fill, Header, Place};
use crate::catalogue::Table;
use crate::decode;
use crate::error::Error;
use crate::pool::{LINE_BYTES, Pool};
use crate::source::{Origin, Position, Replay, Source, SourceEvent};

/// Blocks that are read ahead.
const AHEAD: usize = 4;

/// What the options of `'connector' = 'stdin'` say.
#[derive(Debug, Clone)]
pub struct Options {
    format: Format,
}

impl Options {
    pub(crate) fn take(options: &mut Pairs) -> Result<Self, options::Error> {
        Ok(Options { format: Format::from_options(options)? })
    }

    pub(crate) fn format(&self) -> &Format {
        &self.format
    }
}

/// Standard input as a source.
pub struct Stdin {
    table: String,
    cutter: Box<dyn Cutter>,
    decoder: MakeDecoder,
    header: Option<Header>,
    input: Box<dyn Read + Send>,
}

impl Stdin {
    pub(crate) fn open(table: &Table, options: &Options, decoded: SchemaRef) -> Result<Self, Error> {
        Stdin::over(table, options, decoded, Box::new(io::stdin()))
    }

    /// Reads something else instead of standard input.
    fn over(table: &Table, options: &Options, decoded: SchemaRef, input: Box<dyn Read + Send>) -> Result<Self, Error> {
        let wrong = |error| Error::Format { table: table.name.clone(), path: None, error };
        let cutter = options.format.cutter().map_err(wrong)?;
        let header = decode::header(&options.format);
        let decoder = decode::decoder(table, &options.format, &decoded, header.clone())?;
        Ok(Stdin { table: table.name.clone(), cutter, decoder, header, input })
    }
}

impl Source for Stdin {
    fn is_bounded(&self) -> bool {
        true
    }

    fn decoder(&self) -> Option<MakeDecoder> {
        Some(self.decoder.clone())
    }

    fn resume(&mut self, _positions: &[Position]) -> Result<(), Error> {
        Err(Error::NotResumable { table: self.table.clone(), what: "standard input".to_string() })
    }

    fn read(self: Box<Self>, events: &mut Sender<SourceEvent>, cancel: &Cancel) -> Result<(), Halt> {
        let Stdin { table, cutter, header, input, .. } = *self;
        let place = Place { table, path: "standard input".into(), partition: 0 };
        let blocks = Blocks::new(input, cutter, Pool::new(LINE_BYTES), place, Fill::Whatever).with_header(header);
        let (sender, ahead) = crossbeam_channel::bounded(AHEAD);
        let reader = thread::Builder::new().name("stdin".to_string());
        reader.spawn(move || send_all(blocks, &sender)).map_err(Halt::other)?;
        events.send(SourceEvent::Opened { partition: 0, origin: Origin::named("stdin") })?;
        loop {
            let block = crossbeam_channel::select_biased! {
                recv(cancel.drain_signal()) -> _ => return Ok(()),
                recv(ahead) -> block => block,
            };
            let Ok(block) = block else { break };
            events.send(SourceEvent::Block(block?))?;
        }
        events.send(SourceEvent::Ended { partition: 0 })?;
        Ok(events.send(SourceEvent::Complete)?)
    }

    fn replay(self: Box<Self>, _positions: &[Position]) -> Result<Box<dyn Replay>, Error> {
        Err(Error::NotReplayable { table: self.table, what: "standard input".to_string() })
    }
}

/// Sends blocks until the end, an error, or the loss of the other side.
fn send_all(mut blocks: Blocks<Box<dyn Read + Send>>, sender: &crossbeam_channel::Sender<Result<Block, Error>>) {
    while let Some(block) = blocks.next().transpose() {
        let failed = block.is_err();
        if sender.send(block).is_err() || failed {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc;

    use arrow_schema::{DataType, Field, Schema};
    use tidemill_stage::Graph;

    use super::*;

    fn open(input: impl Read + Send + 'static) -> Stdin {
        let columns = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]));
        let table = Table { name: "t".into(), columns: columns.clone(), partitioned_by: vec![], options: vec![] };
        let options = Options { format: Format::Json(Default::default()) };
        Stdin::over(&table, &options, columns, Box::new(input)).expect("json is a stream")
    }

    /// An input that gives its lines one by one, and then never comes to an end.
    struct Typist(mpsc::Receiver<&'static str>);

    impl Read for Typist {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let line = self.0.recv().unwrap_or_default();
            buffer[..line.len()].copy_from_slice(line.as_bytes());
            Ok(line.len())
        }
    }

    #[test]
    fn a_line_is_not_kept_waiting_and_a_silent_input_does_not_hold_up_a_stop() {
        #[allow(clippy::disallowed_methods)]
        let (keyboard, typed) = mpsc::channel();
        let source = open(Typist(typed));
        let cancel = Cancel::new();
        let mut graph = Graph::new(&cancel, 1);
        let events = graph.source("stdin", move |out, cancel| Box::new(source).read(out, cancel));
        keyboard.send("{\"a\": 1}\n").expect("the typist listens");
        let kept = keyboard.clone();
        graph.sink("check", events, move |input, cancel| {
            assert!(matches!(input.recv()?, Some(SourceEvent::Opened { partition: 0, .. })));
            assert!(matches!(input.recv()?, Some(SourceEvent::Block(block)) if block.records == 1));
            cancel.drain();
            assert!(input.recv()?.is_none(), "a source that was stopped does not say that it is complete");
            drop(kept);
            Ok(())
        });
        graph.run().expect("a graceful stop");
    }

    #[test]
    fn ends_with_its_input() {
        let source = open(&b"{\"a\": 1}\n{\"a\": 2}"[..]);
        let cancel = Cancel::new();
        let mut graph = Graph::new(&cancel, 1);
        let events = graph.source("stdin", move |out, cancel| Box::new(source).read(out, cancel));
        graph.sink("check", events, move |input, _| {
            let mut records = 0;
            let mut last = None;
            while let Some(event) = input.recv()? {
                if let SourceEvent::Block(block) = &event {
                    records += block.records;
                }
                last = Some(event);
            }
            assert_eq!(records, 2);
            assert!(matches!(last, Some(SourceEvent::Complete)));
            Ok(())
        });
        graph.run().expect("nothing fails");
    }
}
