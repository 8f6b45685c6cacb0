//! A folder with files, and the command run in it.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// How long a test waits for what must happen before it gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder of its own.
pub struct Folder {
    folder: TempDir,
}

impl Folder {
    /// An empty folder.
    pub fn new() -> Self {
        Folder { folder: TempDir::new().expect("a temporary folder") }
    }

    /// A folder with a pipeline in `pipeline.sql`.
    pub fn with(sql: &str) -> Self {
        let folder = Folder::new();
        folder.write("pipeline.sql", sql);
        folder
    }

    /// The path of a file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("it is in the folder")).expect("the folder is ours");
        fs::write(path, text).expect("the folder is ours");
    }

    /// The names of all files below a folder, and their text, in the order of their paths.
    pub fn files(&self, name: &str) -> Vec<(String, String)> {
        let mut files = Vec::new();
        let mut folders = vec![self.path(name)];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten() {
                let path = entry.expect("the folder is ours").path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let text = String::from_utf8_lossy(&fs::read(&path).expect("the file is ours")).into_owned();
                    let name = path.strip_prefix(self.folder.path()).expect("it is in the folder");
                    files.push((name.display().to_string(), text));
                }
            }
        }
        files.sort();
        files
    }

    /// The command with arguments, in the folder.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        command.args(arguments).current_dir(self.folder.path()).env_remove("TIDEMILL_LOG");
        command.env("XDG_STATE_HOME", self.folder.path()).stdin(Stdio::null());
        command
    }

    /// Runs the command to its end.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        Ended::of(self.command(arguments).output().expect("the command starts"))
    }

    /// Runs the command with text on its stdin.
    pub fn run_with(&self, arguments: &[&str], stdin: &str) -> Ended {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the command starts");
        // A command that has ended early does not read on.
        let _ = child.stdin.take().expect("it is piped").write_all(stdin.as_bytes());
        Ended::of(child.wait_with_output().expect("the command ends"))
    }

    /// Starts the command and lets it run.
    pub fn start(&self, arguments: &[&str]) -> Running {
        Folder::started(self.command(arguments))
    }

    /// Starts the command in a folder below.
    pub fn start_in(&self, folder: &str, arguments: &[&str]) -> Running {
        let mut command = self.command(arguments);
        command.current_dir(self.path(folder));
        Folder::started(command)
    }

    /// Starts the command under another program, such as a tracer.
    pub fn start_under(&self, program: &str, before: &[&str], arguments: &[&str]) -> Running {
        let mut command = Command::new(program);
        command.args(before).arg(env!("CARGO_BIN_EXE_tidemill")).args(arguments).current_dir(self.folder.path());
        command.env_remove("TIDEMILL_LOG").stdin(Stdio::null());
        Folder::started(command)
    }

    fn started(mut command: Command) -> Running {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the command starts");
        let stderr = Lines::of(child.stderr.take().expect("it is piped"));
        let stdout = Lines::of(child.stdout.take().expect("it is piped"));
        Running { child, stdout, stderr }
    }
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it said.
    pub stderr: String,
}

impl Ended {
    /// How it ended, from what it gave.
    pub fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it prints UTF-8");
        Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// The printed text of a command that did what it was asked.
    pub fn printed(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }

    /// Checks the exit code, and that each of `parts` was said.
    pub fn failed(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        for part in parts {
            assert!(self.stderr.contains(part), "'{part}' was not said:\n{}", self.stderr);
        }
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
    }
}

/// Text of a running command, read by a thread.
pub struct Lines {
    text: std::sync::Arc<std::sync::Mutex<String>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Lines {
    fn of(mut from: impl Read + Send + 'static) -> Self {
        let text = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
        let shared = text.clone();
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                shared.lock().expect("no panic holds it").push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        });
        Lines { text, reader: Some(reader) }
    }

    fn now(&self) -> String {
        self.text.lock().expect("no panic holds it").clone()
    }
}

/// A command that runs.
pub struct Running {
    child: Child,
    /// What it prints.
    stdout: Lines,
    /// What it says.
    stderr: Lines,
}

impl Running {
    /// Waits until something is so.
    pub fn until<T>(&mut self, what: &str, mut look: impl FnMut(&str, &str) -> Option<T>) -> T {
        let mut waited = Duration::ZERO;
        loop {
            if let Some(found) = look(&self.stdout.now(), &self.stderr.now()) {
                return found;
            }
            let ended = self.child.try_wait().expect("it is our child");
            let text = || format!("stdout: {}\nstderr: {}", self.stdout.now(), self.stderr.now());
            assert!(ended.is_none(), "it ended before {what}: {ended:?}\n{}", text());
            assert!(waited < PATIENCE, "it does not come to {what}\n{}", text());
            let pause = Duration::from_millis(10);
            std::thread::sleep(pause);
            waited += pause;
        }
    }

    /// Where its door listens.
    pub fn address(&mut self) -> String {
        self.until("its door", |_, stderr| {
            let rest = stderr.split("listening on http://").nth(1)?;
            rest.split_once('\n').map(|(address, _)| address.to_string())
        })
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_none()
    }

    /// Sends a signal.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status().expect("there is a kill command");
        assert!(sent.success());
    }

    /// Waits for the end.
    pub fn end(mut self) -> Ended {
        let mut waited = Duration::ZERO;
        let status = loop {
            match self.child.try_wait().expect("it is our child") {
                Some(status) => break status,
                None if waited >= PATIENCE => {
                    // The test fails below; nothing is to be left running.
                    let _ = self.child.kill();
                    panic!("it does not end\nstderr: {}", self.stderr.now());
                }
                None => {
                    std::thread::sleep(Duration::from_millis(10));
                    waited += Duration::from_millis(10);
                }
            }
        };
        for lines in [&mut self.stdout, &mut self.stderr] {
            lines.reader.take().into_iter().for_each(|reader| reader.join().expect("it only reads"));
        }
        Ended { code: status.code(), stdout: self.stdout.now(), stderr: self.stderr.now() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // After a failed test nothing is to be left running; else it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a path can be made unwritable for this user, which root's cannot.
pub fn can_deny(path: &Path) -> bool {
    let probe = path.join(".probe");
    let denied = fs::write(&probe, "").is_err();
    let _ = fs::remove_file(&probe);
    denied
}
