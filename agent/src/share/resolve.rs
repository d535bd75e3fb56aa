//! From the share's host to the addresses to try. mount(2) resolves no names: the kernel wants `ip=`.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use forest_core::reason::Reason;

use super::lane::Lane;
use crate::fault::{Fault, chain};

/// Asks a name service; may block.
pub trait Resolver: Send + Sync {
    /// All addresses of `host`, each with `port`, best first.
    ///
    /// # Errors
    /// The name is not known, or nobody answers.
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// The system's own: /etc/hosts, DNS, whatever nsswitch.conf says.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok((host, port).to_socket_addrs()?.collect())
    }
}

/// The addresses of `host`, IPv6 before IPv4, otherwise in the order of the answer; an IP literal is its own
/// answer. The resolver runs in `lane`: a name service that does not answer costs one thread.
///
/// # Errors
/// `share_name_not_resolved`.
pub async fn addresses(
    lane: &Lane,
    resolver: Arc<dyn Resolver>,
    host: &str,
    port: u16,
    deadline: Duration,
) -> Result<Vec<SocketAddr>, Fault> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let fault = |why: &str| {
        let message = format!("the name {host} in share.source has no address: {why}");
        Fault::new(Reason::ShareNameNotResolved, message)
    };
    let name = host.to_owned();
    let answer = lane
        .run(&format!("resolving {host}"), deadline, move || resolver.resolve(&name, port))
        .await
        .map_err(|err| fault(&chain(&err)))?
        .map_err(|err| fault(&chain(&err)))?;
    let addresses = in_order(answer);
    if addresses.is_empty() {
        return Err(fault("the answer is empty"));
    }
    Ok(addresses)
}

fn in_order(answer: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let mut addresses = Vec::with_capacity(answer.len());
    for address in answer {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses.sort_by_key(SocketAddr::is_ipv4);
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Answers(Result<Vec<&'static str>, io::ErrorKind>);

    impl Resolver for Answers {
        fn resolve(&self, _host: &str, _port: u16) -> io::Result<Vec<SocketAddr>> {
            let texts = self.0.clone()?;
            Ok(texts.iter().map(|text| text.parse().unwrap()).collect())
        }
    }

    async fn ask(host: &str, answer: Result<Vec<&'static str>, io::ErrorKind>) -> Result<Vec<String>, Fault> {
        let lane = Lane::new("resolve-test");
        let found = addresses(&lane, Arc::new(Answers(answer)), host, 445, Duration::from_secs(60)).await?;
        Ok(found.iter().map(ToString::to_string).collect())
    }

    #[tokio::test]
    async fn literals_pass_and_ask_nobody() {
        let nobody = || Err(io::ErrorKind::NotFound);
        assert_eq!(ask("192.0.2.1", nobody()).await.unwrap(), ["192.0.2.1:445"]);
        assert_eq!(ask("2001:db8::1", nobody()).await.unwrap(), ["[2001:db8::1]:445"]);
    }

    #[tokio::test]
    async fn ipv6_comes_first_and_nothing_twice() {
        let answer = vec!["192.0.2.1:445", "[2001:db8::2]:445", "[2001:db8::1]:445", "192.0.2.1:445"];
        assert_eq!(
            ask("box.example", Ok(answer)).await.unwrap(),
            ["[2001:db8::2]:445", "[2001:db8::1]:445", "192.0.2.1:445"]
        );
    }

    #[tokio::test]
    async fn an_unknown_name_and_an_empty_answer_are_told() {
        for answer in [Err(io::ErrorKind::NotFound), Ok(vec![])] {
            let fault = ask("box.invalid", answer).await.unwrap_err();
            assert_eq!(fault.reason, Reason::ShareNameNotResolved);
            assert!(fault.message.contains("box.invalid"), "{fault}");
        }
    }

    #[test]
    fn the_system_knows_its_own_name() {
        let found = SystemResolver.resolve("localhost", 445).unwrap();
        assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 445));
        assert!(!found.is_empty());
    }
}
