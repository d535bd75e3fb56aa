//! Step `address`: the address that this node gives to its peers.

use forest_core::address::{Address, choose};
use forest_core::reason::Reason;
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::driver::{Fact, Look, Looked, Seen, Step};
use crate::fault::Fault;
use crate::settings::AddressChoice;

/// Takes the address from the settings or from this machine's interfaces.
#[derive(Debug, Clone, Copy)]
pub struct AddressStep {
    choice: AddressChoice,
}

impl AddressStep {
    /// For `address:` of agent.yaml.
    #[must_use]
    pub fn new(choice: AddressChoice) -> Self {
        Self { choice }
    }
}

/// The address which `choice` gives on this machine now.
///
/// # Errors
/// `address_none`, naming the interfaces that were passed over.
pub fn find(choice: AddressChoice) -> Result<Address, Fault> {
    if let AddressChoice::Given(address) = choice {
        return Ok(address);
    }
    let interfaces = if_addrs::get_if_addrs().map_err(|err| {
        Fault::new(Reason::AddressNone, format!("failed to list this machine's addresses: {err}"))
    })?;
    let found: Vec<(String, Address)> = interfaces
        .iter()
        .filter_map(|interface| Some((interface.name.clone(), Address::try_from(interface.ip()).ok()?)))
        .collect();
    choose(found.iter().map(|(name, address)| (name.as_str(), *address))).ok_or_else(|| none(&found))
}

fn none(found: &[(String, Address)]) -> Fault {
    let seen: Vec<_> = found.iter().map(|(name, address)| format!("{name} {address}")).collect();
    let message = format!(
        "`address: auto` found no address that other hosts could reach; there are only {}",
        if seen.is_empty() { "no interfaces at all".to_owned() } else { seen.join(", ") }
    );
    Fault::new(Reason::AddressNone, message)
}

impl Step for AddressStep {
    fn look(&self, _seen: Seen) -> BoxFuture<'static, Looked> {
        let found = find(self.choice);
        let looked = match found {
            Ok(address) => Looked::with(Ok(Look::Stands(address.to_string())), vec![Fact::Address(address)]),
            Err(fault) => Err(fault).into(),
        };
        std::future::ready(looked).boxed()
    }

    fn act(&self, _seen: Seen) -> BoxFuture<'static, Result<String, Fault>> {
        std::future::ready(Ok(String::new())).boxed()
    }
}
