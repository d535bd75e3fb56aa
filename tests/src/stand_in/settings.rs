//! What the stand-in is told by its environment: NimsForest's own variables, with its defaults, and ours.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// A fault of the real program, or of any, on demand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// A second start on the same directory exits 1 in 0.3 s.
    WorkQueue,
    /// Exits 1 once it is up: another node has its consumer.
    ConsumerBound,
    /// Exits 1 after the timeout, as if no peer answered.
    NoRoute,
    /// Exits at once.
    Exit(u8),
    /// Takes no notice of TERM and INT.
    IgnoreTerm,
    /// Logs 100 MB as fast as it can.
    Flood,
}

impl FromStr for Fault {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "work_queue" => Ok(Self::WorkQueue),
            "consumer_bound" => Ok(Self::ConsumerBound),
            "no_route" => Ok(Self::NoRoute),
            "ignore_term" => Ok(Self::IgnoreTerm),
            "flood" => Ok(Self::Flood),
            _ => match text.strip_prefix("exit:").map(str::parse) {
                Some(Ok(code)) => Ok(Self::Exit(code)),
                _ => Err(format!("STAND_IN_FAULT: `{text}` is no fault")),
            },
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Settings {
    /// `NATS_CLUSTER_NODE_INFO`.
    pub(super) node_info: PathBuf,
    /// `NATS_CLUSTER_REGISTRY`.
    pub(super) registry: PathBuf,
    /// `JETSTREAM_DIR`; data goes into `jetstream` in it.
    pub(super) jetstream_dir: PathBuf,
    /// `STAND_IN_NATS_SERVER`: the nats-server to run; by default the one in PATH.
    pub(super) nats_server: PathBuf,
    /// `STAND_IN_MONITOR`: port, by default 8222.
    pub(super) monitor_port: u16,
    /// `STAND_IN_CLUSTER`: port, its own and the peers', by default 6222.
    pub(super) cluster_port: u16,
    /// `STAND_IN_ADDRESS`: its own address, and the only one it listens on; by default, as the real program, it
    /// takes the machine's first IPv6 address and listens on all.
    pub(super) address: Option<IpAddr>,
    /// `STAND_IN_TIMEOUT`: milliseconds it waits for JetStream, by default 10300.
    pub(super) timeout: Duration,
    /// `STAND_IN_FAULT`.
    pub(super) fault: Option<Fault>,
}

impl Settings {
    pub(super) fn from_env(var: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let text = |name: &str, default: &str| {
            var(name).filter(|value| !value.is_empty()).unwrap_or(default.to_owned())
        };
        Ok(Self {
            node_info: text("NATS_CLUSTER_NODE_INFO", "/etc/nimsforest/node-info.json").into(),
            registry: text("NATS_CLUSTER_REGISTRY", "/mnt/forest/registry.json").into(),
            jetstream_dir: text("JETSTREAM_DIR", "/var/lib/nimsforest/jetstream").into(),
            nats_server: text("STAND_IN_NATS_SERVER", "nats-server").into(),
            monitor_port: parse("STAND_IN_MONITOR", &text("STAND_IN_MONITOR", "8222"))?,
            cluster_port: parse("STAND_IN_CLUSTER", &text("STAND_IN_CLUSTER", "6222"))?,
            address: optional("STAND_IN_ADDRESS", &var)?,
            timeout: Duration::from_millis(parse("STAND_IN_TIMEOUT", &text("STAND_IN_TIMEOUT", "10300"))?),
            fault: optional("STAND_IN_FAULT", &var)?,
        })
    }
}

fn optional<T: FromStr>(name: &str, var: impl Fn(&str) -> Option<String>) -> Result<Option<T>, String>
where
    T::Err: ToString,
{
    var(name).map(|value| parse(name, &value)).transpose()
}

fn parse<T: FromStr>(name: &str, value: &str) -> Result<T, String>
where
    T::Err: ToString,
{
    value.parse().map_err(|err: T::Err| format!("{name}: {}", err.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_real_programs_defaults() {
        let settings = Settings::from_env(|_| None).unwrap();
        assert_eq!(settings.node_info, PathBuf::from("/etc/nimsforest/node-info.json"));
        assert_eq!(settings.registry, PathBuf::from("/mnt/forest/registry.json"));
        assert_eq!(settings.jetstream_dir, PathBuf::from("/var/lib/nimsforest/jetstream"));
        assert_eq!((settings.monitor_port, settings.cluster_port), (8222, 6222));
        assert_eq!(settings.timeout, Duration::from_millis(10_300));
    }

    #[test]
    fn faults_by_name() {
        assert_eq!("exit:3".parse(), Ok(Fault::Exit(3)));
        assert_eq!("work_queue".parse(), Ok(Fault::WorkQueue));
        assert!("exit:".parse::<Fault>().is_err() && "mood".parse::<Fault>().is_err());
    }
}
