//! Processes of the peers: started by this one, gone with it, whatever way it ends.

use std::fs::{self, File, OpenOptions};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::timeout;

use super::place::Place;
use crate::command::SYSTEM_PATH;
use crate::progress::say;

/// How long a peer may take until it serves: two busy cores need their time.
const START_TIMEOUT: Duration = Duration::from_mins(2);
const POLL: Duration = Duration::from_millis(100);
/// How long one question may take: a peer that starts may swallow it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Ticks per second in `/proc/<pid>/stat`: fixed in Linux's interface with programs.
const TICKS_PER_SECOND: f64 = 100.0;
/// Lines of a log that are shown when a peer fails.
const LAST_LINES: usize = 5;
/// What the kernel counts memory in, in `/proc/<pid>/status`.
const KIBIBYTE: u64 = 1024;

/// A running process, killed when this is dropped.
pub(super) struct Daemon {
    recipe: Recipe,
    child: Child,
}

/// All that it takes to start a process, once and again.
struct Recipe {
    name: String,
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    directory: PathBuf,
    log: PathBuf,
}

impl Daemon {
    /// Starts `program`, with its output in a log of the place.
    ///
    /// To be called on the main thread: the kernel kills the process when the *thread* that started
    /// it ends, which the runtime's threads may do at any time.
    pub(super) fn start(
        place: &Place,
        name: &str,
        program: &Path,
        arguments: impl IntoIterator<Item = String>,
    ) -> Result<Self> {
        let recipe = Recipe {
            name: name.to_owned(),
            program: program.to_owned(),
            arguments: arguments.into_iter().collect(),
            environment: place.environment().to_vec(),
            directory: place.directory().to_owned(),
            log: place.directory().join(format!("{name}.log")),
        };
        let child = recipe.start()?;
        Ok(Self { recipe, child })
    }

    /// Starts it anew, as it was started first; on the main thread, too.
    ///
    /// # Errors
    /// When it runs still, or cannot be started.
    pub(super) fn start_again(&mut self) -> Result<()> {
        ensure!(self.has_ended(), "{} runs still", self.recipe.name);
        self.child = self.recipe.start()?;
        Ok(())
    }

    /// Ends it at once, as a lost machine would.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.child.kill().context("cannot kill a process")?;
        self.child.wait().context("cannot wait for a process")?;
        Ok(())
    }

    /// Sends a signal, for instance one that lets it hang.
    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let id = id.context("a process has no id")?;
        kill_process(id, signal)
            .with_context(|| format!("cannot send a signal to {}", self.recipe.name))
    }

    /// Tells it to end in order, and waits until it has.
    pub(super) async fn stop(&mut self, within: Duration) -> Result<()> {
        self.signal(Signal::TERM)?;
        let asked = Instant::now();
        while !self.has_ended() {
            let name = &self.recipe.name;
            let seconds = within.as_secs();
            ensure!(
                asked.elapsed() < within,
                "{name} did not end within {seconds} s"
            );
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// What the kernel calls it.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Memory that it holds, and the most that it has held since it was started.
    pub(super) fn memory(&self) -> Result<Memory> {
        memory_of(self.id()).with_context(|| format!("{} has no memory", self.recipe.name))
    }

    /// The last words of a process that failed, for the person who has to find out why.
    pub(super) fn show_log(&self) {
        let text = fs::read_to_string(&self.recipe.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        for line in &lines[lines.len().saturating_sub(LAST_LINES)..] {
            say(&format!("    {}: {line}", self.recipe.name));
        }
    }

    fn name_if_ended(&mut self) -> Option<String> {
        self.has_ended().then(|| self.recipe.name.clone())
    }

    fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Recipe {
    fn start(&self) -> Result<Child> {
        // Added to, should it be started again: what came before the fault is worth reading, too.
        let output = OpenOptions::new().create(true).append(true).open(&self.log);
        let output: File =
            output.with_context(|| format!("cannot write {}", self.log.display()))?;
        // Replaces itself with the program: the process id stays the same.
        Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(&self.program)
            .args(&self.arguments)
            .env_clear()
            .env("PATH", SYSTEM_PATH)
            .env("HOME", &self.directory)
            .envs(self.environment.iter().cloned())
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {}", self.name))
    }
}

/// Resident memory of a process, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Memory {
    /// Now.
    pub(super) now: u64,
    /// At most, since the process was started.
    pub(super) most: u64,
    /// Of what it holds now, pages of files: mostly the program itself, which the kernel can drop.
    pub(super) of_files: u64,
}

/// The memory of a process that has not ended.
pub(super) fn memory_of(process: u32) -> Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    memory_in(&status).context("the kernel does not say what memory a process holds")
}

fn memory_in(status: &str) -> Option<Memory> {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
        Some(kibibytes * KIBIBYTE)
    };
    Some(Memory {
        now: field("VmRSS:")?,
        most: field("VmHWM:")?,
        of_files: field("RssFile:")?,
    })
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // An error means that it ended by itself. Its ports and files are free once it is waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks until the answer is yes, as long as all of `daemons` live.
///
/// # Errors
/// When one has ended or the time is over; the ends of all logs are shown.
pub(super) async fn until<F: Future<Output = bool>>(
    what: &str,
    daemons: &mut [Daemon],
    mut ask: impl FnMut() -> F,
) -> Result<()> {
    let begun = Instant::now();
    while !timeout(ANSWER_TIMEOUT, ask()).await.unwrap_or(false) {
        let ended = daemons.iter_mut().find_map(Daemon::name_if_ended);
        let problem = match ended {
            Some(name) => format!("{what}: not so, because {name} ended"),
            None if begun.elapsed() > START_TIMEOUT => {
                format!("{what}: not so within {} s", START_TIMEOUT.as_secs())
            }
            None => {
                tokio::time::sleep(POLL).await;
                continue;
            }
        };
        daemons.iter().for_each(Daemon::show_log);
        bail!(problem);
    }
    Ok(())
}

/// Processor time that these processes have used.
pub(super) fn processor_seconds(daemons: &[Daemon]) -> f64 {
    let ticks = daemons.iter().filter_map(|daemon| {
        let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.child.id())).ok()?;
        used_ticks(&stat)
    });
    ticks.sum::<f64>() / TICKS_PER_SECOND
}

/// User's and system's ticks. Fields are counted from the last `)`: the name may contain anything.
fn used_ticks(stat: &str) -> Option<f64> {
    const USER: usize = 11;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |at: usize| fields.get(at)?.parse::<f64>().ok();
    Some(field(USER)? + field(USER + 1)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_past_a_name_with_spaces_and_brackets() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4 0 0 0 0 250 50 0 0 20 0 1 0 4242 1 2 3";
        assert_eq!(used_ticks(stat), Some(300.0));
        assert_eq!(used_ticks("7 (truncated"), None);
    }

    #[test]
    fn memory_is_read_from_the_kernels_text() {
        let status = "Name:\tx\nVmHWM:\t   3 kB\nVmRSS:\t   2 kB\nRssFile:\t1 kB\nThreads:\t1\n";
        let expected = Memory {
            now: 2048,
            most: 3072,
            of_files: 1024,
        };
        assert_eq!(memory_in(status), Some(expected));
        assert_eq!(memory_in("Name:\tx\n"), None);
    }

    #[tokio::test]
    async fn a_process_that_was_stopped_can_be_started_as_it_was() {
        let place = Place::below(&std::env::temp_dir()).expect("a place");
        let script = "echo begun; trap 'echo told; exit' TERM; while :; do sleep 0.01; done";
        let arguments = ["-c", script].map(str::to_owned);
        let mut daemon =
            Daemon::start(&place, "patient", Path::new("sh"), arguments).expect("started");
        assert!(daemon.start_again().is_err(), "it runs");
        let said = |word: &str| {
            let log = fs::read_to_string(place.directory().join("patient.log")).expect("a log");
            log.lines().filter(|line| *line == word).count()
        };
        while said("begun") == 0 {
            tokio::time::sleep(POLL).await;
        }
        daemon.stop(START_TIMEOUT).await.expect("it ends when told");
        daemon.start_again().expect("started again");
        while said("begun") < 2 {
            tokio::time::sleep(POLL).await;
        }
        daemon.kill().expect("killed");
        assert_eq!((said("begun"), said("told")), (2, 1));
    }

    #[tokio::test]
    async fn a_process_that_ends_ends_the_waiting_for_it() {
        let place = Place::below(&std::env::temp_dir()).expect("a place");
        let daemon = Daemon::start(&place, "brief", Path::new("true"), []).expect("started");
        let error = until("it serves", &mut [daemon], || std::future::ready(false))
            .await
            .expect_err("it ended");
        assert_eq!(error.to_string(), "it serves: not so, because brief ended");
    }

    #[test]
    fn a_process_is_gone_when_it_is_dropped() {
        let place = Place::below(&std::env::temp_dir()).expect("a place");
        let daemon = Daemon::start(&place, "sleeper", Path::new("sleep"), ["600".to_owned()])
            .expect("started");
        let process = PathBuf::from(format!("/proc/{}", daemon.child.id()));
        assert!(process.exists());
        drop(daemon);
        assert!(!process.exists());
    }
}
