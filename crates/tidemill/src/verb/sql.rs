//! `tidemill sql`: type statements and see what they answer.

use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;

use rustyline::error::ReadlineError;
use rustyline::history::DefaultHistory;
use rustyline::{Config, Editor};
use tidemill_node::Options;

use crate::arguments::Sql;
use crate::console;
use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::pipeline::Text;
use crate::shell::{Helper, Reply, Session, scan};
use crate::verb::run;

/// Lines that are remembered from one session to the next.
const HISTORY_LINES: usize = 1_000;

const HELP: &str = "\
statements end with a semicolon; definitions are remembered, queries and inserts run
\\d          what is defined
\\d NAME     the columns of a table or view
\\q          the end (or Ctrl-D); Ctrl-C drops the line, or stops what runs";

/// Whether the shell goes on.
#[derive(PartialEq, Eq)]
enum Next {
    Go,
    Quit,
}

/// Reads statements until the end: from the terminal with an editor, else from stdin as they are.
pub(crate) fn run(sql: &Sql) -> Result<(), Failure> {
    let mut shell = Shell { session: Session::default(), sql: sql.clone(), interrupts: Interrupts::listen()? };
    if let Some(file) = &sql.file {
        shell.feed(&Text::read(file)?.sql)?;
    }
    if std::io::stdin().is_terminal() { shell.interactive() } else { shell.piped() }
}

struct Shell {
    session: Session,
    sql: Sql,
    interrupts: Interrupts,
}

impl Shell {
    /// With line editing, history and completion; errors are shown and the shell goes on.
    fn interactive(&mut self) -> Result<(), Failure> {
        let config =
            Config::builder().max_history_size(HISTORY_LINES).map_err(unusable)?.auto_add_history(true).build();
        let mut editor: Editor<Helper, DefaultHistory> = Editor::with_config(config).map_err(unusable)?;
        let history = history_file();
        if let Some(path) = &history {
            // The first session has none.
            let _ = editor.load_history(path);
        }
        console::say("tidemill: \\h for help");
        loop {
            editor.set_helper(Some(Helper { names: self.completions() }));
            match editor.readline("tidemill> ") {
                Ok(line) => match self.line(&line) {
                    Ok(Next::Go) => {}
                    Ok(Next::Quit) => break,
                    Err(Failure::ReaderGone) => return Err(Failure::ReaderGone),
                    Err(failure) => {
                        let _ = failure.exit();
                    }
                },
                Err(ReadlineError::Interrupted) => {}
                Err(ReadlineError::Eof) => break,
                Err(error) => return Err(unusable(error)),
            }
        }
        if let Some(path) = &history
            && let Err(error) = editor.save_history(path)
        {
            tracing::debug!(%error, path = %path.display(), "the history was not saved");
        }
        Ok(())
    }

    /// Statements from a pipe; the first error ends it.
    fn piped(&mut self) -> Result<(), Failure> {
        let mut waiting = String::new();
        for line in std::io::stdin().lock().lines() {
            let line = line.map_err(|error| Failure::environment(format!("stdin cannot be read: {error}")))?;
            if waiting.trim().is_empty() && line.trim_start().starts_with('\\') {
                if self.command(line.trim())? == Next::Quit {
                    return Ok(());
                }
                continue;
            }
            waiting.push_str(&line);
            waiting.push('\n');
            let (statements, rest) = scan::statements(&waiting);
            for statement in statements {
                self.statement(statement)?;
            }
            waiting = rest.to_string();
        }
        if waiting.trim().is_empty() { Ok(()) } else { self.statement(&waiting) }
    }

    fn line(&mut self, line: &str) -> Result<Next, Failure> {
        if line.trim_start().starts_with('\\') {
            return self.command(line.trim());
        }
        self.feed(line).map(|()| Next::Go)
    }

    fn feed(&mut self, text: &str) -> Result<(), Failure> {
        let (statements, rest) = scan::statements(text);
        statements.into_iter().try_for_each(|statement| self.statement(statement))?;
        if rest.trim().is_empty() { Ok(()) } else { self.statement(rest) }
    }

    fn statement(&mut self, sql: &str) -> Result<(), Failure> {
        match self.session.take(sql)? {
            Reply::Defined(text) => {
                if console::is_watched() && !text.is_empty() {
                    console::say(&text);
                }
                Ok(())
            }
            Reply::Run(text, pipeline) => {
                for explain in &pipeline.explains {
                    console::put(format!("{}\n", explain.plan.trim_end()).as_bytes())?;
                }
                if pipeline.outputs.is_empty() && pipeline.selects.is_empty() {
                    return Ok(());
                }
                let lanes = self.sql.lanes.map(|lanes| lanes as usize);
                let options = Options { lanes, name: text.name.clone(), sql: text.sql.clone(), ..Options::default() };
                let finished = run::execute(&text, &pipeline, &options, None, &self.interrupts)?;
                run::tell(&finished.report);
                if self.interrupts.came() && !pipeline.selects.is_empty() {
                    console::say("stopped: this is the answer so far");
                }
                run::print(&text, &pipeline, &finished.views, self.sql.output)
            }
        }
    }

    fn command(&self, command: &str) -> Result<Next, Failure> {
        let (verb, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        let name = rest.trim().trim_end_matches(';');
        match (verb, name) {
            ("\\q", _) => return Ok(Next::Quit),
            ("\\d", "") => {
                for (kind, name) in self.session.names() {
                    console::put(format!("{kind} {name}\n").as_bytes())?;
                }
            }
            ("\\d", name) => {
                let columns = self.session.columns(name)?;
                let widest = columns.iter().map(|(name, ..)| name.chars().count()).max().unwrap_or(0);
                for (name, kind, origin) in columns {
                    let line = format!("{name:widest$} {kind} {origin}");
                    console::put(format!("{}\n", line.trim_end()).as_bytes())?;
                }
            }
            ("\\h" | "\\?", _) => console::say(HELP),
            _ => console::say(&format!("there is no {verb}; \\h tells what there is")),
        }
        Ok(Next::Go)
    }

    /// Names of tables, views and their columns.
    fn completions(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for (_, name) in self.session.names() {
            names.extend(self.session.columns(&name).unwrap_or_default().into_iter().map(|(column, ..)| column));
            names.push(name);
        }
        names.sort();
        names.dedup();
        names
    }
}

fn unusable(error: ReadlineError) -> Failure {
    Failure::environment(format!("the terminal cannot be used: {error}"))
}

/// Where lines are remembered: in the folder for such things, when there is a home.
fn history_file() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let state = state.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state")))?;
    let folder = state.join("tidemill");
    std::fs::create_dir_all(&folder).ok()?;
    Some(folder.join("history"))
}
