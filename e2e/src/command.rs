//! Runs other programs and turns their failure into a sentence with what they said.

use std::ffi::OsStr;
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Debian keeps `iptables`, `runc` and `ip` in directories that a user's `PATH` often lacks.
pub const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A command that finds the system's programs whatever the caller's `PATH` is.
pub fn system(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env("PATH", SYSTEM_PATH);
    command
}

/// Runs to the end and gives back standard output; a failure carries the command line and standard error.
pub fn run(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    if !output.status.success() {
        bail!(
            "{} failed ({}): {}",
            line(command),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether the command ran and succeeded; what it printed is dropped.
pub fn succeeds(command: &mut Command) -> bool {
    output(command).is_ok_and(|output| output.status.success())
}

fn output(command: &mut Command) -> Result<Output> {
    command.stdin(Stdio::null());
    command
        .output()
        .with_context(|| format!("cannot run {}", line(command)))
}

/// The command as a person would type it.
pub fn line(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy()];
    words.extend(command.get_args().map(OsStr::to_string_lossy));
    words.join(" ")
}

/// Asks `condition` every `interval` until it holds.
///
/// # Errors
/// When `timeout` has passed; the message says what was awaited.
pub fn wait_until(
    what: &str,
    timeout: Duration,
    interval: Duration,
    mut condition: impl FnMut() -> bool,
) -> Result<()> {
    let deadline = Instant::now() + timeout;
    while !condition() {
        if Instant::now() >= deadline {
            bail!("{what}: not so within {} s", timeout.as_secs());
        }
        sleep(interval);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command_and_repeats_its_complaint() {
        let error = run(system("sh").args(["-c", "echo no such thing >&2; exit 3"]))
            .expect_err("exit 3 is a failure")
            .to_string();
        assert!(error.contains("sh -c"), "{error}");
        assert!(error.contains("no such thing"), "{error}");
        assert!(error.contains('3'), "{error}");
    }

    #[test]
    fn waiting_ends_with_a_sentence_when_the_time_is_over() {
        let error = wait_until(
            "a pig flies",
            Duration::ZERO,
            Duration::from_millis(1),
            || false,
        )
        .expect_err("it does not");
        assert_eq!(error.to_string(), "a pig flies: not so within 0 s");
    }
}
