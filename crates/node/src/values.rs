//! Rows that stand in the pipeline file itself, as a source like any other.

use arrow_array::RecordBatch;
use tidemill_circuit::Delta;
use tidemill_circuit::decode::{Block, BlockData};
use tidemill_circuit::step::BlockRange;
use tidemill_connect::{Error, Origin, Position, Replay, Source, SourceEvent};
use tidemill_stage::{Cancel, Halt, Sender};

/// One partition of one block.
pub(crate) struct Values {
    rows: RecordBatch,
    resumed: Option<Position>,
}

impl Values {
    pub(crate) fn new(rows: RecordBatch) -> Self {
        Values { rows, resumed: None }
    }

    fn block(&self) -> Block {
        let records = self.rows.num_rows();
        Block {
            partition: 0,
            from: 0,
            to: records as u64,
            first_record: 0,
            records: records as u32,
            data: BlockData::Rows(Delta::inserts(self.rows.clone())),
        }
    }
}

impl Source for Values {
    fn is_bounded(&self) -> bool {
        true
    }

    fn resume(&mut self, positions: &[Position]) -> Result<(), Error> {
        self.resumed = positions.first().cloned();
        Ok(())
    }

    fn read(self: Box<Self>, events: &mut Sender<SourceEvent>, _cancel: &Cancel) -> Result<(), Halt> {
        let origin = Origin { name: "values".to_string(), size: None, modified: None, digest: None };
        let (taken, ended) = match &self.resumed {
            None => {
                events.send(SourceEvent::Opened { partition: 0, origin })?;
                (0, false)
            }
            Some(position) => (position.records, position.ended),
        };
        if taken < self.rows.num_rows() as u64 {
            events.send(SourceEvent::Block(self.block()))?;
        }
        if !ended {
            events.send(SourceEvent::Ended { partition: 0 })?;
        }
        events.send(SourceEvent::Complete)?;
        Ok(())
    }

    fn replay(self: Box<Self>, _positions: &[Position]) -> Result<Box<dyn Replay>, Error> {
        Ok(self)
    }
}

impl Replay for Values {
    fn block(&mut self, _range: &BlockRange) -> Result<Block, Error> {
        Ok(Values::block(self))
    }
}
