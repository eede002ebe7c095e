// SPDX-License-Identifier: Apache-2.0
//! The journal: what OK to Record rests on.
//!
//! One thread writes and fsyncs for all calls (group commit): while one fsync runs, the next group gathers. A segment
//! that failed to write or fsync is never trusted again: the group fails, and the next one begins a new segment.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::journal_format::{Frames, MAGIC, Note, whole_size, write_frame};

/// Records are nobody else's business, whatever the umask.
const FILE_MODE: u32 = 0o600;
/// A segment is closed once it has grown to this.
const SEGMENT_SIZE: u64 = 16 << 20;
/// Bytes gathered into one write at most.
const GROUP_SIZE_MAX: usize = 4 << 20;
/// A store that was away or lost its tail is never behind by more than this.
const RETENTION: Duration = Duration::from_secs(15 * 60);
const SUFFIX: &str = "journal";

/// The group that held a note could not be made durable.
#[derive(Debug)]
pub(crate) struct NotDurable;

/// A note in line.
pub(crate) struct Ticket(oneshot::Receiver<Result<(), NotDurable>>);

impl Ticket {
    /// Returns once the note is fsynced.
    pub(crate) async fn wait(self) -> Result<(), NotDurable> {
        self.0.await.map_err(|_| NotDurable)?
    }
}

struct Request {
    notes: Vec<Note>,
    done: oneshot::Sender<Result<(), NotDurable>>,
}

/// An open journal directory; the lock is held until it is dropped.
pub(crate) struct Journal {
    sender: Mutex<Option<mpsc::Sender<Request>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    directory: PathBuf,
    shared: Arc<Shared>,
    _lock: File,
}

#[derive(Default)]
struct Shared {
    /// Pending notes that no Drained note covers; their segments are kept.
    pending: AtomicU64,
    /// Set once a store has got back what it lost; until then every segment may be needed.
    settled: AtomicBool,
    bytes: AtomicU64,
}

impl Journal {
    /// Locks the directory and starts the writer. Errors when another process holds the lock.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(FILE_MODE)
            .open(directory.join("LOCK"))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => io::Error::other("another process owns this journal"),
            TryLockError::Error(error) => error,
        })?;
        let shared = Arc::new(Shared::default());
        let (sender, receiver) = mpsc::channel();
        let found = segments(directory)?;
        let ages = ages(&found)?;
        let next = match found.last() {
            Some((number, path)) => {
                shorten(path)?;
                number.saturating_add(1)
            }
            None => 1,
        };
        let mut writer = Writer::new(directory.to_owned(), next, ages, Arc::clone(&shared));
        // Opened now so that a directory that cannot be written stops the start, not the first call.
        writer.rotate()?;
        let thread = thread::Builder::new()
            .name("journal".into())
            .spawn(move || writer.run(&receiver))?;
        Ok(Self {
            sender: Mutex::new(Some(sender)),
            writer: Mutex::new(Some(thread)),
            directory: directory.to_owned(),
            shared,
            _lock: lock,
        })
    }

    /// Appends the notes, all in one group; the answer comes once they are fsynced.
    pub(crate) async fn append(&self, notes: Vec<Note>) -> Result<(), NotDurable> {
        if notes.is_empty() {
            return Ok(());
        }
        self.enqueue(notes)?.wait().await
    }

    /// Puts the notes in line without waiting: they stand in the journal in the order of these calls.
    pub(crate) fn enqueue(&self, notes: Vec<Note>) -> Result<Ticket, NotDurable> {
        let (done, durable) = oneshot::channel();
        self.sender
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .ok_or(NotDurable)?
            .send(Request { notes, done })
            .map_err(|_| NotDurable)?;
        Ok(Ticket(durable))
    }

    /// Every note on disk, oldest first, handed to `visit`.
    pub(crate) fn scan(&self, mut visit: impl FnMut(Note)) -> io::Result<()> {
        for (_, path) in segments(&self.directory)? {
            let bytes = fs::read(&path)?;
            Frames::new(&bytes).for_each(&mut visit);
        }
        Ok(())
    }

    /// How many pending notes keep old segments alive.
    pub(crate) fn set_pending(&self, count: u64) {
        self.shared.pending.store(count, Ordering::Relaxed);
    }

    /// Whether the store has everything that it lost; while it has not, no segment is dropped.
    pub(crate) fn set_settled(&self, settled: bool) {
        self.shared.settled.store(settled, Ordering::Relaxed);
    }

    /// Bytes of segments on disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// Writes what is queued, fsyncs and stops. Later appends fail.
    pub(crate) fn close(&self) {
        drop(self.sender.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(writer) = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A writer that panicked has failed its callers already.
            let _ = writer.join();
        }
    }
}

/// Segment files with their numbers, oldest first.
fn segments(directory: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for file in fs::read_dir(directory)? {
        let path = file?.path();
        let number = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .and_then(|stem| stem.parse().ok());
        if let (Some(number), Some(SUFFIX)) = (number, path.extension().and_then(|end| end.to_str())) {
            found.push((number, path));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// How long nobody has written to a segment, by a clock that nobody can set.
struct Age {
    at_start: Duration,
    start: Instant,
}

impl Age {
    fn begin(at_start: Duration) -> Self {
        Self {
            at_start,
            start: Instant::now(),
        }
    }

    fn now(&self) -> Duration {
        self.at_start.saturating_add(self.start.elapsed())
    }
}

/// Ages of segments that earlier processes left, as of the last write to any of them.
fn ages(found: &[(u64, PathBuf)]) -> io::Result<HashMap<u64, Age>> {
    let mut written = Vec::with_capacity(found.len());
    for (number, path) in found {
        written.push((*number, fs::metadata(path)?.modified()?));
    }
    let last = written.iter().map(|(_, time)| *time).max();
    let age = |time| last.and_then(|last| last.duration_since(time).ok());
    Ok(written
        .into_iter()
        .map(|(number, time)| (number, Age::begin(age(time).unwrap_or_default())))
        .collect())
}

/// Gives back the blocks set aside for a segment that nobody writes to any more: a server that is restarted often must
/// not fill its disk. Only zeros go; damage stays to be looked at.
fn shorten(path: &Path) -> io::Result<()> {
    let bytes = fs::read(path)?;
    let size = whole_size(&bytes);
    let rest = bytes.get(size..).unwrap_or_default();
    if rest.iter().any(|byte| *byte != 0) {
        return Ok(());
    }
    let segment = OpenOptions::new().write(true).open(path)?;
    segment.set_len(u64::try_from(size).unwrap_or(u64::MAX))
}

struct Writer {
    directory: PathBuf,
    next: u64,
    segment: Option<File>,
    size: u64,
    /// Of segments that are not written to any more.
    ages: HashMap<u64, Age>,
    shared: Arc<Shared>,
}

impl Writer {
    const fn new(directory: PathBuf, next: u64, ages: HashMap<u64, Age>, shared: Arc<Shared>) -> Self {
        Self {
            directory,
            next,
            ages,
            segment: None,
            size: 0,
            shared,
        }
    }

    fn run(mut self, receiver: &mpsc::Receiver<Request>) {
        let mut buffer = Vec::new();
        let mut waiting = Vec::new();
        while let Ok(first) = receiver.recv() {
            let mut request = Some(first);
            while let Some(Request { notes, done }) = request {
                for note in &notes {
                    write_frame(&mut buffer, note);
                }
                waiting.push(done);
                request = if buffer.len() < GROUP_SIZE_MAX {
                    receiver.try_recv().ok()
                } else {
                    None
                };
            }
            let outcome = self.commit(&buffer);
            if outcome.is_err() {
                // A second fsync may claim success for pages that the first one dropped.
                self.segment = None;
            }
            for done in waiting.drain(..) {
                // The caller may have gone away; its record is durable all the same.
                let _ = done.send(if outcome.is_ok() { Ok(()) } else { Err(NotDurable) });
            }
            buffer.clear();
        }
    }

    fn commit(&mut self, group: &[u8]) -> io::Result<()> {
        if self.segment.is_none() || self.size >= SEGMENT_SIZE {
            self.rotate()?;
        }
        let segment = self
            .segment
            .as_mut()
            .ok_or_else(|| io::Error::other("no segment"))?;
        segment.write_all(group)?;
        segment.sync_data()?;
        self.size = self
            .size
            .saturating_add(u64::try_from(group.len()).unwrap_or(u64::MAX));
        Ok(())
    }

    /// Begins the next segment and drops those that nothing can need any more.
    fn rotate(&mut self) -> io::Result<()> {
        let path = self.directory.join(format!("{:016}.{SUFFIX}", self.next));
        let segment = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(FILE_MODE)
            .open(&path)?;
        if let Err(error) = Self::begin(&segment, &self.directory) {
            // On a full disk every group tries again; each must not leave a file behind.
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        self.ages
            .entry(self.next.saturating_sub(1))
            .or_insert_with(|| Age::begin(Duration::ZERO));
        self.next = self.next.saturating_add(1);
        self.segment = Some(segment);
        self.size = 0;
        self.drop_old()
    }

    fn begin(mut segment: &File, directory: &Path) -> io::Result<()> {
        // Blocks set aside now need no metadata at each fsync. Not every file system can; then it is only slower.
        let _ = rustix::fs::fallocate(segment, rustix::fs::FallocateFlags::empty(), 0, SEGMENT_SIZE);
        segment.write_all(MAGIC)?;
        segment.sync_all()?;
        File::open(directory)?.sync_all()
    }

    fn drop_old(&mut self) -> io::Result<()> {
        let all = segments(&self.directory)?;
        let mut bytes = 0_u64;
        for (number, path) in &all {
            // Without an age it is the one that is written to.
            let needed = self.ages.get(number).is_none_or(|age| age.now() <= RETENTION)
                || !self.shared.settled.load(Ordering::Relaxed)
                || self.shared.pending.load(Ordering::Relaxed) > 0;
            if needed {
                bytes = bytes.saturating_add(fs::metadata(path)?.len());
            } else {
                fs::remove_file(path)?;
                self.ages.remove(number);
            }
        }
        self.shared.bytes.store(bytes, Ordering::Relaxed);
        Ok(())
    }
}
