//! What Linux says of processes: <https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>.

use std::fs;
use std::io::{self, ErrorKind as Io};

use rustix::io::Errno;

/// A process as the kernel sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    /// Its process group.
    pub group: i32,
    /// When it began, in clock ticks since the machine did. With the number it names one process and no other.
    pub started: u64,
    /// Whether it has ended, and nobody has asked how.
    pub is_over: bool,
}

/// The process with this number, if there is one.
pub(super) fn stat(pid: i32) -> io::Result<Option<Stat>> {
    match fs::read(format!("/proc/{pid}/stat")) {
        Ok(line) => parsed(&String::from_utf8_lossy(&line))
            .map(Some)
            .ok_or_else(|| io::Error::new(Io::InvalidData, format!("/proc/{pid}/stat is in no form that is known"))),
        Err(error) if error.kind() == Io::NotFound || error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The name, which may hold anything, is the last thing in parentheses.
fn parsed(line: &str) -> Option<Stat> {
    let fields: Vec<_> = line.rsplit_once(") ")?.1.split_whitespace().collect();
    let (state, group, started) = (fields.first()?, fields.get(2)?, fields.get(19)?);
    Some(Stat { group: group.parse().ok()?, started: started.parse().ok()?, is_over: ["Z", "X", "x"].contains(state) })
}

/// Where the number of a process means something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Here {
    /// What names this run of the machine: after a start, numbers and times begin anew.
    pub boot: String,
    /// The namespace of the numbers: <https://man7.org/linux/man-pages/man7/pid_namespaces.7.html>.
    pub namespace: String,
}

/// Where this process is.
pub(super) fn here() -> io::Result<Here> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
    let namespace = fs::read_link("/proc/self/ns/pid")?.to_string_lossy().into_owned();
    Ok(Here { boot, namespace })
}

/// Whole seconds since the machine began, sleep included.
pub(super) fn uptime() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/uptime")?;
    let seconds = text.split('.').next().and_then(|seconds| seconds.parse().ok());
    seconds.ok_or_else(|| io::Error::new(Io::InvalidData, "/proc/uptime is in no form that is known"))
}

/// A text that no other has.
pub(super) fn unique() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim().to_owned())
}

/// Whether there is a process of this group that was started with this variable. For groups whose first process has ended, whose
/// number alone says nothing.
pub(super) fn has_member(group: i32, variable: &str) -> io::Result<bool> {
    Ok(find(variable, |stat| stat.group == group)?.is_some())
}

/// A process that was started with this variable.
pub(super) fn with_variable(variable: &str) -> io::Result<Option<i32>> {
    find(variable, |_| true)
}

fn find(variable: &str, is_one: impl Fn(&Stat) -> bool) -> io::Result<Option<i32>> {
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let is_one = stat(pid).ok().flatten().is_some_and(|stat| is_one(&stat) && !stat.is_over);
        // That of a process which ends meanwhile, or is another user's, cannot be read.
        let variables = match is_one {
            true => fs::read(format!("/proc/{pid}/environ")).unwrap_or_default(),
            false => continue,
        };
        if variables.split(|byte| *byte == 0).any(|found| found == variable.as_bytes()) {
            return Ok(Some(pid));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_start_whatever_its_name() {
        let rest = "S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 10 20";
        for name in ["sh", "a b", "x) R 1 7 7", ") ", ""] {
            let expected = Stat { group: 42, started: 98_765, is_over: false };
            assert_eq!(parsed(&format!("42 ({name}) {rest}\n")), Some(expected), "{name:?}");
        }
        assert!(parsed(&format!("42 (sh) {}", rest.replace('S', "Z"))).is_some_and(|stat| stat.is_over));
        assert_eq!(parsed("42 (sh) S 1 42"), None);
    }

    #[test]
    fn this_process_is_there_and_no_process_has_the_number_0() {
        let here = i32::try_from(std::process::id()).expect("a number of Linux");
        assert!(stat(here).expect("it can be read").is_some_and(|stat| !stat.is_over));
        assert_eq!(stat(0).expect("it can be read"), None);
        assert_ne!(unique().expect("it can be read"), unique().expect("it can be read"));
    }
}
