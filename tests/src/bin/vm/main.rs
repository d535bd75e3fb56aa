//! `make vm`: what only whole machines show. Each scenario says what it saw; one that fails leaves consoles and
//! journals behind. Runs inside tools/vm.sh alone.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its results are for a person to read")]

mod classic;
mod outages;
mod power;
mod power_on;
mod refusals;
mod registry;
mod stage;
mod unit;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, ensure};
use forest_tests::vm::Guest;
use stage::Stage;

/// A scenario: its name, whether `make vm` plays it unasked, and what it does.
type Scenario = (&'static str, bool, fn(&mut Stage, &mut Vec<Guest>) -> anyhow::Result<()>);

const SCENARIOS: &[Scenario] = &[
    ("power-on", true, power_on::play),
    ("unit", true, unit::play),
    ("refusals", true, refusals::play),
    ("outages", true, outages::play),
    ("registry", true, registry::play),
    ("power", true, power::play),
    ("classic", false, classic::play),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match play(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(err) => {
            eprintln!("vm: {err:#}");
            ExitCode::FAILURE
        }
    }
}

fn play(args: &[String]) -> anyhow::Result<bool> {
    let [dir, image, kept, names @ ..] = args else { anyhow::bail!("run it by `make vm`") };
    let chosen = chosen(names)?;
    let mut stage = Stage::new(Path::new(dir), Path::new(image), Path::new(kept))?;
    let (mut passed, mut failed) = (0, 0);
    for (name, _, scenario) in chosen {
        println!("\n==> {name}");
        let begun = Instant::now();
        let mut guests = Vec::new();
        let result = stage.fresh().and_then(|()| scenario(&mut stage, &mut guests));
        let seconds = begun.elapsed().as_secs();
        match result {
            Ok(()) => {
                passed += 1;
                println!("==> {name}: as it should be ({seconds} s)");
            }
            Err(err) => {
                failed += 1;
                println!("==> {name}: FAILED ({seconds} s): {err:#}");
                let kept = stage.lab.keep(name, &guests.iter().collect::<Vec<_>>())?;
                println!("    consoles and journals: {}", kept.display());
            }
        }
    }
    println!("\n{passed} passed, {failed} failed");
    Ok(failed == 0)
}

fn chosen(names: &[String]) -> anyhow::Result<Vec<&'static Scenario>> {
    if names.is_empty() {
        return Ok(SCENARIOS.iter().filter(|(_, unasked, _)| *unasked).collect());
    }
    let known = || SCENARIOS.iter().map(|(name, ..)| *name).collect::<Vec<_>>().join(", ");
    let found: Vec<_> = names.iter().map(|name| SCENARIOS.iter().find(|(known, ..)| known == name)).collect();
    ensure!(
        found.iter().all(Option::is_some),
        "there is no such scenario among {names:?}; there are: {}",
        known()
    );
    found.into_iter().collect::<Option<_>>().context("a scenario")
}
