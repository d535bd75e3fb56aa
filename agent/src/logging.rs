//! Where the agent's own words go: to journald under systemd, else to stderr.

use std::io::IsTerminal;
use std::os::fd::AsFd;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// What the environment says about logging; read in main alone.
#[derive(Debug, Clone, Default)]
pub struct LogEnv {
    /// `FOREST_AGENT_LOG`: directives of tracing's EnvFilter, `info` if absent.
    pub filter: Option<String>,
    /// `JOURNAL_STREAM`: `device:inode` of the stream that systemd connected to journald.
    pub journal_stream: Option<String>,
}

/// Sets the process's log up, once; a second call changes nothing.
pub fn init(env: &LogEnv) {
    let given = env.filter.as_deref().map(EnvFilter::try_new).transpose();
    let (filter, refused) = match given {
        Ok(filter) => (filter, None),
        Err(err) => (None, Some(err)),
    };
    let filter = filter.unwrap_or_else(|| EnvFilter::new("info,async_nats=warn,hyper=warn"));
    let registry = tracing_subscriber::registry().with(filter);
    let journald =
        if stderr_is(env.journal_stream.as_deref()) { tracing_journald::layer().ok() } else { None };
    let done = match journald {
        Some(layer) => registry.with(layer.with_syslog_identifier("forest-agent".to_owned())).try_init(),
        None => {
            let layer = tracing_subscriber::fmt::layer()
                .with_writer(std::io::stderr)
                .with_ansi(std::io::stderr().is_terminal())
                .with_target(false);
            registry.with(layer).try_init()
        }
    };
    if let Err(err) = done {
        tracing::debug!("logging was set up before: {err}");
    }
    if let Some(err) = refused {
        tracing::warn!(
            "FOREST_AGENT_LOG is passed over, it is not a filter: {err}; for example: info,hyper=warn"
        );
    }
}

/// Is stderr the very stream that systemd named? A child of a unit inherits the variable, not always the stream.
fn stderr_is(journal_stream: Option<&str>) -> bool {
    let Some((device, inode)) = journal_stream.and_then(|text| text.split_once(':')) else {
        return false;
    };
    let Ok(stat) = rustix::fs::fstat(std::io::stderr().as_fd()) else {
        return false;
    };
    device.parse() == Ok(stat.st_dev) && inode.parse() == Ok(stat.st_ino)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_stream_counts() {
        let stat = rustix::fs::fstat(std::io::stderr().as_fd()).unwrap();
        assert!(stderr_is(Some(&format!("{}:{}", stat.st_dev, stat.st_ino))));
        assert!(!stderr_is(Some(&format!("{}:{}", stat.st_dev, stat.st_ino + 1))));
        assert!(!stderr_is(Some("nonsense")));
        assert!(!stderr_is(None));
    }
}
