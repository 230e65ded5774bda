//! Processes of the peers: started by this one, gone with it, whatever way it ends.

use std::fs::{self, File};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
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

/// A running process, killed when this is dropped.
pub(super) struct Daemon {
    name: String,
    child: Child,
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
        let log = place.directory().join(format!("{name}.log"));
        let output =
            File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        // Replaces itself with the program: the process id stays the same.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(program)
            .args(arguments)
            .env_clear()
            .env("PATH", SYSTEM_PATH)
            .env("HOME", place.directory())
            .envs(place.environment().iter().cloned())
            .current_dir(place.directory())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
        })
    }

    /// The last words of a process that failed, for the person who has to find out why.
    pub(super) fn show_log(&self) {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        for line in &lines[lines.len().saturating_sub(LAST_LINES)..] {
            say(&format!("    {}: {line}", self.name));
        }
    }

    fn name_if_ended(&mut self) -> Option<String> {
        let runs = matches!(self.child.try_wait(), Ok(None));
        (!runs).then(|| self.name.clone())
    }
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
