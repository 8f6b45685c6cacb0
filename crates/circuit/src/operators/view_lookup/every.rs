//! [`Every`]: all rows of a view by columns that do not make them unique, as one table that is saved.
//!
//! The rows of a key are an ordered multiset ([`Ordered`]), so what is found for a row comes in the order of its values,
//! whatever way it came. Of the view the columns are kept that rows are looked up by and those that are asked for.

use arrow_array::{ArrayRef, UInt32Array};
use arrow_schema::{ArrowError, Schema, SchemaRef};

use crate::delta::Delta;
use crate::keep::keeper::Keeper;
use crate::operator::{KeySize, StateSize};
use crate::operators::lookup::asking::{Asking, Pick};
use crate::operators::lookup::join::Found;
use crate::operators::ordered::{Layout, Ordered};
use crate::plan::{OrderBy, ViewLookupSpec};

/// How rows of a view are kept.
#[derive(Clone)]
pub(super) struct Design {
    /// The columns of the view that are kept, the keys first.
    kept: Vec<usize>,
    /// How many of them are keys.
    keys: usize,
    /// Which of them follow what looks rows up.
    given: Vec<usize>,
    layout: Layout,
}

impl Design {
    /// The design of a node over a view of these columns; or what is not supported.
    pub fn new(spec: &ViewLookupSpec, view: &SchemaRef) -> Result<Self, String> {
        let mut kept = spec.view_keys.clone();
        let others = spec.columns.iter().filter(|column| !spec.view_keys.contains(column));
        kept.extend(others);
        let place = |column: &usize| kept.iter().position(|other| other == column).unwrap_or_default();
        let given = spec.columns.iter().map(place).collect();
        let schema: SchemaRef =
            Schema::new(kept.iter().map(|column| view.field(*column).clone()).collect::<Vec<_>>()).into();
        let keys = spec.view_keys.len();
        // Rows of one key differ in the other columns alone.
        let by = |column| OrderBy { column, descending: false, nulls_first: true };
        let by: Vec<OrderBy> = (keys..kept.len()).map(by).collect();
        let layout = Layout::new(&schema, &(0..keys).collect::<Vec<_>>(), &by)?;
        Ok(Design { kept, keys, given, layout })
    }
}

/// The rows.
pub(super) struct Every {
    design: Design,
    rows: Ordered,
}

impl Every {
    /// No rows yet.
    pub fn new(design: Design) -> Self {
        let rows = Ordered::new(design.layout.clone());
        Every { design, rows }
    }

    /// Takes changes of the view; a row with a null in its key equals nothing and is passed over.
    pub fn take(&mut self, delta: &Delta) -> Result<(), ArrowError> {
        let delta = delta.with_batch(delta.batch().project(&self.design.kept)?);
        let nulls: Vec<_> = (0..self.design.keys).filter_map(|key| delta.column(key).nulls()).collect();
        let whole = |row: &u32| nulls.iter().all(|nulls| nulls.is_valid(*row as usize));
        let rows: Vec<u32> = (0..delta.rows() as u32).filter(whole).collect();
        if rows.len() == delta.rows() {
            return self.rows.push(delta.batch(), delta.weights());
        }
        let delta = delta.take(&UInt32Array::from(rows))?;
        self.rows.push(delta.batch(), delta.weights())
    }

    /// All changes of the step are there.
    pub fn settle(&mut self) -> Result<(), ArrowError> {
        Ordered::settle(&mut self.rows)
    }

    /// The key of each row's columns `keys`, where rows have it.
    pub fn find(&self, delta: &Delta, keys: &[usize]) -> Found {
        let columns: Vec<ArrayRef> = keys.iter().map(|key| delta.column(*key).clone()).collect();
        self.rows.find(&columns, delta.rows())
    }

    /// What is found next for rows, numbered, and of each number the columns that are asked for.
    pub fn next(&self, asking: &mut Asking) -> Result<(Vec<Pick>, Vec<ArrayRef>), ArrowError> {
        let mut picks = asking.next(|key, from| self.found(key, from));
        let slots: Vec<u32> = picks.iter().filter_map(|(_, slot)| *slot).collect();
        let mut numbers = 0..;
        picks.iter_mut().for_each(|(_, slot)| *slot = slot.and_then(|_| numbers.next()));
        let fields = self.design.layout.schema.fields().iter();
        let columns = match slots.is_empty() {
            true => fields.map(|field| arrow_array::new_empty_array(field.data_type())).collect(),
            false => self.rows.columns(slots.into_iter())?,
        };
        Ok((picks, self.design.given.iter().map(|column| columns[*column].clone()).collect()))
    }

    /// The rows of a key from a number on, each as often as it is there.
    fn found(&self, key: u32, from: usize) -> impl Iterator<Item = u32> {
        let (mut runs, mut passed) = (self.rows.slots_of(key).runs().peekable(), from as u64);
        while let Some((_, Some(rows))) = runs.peek()
            && *rows <= passed
        {
            passed -= rows;
            runs.next();
        }
        let copies = |passed: &mut u64, slot: u32| {
            let rows = self.rows.store().get(slot).weight.max(0) as u64;
            let told = rows.min(*passed);
            *passed -= told;
            Some(std::iter::repeat_n(slot, (rows - told) as usize))
        };
        runs.flat_map(|(slots, _)| slots.iter().copied()).scan(passed, copies).flatten()
    }

    /// What is kept.
    pub fn size(&self) -> StateSize {
        self.rows.size()
    }

    /// The keys with the most rows.
    pub fn largest_keys(&self, most: usize) -> Vec<KeySize> {
        self.rows.largest_keys(most)
    }

    /// The table.
    pub fn keeper(&mut self) -> &mut dyn Keeper {
        &mut self.rows
    }
}
