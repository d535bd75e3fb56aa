//! `make vm`: what only whole machines show. Each scenario says what it saw; one that fails leaves consoles and
//! journals behind. Runs inside tools/vm.sh alone.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its results are for a person to read")]

mod classic;
mod cloud;
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

/// A scenario: its name, in which lane `make vm` plays it unasked, and what it does.
type Scenario = (&'static str, Option<u8>, fn(&mut Stage, &mut Vec<Guest>) -> anyhow::Result<()>);

/// Two lanes of about the same length, for two cores.
const SCENARIOS: &[Scenario] = &[
    ("power-on", Some(1), power_on::play),
    ("unit", Some(1), unit::play),
    ("outages", Some(1), outages::play),
    ("refusals", Some(2), refusals::play),
    ("registry", Some(2), registry::play),
    ("power", Some(2), power::play),
    ("classic", None, classic::play),
    ("cloud", None, cloud::play),
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

fn chosen(words: &[String]) -> anyhow::Result<Vec<&'static Scenario>> {
    if let [option, lane] = words
        && option == "--lane"
    {
        let lane = lane.parse().context("a lane is a number")?;
        return Ok(SCENARIOS.iter().filter(|(_, unasked, _)| *unasked == Some(lane)).collect());
    }
    let known = || SCENARIOS.iter().map(|(name, ..)| *name).collect::<Vec<_>>().join(", ");
    let found: Vec<_> = words.iter().map(|name| SCENARIOS.iter().find(|(known, ..)| known == name)).collect();
    ensure!(
        !found.is_empty() && found.iter().all(Option::is_some),
        "there is no such scenario among {words:?}; there are: {}",
        known()
    );
    found.into_iter().collect::<Option<_>>().context("a scenario")
}
