//! `morpheus upgrade` for a forest in the cloud.

use std::path::Path;

use forest_core::reason::Reason;

use super::super::resolve::There;
use super::super::upgrade::done;
use super::Nodes;
use crate::args::Upgrade;
use crate::cloud::elf::Architecture;
use crate::cloud::programs::{Supplies, Wanted};
use crate::cloud::record;
use crate::cloud::site::Site;
use crate::cloud::ssh::{self, Ssh};
use crate::cloud::upgrade::Upgrading;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::ui::{Done, Ui};

pub(in super::super) async fn run(
    there: &There,
    args: &Upgrade,
    named: Option<&Path>,
    env: &Environment,
    ui: &Ui,
) -> Result<Done, Failure> {
    there.plan()?;
    let plan = &record::live(&there.registry, &there.id)?;
    let site = Site::open(named, env)?;
    let before = plan.programs.as_ref().ok_or_else(|| {
        let message = format!("what the nodes of {} run is not recorded", there.id);
        Failure::new(Reason::NotSupported, message)
    })?;
    let architecture = Architecture::of_name(&before.architecture).ok_or_else(|| {
        let message = format!("{}: its machines are of an unknown kind, {}", there.id, before.architecture);
        Failure::new(Reason::ProgramArchitecture, message)
    })?;
    let wanted = Wanted { architecture, image: site.machine.image.clone() };
    let supplies = Supplies::newer(before, args.agent.as_deref(), args.engine.as_deref(), wanted)?;
    let program = ssh::program(env)?;
    let ssh = Ssh::new(&site.machine, &plan.mark(&there.id), env)?;
    let found = Nodes::find(&site, there, plan).await;
    if let Some(absent) = found.absent.first() {
        let message = format!("{}: {}; nothing was changed", absent.node_id, absent.error);
        return Err(Failure::new(Reason::AgentUnreachable, message));
    }
    let upgrading = Upgrading {
        site: &site,
        forest: &there.id,
        plan,
        programs: &supplies.record(),
        supplies: &supplies,
        targets: &found.targets,
        ssh: &ssh,
        program: &program,
        limit: args.timeout.restart(),
    };
    let fates = upgrading.run(&mut ui.progress()).await?;
    Ok(done(args, &fates, plan.members.len()))
}
