//! Places where a test can kill this process, to prove that nothing is lost or doubled when it dies right there.
//!
//! In a debug build, `AMIE_CRASH_AT=name:n` kills the process (SIGKILL) when it passes the named place for the n-th
//! time, and `AMIE_CRASH_LOG=FILE` appends the name of each place that is passed, so that a test can know them all.
//! A release build contains none of this.

/// Dies here if the environment asks for it.
#[cfg(debug_assertions)]
pub fn point(name: &str) {
    use std::io::Write;
    use std::sync::atomic::{AtomicU32, Ordering};
    static PASSED: AtomicU32 = AtomicU32::new(0);
    if let Some(path) = std::env::var_os("AMIE_CRASH_LOG") {
        let file = std::fs::File::options().create(true).append(true).open(path);
        let _ = file.and_then(|mut file| writeln!(file, "{name}"));
    }
    let Ok(wanted) = std::env::var("AMIE_CRASH_AT") else { return };
    let Some((place, count)) = wanted.split_once(':') else { return };
    if place != name {
        return;
    }
    let passed = PASSED.fetch_add(1, Ordering::SeqCst) + 1;
    if count.parse() == Ok(passed) {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        // The signal needs a moment to be delivered; nothing may happen after this place.
        loop {
            std::thread::park();
        }
    }
}

/// Does nothing in a release build.
#[cfg(not(debug_assertions))]
pub fn point(_: &str) {}
