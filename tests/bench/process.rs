//! What a process has used, as the kernel counts it.

use std::fs;

/// CPU time of a process, user and system; the kernel counts it in hundredths of a second.
pub(crate) fn cpu_seconds(pid: u32) -> f64 {
    let (user, system) = user_and_system_seconds(pid);
    user + system
}

/// The same, apart.
pub(crate) fn user_and_system_seconds(pid: u32) -> (f64, f64) {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The second field, a name in parentheses, may hold spaces.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) / 100.0, ticks(12) / 100.0)
}

/// CPU time of the calling thread, as of the last tick of the scheduler: a few milliseconds ago at most.
pub(crate) fn thread_cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split_whitespace().next().and_then(|nanoseconds| nanoseconds.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}

/// Memory of a process that is not paged out.
pub(crate) fn resident_mib(pid: u32) -> f64 {
    status(pid, "VmRSS:") / 1024.0
}

/// The most it was since the peak was forgotten.
pub(crate) fn peak_mib(pid: u32) -> f64 {
    status(pid, "VmHWM:") / 1024.0
}

/// Begins to look for the peak anew.
pub(crate) fn forget_peak(pid: u32) {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("a process of our own");
}

/// Threads of a process.
pub(crate) fn threads(pid: u32) -> f64 {
    status(pid, "Threads:")
}

/// File descriptors of a process.
pub(crate) fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

fn status(pid: u32, name: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0.0)
}
