//! What can be asked of the command.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

/// Real-time computing: events in, exact incremental SQL over them, answers out.
#[derive(Debug, Parser)]
#[command(name = "tidemill", version, propagate_version = true, disable_help_subcommand = true)]
pub(crate) struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run a pipeline file: to its end when every source has one, else until Ctrl-C
    Run(Run),
    /// Run recorded steps again, and check that every step gives what it gave
    Replay(Replay),
    /// List, compare, name and roll back the versions of a pipeline's state
    Versions(Versions),
    /// Make, edit, compare and roll back versioned tables
    Table(Table),
    /// Look at a pipeline's journal, check it, and mend it
    Journal(Journal),
    /// Say whether a pipeline file can be run, without running it
    Check(Check),
    /// Show what a pipeline file becomes: operators, what each keeps, and what bounds that
    Explain(Explain),
    /// Print the messages of a table, a view or an endpoint's requests as Protocol Buffers, for gRPC
    Proto(Proto),
    /// Type statements and see what they answer
    Sql(Sql),
    /// Make tokens for those who may come through a door
    Token(Token),
    /// Measure
    Bench(Bench),
}

/// How rows are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Aligned tables
    Text,
    /// One array of objects a SELECT
    Json,
    /// One object a row
    Ndjson,
    /// Comma-separated values with a header
    Csv,
}

/// Run a pipeline file.
#[derive(Debug, Clone, Args)]
pub(crate) struct Run {
    /// The pipeline: SQL statements
    pub(crate) file: PathBuf,
    /// Threads that decode and compute [default: one a core]
    #[arg(long, value_name = "N", value_parser = lanes())]
    pub(crate) lanes: Option<u64>,
    /// How the rows of bare SELECTs are printed
    #[arg(short, long, value_name = "FORM", default_value = "text")]
    pub(crate) output: Output,
    /// The folder that keeps the pipeline's state, or `none` [default: NAME.state when a table comes in over HTTP]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) state: Option<String>,
    /// Say what is kept of the state there is, and what starts anew, and do not run
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Of which circuit `--dry-run` says that: the source of endpoints' requests, or `main` for everything else
    #[arg(long, value_name = "NAME", default_value = tidemill_node::MAIN, requires = "dry_run")]
    pub(crate) circuit: String,
    /// Write down what every step takes in and gives, for `tidemill replay`
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,
    /// Where the HTTP door listens [default: 127.0.0.1:8080, when a table comes in over HTTP]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) listen: Option<String>,
    /// A file of TOML that describes the doors and who may come through them
    #[arg(long, value_name = "FILE", conflicts_with = "listen")]
    pub(crate) config: Option<PathBuf>,
    /// Listen on an address that other machines can reach, though nothing asks who they are
    #[arg(long)]
    pub(crate) insecure: bool,
    /// The seed of RAND and UUID [default: from the clock]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) seed: Option<u64>,
    /// Write what the run cost to a file, as JSON
    #[arg(long, value_name = "FILE", hide = true)]
    pub(crate) usage: Option<PathBuf>,
}

/// Run recorded steps again.
#[derive(Debug, Clone, Args)]
pub(crate) struct Replay {
    /// A record, as `tidemill run --record FILE` wrote it, or a state folder, which --state FOLDER names as well
    pub(crate) file: PathBuf,
    /// The version of a state folder to begin with [default: the oldest]
    #[arg(long, value_name = "VERSION")]
    pub(crate) from: Option<String>,
    /// The version to end at [default: the newest]
    #[arg(long, value_name = "VERSION")]
    pub(crate) to: Option<String>,
    /// Check the state at each version on the way too, not the steps alone
    #[arg(long)]
    pub(crate) verify: bool,
    /// The circuit of a state folder: the source of endpoints' requests, or `main` for everything else
    #[arg(long, value_name = "NAME", default_value = tidemill_node::MAIN)]
    pub(crate) circuit: String,
}

/// The journal of a pipeline.
#[derive(Debug, Clone, Args)]
pub(crate) struct Journal {
    /// What to do
    #[command(subcommand)]
    pub(crate) action: JournalAction,
}

/// What can be done with a journal.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum JournalAction {
    /// List its segments
    Ls(InJournal),
    /// Show the records of a segment
    Inspect {
        /// Where it is
        #[command(flatten)]
        journal: InJournal,
        /// The segment [default: the newest]
        segment: Option<u64>,
    },
    /// Check every record
    Verify(InJournal),
    /// Cut a damaged journal off before the damage, and keep what is cut
    Repair(InJournal),
}

/// Where a journal is.
#[derive(Debug, Clone, Args)]
pub(crate) struct InJournal {
    /// The state folder, or the journal's own; --state FOLDER names it as well
    pub(crate) folder: PathBuf,
    /// How it is printed
    #[arg(short, long, value_name = "FORM", default_value = "text")]
    pub(crate) output: Output,
}

/// The versions of a pipeline's state.
#[derive(Debug, Clone, Args)]
pub(crate) struct Versions {
    /// What to do
    #[command(subcommand)]
    pub(crate) action: VersionsAction,
}

/// What can be done with versions. A VERSION is a number, a version like 17-0-3, a savepoint or `newest`.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum VersionsAction {
    /// List them
    Ls(InState),
    /// Show one: what ran, how far the sources were taken, what is kept
    Show(OneVersion),
    /// Print the SQL that ran when one was made
    Sql(OneVersion),
    /// Read every byte of one
    Verify(OneVersion),
    /// Say how two differ
    Diff {
        /// Where the state is
        #[command(flatten)]
        state: InState,
        /// The first
        from: String,
        /// The second
        to: String,
    },
    /// Take the state back to one, by a new version; the pipeline must be started again
    Rollback {
        /// Where the state is, and the version
        #[command(flatten)]
        version: OneVersion,
        /// Only say what would happen, and which outputs have been seen already
        #[arg(long)]
        dry_run: bool,
        /// Pass over a newest version that is damaged
        #[arg(long)]
        past_damage: bool,
    },
    /// Keep one under a name
    Savepoint {
        /// Where the state is
        #[command(flatten)]
        state: InState,
        /// The name
        name: String,
        /// The version
        #[arg(id = "which", value_name = "VERSION", default_value = "newest")]
        version: String,
        /// Forget the name instead
        #[arg(long, conflicts_with = "which")]
        drop: bool,
    },
}

/// Where a pipeline's state is.
#[derive(Debug, Clone, Args)]
pub(crate) struct InState {
    /// The state folder, which --state FOLDER names as well
    pub(crate) folder: PathBuf,
    /// Where snapshots are when not in the folder, such as s3://bucket/folder
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) store: Option<String>,
    /// How a bucket is reached
    #[command(flatten)]
    pub(crate) buckets: Buckets,
    /// The circuit: the source of endpoints' requests, or `main` for everything else
    #[arg(long, value_name = "NAME", default_value = tidemill_node::MAIN)]
    pub(crate) circuit: String,
    /// How it is printed
    #[arg(short, long, value_name = "FORM", default_value = "text")]
    pub(crate) output: Output,
}

/// How a bucket is reached.
#[derive(Debug, Clone, Args)]
pub(crate) struct Buckets {
    /// How a bucket is reached, as SET 'state.s3.KEY' does: endpoint, region, allow-http, access-key, secret-key or
    /// session-token [default: the variables AWS_*, where secrets are seen by nobody]
    #[arg(long = "s3", value_name = "KEY=VALUE")]
    pub(crate) s3: Vec<String>,
}

/// A version in a state folder.
#[derive(Debug, Clone, Args)]
pub(crate) struct OneVersion {
    /// Where the state is
    #[command(flatten)]
    pub(crate) state: InState,
    /// The version
    #[arg(id = "which", value_name = "VERSION", default_value = "newest")]
    pub(crate) version: String,
}

/// Versioned tables.
#[derive(Debug, Clone, Args)]
pub(crate) struct Table {
    /// What to do
    #[command(subcommand)]
    pub(crate) action: TableAction,
}

/// What can be done with versioned tables. A VERSION is one like 17-1-3, or `newest`.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum TableAction {
    /// Make one
    Create {
        /// Which
        #[command(flatten)]
        table: OneTable,
        /// Its columns as in SQL, such as "ip STRING, reason STRING, score INT NOT NULL"
        #[arg(long)]
        columns: String,
        /// The columns that name a row
        #[arg(long, value_name = "COLUMN,..", value_delimiter = ',', required = true)]
        key: Vec<String>,
        /// How a column is merged that both sides of a merge have changed: sum, max, min or union
        #[arg(long, value_name = "COLUMN=FUNCTION")]
        merge: Vec<String>,
    },
    /// List them
    Ls(InTables),
    /// Print the rows of one
    Show {
        /// Which
        #[command(flatten)]
        table: OneTable,
        /// The version
        #[arg(long, value_name = "VERSION", default_value = "newest")]
        at: String,
    },
    /// Put rows, each in its key's place
    Insert {
        /// Which, and how
        #[command(flatten)]
        change: OneChange,
        /// A row, a value a column; a column that is left out is NULL
        #[arg(value_name = "COLUMN=VALUE", required_unless_present = "json")]
        values: Vec<String>,
        /// Rows as JSON instead: an object or an array of objects, or `-` to read them from stdin
        #[arg(long, value_name = "JSON", conflicts_with = "values")]
        json: Option<String>,
    },
    /// Remove the row of a key
    Delete {
        /// Which, and how
        #[command(flatten)]
        change: OneChange,
        /// The key: a value a column, in the key's order or as COLUMN=VALUE
        #[arg(value_name = "KEY", required = true)]
        key: Vec<String>,
    },
    /// Put the rows of a CSV file, whose first line names columns
    Import {
        /// Which, and how
        #[command(flatten)]
        change: OneChange,
        /// The file
        file: PathBuf,
    },
    /// List its versions, the newest first
    Log {
        /// Which
        #[command(flatten)]
        table: OneTable,
        /// The most versions
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
    },
    /// Say how two versions differ, key by key
    Diff {
        /// Which
        #[command(flatten)]
        table: OneTable,
        /// The versions
        #[arg(value_name = "A..B")]
        range: String,
    },
    /// Merge a version that was rolled back onto the newest
    Merge {
        /// Which, and why
        #[command(flatten)]
        by: ByHand,
        /// The version
        #[arg(id = "which", value_name = "VERSION")]
        version: String,
    },
    /// Return to an older version's rows, as a new version
    Rollback {
        /// Which, and why
        #[command(flatten)]
        by: ByHand,
        /// The version
        #[arg(id = "which", value_name = "VERSION")]
        version: String,
        /// Only say what would change
        #[arg(long)]
        dry_run: bool,
    },
    /// Forget the versions before one; it is kept, and all that came after it
    Prune {
        /// Which
        #[command(flatten)]
        table: OneTable,
        /// The oldest version to keep
        #[arg(id = "which", value_name = "VERSION")]
        version: String,
        /// Only say how many versions would go
        #[arg(long)]
        dry_run: bool,
    },
}

/// Where versioned tables are.
#[derive(Debug, Clone, Args)]
pub(crate) struct InTables {
    /// Where they are kept: a pipeline's state folder, the table's 'path', or s3://bucket/folder
    pub(crate) folder: String,
    /// How a bucket is reached
    #[command(flatten)]
    pub(crate) buckets: Buckets,
    /// How it is printed
    #[arg(short, long, value_name = "FORM", default_value = "text")]
    pub(crate) output: Output,
}

/// A versioned table.
#[derive(Debug, Clone, Args)]
pub(crate) struct OneTable {
    /// Where it is
    #[command(flatten)]
    pub(crate) place: InTables,
    /// Its name
    pub(crate) name: String,
}

/// A versioned table that is changed by hand.
#[derive(Debug, Clone, Args)]
pub(crate) struct ByHand {
    /// Which
    #[command(flatten)]
    pub(crate) table: OneTable,
    /// The epoch of the owner who changes it, where owners take turns
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) epoch: u64,
    /// Why
    #[arg(short, long, value_name = "TEXT", default_value = "")]
    pub(crate) message: String,
}

/// A change of a versioned table's rows.
#[derive(Debug, Clone, Args)]
pub(crate) struct OneChange {
    /// Which, and why
    #[command(flatten)]
    pub(crate) by: ByHand,
    /// The version it was made on [default: whatever is newest]
    #[arg(long, value_name = "VERSION")]
    pub(crate) on: Option<String>,
    /// Merge it when that version is an older one
    #[arg(long)]
    pub(crate) merge: bool,
}

/// Check a pipeline file.
#[derive(Debug, Clone, Args)]
pub(crate) struct Check {
    /// The pipeline: SQL statements
    pub(crate) file: PathBuf,
}

/// Explain a pipeline file.
#[derive(Debug, Clone, Args)]
pub(crate) struct Explain {
    /// The pipeline: SQL statements
    pub(crate) file: PathBuf,
    /// How it is shown
    #[arg(short, long, value_name = "FORM", default_value = "text")]
    pub(crate) output: Drawing,
}

/// How a circuit is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Drawing {
    /// A tree for each output
    Text,
    /// One object
    Json,
    /// A flowchart for mermaid
    Mermaid,
}

/// Messages of Protocol Buffers.
#[derive(Debug, Clone, Args)]
pub(crate) struct Proto {
    /// The table, view or endpoint
    pub(crate) name: Option<String>,
    /// The pipeline that declares it [default: read from stdin]
    pub(crate) file: Option<PathBuf>,
    /// The messages of an endpoint's answers, not of its requests
    #[arg(long, requires = "name")]
    pub(crate) answer: bool,
    /// Write the file, and those of the services, into a folder instead
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: Option<PathBuf>,
}

/// The shell.
#[derive(Debug, Clone, Args)]
pub(crate) struct Sql {
    /// Statements to begin with, such as tables
    pub(crate) file: Option<PathBuf>,
    /// Threads that decode and compute [default: one a core]
    #[arg(long, value_name = "N", value_parser = lanes())]
    pub(crate) lanes: Option<u64>,
    /// How rows are printed
    #[arg(short, long, value_name = "FORM", default_value = "text")]
    pub(crate) output: Output,
}

/// Tokens.
#[derive(Debug, Clone, Args)]
pub(crate) struct Token {
    /// What to do
    #[command(subcommand)]
    pub(crate) action: TokenAction,
}

/// What can be done with tokens.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum TokenAction {
    /// Make one: print it, and the lines for the file of `tidemill run --config`, which keeps its SHA-256 alone
    New {
        /// What its owner is called
        #[arg(default_value = "me")]
        name: String,
        /// What it may do: ingest:SOURCE, decide:ENDPOINT, read:VIEW, edit:TABLE, admin; `*` ends a name
        #[arg(long, value_name = "SCOPE", default_value = "admin")]
        scope: Vec<String>,
    },
}

/// Measure.
#[derive(Debug, Clone, Args)]
pub(crate) struct Bench {
    /// What to measure
    #[command(subcommand)]
    pub(crate) suite: Suite,
}

/// What can be measured.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Suite {
    /// The queries of Nexmark, each in a process of its own
    Nexmark(Nexmark),
}

/// The queries of Nexmark.
#[derive(Debug, Clone, Args)]
pub(crate) struct Nexmark {
    /// Which queries [default: all that can be run]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(crate) queries: Vec<String>,
    /// How many events are made up
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = RangedU64ValueParser::<u64>::new().range(1..), conflicts_with = "data")]
    pub(crate) events: u64,
    /// Threads that decode and compute [default: one a core]
    #[arg(long, value_name = "N", value_parser = lanes())]
    pub(crate) lanes: Option<u64>,
    /// Read NDJSON files from the folders person, auction and bid in here instead
    #[arg(long, value_name = "FOLDER")]
    pub(crate) data: Option<PathBuf>,
    /// How the measurements are printed
    #[arg(short, long, value_name = "FORM", default_value = "text")]
    pub(crate) output: Output,
}

/// The words of a command, `--state FOLDER` as the FOLDER that `versions`, `journal` and `replay` take first: `run` takes it
/// as that option, and whoever writes it here means the same.
pub(crate) fn folder_first(mut words: Vec<OsString>) -> Vec<OsString> {
    // How many words come before the folder: the command, the verb and its action.
    let before = match words.get(1).and_then(|verb| verb.to_str()) {
        Some("versions" | "journal") => 3,
        Some("replay") => 2,
        _ => return words,
    };
    let named = |word: &OsString| word.to_str().and_then(|word| word.strip_prefix("--state=")).map(OsString::from);
    let Some(at) = words.iter().position(|word| word == "--state" || named(word).is_some()) else { return words };
    let option = at..(at + if words[at] == "--state" { 2 } else { 1 });
    // What cannot be the option is left for the parser to complain about.
    if at < before || option.end > words.len() {
        return words;
    }
    let folder = named(&words[at]).unwrap_or_else(|| words[option.end - 1].clone());
    words.drain(option);
    words.insert(before, folder);
    words
}

fn lanes() -> RangedU64ValueParser {
    RangedU64ValueParser::new().range(1..=256)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_state_folder_may_be_named_as_run_names_it() {
        let check = |line: &str, expected: &str| {
            let words = folder_first(line.split(' ').map(OsString::from).collect());
            assert_eq!(words.join(std::ffi::OsStr::new(" ")), expected, "{line}");
        };
        check("tidemill versions ls --state p.state -o json", "tidemill versions ls p.state -o json");
        check("tidemill versions ls -o json --state=p.state", "tidemill versions ls p.state -o json");
        check("tidemill versions diff 1 newest --state p.state", "tidemill versions diff p.state 1 newest");
        check("tidemill journal verify --state p.state", "tidemill journal verify p.state");
        check("tidemill replay --from 1 --state p.state --to 3", "tidemill replay p.state --from 1 --to 3");
        // Of other verbs it is an option, and what is no option of these is not made one.
        for line in [
            "tidemill run p.sql --state p.state",
            "tidemill versions ls p.state",
            "tidemill versions ls --state",
            "tidemill versions --state p.state",
            "tidemill versions ls --store s3://state/a p.state",
        ] {
            check(line, line);
        }
    }
}
