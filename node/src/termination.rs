//! The last word of a pod's process: the kubelet puts it into the pod's status, where the operator
//! reads it. Its form is that of [`conditions::termination_message`].

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use percolate_crds::conditions;

use crate::fault::Found;

/// Longest message the kubelet takes.
const MOST_BYTES: usize = 4096;

/// Writes `found` to the file at `path`, if there is one: outside of a pod there is none.
pub fn tell(path: &Path, found: &Found) {
    let mut message = conditions::termination_message(found.fault.reason(), &found.what);
    message.truncate(message.floor_char_boundary(MOST_BYTES));
    let written = OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(path)
        .and_then(|mut file| file.write_all(message.as_bytes()));
    if let Err(error) = written {
        tracing::debug!(%error, path = %path.display(), "no termination message");
    }
}
