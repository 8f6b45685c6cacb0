//! [`Pipeline`]: a plan over the script's table that is being put together.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use tidemill_circuit::expr::{Column, Expr, OnError};
use tidemill_circuit::lookup::{LookupRows, LookupTable};
use tidemill_circuit::plan::{
    AggregateCall, AggregateFunction, AggregateSpec, AssignSpec, DelaySpec, Emit, Expiry, Frame, JoinKind, JoinNulls,
    JoinSpec, LookupSpec, Node, NodeId, OrderBy, OutputSpec, OverCall, OverChangesSpec, OverFrame, OverFunction,
    OverSpec, OverTurn, Plan, RankFunction, RankSpec, SetSpec, SourceSpec, Spec, TemporalJoinSpec, TimeDomain,
    UnnestSpec, VersionsSpec, ViewLookupSpec, WatermarkSpec, Window, WindowKey,
};

use super::table::{Above, KEY, ORIGIN, Shifted, TEXT, TIME, Upto, decoded, key_fields, window_fields, with};

/// A plan and what the naive side has to know of it.
pub(crate) struct Case {
    pub(crate) plan: Plan,
    /// Whether rows are taken back.
    pub(crate) updating: bool,
    /// Whether all state belongs to windows that close at the end.
    pub(crate) closes: bool,
    /// Whether the answer is the same however steps are cut.
    pub(crate) cuts: bool,
    /// The most rows that the naive side answers in a while.
    pub(crate) rows_max: usize,
}

impl Case {
    pub(crate) fn describe(&self) -> String {
        let spec = |(id, node): (NodeId, &Node)| match &node.spec {
            Spec::Source(_) | Spec::Output(_) | Spec::Union => format!("{id} of {:?}: {}", node.inputs, node.title()),
            Spec::Filter(predicate) => format!("{id} of {:?}: Filter {}", node.inputs, predicate.print()),
            spec => format!("{id} of {:?}: {spec:?}", node.inputs),
        };
        self.plan.nodes.iter().enumerate().map(spec).collect::<Vec<_>>().join("\n")
    }
}

/// A plan that is being put together.
pub(crate) struct Pipeline {
    pub(crate) plan: Plan,
    pub(crate) updating: bool,
}

impl Pipeline {
    /// A pipeline over the table; its watermark follows `delay` behind its rows.
    pub(crate) fn over(updating: bool, delay: i64) -> (Self, NodeId) {
        let bound: Expr = Arc::new(Shifted { column: TIME, millis: -delay });
        let source = Spec::Source(SourceSpec {
            name: "rows".to_string(),
            decoded: decoded(),
            origin: true,
            computed: None,
            watermark: Some(WatermarkSpec { time: TIME, bound, idle_timeout_ms: None }),
            append_only: !updating,
        });
        let mut pipeline = Pipeline { plan: Plan::default(), updating };
        let schema = with(&decoded(), [Field::new("$origin", DataType::UInt64, false)]);
        let source = pipeline.add(source, vec![], schema);
        (pipeline, source)
    }

    pub(crate) fn add(&mut self, spec: Spec, inputs: Vec<NodeId>, schema: SchemaRef) -> NodeId {
        self.plan.add(Node { spec, inputs, schema, position: None, on_error: OnError::Stop })
    }

    pub(crate) fn schema(&self, node: NodeId) -> SchemaRef {
        self.plan.nodes[node].schema.clone()
    }

    pub(crate) fn filter(&mut self, input: NodeId, least: i64) -> NodeId {
        self.add(Spec::Filter(Arc::new(Above(least))), vec![input], self.schema(input))
    }

    /// All columns, and `more`.
    pub(crate) fn project(&mut self, input: NodeId, more: Vec<(&str, Expr)>) -> NodeId {
        let schema = self.schema(input);
        let column =
            |(index, field): (usize, &Arc<Field>)| Column::new(index, field.name().as_str(), field.data_type().clone());
        let mut exprs: Vec<Expr> = schema.fields().iter().enumerate().map(column).collect();
        exprs.extend(more.iter().map(|(_, expr)| expr.clone()));
        let schema = with(&schema, more.iter().map(|(name, expr)| Field::new(*name, expr.data_type(), true)));
        self.add(Spec::Project(exprs), vec![input], schema)
    }

    pub(crate) fn group(&mut self, input: NodeId, keys: &[usize], calls: Vec<AggregateCall>) -> NodeId {
        self.aggregate(input, keys, None, calls, Emit::Changes, 0)
    }

    pub(crate) fn window(
        &mut self,
        input: NodeId,
        keys: &[usize],
        window: Window,
        calls: Vec<AggregateCall>,
    ) -> NodeId {
        let key = WindowKey::Time { time: TIME, window, domain: TimeDomain::Event };
        self.aggregate(input, keys, Some(key), calls, Emit::OnClose, 0)
    }

    pub(crate) fn aggregate(
        &mut self,
        input: NodeId,
        keys: &[usize],
        window: Option<WindowKey>,
        calls: Vec<AggregateCall>,
        emit: Emit,
        allowed_lateness_ms: i64,
    ) -> NodeId {
        let mut fields = key_fields(&self.schema(input), keys);
        if window.is_some() {
            fields.extend(window_fields());
        }
        fields.extend(call_fields(&calls));
        let spec = AggregateSpec { keys: keys.to_vec(), window, calls, emit, allowed_lateness_ms, expiry: None };
        self.add(Spec::Aggregate(spec), vec![input], Arc::new(Schema::new(fields)))
    }

    /// Groups, of which one key is a time, that go when the watermark has passed it by so much.
    pub(crate) fn passing(
        &mut self,
        input: NodeId,
        keys: &[usize],
        calls: Vec<AggregateCall>,
        after_ms: i64,
    ) -> NodeId {
        let node = self.group(input, keys, calls);
        if let Spec::Aggregate(spec) = &mut self.plan.nodes[node].spec {
            spec.expiry = Some(Expiry { time: TIME, after_ms });
        }
        node
    }

    pub(crate) fn framed(
        &mut self,
        input: NodeId,
        keys: &[usize],
        turn: OverTurn,
        frame: Frame,
        calls: Vec<OverCall>,
    ) -> NodeId {
        let result = |call: &OverCall| match call {
            OverCall::Aggregate(call) => call.result.clone(),
            OverCall::RowNumber => DataType::Int64,
            OverCall::Lag { column, .. } => decoded().field(*column).data_type().clone(),
        };
        let fields = calls.iter().enumerate().map(|(n, call)| Field::new(format!("over{n}"), result(call), true));
        let schema = with(&self.schema(input), fields.collect::<Vec<_>>());
        let (order, domain, origin, keys) = (Some(TIME), TimeDomain::Event, Some(ORIGIN), keys.to_vec());
        let spec = OverSpec { keys, order, domain, origin, turn, frame, calls };
        self.add(Spec::Over(spec), vec![input], schema)
    }

    /// The columns of the table alone: a row that is taken back comes from elsewhere than it came from.
    pub(crate) fn table(&mut self, input: NodeId) -> NodeId {
        let columns: Vec<usize> = (0..decoded().fields().len()).collect();
        self.columns(input, &columns)
    }

    /// Some columns.
    pub(crate) fn columns(&mut self, input: NodeId, columns: &[usize]) -> NodeId {
        let schema = self.schema(input);
        let fields: Vec<Field> = columns.iter().map(|column| schema.field(*column).clone()).collect();
        let column = |(column, field): (&usize, &Field)| Column::new(*column, field.name(), field.data_type().clone());
        let exprs: Vec<Expr> = columns.iter().zip(&fields).map(column).collect();
        self.add(Spec::Project(exprs), vec![input], Arc::new(Schema::new(fields)))
    }

    pub(crate) fn rank(&mut self, input: NodeId, spec: RankSpec) -> NodeId {
        let number = spec.number.then(|| Field::new("rank", DataType::Int64, true));
        let schema = with(&self.schema(input), number);
        self.add(Spec::Rank(spec), vec![input], schema)
    }

    pub(crate) fn union(&mut self, inputs: Vec<NodeId>) -> NodeId {
        let schema = self.schema(inputs[0]);
        self.add(Spec::Union, inputs, schema)
    }

    pub(crate) fn delay(&mut self, input: NodeId, behind_ms: i64) -> NodeId {
        self.add(Spec::Delay(DelaySpec { behind_ms }), vec![input], self.schema(input))
    }

    pub(crate) fn set(&mut self, left: NodeId, right: NodeId, spec: SetSpec) -> NodeId {
        self.add(Spec::SetOperation(spec), vec![left, right], self.schema(left))
    }

    /// A row for each number from 0 to the row's own, beside it.
    pub(crate) fn numbers(&mut self, input: NodeId, outer: bool, ordinality: bool) -> NodeId {
        let lists = self.project(input, vec![("list", Arc::new(Upto))]);
        let column = self.schema(input).fields().len();
        let more = ["element", "ordinal"].into_iter().take(1 + usize::from(ordinality));
        let schema = with(&self.schema(lists), more.map(|name| Field::new(name, DataType::Int64, true)));
        self.add(Spec::Unnest(UnnestSpec { column, outer, ordinality }), vec![lists], schema)
    }

    /// Rows with the columns of others that belong to them.
    fn beside(&self, input: NodeId, other: NodeId, columns: &[usize]) -> SchemaRef {
        let other = self.schema(other);
        let found = columns.iter().map(|column| other.field(*column).clone().with_nullable(true));
        with(&self.schema(input), found)
    }

    /// What the changes of the source say of its versions by these columns and its time, and the column that says which of
    /// them end what was valid.
    pub(crate) fn versions(&mut self, source: NodeId, keys: &[usize]) -> (NodeId, usize) {
        let schema = with(&self.schema(source), [Field::new("ended", DataType::Boolean, true)]);
        let (ended, spec) =
            (schema.fields().len() - 1, VersionsSpec { keys: keys.to_vec(), time: TIME, origin: ORIGIN });
        (self.add(Spec::Versions(spec), vec![source], schema), ended)
    }

    pub(crate) fn temporal(&mut self, left: NodeId, right: NodeId, spec: TemporalJoinSpec) -> NodeId {
        let schema = self.beside(left, right, &spec.columns);
        self.add(Spec::TemporalJoin(spec), vec![left, right], schema)
    }

    pub(crate) fn look_up(&mut self, input: NodeId, view: NodeId, spec: ViewLookupSpec) -> NodeId {
        let schema = self.beside(input, view, &spec.columns);
        self.add(Spec::ViewLookup(spec), vec![input, view], schema)
    }

    /// The names of keys, or the numbers of texts, from a versioned table.
    pub(crate) fn named(&mut self, input: NodeId, by_text: bool, residual: Option<Expr>, outer: bool) -> NodeId {
        let (key, column, found) = if by_text { (TEXT, 0, DataType::Int64) } else { (KEY, 1, DataType::Utf8) };
        let fields = [("found", found), ("version", DataType::Utf8)];
        let schema = with(&self.schema(input), fields.map(|(name, data_type)| Field::new(name, data_type, true)));
        let (keys, table_keys, columns) = (vec![key], vec![1 - column], vec![column]);
        let spec = LookupSpec { table: names(), keys, table_keys, columns, version: true, residual, outer };
        self.add(Spec::Lookup(spec), vec![input], schema)
    }

    /// Each row once for each window it is in; `window_end` is the column before the last.
    pub(crate) fn assigned(&mut self, input: NodeId, window: Window) -> (NodeId, usize) {
        let schema = with(&self.schema(input), window_fields());
        let end = schema.fields().len() - 2;
        let spec = AssignSpec { time: TIME, window, domain: TimeDomain::Event };
        (self.add(Spec::AssignWindow(spec), vec![input], schema), end)
    }

    /// A join of two inputs by the same columns of each, with all columns of both, or of the left one alone.
    pub(crate) fn join(
        &mut self,
        kind: JoinKind,
        left: NodeId,
        right: NodeId,
        keys: &[usize],
        more: impl FnOnce(&mut JoinSpec),
    ) -> NodeId {
        let (left_schema, right_schema) = (self.schema(left), self.schema(right));
        let one_sided = matches!(kind, JoinKind::Semi | JoinKind::Anti);
        let fields = left_schema.fields().iter().chain(right_schema.fields().iter().filter(|_| !one_sided));
        let fields: Vec<Field> = fields.map(|field| field.as_ref().clone().with_nullable(true)).collect();
        let mut spec = JoinSpec {
            kind,
            left_keys: keys.to_vec(),
            right_keys: keys.to_vec(),
            nulls: JoinNulls::Unequal,
            residual: None,
            columns: (0..fields.len()).collect(),
            expiry: [None, None],
            late: [None, None],
            pad: Emit::Changes,
        };
        more(&mut spec);
        self.add(Spec::Join(spec), vec![left, right], Arc::new(Schema::new(fields)))
    }

    pub(crate) fn changing(
        &mut self,
        input: NodeId,
        keys: &[usize],
        order: &[OrderBy],
        frame: OverFrame,
        calls: Vec<OverFunction>,
    ) -> NodeId {
        let schema = self.schema(input);
        let result = |call: &OverFunction| match call {
            OverFunction::Aggregate(call) => call.result.clone(),
            OverFunction::RowNumber | OverFunction::Rank | OverFunction::DenseRank => DataType::Int64,
            OverFunction::Lag { column, .. } | OverFunction::Lead { column, .. } => {
                schema.field(*column).data_type().clone()
            }
        };
        let fields = calls.iter().enumerate().map(|(n, call)| Field::new(format!("over{n}"), result(call), true));
        let schema = with(&schema, fields.collect::<Vec<_>>());
        let (keys, order) = (keys.to_vec(), order.to_vec());
        let spec = OverChangesSpec { keys, order, frame, calls, expiry: None, settled: None };
        self.add(Spec::OverChanges(spec), vec![input], schema)
    }

    /// Has an `OVER` forget keys that hold the time, once the watermark has passed that by so much.
    pub(crate) fn expiring(&mut self, over: NodeId, after_ms: i64) {
        if let Spec::OverChanges(spec) = &mut self.plan.nodes[over].spec {
            spec.expiry = Some(Expiry { time: TIME, after_ms });
        }
    }

    /// Has a node forget what does not change for so many steps: a step is a millisecond.
    pub(crate) fn forget(&mut self, node: NodeId, ttl_ms: i64) -> NodeId {
        self.plan.ttls.insert(node, ttl_ms);
        node
    }

    pub(crate) fn output(&mut self, name: &str, input: NodeId) {
        self.add(Spec::Output(OutputSpec { name: name.to_string(), key: None }), vec![input], self.schema(input));
    }

    pub(crate) fn case(self) -> Case {
        let cuts = self.plan.ttls.is_empty();
        Case { plan: self.plan, updating: self.updating, closes: false, cuts, rows_max: 200 }
    }
}

/// A table of names by number, at one version.
pub(crate) fn names() -> Arc<LookupTable> {
    let fields = vec![Field::new("number", DataType::Int64, true), Field::new("name", DataType::Utf8, true)];
    let table = LookupTable::new("names", Arc::new(Schema::new(fields)), vec![0]).expect("integers can be keys");
    let names = ["one", "two", "three"].map(Some).into_iter().chain([None, Some("a"), Some("bb"), Some("a")]);
    let columns: Vec<ArrayRef> =
        vec![Arc::new(Int64Array::from_iter_values(0..7)), Arc::new(names.collect::<StringArray>())];
    let rows = RecordBatch::try_new(table.schema().clone(), columns).expect("the table's columns");
    table.set(Arc::new(LookupRows::new(&table, "1.1", rows).expect("keys are there once")));
    Arc::new(table)
}

pub(crate) fn call_fields(calls: &[AggregateCall]) -> Vec<Field> {
    calls.iter().enumerate().map(|(index, call)| Field::new(format!("a{index}"), call.result.clone(), true)).collect()
}

pub(crate) fn call(function: AggregateFunction, args: Vec<usize>, result: DataType) -> AggregateCall {
    AggregateCall { function, args, filter: None, distinct: false, result }
}

pub(crate) fn by(column: usize, descending: bool) -> OrderBy {
    OrderBy { column, descending, nulls_first: !descending }
}

pub(crate) fn first(keys: &[usize], order: &[OrderBy], function: RankFunction, to: Option<u64>) -> RankSpec {
    let (keys, order) = (keys.to_vec(), order.to_vec());
    RankSpec { keys, order, function, from: 1, to, number: true, close: None, expiry: None }
}
