//! The mark that every child carries in its environment, so that a later agent finds it in /proc without any
//! file: `FOREST_AGENT_CHILD=<prefix>.<nonce>`. The prefix follows from the installation and the child's name
//! alone; the nonce tells one start from the next. Children of a child inherit the mark.

/// The variable's name.
pub(super) const VARIABLE: &str = "FOREST_AGENT_CHILD";

/// The part of a token that all starts of child `name` of the installation `instance` share: never a path, for
/// containers that see each other's processes may each have the same one.
pub(super) fn prefix(instance: &str, name: &str) -> String {
    format!("{instance}-{name}")
}

/// A token that no other start has.
pub(super) fn fresh(prefix: &str) -> String {
    format!("{prefix}.{:016x}", rand::random::<u64>())
}

/// The token of that prefix in the text of a /proc/PID/environ.
pub(super) fn find(environ: &[u8], prefix: &str) -> Option<String> {
    let entries = environ.split(|byte| *byte == 0);
    let mut entries = entries.filter_map(|entry| std::str::from_utf8(entry).ok());
    entries.find_map(|entry| {
        let token = entry.strip_prefix(VARIABLE)?.strip_prefix('=')?;
        let (start, _) = token.split_once('.')?;
        (start == prefix).then(|| token.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn found_in_an_environment_by_its_prefix_alone() {
        let prefix = prefix("0123456789abcdef", "engine");
        let token = fresh(&prefix);
        let environ = format!("A=\u{fffd}\0{VARIABLE}={token}\0B=2\0");
        assert_eq!(find(environ.as_bytes(), &prefix), Some(token));
        for (instance, name) in [("0123456789abcdef", "witness"), ("0123456789abcdee", "engine")] {
            assert_eq!(find(environ.as_bytes(), &super::prefix(instance, name)), None);
        }
        assert_eq!(find(b"", &prefix), None);
    }
}
