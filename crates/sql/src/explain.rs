//! `explain`: the circuit of a pipeline, what each operator keeps and what bounds it, as text, JSON or a mermaid graph.

mod join;
mod over;
mod rank;
mod watermark;

use std::fmt::Write as _;

use serde::Serialize;
use tidemill_circuit::Plan;
use tidemill_circuit::plan::{
    AggregateCall, AggregateFunction, AggregateSpec, Emit, Expiry, LookupSpec, Node, NodeId, SourceSpec, Spec,
    TimeDomain, ViewLookupSpec, Window, WindowKey,
};

use crate::expr::duration;
use crate::lower::Facts;
use crate::pipeline::{Changelog, Decisions, EndpointDef, OutputKind, Pipeline, SelectKind, Warning};
use crate::types::{name_of, quoted};

/// One operator, explained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Operator {
    /// Its number in the plan.
    pub id: NodeId,
    /// Its kind.
    pub kind: &'static str,
    /// What it does.
    pub detail: String,
    /// The operators it reads.
    pub inputs: Vec<NodeId>,
    /// Its columns: name and type.
    pub columns: Vec<(String, String)>,
    /// What it keeps from step to step; none for operators that keep nothing.
    pub state: Option<String>,
    /// What bounds what it keeps; none when nothing does.
    pub bound: Option<String>,
    /// Whether no row is ever taken back.
    pub append_only: bool,
    /// Whether its rows depend on when steps ran, so that only a replay gives the same.
    pub schedule_dependent: bool,
}

/// A circuit to be explained.
#[derive(Clone, Copy)]
struct Circuit<'p> {
    plan: &'p Plan,
    facts: &'p Facts,
    of: Of<'p>,
}

/// What a circuit is for.
#[derive(Clone, Copy)]
enum Of<'p> {
    /// Everything but endpoints.
    Pipeline(&'p Pipeline),
    /// Endpoints.
    Decisions(&'p Decisions),
}

impl<'p> Circuit<'p> {
    fn of_pipeline(pipeline: &'p Pipeline) -> Self {
        Circuit { plan: &pipeline.plan, facts: &pipeline.facts, of: Of::Pipeline(pipeline) }
    }

    fn of_decisions(decisions: &'p Decisions) -> Self {
        Circuit { plan: &decisions.plan, facts: &decisions.facts, of: Of::Decisions(decisions) }
    }

    fn operators(self) -> Vec<Operator> {
        let (append_only, single) = (self.plan.append_only(), self.plan.single());
        let nodes = self.plan.nodes.iter().enumerate();
        nodes.map(|(id, node)| operator(self, id, node, (&append_only, &single))).collect()
    }
}

/// Every operator of the pipeline's circuit, inputs before those who read them; those of endpoints are apart.
pub fn operators(pipeline: &Pipeline) -> Vec<Operator> {
    Circuit::of_pipeline(pipeline).operators()
}

/// Every operator of a circuit that answers requests, inputs before those who read them.
pub fn decision_operators(decisions: &Decisions) -> Vec<Operator> {
    Circuit::of_decisions(decisions).operators()
}

fn operator(circuit: Circuit<'_>, id: NodeId, node: &Node, (append_only, single): (&[bool], &[bool])) -> Operator {
    let input = |column: usize| quoted(circuit.plan.nodes[node.inputs[0]].schema.field(column).name());
    let (state, bound) = match &node.spec {
        Spec::Aggregate(spec) => kept(spec, &input),
        Spec::Over(spec) => over::kept(spec, circuit.facts.of(node.inputs[0])),
        Spec::OverChanges(spec) => over::kept_changes(spec, &input),
        Spec::ViewLookup(spec) => {
            let bound = "as many as the view has rows".to_string();
            let kept = if spec.unique { "the newest row of the view for each key" } else { "all rows of the view" };
            (Some(kept.to_string()), Some(bound))
        }
        Spec::Join(_) | Spec::TemporalJoin(_) | Spec::SetOperation(_) => {
            join::kept(circuit.plan, node, (append_only, single), circuit.plan.ttls.contains_key(&id))
        }
        Spec::Rank(spec) => rank::kept(spec, append_only[node.inputs[0]], &input),
        _ => (None, None),
    };
    let bound = match circuit.plan.ttls.get(&id) {
        None => bound,
        Some(ttl_ms) => Some(expires(node, bound, &duration(*ttl_ms), single)),
    };
    Operator {
        id,
        kind: node.title(),
        detail: detail(circuit, node),
        inputs: node.inputs.clone(),
        columns: node.schema.fields().iter().map(|field| (field.name().clone(), name_of(field.data_type()))).collect(),
        state,
        bound,
        append_only: append_only[id],
        schedule_dependent: circuit.facts.of(id).schedule_dependent,
    }
}

/// What bounds an operator that forgets what has not changed for so long.
fn expires(node: &Node, bound: Option<String>, life: &str, single: &[bool]) -> String {
    let stays = match (&node.spec, node.inputs.as_slice()) {
        (Spec::Join(_), [left, _]) if single[*left] => "; the only row of the left side stays",
        (Spec::Join(_), [_, right]) if single[*right] => "; the only row of the right side stays",
        _ => "",
    };
    match (&node.spec, bound) {
        (Spec::TemporalJoin(_), Some(bound)) => {
            format!("{bound}, until no row of either side has come to the key for {life} of processing time")
        }
        _ => format!("what has not changed for {life} of processing time is forgotten, and stays said{stays}"),
    }
}

/// What an aggregate keeps, and what bounds it.
fn kept(spec: &AggregateSpec, input: &dyn Fn(usize) -> String) -> (Option<String>, Option<String>) {
    let per = if spec.keys.is_empty() { "one group".to_string() } else { "one entry a group".to_string() };
    let late =
        if spec.allowed_lateness_ms > 0 { format!(" + {}", duration(spec.allowed_lateness_ms)) } else { String::new() };
    let clock = |domain: TimeDomain| match domain {
        TimeDomain::Event => "the watermark",
        TimeDomain::Processing => "processing time",
    };
    match &spec.window {
        Some(WindowKey::Time { window: Window::Session { gap }, domain, .. }) => (
            Some("open sessions of each group".to_string()),
            Some(format!("a session goes when {} passes its last row by {}{late}", clock(*domain), duration(*gap))),
        ),
        Some(WindowKey::Time { domain, window, .. }) => {
            let panes = if matches!(window, Window::Tumble { .. }) { "open windows" } else { "panes of open windows" };
            (
                Some(format!("{per} in {panes}")),
                Some(format!("a window goes when {} passes its end{late}", clock(*domain))),
            )
        }
        Some(WindowKey::Columns { domain, .. }) => (
            Some(format!("{per} in open windows")),
            Some(format!("a window goes when {} passes its end{late}", clock(*domain))),
        ),
        None if spec.keys.is_empty() => {
            let distinct = spec.calls.iter().any(grows);
            let bound = (!distinct).then(|| "it does not grow".to_string());
            (Some(per), bound)
        }
        None => (Some(per), spec.expiry.map(|expiry| format!("a group goes when {}", passes(expiry, input)))),
    }
}

/// The moment from which a row is of no use.
fn passes(expiry: Expiry, input: &dyn Fn(usize) -> String) -> String {
    let time = input(expiry.time);
    match expiry.after_ms {
        // Windows end one millisecond after the last time in them.
        -1 => format!("the watermark reaches its {time}"),
        0 => format!("the watermark passes its {time}"),
        more if more > 0 => format!("the watermark passes its {time} by {}", duration(more)),
        less => format!("the watermark passes its {time} less {}", duration(-less)),
    }
}

/// Whether a call keeps more the more rows there are.
fn grows(call: &AggregateCall) -> bool {
    call.distinct || matches!(call.function, AggregateFunction::ArrayAgg | AggregateFunction::ListAgg)
}

fn detail(circuit: Circuit<'_>, node: &Node) -> String {
    let input = |column: usize| match node.inputs.first() {
        Some(input) => quoted(circuit.plan.nodes[*input].schema.field(column).name()),
        None => format!("#{column}"),
    };
    match &node.spec {
        Spec::Source(source) => source_detail(source),
        Spec::Filter(predicate) => predicate.print(),
        Spec::Project(exprs) => {
            let fields = node.schema.fields().iter();
            let named = exprs.iter().zip(fields).map(|(expr, field)| {
                let (printed, name) = (expr.print(), quoted(field.name()));
                if printed == name || *field.name() == printed { name } else { format!("{printed} AS {name}") }
            });
            named.collect::<Vec<_>>().join(", ")
        }
        Spec::Unnest(spec) => {
            let outer = if spec.outer { ", rows without elements stay" } else { "" };
            format!("{}{outer}", input(spec.column))
        }
        Spec::Lookup(spec) => lookup_detail(spec, &input),
        Spec::ViewLookup(spec) => {
            let of_view = |column: usize| quoted(circuit.plan.nodes[node.inputs[1]].schema.field(column).name());
            view_lookup_detail(spec, &input, &of_view)
        }
        Spec::Over(spec) => over::detail(spec, &input),
        Spec::OverChanges(spec) => over::changes(spec, node.schema.fields().len() - spec.calls.len(), &input),
        Spec::Join(_) | Spec::TemporalJoin(_) | Spec::SetOperation(_) => join::detail(circuit.plan, node),
        Spec::Rank(spec) => rank::detail(spec, &input),
        Spec::Versions(spec) => {
            let keys: Vec<_> = spec.keys.iter().map(|key| input(*key)).collect();
            format!("by {} and {}: an update begins one, a row that goes ends it", keys.join(", "), input(spec.time))
        }
        Spec::Union => format!("{} inputs", node.inputs.len()),
        Spec::Delay(spec) => format!("the watermark is {} behind", duration(spec.behind_ms)),
        Spec::AssignWindow(spec) => windowed(&spec.window, &input(spec.time), spec.domain),
        Spec::Aggregate(spec) => aggregate_detail(spec, &input),
        Spec::Output(spec) => {
            let key = spec.key.as_ref().map(|key| {
                let names: Vec<_> = key.iter().map(|column| quoted(node.schema.field(*column).name())).collect();
                format!(", rows identified by ({})", names.join(", "))
            });
            let key = key.unwrap_or_default();
            match circuit.of {
                Of::Decisions(_) => format!("answers endpoint {}", quoted(&spec.name)),
                Of::Pipeline(pipeline) => output_detail(pipeline, &spec.name, &key),
            }
        }
    }
}

fn output_detail(pipeline: &Pipeline, name: &str, key: &str) -> String {
    let output = pipeline.outputs.iter().find(|output| output.name == name);
    let indexes = output.into_iter().flat_map(|output| {
        let named = |columns: &[usize]| names(columns.iter().map(|column| output.schema.field(*column).name()));
        output.indexes.iter().map(move |index| format!(", found by ({}) too", named(&index.columns)))
    });
    let key = format!("{key}{}", indexes.collect::<String>());
    match output.map(|output| &output.kind) {
        Some(OutputKind::Sink { table }) => format!("to table {}{key}", quoted(table)),
        Some(OutputKind::MaterializedView { name }) => format!("kept as view {}{key}", quoted(name)),
        Some(OutputKind::Select { index }) => {
            format!("kept for SELECT {}{key}{}", index + 1, tail(pipeline, *index))
        }
        None => name.to_string(),
    }
}

fn tail(pipeline: &Pipeline, index: usize) -> String {
    match pipeline.selects.get(index).map(|select| &select.kind) {
        Some(SelectKind::Circuit { tail, .. }) if !tail.is_empty() => {
            format!(", printed through {}", tail.describe().join(", then "))
        }
        _ => String::new(),
    }
}

fn source_detail(source: &SourceSpec) -> String {
    let mut text =
        format!("{} ({})", quoted(&source.name), names(source.decoded.fields().iter().map(|field| field.name())));
    if let Some(computed) = &source.computed {
        let computed: Vec<_> =
            computed.iter().filter(|expr| expr.column().is_none()).map(|expr| expr.print()).collect();
        if !computed.is_empty() {
            let _ = write!(text, ", computes {}", computed.join(", "));
        }
    }
    if let Some(watermark) = &source.watermark {
        let _ = write!(text, ", watermark {}", watermark.bound.print());
    }
    if !source.append_only {
        text += ", rows may be taken back";
    }
    text
}

fn lookup_detail(spec: &LookupSpec, input: &dyn Fn(usize) -> String) -> String {
    let schema = spec.table.schema();
    let equal = spec.table_keys.iter().zip(&spec.keys);
    let equal = equal.map(|(key, column)| format!("{} = {}", quoted(schema.field(*key).name()), input(*column)));
    let mut text = format!("in table {} by {}", quoted(spec.table.name()), equal.collect::<Vec<_>>().join(", "));
    if !spec.is_unique() {
        text += ", every row";
    }
    if !spec.columns.is_empty() {
        let _ = write!(text, ", gives {}", names(spec.columns.iter().map(|column| schema.field(*column).name())));
    }
    if spec.version {
        text += ", names the version";
    }
    if let Some(residual) = &spec.residual {
        let _ = write!(text, ", where {}", residual.print());
    }
    if spec.outer {
        text += ", rows without one stay";
    }
    text + ", schedule-dependent"
}

fn view_lookup_detail(
    spec: &ViewLookupSpec,
    input: &dyn Fn(usize) -> String,
    of_view: &dyn Fn(usize) -> String,
) -> String {
    let equal = spec.view_keys.iter().zip(&spec.keys);
    let equal: Vec<_> = equal.map(|(key, column)| format!("{} = {}", of_view(*key), input(*column))).collect();
    let mut text = if equal.is_empty() { "the only row".to_string() } else { format!("by {}", equal.join(", ")) };
    if !spec.unique {
        text += ", every row";
    }
    if !spec.columns.is_empty() {
        let columns: Vec<_> = spec.columns.iter().map(|column| of_view(*column)).collect();
        let _ = write!(text, ", gives {}", columns.join(", "));
    }
    if let Some(residual) = &spec.residual {
        let _ = write!(text, ", where {}", residual.print());
    }
    if spec.outer {
        text += ", rows without one stay";
    }
    text + ", as the view stands after this step, schedule-dependent"
}

fn aggregate_detail(spec: &AggregateSpec, input: &dyn Fn(usize) -> String) -> String {
    let mut parts: Vec<String> = Vec::new();
    if !spec.keys.is_empty() {
        parts.push(format!("by {}", spec.keys.iter().map(|key| input(*key)).collect::<Vec<_>>().join(", ")));
    }
    match &spec.window {
        Some(WindowKey::Time { time, window, domain }) => parts.push(windowed(window, &input(*time), *domain)),
        Some(WindowKey::Columns { start, end, .. }) => {
            parts.push(format!("windows {} to {}", input(*start), input(*end)))
        }
        None => {}
    }
    if !spec.calls.is_empty() {
        parts.push(spec.calls.iter().map(|call| called(call, input)).collect::<Vec<_>>().join(", "));
    }
    if spec.window.is_some() {
        parts.push(match spec.emit {
            Emit::OnClose => "emits when a window closes".to_string(),
            Emit::Changes => "emits changes".to_string(),
        });
    }
    parts.join("; ")
}

fn called(call: &AggregateCall, input: &dyn Fn(usize) -> String) -> String {
    let name = match call.function {
        AggregateFunction::ApproxQuantile(share) => format!("APPROX_QUANTILE[{share}]"),
        other => shouted(&format!("{other:?}")),
    };
    let distinct = if call.distinct { "DISTINCT " } else { "" };
    let args: Vec<_> = call.args.iter().map(|arg| input(*arg)).collect();
    let args = if args.is_empty() { "*".to_string() } else { args.join(", ") };
    let filter = call.filter.map(|filter| format!(" FILTER {}", input(filter))).unwrap_or_default();
    format!("{name}({distinct}{args}){filter}")
}

/// `StddevPop` as `STDDEV_POP`.
pub(crate) fn shouted(name: &str) -> String {
    let mut text = String::new();
    for (index, letter) in name.char_indices() {
        if index > 0 && letter.is_uppercase() {
            text.push('_');
        }
        text.push(letter.to_ascii_uppercase());
    }
    text.replace("LIST_AGG", "LISTAGG")
}

fn windowed(window: &Window, time: &str, domain: TimeDomain) -> String {
    let shift = |offset: &i64| if *offset == 0 { String::new() } else { format!(", offset {}", duration(*offset)) };
    let clock = if domain == TimeDomain::Processing { " (processing time)" } else { "" };
    match window {
        Window::Tumble { size, offset } => format!("TUMBLE {}{} of {time}{clock}", duration(*size), shift(offset)),
        Window::Hop { slide, size, offset } => {
            format!("HOP {} every {}{} of {time}{clock}", duration(*size), duration(*slide), shift(offset))
        }
        Window::Cumulate { step, max, offset } => {
            format!("CUMULATE {} to {}{} of {time}{clock}", duration(*step), duration(*max), shift(offset))
        }
        Window::Session { gap } => format!("SESSION {} of {time}{clock}", duration(*gap)),
    }
}

fn names<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(|name| quoted(name)).collect::<Vec<_>>().join(", ")
}

/// What a person should know of the circuits: state without bound.
pub(crate) fn warnings(pipeline: &Pipeline) -> Vec<Warning> {
    let of_endpoints = pipeline.decisions.iter().flat_map(|decisions| unbounded(Circuit::of_decisions(decisions)));
    unbounded(Circuit::of_pipeline(pipeline)).into_iter().chain(of_endpoints).collect()
}

fn unbounded(circuit: Circuit<'_>) -> Vec<Warning> {
    let of = match circuit.of {
        Of::Pipeline(_) => String::new(),
        Of::Decisions(decisions) => {
            let word = if decisions.endpoints.len() == 1 { "endpoint" } else { "endpoints" };
            format!(" for {word} {}", names(decisions.endpoints.iter().map(|endpoint| &endpoint.name)))
        }
    };
    let unbounded =
        circuit.operators().into_iter().filter(|operator| operator.state.is_some() && operator.bound.is_none());
    let crossed = join::crossed(circuit.plan, circuit.facts);
    let crossed = crossed.into_iter().map(|node| Warning {
        text: format!(
            "Join {node} pairs every row with every row: say in ON what is equal{of}, unless one side has few rows"
        ),
        position: circuit.plan.nodes[node].position,
    });
    let crossed: Vec<Warning> = crossed.collect();
    unbounded
        .map(|operator| Warning {
            text: format!(
                "{} {} ({}) keeps {}{of} and nothing bounds how many: over endless input it grows with the number of {}",
                operator.kind,
                operator.id,
                operator.detail,
                operator.state.unwrap_or_default(),
                match operator.kind {
                    "Over" | "Rank" => "keys",
                    "Join" | "SetOperation" => "rows",
                    _ => "groups",
                }
            ),
            position: circuit.plan.nodes[operator.id].position,
        })
        .chain(crossed)
        .chain(watermark::held_back(circuit.plan).into_iter().map(|(source, node)| held_back(circuit.plan, source, node)))
        .collect()
}

/// A table without a watermark keeps an operator waiting.
fn held_back(plan: &Plan, source: &str, node: NodeId) -> Warning {
    // A table that is read with a hint has a name of its own.
    let table = source.split('$').next().unwrap_or(source);
    let kind = plan.nodes[node].title();
    Warning {
        text: format!(
            "{kind} {node} waits for {table} to end: it has no WATERMARK, and so holds back those of the other tables; \
             declare WATERMARK FOR ts AS ts - INTERVAL '5' SECOND in CREATE TABLE {table}, or look its rows up FOR \
             SYSTEM_TIME AS OF PROCTIME()"
        ),
        position: plan.nodes[node].position,
    }
}

/// The circuits as a tree for each output and each endpoint; an operator that is read twice is written once.
pub fn text(pipeline: &Pipeline) -> String {
    let operators = operators(pipeline);
    let mut out = String::new();
    let mut written = vec![false; operators.len()];
    for output in &pipeline.outputs {
        write_tree(&mut out, &operators, output.node, 0, &mut written);
        let changes = match &output.changelog {
            Changelog::AppendOnly => "rows only come".to_string(),
            Changelog::Updating { operator, .. } => format!("rows come and go, first at {operator}"),
        };
        let _ = writeln!(out, "  changes: {changes}");
        if operators[output.node].schedule_dependent {
            let _ = writeln!(out, "  depends on when steps run: only a replay gives the same rows");
        }
    }
    for (index, select) in pipeline.selects.iter().enumerate() {
        if let SelectKind::Views(query) = &select.kind {
            let _ = writeln!(out, "SELECT {}: in batch over {}", index + 1, query.views().join(", "));
        }
    }
    for decisions in &pipeline.decisions {
        write_decisions(&mut out, decisions);
    }
    let warnings = warnings(pipeline);
    for warning in &warnings {
        let place = warning.position.map(|position| format!(" ({position})")).unwrap_or_default();
        let _ = writeln!(out, "warning: {}{place}", warning.text);
    }
    out
}

fn write_decisions(out: &mut String, decisions: &Decisions) {
    let operators = decision_operators(decisions);
    let mut written = vec![false; operators.len()];
    let _ = writeln!(out, "circuit {}", quoted(&decisions.name));
    for endpoint in &decisions.endpoints {
        let Some(node) = output_of(&decisions.plan, &endpoint.output) else { continue };
        let from = match endpoint.recorded {
            true => format!("a request becomes a row of {}", quoted(&endpoint.source)),
            false => "a request is kept as its own row".to_string(),
        };
        let fields = names(endpoint.request.fields().iter().map(|field| field.name()));
        let _ = writeln!(out, "  endpoint {} ({fields}): {from}", quoted(&endpoint.name));
        let options = &endpoint.options;
        let then = match &options.fallback {
            Some(fallback) => format!("then {fallback}"),
            None => "then an error".to_string(),
        };
        let deadline = options.deadline.as_micros();
        let deadline = match deadline % 1_000 {
            0 => duration(i64::try_from(deadline / 1_000).unwrap_or(i64::MAX)),
            _ => format!("{deadline} us"),
        };
        let _ = writeln!(out, "    answers within {deadline}, {then}");
        write_tree(out, &operators, node, 2, &mut written);
    }
}

fn output_of(plan: &Plan, name: &str) -> Option<NodeId> {
    plan.nodes.iter().position(|node| matches!(&node.spec, Spec::Output(output) if output.name == name))
}

/// Everything that makes an answer, as text: what names the rule of an endpoint.
pub(crate) fn rule(decisions: &Decisions, output: &str) -> String {
    let operators = decision_operators(decisions);
    let mut needed = vec![false; operators.len()];
    if let Some(node) = output_of(&decisions.plan, output) {
        needed[node] = true;
    }
    let mut numbers = vec![0; operators.len()];
    for operator in operators.iter().rev() {
        if needed[operator.id] {
            operator.inputs.iter().for_each(|input| needed[*input] = true);
        }
    }
    let mut text = String::new();
    let mut count = 0;
    for operator in operators.iter().filter(|operator| needed[operator.id]) {
        count += 1;
        numbers[operator.id] = count;
        let inputs: Vec<_> = operator.inputs.iter().map(|input| numbers[*input].to_string()).collect();
        let _ = writeln!(text, "{} ({}) {} {:?}", operator.kind, inputs.join(" "), operator.detail, operator.columns);
    }
    text
}

fn write_tree(out: &mut String, operators: &[Operator], id: NodeId, depth: usize, written: &mut [bool]) {
    let operator = &operators[id];
    let indent = "  ".repeat(depth);
    if written[id] {
        let _ = writeln!(out, "{indent}{} [{id}] (as above)", operator.kind);
        return;
    }
    written[id] = true;
    let _ = writeln!(out, "{indent}{} [{id}] {}", operator.kind, operator.detail);
    if let Some(state) = &operator.state {
        let bound = operator.bound.clone().unwrap_or_else(|| "nothing bounds it".to_string());
        let _ = writeln!(out, "{indent}  keeps: {state}; {bound}");
    }
    for input in &operator.inputs {
        write_tree(out, operators, *input, depth + 1, written);
    }
}

/// The circuits as one JSON object: `operators`, `outputs`, `warnings`, and `decisions` when there are endpoints.
pub fn json(pipeline: &Pipeline) -> String {
    let outputs: Vec<_> = pipeline
        .outputs
        .iter()
        .map(|output| {
            let (changes, operator) = match &output.changelog {
                Changelog::AppendOnly => ("append-only", None),
                Changelog::Updating { operator, .. } => ("updating", Some(operator.clone())),
            };
            serde_json::json!({
                "name": output.name,
                "node": output.node,
                "key": output.key,
                "changes": changes,
                "first_updating": operator,
            })
        })
        .collect();
    let warnings: Vec<_> = warnings(pipeline).into_iter().map(|warning| warning.text).collect();
    let endpoint = |endpoint: &EndpointDef| {
        serde_json::json!({
            "name": endpoint.name,
            "source": endpoint.source,
            "recorded": endpoint.recorded,
            "rule": endpoint.rule,
        })
    };
    let decisions: Vec<_> = pipeline
        .decisions
        .iter()
        .map(|decisions| {
            serde_json::json!({
                "name": decisions.name,
                "operators": decision_operators(decisions),
                "endpoints": decisions.endpoints.iter().map(endpoint).collect::<Vec<_>>(),
            })
        })
        .collect();
    let mut whole = serde_json::json!({ "operators": operators(pipeline), "outputs": outputs, "warnings": warnings });
    if !decisions.is_empty() {
        whole["decisions"] = decisions.into();
    }
    serde_json::to_string_pretty(&whole).unwrap_or_default()
}

/// The circuit as a mermaid flowchart.
pub fn mermaid(pipeline: &Pipeline) -> String {
    let mut out = "flowchart TD\n".to_string();
    for operator in operators(pipeline) {
        let kept = operator.state.as_ref().map(|state| {
            let bound = operator.bound.clone().unwrap_or_else(|| "nothing bounds it".to_string());
            format!("<br/>keeps: {state}; {bound}")
        });
        let label = format!("<b>{}</b><br/>{}{}", operator.kind, escaped(&operator.detail), kept.unwrap_or_default());
        let _ = writeln!(out, "  n{}[\"{label}\"]", operator.id);
        for input in operator.inputs {
            let _ = writeln!(out, "  n{input} --> n{}", operator.id);
        }
    }
    out
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
