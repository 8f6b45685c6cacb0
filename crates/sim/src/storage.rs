//! [`SimStorage`]: storage that fails, fills up and loses power as its world's seed says.
//!
//! The model is the contract of [`tidemill_base::storage`] at its worst. Every 512-byte sector that no successful flush
//! covers is, after a power cut, what it was or what it became, each by itself; the kernel writes some early, so "what it
//! became" may be any state on the way. Names that were not synced are kept or lost each by itself; a file that was
//! being made may be there with a lesser size. A failed flush gives its sectors up: asking again succeeds and writes
//! nothing. A killed process loses nothing that it had stored.
//!
//! The machine may go down inside any call: everything fails from then on until [`SimStorage::restart`].

mod disk;
mod file;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidemill_base::hash;
use tidemill_base::storage::{Region, Storage};

use self::disk::{Disk, FileId};
use self::file::{File, PAGE_BYTES};
use crate::world::World;

/// How a process ends without being asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The process is killed; the machine stays up.
    Kill,
    /// The machine stops; what was not durable may be gone.
    PowerCut,
}

/// What may go wrong, each in so many of 1,000 calls that it could happen to.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// The process is killed inside a call.
    pub kill: u32,
    /// The power is cut inside a call.
    pub power_cut: u32,
    /// A flush fails, having written some of the sectors.
    pub flush: u32,
    /// Names cannot be made durable, or a name cannot be changed.
    pub names: u32,
    /// A replaced file has its old or its new content, and an error is told.
    pub replace: u32,
    /// A file or folder cannot be read, or opened.
    pub read: u32,
    /// There is no room for a new file, whatever the quota says.
    pub full: u32,
    /// The kernel writes dirty sectors back on its own before a call.
    pub write_back: u32,
}

/// Simulated storage; cheap to clone, all clones are the same disk.
#[derive(Clone)]
pub struct SimStorage {
    shared: Arc<Shared>,
}

struct Shared {
    world: World,
    state: Mutex<State>,
}

struct State {
    disk: Disk,
    faults: Faults,
    capacity_bytes: u64,
    /// How the process has ended, until the next one starts.
    down: Option<Crash>,
    /// Counts the processes; a region of an earlier one answers nothing.
    process: u64,
    tally: Tally,
}

/// What has gone wrong so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Flushes that failed.
    pub flushes: u64,
    /// Other calls that failed because they were made to.
    pub others: u64,
    /// Processes that were killed.
    pub kills: u64,
    /// Power cuts.
    pub power_cuts: u64,
}

/// Whether a call does what it was asked before it fails.
enum Fate {
    Sound,
    /// The call fails with this error; when `done`, only after it has done its work.
    Fails {
        error: io::Error,
        done: bool,
    },
}

impl SimStorage {
    /// An empty disk of `capacity_bytes` that works.
    pub fn new(world: World, capacity_bytes: u64) -> Self {
        let state = State {
            disk: Disk::default(),
            faults: Faults::default(),
            capacity_bytes,
            down: None,
            process: 0,
            tally: Tally::default(),
        };
        SimStorage { shared: Arc::new(Shared { world, state: Mutex::new(state) }) }
    }

    /// From now on this may go wrong.
    pub fn set_faults(&self, faults: Faults) {
        self.shared.lock().faults = faults;
    }

    /// Does something while nothing goes wrong.
    pub fn in_peace<T>(&self, work: impl FnOnce() -> T) -> T {
        let faults = std::mem::take(&mut self.shared.lock().faults);
        let done = work();
        self.set_faults(faults);
        done
    }

    /// From now on there is room for this much.
    pub fn set_capacity(&self, capacity_bytes: u64) {
        self.shared.lock().capacity_bytes = capacity_bytes;
    }

    /// Ends the process now, as a fault in a call would.
    pub fn crash(&self, crash: Crash) {
        let mut state = self.shared.lock();
        if state.down.is_none() {
            self.shared.die(&mut state, crash);
        }
    }

    /// How the process has ended; none while it runs.
    pub fn down(&self) -> Option<Crash> {
        self.shared.lock().down
    }

    /// A new process starts on what is left. Regions of the old one have lost their file.
    pub fn restart(&self) {
        let mut state = self.shared.lock();
        if state.down.take().is_none() {
            // Ended in peace: whatever it had mapped is unmapped.
            state.disk.after_kill(&self.shared.world);
        }
        state.process += 1;
        self.shared.world.note(format_args!("process {} starts", state.process));
    }

    /// What has gone wrong so far.
    pub fn tally(&self) -> Tally {
        self.shared.lock().tally
    }

    /// Every path there is, sorted.
    pub fn paths(&self) -> Vec<String> {
        self.shared.lock().disk.names.keys().cloned().collect()
    }

    /// Turns one bit of a file over; false when there is no such bit.
    pub fn flip(&self, path: &str, bit: u64) -> bool {
        let mut state = self.shared.lock();
        let Some(id) = state.disk.names.get(path).copied() else { return false };
        let Some(file) = state.disk.files.get_mut(&id).filter(|file| bit < file.bytes() * 8) else { return false };
        file.flip(bit);
        self.shared.world.note(format_args!("bit {bit} of {path} turns over"));
        true
    }

    /// A hash over all names and contents that the process sees.
    pub fn digest(&self) -> u64 {
        self.shared.lock().digest()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves a disk as any other moment does.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn die(&self, state: &mut State, crash: Crash) {
        match crash {
            Crash::Kill => {
                state.disk.after_kill(&self.world);
                state.tally.kills += 1;
            }
            Crash::PowerCut => {
                state.disk.after_power_cut(&self.world);
                state.tally.power_cuts += 1;
            }
        }
        state.down = Some(crash);
        self.world.note(format_args!("{crash:?}; the disk is {:016x}", state.digest()));
    }

    /// Runs one call: decides its fate, does its work where that says so, and lets the machine die in it.
    fn call<T>(
        &self,
        what: std::fmt::Arguments<'_>,
        fate: impl FnOnce(&State, &World) -> Fate,
        work: impl FnOnce(&mut State, &World) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.lock();
        let state = &mut *state;
        if state.down.is_some() {
            return Err(gone());
        }
        if self.world.chance(state.faults.write_back) {
            state.disk.files.values_mut().for_each(|file| file.write_back(&self.world));
        }
        let crash = if self.world.chance(state.faults.kill) {
            Some(Crash::Kill)
        } else if self.world.chance(state.faults.power_cut) {
            Some(Crash::PowerCut)
        } else {
            None
        };
        if let Some(crash) = crash {
            let done = self.world.chance(500);
            self.world.note(format_args!("{crash:?} {} {what}", if done { "after" } else { "before" }));
            if done {
                // The answer never reaches anybody.
                let _ = work(state, &self.world);
            }
            self.die(state, crash);
            return Err(gone());
        }
        let result = match fate(state, &self.world) {
            Fate::Sound => work(state, &self.world),
            Fate::Fails { error, done } => {
                state.tally.others += 1;
                if done {
                    let _ = work(state, &self.world);
                }
                Err(error)
            }
        };
        match &result {
            Ok(_) => self.world.note(format_args!("{what}")),
            Err(error) => self.world.note(format_args!("{what}: {error}")),
        }
        result
    }
}

impl State {
    fn digest(&self) -> u64 {
        self.disk.names.iter().fold(0, |sum, (path, id)| {
            let words = self.disk.files.get(id).map(File::words).unwrap_or_default();
            let content = words.iter().fold(words.len() as u64, |sum, word| hash::words(sum, *word));
            hash::words(sum, hash::words(hash::bytes(path.as_bytes()), content))
        })
    }

    fn file(&self, path: &str) -> io::Result<(FileId, &File)> {
        let id = self.disk.names.get(path).ok_or_else(|| not_found(path))?;
        let file = self.disk.files.get(id).ok_or_else(|| not_found(path))?;
        Ok((*id, file))
    }
}

fn gone() -> io::Error {
    io::Error::other("simulated: the process has ended")
}

fn not_found(path: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("there is no {path}"))
}

/// An input/output error in so many of 1,000 cases; where `maybe_done`, half of them after the work.
fn eio(world: &World, per_mille: u32, maybe_done: bool) -> Fate {
    if !world.chance(per_mille) {
        return Fate::Sound;
    }
    let done = maybe_done && world.chance(500);
    Fate::Fails { error: io::Error::other("simulated: input/output error"), done }
}

fn region(shared: &Arc<Shared>, state: &State, id: FileId, file: &File) -> Arc<dyn Region> {
    let (words, process) = (file.seen.clone(), state.process);
    Arc::new(SimRegion { shared: shared.clone(), words, id, process })
}

impl Storage for SimStorage {
    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        self.shared.call(
            format_args!("list {folder}"),
            |state, world| eio(world, state.faults.read, false),
            |state, _| {
                let inside = |path: &str| -> Option<String> {
                    let rest = if folder.is_empty() { path } else { path.strip_prefix(folder)?.strip_prefix('/')? };
                    rest.split('/').next().map(str::to_string)
                };
                let mut names: Vec<String> = state.disk.names.keys().filter_map(|path| inside(path)).collect();
                names.dedup();
                Ok(names)
            },
        )
    }

    fn create(&self, path: &str, bytes: u64) -> io::Result<Arc<dyn Region>> {
        let full = || io::Error::new(io::ErrorKind::StorageFull, "simulated: no space left on device");
        let mut made = None;
        let region = self.shared.call(
            format_args!("create {path} of {bytes}"),
            |state, world| match world.chance(state.faults.full) {
                true => Fate::Fails { error: full(), done: false },
                false => eio(world, state.faults.names, false),
            },
            |state, _| {
                if bytes == 0 || !bytes.is_multiple_of(PAGE_BYTES) {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidInput,
                        format!("{bytes} bytes are no whole pages"),
                    ));
                }
                if state.disk.names.contains_key(path) {
                    return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{path} is there already")));
                }
                if state.disk.used() + bytes > state.capacity_bytes {
                    return Err(full());
                }
                let id = state.disk.link(path, File::zeros(bytes));
                made = Some(id);
                Ok(region(&self.shared, state, id, &state.disk.files[&id]))
            },
        )?;
        // Only who is told of the file may rely on its size.
        let mut state = self.shared.lock();
        if let Some(file) = made.and_then(|id| state.disk.files.get_mut(&id)) {
            file.keep_size();
        }
        Ok(region)
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn Region>> {
        self.shared.call(
            format_args!("open {path}"),
            |state, world| eio(world, state.faults.read, false),
            |state, _| {
                let (id, file) = state.file(path)?;
                if file.bytes() == 0 {
                    return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{path} is empty")));
                }
                Ok(region(&self.shared, state, id, file))
            },
        )
    }

    fn size(&self, path: &str) -> io::Result<u64> {
        self.shared.call(
            format_args!("size of {path}"),
            |state, world| eio(world, state.faults.read, false),
            |state, _| Ok(state.file(path)?.1.bytes()),
        )
    }

    fn read(&self, path: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        self.shared.call(
            format_args!("read {length} of {path} from {offset}"),
            |state, world| eio(world, state.faults.read, false),
            |state, _| {
                let read = state.file(path)?.1.read(offset, length);
                read.ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, format!("{path} is shorter")))
            },
        )
    }

    fn replace(&self, path: &str, content: &[u8]) -> io::Result<()> {
        self.shared.call(
            format_args!("replace {path} by {:016x}", hash::bytes(content)),
            |state, world| eio(world, state.faults.replace, true),
            |state, _| {
                state.disk.replace(path, File::holding(content));
                Ok(())
            },
        )
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.shared.call(
            format_args!("rename {from} to {to}"),
            |state, world| eio(world, state.faults.names, false),
            |state, _| if state.disk.rename(from, to) { Ok(()) } else { Err(not_found(from)) },
        )
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.shared.call(
            format_args!("remove {path}"),
            |state, world| eio(world, state.faults.names, false),
            |state, _| if state.disk.remove(path) { Ok(()) } else { Err(not_found(path)) },
        )
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        self.shared.call(
            format_args!("sync folder {folder}"),
            |state, world| eio(world, state.faults.names, true),
            |state, _| {
                state.disk.sync(folder);
                Ok(())
            },
        )
    }
}

/// A mapped file of one process.
struct SimRegion {
    shared: Arc<Shared>,
    words: Arc<[AtomicU64]>,
    id: FileId,
    process: u64,
}

impl SimRegion {
    /// Runs a call on the file; a region of a process that has ended has none.
    fn call(
        &self,
        what: std::fmt::Arguments<'_>,
        fate: impl FnOnce(&State, &World) -> Fate,
        work: impl FnOnce(&mut File, &World) -> io::Result<()>,
    ) -> io::Result<()> {
        self.shared.call(what, fate, |state, world| {
            if state.process != self.process {
                return Err(gone());
            }
            state.disk.files.get_mut(&self.id).map_or_else(|| Err(gone()), |file| work(file, world))
        })
    }
}

impl Region for SimRegion {
    fn words(&self) -> &[AtomicU64] {
        &self.words
    }

    fn populate(&self, from: u64, to: u64) -> io::Result<()> {
        self.call(format_args!("populate {from}..{to} of file {}", self.id), |_, _| Fate::Sound, |_, _| Ok(()))
    }

    fn flush(&self, from: u64, to: u64) -> io::Result<()> {
        let fails = {
            let state = self.shared.lock();
            state.down.is_none() && self.shared.world.chance(state.faults.flush)
        };
        let result = self.call(
            format_args!("flush {from}..{to} of file {}", self.id),
            |_, _| Fate::Sound,
            |file, world| {
                if fails {
                    file.fail_flush(world, from, to);
                    return Err(io::Error::other("simulated: input/output error"));
                }
                file.flush(from, to);
                Ok(())
            },
        );
        if fails {
            self.shared.lock().tally.flushes += 1;
        }
        result
    }
}
