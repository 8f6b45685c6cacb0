//! Fingerprints: what a node computes, as one number that names its state in a changed plan too.
//!
//! A fingerprint is over our own nodes (kind, meaning, expressions in our printed form, where the rows come from), never
//! over the text of a query or of another library's plan. It follows *columns*: a source that decodes one more column for
//! somebody else, or a column that moves, changes no fingerprint of those who do not read it. What it covers:
//!
//! - of a row set: the operators it has gone through and the columns they read,
//! - of a column: the source's column, or the expression and the columns it reads.
//!
//! [`VERSION`] goes up when an operator means something else than before, or keeps it in another form.

use tidemill_base::hash;

use crate::expr::{Expr, OnError};
use crate::plan::{
    AggregateCall, AggregateSpec, Expiry, JoinKind, JoinSpec, LookupSpec, Node, OrderBy, OverCall, OverChangesSpec,
    OverFunction, OverSpec, Plan, RankSpec, Spec, TemporalJoinSpec, ViewLookupSpec, WindowKey,
};

/// The version of what operators mean and keep.
pub const VERSION: u16 = 1;

/// What is known of a node's output.
#[derive(Debug, Clone, Default)]
struct Lineage {
    rows: u64,
    columns: Vec<u64>,
}

/// The fingerprint of each node of a plan; nodes that compute the same are told apart by their order.
pub fn fingerprints(plan: &Plan) -> Vec<u64> {
    let append_only = plan.append_only();
    let mut lineages: Vec<Lineage> = Vec::with_capacity(plan.nodes.len());
    let mut prints: Vec<u64> = Vec::with_capacity(plan.nodes.len());
    for (id, node) in plan.nodes.iter().enumerate() {
        let inputs: Vec<&Lineage> = node.inputs.iter().map(|input| &lineages[*input]).collect();
        let inserts_only = node.row_inputs().iter().all(|input| append_only[*input]);
        let lineage = lineage(node, &inputs, (inserts_only, plan.ttls.contains_key(&id)));
        let print = match &node.spec {
            Spec::Output(_) => of("output", &[lineage.rows, all(&lineage.columns)]),
            // The rows that look something up are not kept, so others may look into what is kept.
            Spec::ViewLookup(spec) => inputs.get(1).map_or(lineage.rows, |view| by_key(spec, view)),
            _ => lineage.rows,
        };
        let twins = (1..).map(|twin| if twin == 1 { print } else { hash::words(print, twin) });
        // There are fewer nodes than numbers, so one of them is free.
        prints.extend(twins.into_iter().find(|print| !prints.contains(print)));
        lineages.push(lineage);
    }
    prints
}

fn of(kind: &str, parts: &[u64]) -> u64 {
    let start = hash::words(hash::bytes(kind.as_bytes()), VERSION.into());
    parts.iter().fold(start, |print, part| hash::words(print, *part))
}

fn text(text: &str) -> u64 {
    hash::bytes(text.as_bytes())
}

fn all(parts: &[u64]) -> u64 {
    parts.iter().fold(parts.len() as u64, |print, part| hash::words(print, *part))
}

/// The fingerprint of an expression over columns.
fn expression(expr: &Expr, columns: &[u64]) -> u64 {
    if let Some(column) = expr.column() {
        return columns[column];
    }
    let read = expr.columns().unwrap_or_else(|| (0..columns.len()).collect());
    let read: Vec<u64> = read.into_iter().map(|column| columns[column]).collect();
    of("expression", &[text(&expr.print()), text(&expr.data_type().to_string()), all(&read)])
}

fn expressions(exprs: &[Expr], columns: &[u64]) -> Vec<u64> {
    exprs.iter().map(|expr| expression(expr, columns)).collect()
}

/// What `on-error` does to the rows on which one of these expressions fails.
fn left_out(node: &Node, exprs: &[u64]) -> u64 {
    match node.on_error {
        OnError::DeadLetter => all(exprs),
        OnError::Stop => 0,
        OnError::Null => 1,
    }
}

fn lineage(node: &Node, inputs: &[&Lineage], (inserts_only, expires): (bool, bool)) -> Lineage {
    let empty = Lineage::default();
    let input = inputs.first().copied().unwrap_or(&empty);
    match &node.spec {
        Spec::Source(source) => {
            let name = text(&source.name);
            let decoded = source
                .decoded
                .fields()
                .iter()
                .map(|field| of("column", &[name, text(field.name()), text(&field.data_type().to_string())]));
            let mut decoded: Vec<u64> = decoded.collect();
            if source.origin {
                decoded.push(of("origin", &[name]));
            }
            let columns = source.computed.as_ref().map_or(decoded.clone(), |exprs| expressions(exprs, &decoded));
            let watermark = source.watermark.as_ref().map_or(0, |watermark| {
                of("watermark", &[columns[watermark.time], expression(&watermark.bound, &columns)])
            });
            let computed = if source.computed.is_some() { left_out(node, &columns) } else { 0 };
            Lineage { rows: of("source", &[name, watermark, u64::from(source.append_only), computed]), columns }
        }
        Spec::Filter(predicate) => {
            let predicate = expression(predicate, &input.columns);
            let rows = of("filter", &[input.rows, predicate, left_out(node, &[predicate])]);
            Lineage { rows, columns: input.columns.clone() }
        }
        Spec::Project(exprs) => {
            let columns = expressions(exprs, &input.columns);
            let rows = match node.on_error {
                OnError::DeadLetter => of("project", &[input.rows, all(&columns)]),
                OnError::Stop | OnError::Null => input.rows,
            };
            Lineage { rows, columns }
        }
        Spec::Unnest(spec) => {
            let rows = of("unnest", &[input.rows, input.columns[spec.column], u64::from(spec.outer)]);
            let more = node.schema.fields().len().saturating_sub(input.columns.len());
            let elements = (0..more as u64).map(|element| of("element", &[rows, element]));
            Lineage { rows, columns: input.columns.iter().copied().chain(elements).collect() }
        }
        Spec::Lookup(spec) => lookup(node, spec, input),
        Spec::ViewLookup(spec) => view_lookup(node, spec, input, inputs.get(1).copied().unwrap_or(&empty)),
        Spec::Over(spec) => over(node, spec, input),
        Spec::OverChanges(spec) => over_changes(spec, input),
        Spec::Join(spec) => join(node, spec, inputs, expires),
        Spec::TemporalJoin(spec) => temporal_join(node, spec, inputs),
        Spec::Versions(spec) => {
            let keys = of_columns(&spec.keys, &input.columns);
            let by = [input.columns[spec.time], input.columns[spec.origin]];
            let rows = of("versions", &[input.rows, keys, all(&by)]);
            let ended = of("ended", &[rows]);
            Lineage { rows, columns: input.columns.iter().copied().chain([ended]).collect() }
        }
        Spec::SetOperation(spec) => {
            let how = text(&format!("{spec:?}"));
            let sides = inputs.iter().map(|input| of("side", &[input.rows, all(&input.columns)]));
            let sides: Vec<u64> = sides.collect();
            let rows = of("set operation", &[how, all(&sides)]);
            let columns = (0..node.schema.fields().len() as u64).map(|column| of("set column", &[rows, column]));
            Lineage { rows, columns: columns.collect() }
        }
        Spec::Rank(spec) => rank(node, spec, input),
        Spec::Union => {
            let rows: Vec<u64> = inputs.iter().map(|input| input.rows).collect();
            let column =
                |column: usize| -> u64 { all(&inputs.iter().map(|input| input.columns[column]).collect::<Vec<_>>()) };
            Lineage { rows: of("union", &rows), columns: (0..node.schema.fields().len()).map(column).collect() }
        }
        Spec::Delay(spec) => {
            Lineage { rows: of("delay", &[input.rows, spec.behind_ms as u64]), columns: input.columns.clone() }
        }
        Spec::AssignWindow(spec) => {
            let window = text(&format!("{:?} {:?}", spec.window, spec.domain));
            let assigned = of("assign window", &[input.columns[spec.time], window]);
            let bounds = (0..3).map(|column| of("window", &[assigned, column]));
            let columns = input.columns.iter().copied().chain(bounds).collect();
            Lineage { rows: of("assigned", &[input.rows, assigned, left_out(node, &[])]), columns }
        }
        Spec::Aggregate(spec) => aggregate(node, spec, input, inserts_only),
        Spec::Output(output) => {
            let key = text(&format!("{:?}", output.key));
            Lineage { rows: of("rows", &[text(&output.name), key, input.rows]), columns: input.columns.clone() }
        }
    }
}

fn lookup(node: &Node, spec: &LookupSpec, input: &Lineage) -> Lineage {
    let keys: Vec<u64> = spec.keys.iter().map(|key| input.columns[*key]).collect();
    let table = match spec.is_unique() {
        true => of("table", &[text(spec.table.name()), all(&keys)]),
        false => {
            let names = spec.table_keys.iter().map(|column| text(spec.table.schema().field(*column).name()));
            of("every row of a table", &[text(spec.table.name()), all(&keys), all(&names.collect::<Vec<_>>())])
        }
    };
    let columns = spec.columns.iter().map(|column| {
        let field = spec.table.schema().field(*column);
        of("table column", &[table, text(field.name()), text(&field.data_type().to_string())])
    });
    let version = spec.version.then(|| of("table version", &[table]));
    let plain: Vec<u64> = input.columns.iter().copied().chain(columns).chain(version).collect();
    let residual = spec.residual.as_ref().map_or(0, |residual| expression(residual, &plain));
    let looked = of("lookup", &[table, residual, u64::from(spec.outer)]);
    let found = plain.iter().skip(input.columns.len()).map(|column| of("found", &[looked, *column]));
    Lineage {
        rows: of("looked up", &[input.rows, looked, left_out(node, &[residual])]),
        columns: input.columns.iter().copied().chain(found).collect(),
    }
}

/// The rows of a view by key: the newest of each, or every one.
fn by_key(spec: &ViewLookupSpec, view: &Lineage) -> u64 {
    let column = |column: &usize| view.columns[*column];
    let keys: Vec<u64> = spec.view_keys.iter().map(column).collect();
    let columns: Vec<u64> = spec.columns.iter().map(column).collect();
    of(if spec.unique { "newest" } else { "every" }, &[view.rows, all(&keys), all(&columns)])
}

fn view_lookup(node: &Node, spec: &ViewLookupSpec, input: &Lineage, view: &Lineage) -> Lineage {
    let keys: Vec<u64> = spec.keys.iter().map(|key| input.columns[*key]).collect();
    let found = of("newest of", &[by_key(spec, view), all(&keys)]);
    let columns = spec.columns.iter().map(|column| of("view column", &[found, view.columns[*column]]));
    let plain: Vec<u64> = input.columns.iter().copied().chain(columns).collect();
    let residual = spec.residual.as_ref().map_or(0, |residual| expression(residual, &plain));
    let looked = of("view lookup", &[found, residual, u64::from(spec.outer)]);
    let found = plain.iter().skip(input.columns.len()).map(|column| of("found", &[looked, *column]));
    Lineage {
        rows: of("looked up in a view", &[input.rows, looked, left_out(node, &[residual])]),
        columns: input.columns.iter().copied().chain(found).collect(),
    }
}

fn over(node: &Node, spec: &OverSpec, input: &Lineage) -> Lineage {
    let column = |column: &usize| input.columns[*column];
    let keys: Vec<u64> = spec.keys.iter().map(column).collect();
    let calls = spec.calls.iter().map(|call| match call {
        OverCall::RowNumber => of("row number", &[]),
        OverCall::Lag { column: value, offset, default } => {
            of("lag", &[column(value), *offset, default.as_ref().map_or(0, column)])
        }
        OverCall::Aggregate(call) => self::call(call, &input.columns),
    });
    let calls: Vec<u64> = calls.collect();
    let order = [spec.order, spec.origin].map(|by| by.as_ref().map_or(0, column));
    let how = text(&format!("{:?} {:?} {:?}", spec.turn, spec.domain, spec.frame));
    let rows = of("over", &[input.rows, all(&keys), all(&order), how, all(&calls), left_out(node, &[])]);
    let results = (0..calls.len() as u64).map(|result| of("result", &[rows, result]));
    Lineage { rows, columns: input.columns.iter().copied().chain(results).collect() }
}

fn over_changes(spec: &OverChangesSpec, input: &Lineage) -> Lineage {
    // A row's place in its key is a column too.
    let columns: Vec<u64> = input.columns.iter().copied().chain([of("place", &[])]).collect();
    let value = |kind: &str, column: usize, offset: u64, default: Option<usize>| {
        of(kind, &[columns[column], offset, default.map_or(0, |default| columns[default])])
    };
    let calls = spec.calls.iter().map(|call| match call {
        OverFunction::Aggregate(call) => self::call(call, &columns),
        OverFunction::RowNumber => of("row number", &[]),
        OverFunction::Rank => of("rank", &[]),
        OverFunction::DenseRank => of("dense rank", &[]),
        OverFunction::Lag { column, offset, default } => value("lag", *column, *offset, *default),
        OverFunction::Lead { column, offset, default } => value("lead", *column, *offset, *default),
    });
    let calls: Vec<u64> = calls.collect();
    let (keys, kept) = (of_columns(&spec.keys, &input.columns), all(&input.columns));
    let mut frame = text(&format!("{:?}", spec.frame));
    if let Some(expiry) = &spec.expiry {
        frame = of("expiry", &[frame, input.columns[expiry.time], expiry.after_ms as u64]);
    }
    if let Some(settled) = &spec.settled {
        frame = of("settled", &[frame, input.columns[settled.time], settled.after_ms as u64]);
    }
    let rows = of("over changes", &[input.rows, kept, keys, ordered(&spec.order, input), frame, all(&calls)]);
    let results = (0..calls.len() as u64).map(|result| of("result", &[rows, result]));
    Lineage { rows, columns: input.columns.iter().copied().chain(results).collect() }
}

/// `ORDER BY`.
fn ordered(order: &[OrderBy], input: &Lineage) -> u64 {
    let order = order
        .iter()
        .map(|by| of("order", &[input.columns[by.column], u64::from(by.descending), u64::from(by.nulls_first)]));
    all(&order.collect::<Vec<_>>())
}

/// Both sides of a join, as far as it keeps them, and the columns that its expressions are over.
fn sides(inputs: &[&Lineage]) -> (u64, Vec<u64>) {
    let rows: Vec<u64> = inputs.iter().map(|input| input.rows).collect();
    let columns = inputs.iter().flat_map(|input| input.columns.iter().copied());
    (all(&rows), columns.collect())
}

fn of_columns(columns: &[usize], of: &[u64]) -> u64 {
    let columns: Vec<u64> = columns.iter().map(|column| of[*column]).collect();
    all(&columns)
}

fn join(node: &Node, spec: &JoinSpec, inputs: &[&Lineage], expires: bool) -> Lineage {
    let (rows, both) = sides(inputs);
    let left = inputs.first().map_or(0, |input| input.columns.len());
    let (ours, theirs) = both.split_at(left);
    let keys = [of_columns(&spec.left_keys, ours), of_columns(&spec.right_keys, theirs)];
    let residual = spec.residual.as_ref().map_or(0, |residual| expression(residual, &both));
    let times = |of_sides: &[Option<Expiry>; 2]| -> Vec<u64> {
        let of_side = |(expiry, side): (&Option<Expiry>, &[u64])| match expiry {
            None => 0,
            Some(expiry) => of("expiry", &[side[expiry.time], expiry.after_ms as u64]),
        };
        of_sides.iter().zip([ours, theirs]).map(of_side).collect()
    };
    let mut expiry = times(&spec.expiry);
    if spec.late != [None; 2] {
        expiry.extend(times(&spec.late));
    }
    let mut how = text(&format!("{:?} {:?} {:?}", spec.kind, spec.nulls, spec.pad));
    if expires && spec.kind != JoinKind::Inner && spec.residual.is_none() {
        // What a row has met is kept with the row then, and not by its key.
        how = of("counted", &[how]);
    }
    // What is kept are whole rows of both sides, so all their columns count.
    let rows = of("join", &[rows, all(&both), all(&keys), residual, all(&expiry), how, left_out(node, &[residual])]);
    let column = |column: &usize| of("joined", &[rows, both[*column]]);
    Lineage { rows, columns: spec.columns.iter().map(column).collect() }
}

fn temporal_join(node: &Node, spec: &TemporalJoinSpec, inputs: &[&Lineage]) -> Lineage {
    let (rows, both) = sides(inputs);
    let left = inputs.first().map_or(0, |input| input.columns.len());
    let (ours, theirs) = both.split_at(left);
    let keys = [of_columns(&spec.left_keys, ours), of_columns(&spec.right_keys, theirs)];
    let times = [ours[spec.left_time], theirs[spec.right_time], u64::from(spec.strict)];
    let plain: Vec<u64> = ours.iter().copied().chain(spec.columns.iter().map(|column| theirs[*column])).collect();
    let residual = spec.residual.as_ref().map_or(0, |residual| expression(residual, &plain));
    let how = [residual, u64::from(spec.outer), left_out(node, &[residual])];
    let rows = of("temporal join", &[rows, all(&both), all(&keys), all(&times), all(&how)]);
    let rows = spec.ended.map_or(rows, |ended| of("until", &[rows, theirs[ended]]));
    Lineage { rows, columns: plain.iter().map(|column| of("valid", &[rows, *column])).collect() }
}

fn rank(node: &Node, spec: &RankSpec, input: &Lineage) -> Lineage {
    let time = |column: &usize| input.columns[*column];
    let until = [
        spec.close.as_ref().map_or(0, time),
        spec.expiry.as_ref().map_or(0, |expiry| of("expiry", &[time(&expiry.time), expiry.after_ms as u64])),
    ];
    let how = text(&format!("{:?} {} {:?} {}", spec.function, spec.from, spec.to, spec.number));
    let keys = of_columns(&spec.keys, &input.columns);
    // Whole rows are kept, and all columns decide among equal rows.
    let kept = all(&input.columns);
    let rows =
        of("rank", &[input.rows, kept, keys, ordered(&spec.order, input), all(&until), how, left_out(node, &[])]);
    let number = spec.number.then(|| of("number", &[rows]));
    Lineage { rows, columns: input.columns.iter().copied().chain(number).collect() }
}

/// The fingerprint of a call of an aggregate function over columns.
fn call(call: &AggregateCall, columns: &[u64]) -> u64 {
    let args: Vec<u64> = call.args.iter().map(|arg| columns[*arg]).collect();
    let filter = call.filter.map_or(0, |filter| columns[filter]);
    let function = text(&format!("{:?} {} {}", call.function, call.distinct, call.result));
    of("call", &[function, all(&args), filter])
}

fn aggregate(node: &Node, spec: &AggregateSpec, input: &Lineage, inserts_only: bool) -> Lineage {
    let column = |column: &usize| input.columns[*column];
    let keys: Vec<u64> = spec.keys.iter().map(column).collect();
    let window = match &spec.window {
        None => spec.expiry.map_or(0, |expiry| of("expiry", &[column(&expiry.time), expiry.after_ms as u64])),
        Some(WindowKey::Time { time, window, domain }) => {
            of("time", &[column(time), text(&format!("{window:?} {domain:?}"))])
        }
        Some(WindowKey::Columns { start, end, domain }) => {
            of("columns", &[column(start), column(end), text(&format!("{domain:?}"))])
        }
    };
    let calls: Vec<u64> = spec.calls.iter().map(|call| self::call(call, &input.columns)).collect();
    let how = text(&format!("{:?} {} {inserts_only}", spec.emit, spec.allowed_lateness_ms));
    let rows = of("aggregate", &[input.rows, all(&keys), window, all(&calls), how, left_out(node, &[])]);
    let more = node.schema.fields().len().saturating_sub(keys.len());
    let results = (0..more as u64).map(|result| of("result", &[rows, result]));
    Lineage { rows, columns: keys.iter().copied().chain(results).collect() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_schema::{DataType, Field, Schema, SchemaRef};

    use super::*;
    use crate::expr::Column;
    use crate::plan::{AggregateFunction, Emit, NodeId, OutputSpec, SourceSpec};

    fn schema(names: &[&str]) -> SchemaRef {
        Arc::new(Schema::new(names.iter().map(|name| Field::new(*name, DataType::Int64, true)).collect::<Vec<_>>()))
    }

    /// `SELECT key, SUM(value) FROM table WHERE flag GROUP BY key`, over a table that is decoded to `columns`.
    fn plan(table: &str, columns: &[&str], function: AggregateFunction) -> Plan {
        let at = |name: &str| columns.iter().position(|column| *column == name).unwrap_or_default();
        let node = |spec, inputs, names: &[&str]| Node {
            spec,
            inputs,
            schema: schema(names),
            position: None,
            on_error: OnError::Stop,
        };
        let source = SourceSpec {
            name: table.to_string(),
            decoded: schema(columns),
            origin: false,
            computed: None,
            watermark: None,
            append_only: true,
        };
        let mut plan = Plan::default();
        let source = plan.add(node(Spec::Source(source), vec![], columns));
        let flag = Column::new(at("flag"), "flag", DataType::Int64);
        let filter = plan.add(node(Spec::Filter(flag), vec![source], columns));
        let (args, result) = (vec![at("value")], DataType::Int64);
        let call = AggregateCall { function, args, filter: None, distinct: false, result };
        let (keys, calls) = (vec![at("key")], vec![call]);
        let spec =
            AggregateSpec { keys, window: None, calls, emit: Emit::Changes, allowed_lateness_ms: 0, expiry: None };
        let group = plan.add(node(Spec::Aggregate(spec), vec![filter], &["key", "sum"]));
        plan.add(node(Spec::Output(OutputSpec { name: "out".to_string(), key: None }), vec![group], &["key", "sum"]));
        plan
    }

    fn sums(columns: &[&str]) -> Vec<u64> {
        fingerprints(&plan("t", columns, AggregateFunction::Sum))
    }

    #[test]
    fn columns_that_others_read_or_that_move_change_nothing() {
        let prints = sums(&["key", "value", "flag"]);
        assert_eq!(sums(&["key", "value", "flag"]), prints);
        assert_eq!(sums(&["flag", "other", "key", "value"]), prints);
    }

    #[test]
    fn another_meaning_is_another_fingerprint() {
        let prints = sums(&["key", "value", "flag"]);
        let table = fingerprints(&plan("u", &["key", "value", "flag"], AggregateFunction::Sum));
        assert!(prints.iter().zip(&table).all(|(one, other)| one != other), "everything is of another table");
        let function = fingerprints(&plan("t", &["key", "value", "flag"], AggregateFunction::Max));
        assert_eq!(function[..2], prints[..2]);
        assert!(prints[2] != function[2] && prints[3] != function[3]);
    }

    #[test]
    fn twins_are_told_apart_by_their_order() {
        let mut twins = plan("t", &["key", "value", "flag"], AggregateFunction::Sum);
        let prints = fingerprints(&twins);
        let twin = twins.nodes[2].clone();
        twins.add(twin);
        let both = fingerprints(&twins);
        assert_eq!(both[..4], prints);
        assert!(!prints.contains(&both[4]));
    }

    #[test]
    fn what_is_kept_of_a_view_is_the_same_whoever_looks_into_it() {
        let looked = |rows: NodeId| {
            let mut plan = plan("t", &["key", "value", "flag"], AggregateFunction::Sum);
            let (keys, view_keys, columns) = (vec![0], vec![0], vec![1]);
            let spec = ViewLookupSpec { keys, view_keys, unique: true, columns, residual: None, outer: false };
            let schema = schema(&["key", "value", "flag", "sum"]);
            let (spec, inputs) = (Spec::ViewLookup(spec), vec![rows, 2]);
            let looked =
                plan.add(Node { spec, inputs, schema: schema.clone(), position: None, on_error: OnError::Stop });
            let (spec, inputs) = (Spec::Output(OutputSpec { name: "found".to_string(), key: None }), vec![looked]);
            plan.add(Node { spec, inputs, schema, position: None, on_error: OnError::Stop });
            fingerprints(&plan)[4..].to_vec()
        };
        let (all, filtered) = (looked(0), looked(1));
        assert_eq!(all[0], filtered[0]);
        assert!(all[1] != filtered[1], "the answers are of other rows");
    }

    #[test]
    fn never_changes() {
        assert_eq!(sums(&["key", "value", "flag"]), GOLDEN, "saved state would be lost: see VERSION");
    }

    const GOLDEN: [u64; 4] =
        [15_473_236_843_553_980_699, 7_212_620_451_828_267_311, 9_216_128_085_516_353_676, 6_087_703_536_250_321_232];
}
