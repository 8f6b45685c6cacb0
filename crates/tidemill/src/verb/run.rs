//! `tidemill run`: a pipeline file, from its sources to its sinks.

use std::collections::BTreeMap;
use std::path::Path;

use tidemill_circuit::view::View;
use tidemill_gateway::{Config, Reload};
use tidemill_node::{Options, Report, Runner, Standing};
use tidemill_sql::Pipeline;

use crate::answers;
use crate::arguments::{Output, Run};
use crate::console::{self, thousands};
use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::pipeline::Text;
use crate::progress::Line;
use crate::sheet::Sheet;
use crate::usage::{RunCost, Usage};

/// Runs the file.
pub(crate) fn run(run: &Run) -> Result<(), Failure> {
    let text = Text::read(&run.file)?;
    let pipeline = text.plan()?;
    for explain in &pipeline.explains {
        console::put(format!("{}\n", explain.plan.trim_end()).as_bytes())?;
    }
    if pipeline.outputs.is_empty() && pipeline.selects.is_empty() && pipeline.decisions.is_empty() {
        tidemill_node::check(&pipeline).map_err(|error| text.failure(&error))?;
        if pipeline.explains.is_empty() {
            console::say(&format!("{} declares tables and asks for nothing: add an INSERT or a SELECT", text.name));
        }
        return Ok(());
    }
    let options = Options {
        lanes: run.lanes.map(|lanes| lanes as usize),
        seed: run.seed,
        listen: run.listen.clone(),
        doors: run.config.as_deref().map(doors).transpose()?,
        insecure: run.insecure,
        state: run.state.clone(),
        record: run.record.clone(),
        name: text.name.clone(),
        sql: text.sql.clone(),
    };
    if run.dry_run {
        return dry_run(&text, &pipeline, &run.circuit, &options);
    }
    let interrupts = Interrupts::listen()?;
    let finished = execute(&text, &pipeline, &options, run.config.as_deref(), &interrupts)?;
    tell(&finished.report);
    if let Some(path) = &run.usage {
        let Report { standing, elapsed, .. } = &finished.report;
        let cost = RunCost {
            seconds: elapsed.as_secs_f64(),
            records: standing.records,
            rows_out: standing.rows_out,
            usage: Usage::now(),
        };
        cost.write(path).map_err(|error| Failure::environment(format!("{}: {error}", path.display())))?;
    }
    if interrupts.came() {
        return Err(Failure::Interrupted);
    }
    print(&text, &pipeline, &finished.views, run.output)
}

/// The doors that a file describes.
fn doors(path: &Path) -> Result<Config, Failure> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| Failure::environment(format!("{}: {error}", path.display())))?;
    Config::parse(&text, path).map_err(|error| Failure::plain(&error))
}

/// Has the doors go on with the tokens and rates that their file has now; says what became of that.
fn reloaded(reload: &Reload, file: &Path) -> String {
    let name = file.display();
    let taken = std::fs::read_to_string(file).map_err(|error| format!("{name}: {error}"));
    let taken = taken.and_then(|text| {
        let config = Config::parse(&text, file);
        config.and_then(|config| reload.take(config, file)).map_err(|error| rendered(&error))
    });
    match taken {
        Ok(notes) => [vec![format!("{name} was read again")], notes].concat().join("\n"),
        Err(problem) => format!("{}\nthe doors go on as they were", problem.trim_end()),
    }
}

fn rendered(error: &tidemill_gateway::Error) -> String {
    tidemill_sql::error::render(error, "", "")
}

/// Says what a run would keep of the state there is.
fn dry_run(text: &Text, pipeline: &Pipeline, circuit: &str, options: &Options) -> Result<(), Failure> {
    let found = tidemill_node::dry_run(pipeline, circuit, options).map_err(|error| text.failure(&error))?;
    let mut sheet = Sheet::new(["operator", "state"]);
    for (operator, fate) in &found.operators {
        sheet.row([operator.as_str(), fate.as_str()]);
    }
    console::put(sheet.print(&found.title, Output::Text)?.as_slice())?;
    Ok(())
}

/// A run that has ended.
pub(crate) struct Finished {
    /// What was done.
    pub(crate) report: Report,
    /// What is kept.
    pub(crate) views: BTreeMap<String, View>,
}

/// Runs a planned pipeline to its end, or until it is stopped. `config` is the file that describes its doors, which is read
/// again when that is asked for.
pub(crate) fn execute(
    text: &Text,
    pipeline: &Pipeline,
    options: &Options,
    config: Option<&Path>,
    interrupts: &Interrupts,
) -> Result<Finished, Failure> {
    let runner = Runner::new(pipeline, options, &interrupts.begin()).map_err(|error| text.failure(&error))?;
    if !runner.is_bounded() {
        text.warn(&pipeline.warnings);
    }
    runner.notes().iter().for_each(|note| console::say(note));
    runner.urls().iter().for_each(|url| console::say(&format!("listening on {url}")));
    if let (Some(file), Some(reload)) = (config, runner.reload()) {
        let file = file.to_path_buf();
        interrupts.on_hangup(move || console::say(&reloaded(&reload, &file)));
    }
    let views = runner.views();
    let line = Line::begin(runner.progress());
    let result = runner.run();
    drop(line);
    interrupts.end();
    match result {
        Ok(report) => Ok(Finished { report, views }),
        Err(_) if interrupts.came_twice() => Err(Failure::Interrupted),
        Err(error) => Err(text.failure(&error)),
    }
}

/// Prints the answers of the bare SELECTs.
pub(crate) fn print(
    text: &Text,
    pipeline: &Pipeline,
    views: &BTreeMap<String, View>,
    output: Output,
) -> Result<(), Failure> {
    for (index, select) in pipeline.selects.iter().enumerate() {
        let rows = tidemill_node::answer(pipeline, select, views).map_err(|error| text.failure(&error))?;
        let title = answers::title(&text.sql, select.position.line, &select.text);
        let printed = answers::printed(&rows, &title, output).map_err(|error| Failure::plain(&error))?;
        if index > 0 && matches!(output, Output::Text | Output::Csv) {
            console::put(b"\n")?;
        }
        console::put(&printed)?;
    }
    Ok(())
}

/// Says what a run has left out and written.
pub(crate) fn tell(report: &Report) {
    let Standing { steps, records, late_rows, dead_rows, bad_records, .. } = report.standing;
    for (count, one, many) in [
        (late_rows, "row came after its window had closed", "rows came after their windows had closed"),
        (dead_rows, "row was left out: an expression failed on it", "rows were left out: an expression failed on them"),
        (bad_records, "record could not be decoded", "records could not be decoded"),
    ] {
        match count {
            0 => {}
            1 => console::say(&format!("1 {one}")),
            _ => console::say(&format!("{} {many}", thousands(count))),
        }
    }
    for written in &report.written {
        if let Some(digest) = &written.summary.digest {
            let rows = thousands(written.summary.rows);
            console::say(&format!("{}: {rows} rows, digest {digest}", written.table));
        }
    }
    if console::is_watched() {
        let seconds = report.elapsed.as_secs_f64();
        let rate = records as f64 / seconds.max(0.001);
        console::say(&format!(
            "{} records in {seconds:.2} s ({}/s), {} steps",
            thousands(records),
            thousands(rate as u64),
            thousands(steps)
        ));
    }
}
