//! The registry at both doors of one directory, and the naive WebDAV client that trusts If-Match alone: how many of
//! its increments are kept.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use forest_core::registry::{
    Clock as _, Document as _, Door, FsDoor, Limits, Owner, Registry, SystemClock, UpdateOptions, bury,
    update,
};
use forest_tests::apache::{Apache, Setup};
use morpheus::webdav::{Answer, Client, Http, Request};
use url::Url;

const WRITERS: usize = 8;
const UPDATES: usize = 40;
const ALL: usize = WRITERS * UPDATES;

pub(crate) fn run() -> anyhow::Result<()> {
    println!("== registry over WebDAV (Apache), {WRITERS} writers x {UPDATES}");
    let naive = naive()?;
    println!(
        "  {:<56} kept {:>3} of {ALL} in {:6.2} s",
        "naive: GET, PUT with If-Match, again on 412",
        naive.0,
        naive.1.as_secs_f64()
    );
    for (what, files) in [("WebDAV alone", false), ("the same, and as many writers on the file system", true)]
    {
        let (kept, all, took) = leased(files)?;
        println!("  {what:<56} kept {kept:>3} of {all} in {:6.2} s", took.as_secs_f64());
        anyhow::ensure!(kept == all, "updates were lost");
    }
    Ok(())
}

/// The whole algorithm; how many of how many updates were kept.
fn leased(files: bool) -> anyhow::Result<(usize, usize, Duration)> {
    let apache = Apache::start(Setup::default());
    let client = Arc::new(apache.client());
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (apache, client) = (&apache, Arc::clone(&client));
            scope.spawn(move || write(&apache.door_over("registry.json", client), &format!("dav{writer}")));
            if files {
                let open = || FsDoor::open(&apache.root(), None).expect("it opens");
                scope.spawn(move || write(&open(), &format!("file{writer}")));
            }
        }
    });
    let took = begun.elapsed();
    let registry = Registry::parse(&std::fs::read(apache.root().join("registry.json"))?)?;
    let removed = registry.forest(&"grove".parse()?).and_then(|record| record["removed"].as_object());
    let kept = removed.context("no updates at all")?.len();
    Ok((kept, if files { 2 * ALL } else { ALL }, took))
}

fn write(door: &dyn Door, name: &str) {
    let limits = Limits { give_up: Duration::from_secs(600), ..Limits::default() };
    let options = UpdateOptions { create_missing: true, ..UpdateOptions::default() };
    let owner = Owner::current(name);
    for n in 0..UPDATES {
        let node = format!("{name}-{n}").parse().expect("an id");
        update(door, &SystemClock, &owner, &limits, &options, |registry: &Registry| {
            let forest = "grove".parse().expect("an id");
            Ok::<_, std::convert::Infallible>(bury(registry, &forest, &node, SystemClock.now()))
        })
        .expect("it is written");
    }
}

/// Each writer increments one number; what it is in the end.
fn naive() -> anyhow::Result<(usize, Duration)> {
    let apache = Apache::start(Setup::default());
    let client = apache.client();
    let url = Url::parse(&apache.url("count.json"))?;
    send(&client, "PUT", &url, Vec::new(), b"0".to_vec())?;
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|_| scope.spawn(|| (0..UPDATES).try_for_each(|_| increment(&client, &url))))
            .collect();
        writers.into_iter().try_for_each(|writer| writer.join().expect("a writer"))
    })?;
    let took = begun.elapsed();
    Ok((std::fs::read_to_string(apache.root().join("count.json"))?.parse()?, took))
}

/// As clients do it that trust the server: If-Match, and again on 412. A weak ETag never matches, so it is waited out.
fn increment(client: &Client, url: &Url) -> anyhow::Result<()> {
    loop {
        let found = send(client, "GET", url, Vec::new(), Vec::new())?;
        let count: usize = std::str::from_utf8(&found.body)?.parse()?;
        let etag = found.etag.context("no ETag")?;
        if etag.starts_with("W/") {
            SystemClock.sleep(Duration::from_millis(50));
            continue;
        }
        let body = (count + 1).to_string().into_bytes();
        match send(client, "PUT", url, vec![("If-Match", etag)], body)?.status {
            412 => {}
            200..300 => return Ok(()),
            status => anyhow::bail!("the server answers {status}"),
        }
    }
}

fn send(
    client: &Client,
    method: &'static str,
    url: &Url,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
) -> anyhow::Result<Answer> {
    Ok(client.send(Request { method, url: url.clone(), headers, body })?)
}
