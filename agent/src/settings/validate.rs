//! From the YAML to [`Settings`]: every default, and every rule about more than one value.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use forest_core::yaml::raw::Node;
use forest_core::yaml::{Field, Problem, Table};

use super::vocabulary::VOCABULARY;
use super::{
    AddressChoice, Download, Engine, EngineKind, Firewall, Listen, Settings, Share, Sources, Witness,
    WitnessListen,
};
use super::{share, value};

/// Judges the whole file; the first problem ends it.
pub(super) fn settings(node: &Node) -> Result<Settings, Problem> {
    let root = Table::root(node, &VOCABULARY)?;
    let share = root.get("share").map(share::settings).transpose()?;
    // Where a share is mounted, there the registry is looked for.
    let registry = match &share {
        Some(share) => share.mountpoint.join("registry.json"),
        None => PathBuf::from("/mnt/forest/registry.json"),
    };
    let settings = Settings {
        forest: root.require("forest_id", "grove")?.parse("")?,
        node: root.require("node_id", "grove-node-1")?.parse("")?,
        address: root.get("address").map_or(Ok(AddressChoice::Auto), |field| address(&field))?,
        registry: path_or(&root, "registry", registry)?,
        poll_interval: root
            .get("poll_interval")
            .map_or(Ok(value::POLL_INTERVAL), |field| value::interval(&field))?,
        share,
        engine: engine(&root.section("engine")?)?,
        witness: witness(&root.section("witness")?)?,
        listen: listen(&root.section("listen")?)?,
        firewall: firewall(&root.section("firewall")?)?,
        state_dir: path_or(&root, "state_dir", "/var/lib/forest-agent")?,
        runtime_dir: path_or(&root, "runtime_dir", "/run/forest-agent")?,
        node_info: path_or(&root, "node_info", "/etc/morpheus/node-info.json")?,
    };
    // Only now, that every value is valid by itself, do they have to fit each other.
    ports(&root, &settings)?;
    paths(&root, &settings)?;
    witness_download(&root, &settings)?;
    Ok(settings)
}

/// A path's value, or its default.
pub(super) fn path_or(
    table: &Table<'_>,
    key: &'static str,
    default: impl Into<PathBuf>,
) -> Result<PathBuf, Problem> {
    table.get(key).map_or_else(|| Ok(default.into()), |field| value::path(&field))
}

fn address(field: &Field<'_>) -> Result<AddressChoice, Problem> {
    match field.text()? {
        "auto" => Ok(AddressChoice::Auto),
        _ => field.parse("write an address of this machine, or auto").map(AddressChoice::Given),
    }
}

/// The default binary goes by the kind.
fn engine(table: &Table<'_>) -> Result<Engine, Problem> {
    let kind = table.get("kind").map_or(Ok(EngineKind::NatsServer), |field| engine_kind(&field))?;
    let binary = match kind {
        EngineKind::NatsServer => "/opt/nimsforest/bin/nats-server",
        EngineKind::Nimsforest => "/opt/nimsforest/bin/forest",
    };
    Ok(Engine {
        kind,
        binary: path_or(table, "binary", binary)?,
        download: table.get("download").map(download).transpose()?,
        data_dir: path_or(table, "data_dir", "/var/lib/nimsforest/jetstream")?,
    })
}

fn engine_kind(field: &Field<'_>) -> Result<EngineKind, Problem> {
    let text = field.text()?;
    [EngineKind::NatsServer, EngineKind::Nimsforest]
        .into_iter()
        .find(|kind| kind.as_str() == text)
        .ok_or_else(|| {
            field.problem(format!("`{text}` is not a kind of engine"), "write nats-server or nimsforest")
        })
}

/// Never without its digest: what is fetched is run as root.
fn download(field: Field<'_>) -> Result<Download, Problem> {
    let table = field.table()?;
    Ok(Download {
        url: value::url(&table.require("url", "https://…")?)?,
        sha256: value::sha256(&table.require("sha256", "…")?)?,
    })
}

/// Nothing here has a default of its own: what is left out follows the engine and `listen`.
fn witness(table: &Table<'_>) -> Result<Witness, Problem> {
    Ok(Witness {
        binary: table.get("binary").map(|field| value::path(&field)).transpose()?,
        download: table.get("download").map(download).transpose()?,
        listen: table.get("listen").map(witness_listen).transpose()?,
    })
}

/// Two downloads for one file would take turns.
fn witness_download(root: &Table<'_>, settings: &Settings) -> Result<(), Problem> {
    let (engine, witness) = (&settings.engine, &settings.witness);
    let own = witness.binary.as_ref().is_some_and(|binary| *binary != engine.binary);
    if witness.download.is_none() || own || engine.kind == EngineKind::Nimsforest && witness.binary.is_none()
    {
        return Ok(());
    }
    let what = "is for the engine's own executable, which the witness runs as well";
    Err(root.problem(
        "witness.download",
        what,
        "write it as engine.download, or set a witness.binary of its own",
    ))
}

fn witness_listen(field: Field<'_>) -> Result<WitnessListen, Problem> {
    let table = field.table()?;
    Ok(WitnessListen {
        client: value::socket(&table.require("client", "\"127.0.0.1:4223\"")?)?,
        cluster: value::socket(&table.require("cluster", "\"[::]:6223\"")?)?,
    })
}

/// Clients come from this machine unless told otherwise; peers, laptop and monitoring from anywhere.
fn listen(table: &Table<'_>) -> Result<Listen, Problem> {
    let get = |key, default: SocketAddr| table.get(key).map_or(Ok(default), |field| value::socket(&field));
    let (loopback, any) = ([127, 0, 0, 1], [0; 8]);
    Ok(Listen {
        client: get("client", (loopback, 4222).into())?,
        cluster: get("cluster", (any, 6222).into())?,
        monitor: get("monitor", (any, 8222).into())?,
        health: get("health", (any, 8223).into())?,
    })
}

/// An empty `monitoring_from` is allowed: nobody but the peers.
fn firewall(table: &Table<'_>) -> Result<Firewall, Problem> {
    Ok(Firewall {
        manage: table.get("manage").map_or(Ok(true), |field| field.flag())?,
        monitoring_from: table.get("monitoring_from").map_or(Ok(Sources::Any), |field| sources(&field))?,
    })
}

fn sources(field: &Field<'_>) -> Result<Sources, Problem> {
    let given: Vec<_> = field.list()?.iter().map(value::network).collect::<Result<_, _>>()?;
    // None among them is `any`, which lets everybody in, whatever stands beside it.
    Ok(given.into_iter().collect::<Option<Vec<_>>>().map_or(Sources::Any, Sources::Nets))
}

/// No two servers of this node may want the same port. Blamed is the value the file gives, not a default.
fn ports(root: &Table<'_>, settings: &Settings) -> Result<(), Problem> {
    let Listen { client, cluster, monitor, health } = settings.listen;
    let witness = settings.witness_listen();
    let all = [
        ("listen.client", client),
        ("listen.cluster", cluster),
        ("listen.monitor", monitor),
        ("listen.health", health),
        ("witness.listen.client", witness.client),
        ("witness.listen.cluster", witness.cluster),
    ];
    for (index, (name, address)) in all.iter().enumerate().rev() {
        for (other, taken) in &all[..index] {
            if overlap(*address, *taken) {
                let (key, against) = if root.find(name).is_some() { (name, other) } else { (other, name) };
                return Err(root.problem(
                    key,
                    format!("wants the port {} that {against} has", taken.port()),
                    "give each a port of its own",
                ));
            }
        }
    }
    Ok(())
}

/// Would the second of the two fail to bind? `::` takes IPv4 too.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let takes = |a: IpAddr, b: IpAddr| a == b || (a.is_unspecified() && (a.is_ipv6() || b.is_ipv4()));
    a.port() == b.port() && (takes(a.ip(), b.ip()) || takes(b.ip(), a.ip()))
}

/// With a share the registry lies on it, and nothing that is of this node alone. The mountpoint is not shown: it
/// stands on another line.
fn paths(root: &Table<'_>, settings: &Settings) -> Result<(), Problem> {
    if settings.state_dir == settings.runtime_dir {
        let key = if root.find("runtime_dir").is_some() { "runtime_dir" } else { "state_dir" };
        return Err(root.problem(
            key,
            "is both state_dir and runtime_dir",
            "give each a directory of its own",
        ));
    }
    let Some(Share { mountpoint, password_file, .. }) = &settings.share else {
        return Ok(());
    };
    let below = |path: &Path| path.starts_with(mountpoint);
    if !below(&settings.registry) || settings.registry == *mountpoint {
        let what = format!("`{}` is not below the share's mountpoint", settings.registry.display());
        return Err(root.problem("registry", what, "put it below share.mountpoint, or take `share` out"));
    }
    let own = [
        ("state_dir", &settings.state_dir),
        ("runtime_dir", &settings.runtime_dir),
        ("node_info", &settings.node_info),
        ("engine.data_dir", &settings.engine.data_dir),
        ("share.password_file", password_file),
    ];
    match own.into_iter().find(|(_, path)| below(path)) {
        Some((key, path)) => {
            let what = format!("`{}` lies on the share, which all nodes write", path.display());
            Err(root.problem(key, what, "choose a path on this machine's own disk"))
        }
        None => Ok(()),
    }
}
