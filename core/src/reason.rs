//! Reason codes: the stable, machine-readable half of every failure that a program may want to tell apart.
//! The sentence beside a code may change with any release; the code may not.

use std::fmt;

macro_rules! reasons {
    ($($(#[doc = $meaning:literal])+ $variant:ident = $code:literal, $remedy:literal;)*) => {
        /// Why a check, a step or a command is not well.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[doc = $meaning])+ $variant,)*
        }

        impl Reason {
            /// Every code there is, in the order of the documentation.
            pub const ALL: &[Reason] = &[$(Reason::$variant,)*];

            /// The stable code, snake_case.
            #[must_use]
            pub fn code(self) -> &'static str {
                match self { $(Reason::$variant => $code,)* }
            }

            /// The reason with this code.
            #[must_use]
            pub fn of_code(code: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|reason| reason.code() == code)
            }

            /// What it means, a sentence.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Reason::$variant => concat!($($meaning),+),)* }
            }

            /// What a person can do about it, a sentence without its full stop.
            #[must_use]
            pub fn remedy(self) -> &'static str {
                match self { $(Reason::$variant => $remedy,)* }
            }
        }
    };
}

reasons! {
    /// Nothing has been looked at yet.
    Starting = "starting", "wait: the agent has just started";
    /// The last look is older than three intervals and the longest that one takes.
    Stale = "stale", "look into the agent's log: what it waits for is said there";

    /// The configuration cannot be read.
    ConfigUnreadable = "config_unreadable", "run with sudo, or name another file with --config";
    /// The configuration is not valid.
    ConfigInvalid = "config_invalid", "put right what the message names";

    /// No interface has an address that `auto` takes.
    AddressNone = "address_none", "set `address` in agent.yaml";

    /// The kernel has no cifs file system.
    ShareNoCifs = "share_no_cifs", "install the kernel's cifs module (Ubuntu: linux-modules-extra), then wait";
    /// The share's host has no address.
    ShareNameNotResolved = "share_name_not_resolved", "check the host in share.source, and this machine's DNS";
    /// TCP 445 does not answer.
    ShareUnreachable = "share_unreachable", "let TCP 445 out to the share's host, and enable SMB there";
    /// The server refused user name or password.
    ShareWrongPassword = "share_wrong_password", "put the right password into share.password_file";
    /// The server has no share or directory of that name.
    ShareNotFound = "share_not_found", "check the path in share.source";
    /// The server let us in and then refused, or this process may not mount.
    SharePermission = "share_permission", "run the agent as root, and give the share's user the right to write";
    /// The password file is missing, unreadable or empty.
    SharePasswordFile = "share_password_file", "write the password into share.password_file, mode 0600";
    /// mount(2) refused for another reason.
    ShareMountFailed = "share_mount_failed", "look into the kernel's log (dmesg) for CIFS messages";
    /// The mount stands and does not answer in time.
    ShareHung = "share_hung", "check the share's server; the agent goes on by itself when it answers";
    /// The mount stands and answers with errors; it is being mounted anew.
    ShareDead = "share_dead", "wait: the agent mounts it again";
    /// Nothing is mounted at the mountpoint.
    ShareNotMounted = "share_not_mounted", "start the agent (forest-agent run), which mounts it";

    /// registry.json is not there.
    RegistryMissing = "registry_missing", "let the laptop make it (morpheus plant), or put it back";
    /// registry.json cannot be parsed.
    RegistryCorrupt = "registry_corrupt", "wait: the last good copy is put back after the stale limit";
    /// registry.json cannot be parsed and no good copy exists.
    RegistryNoCopy = "registry_no_copy", "put a good registry.json in place";
    /// A corrupt copy has been set aside.
    RegistryQuarantined = "registry_quarantined", "look at the corrupt copy, then delete it";
    /// registry.json or its directory cannot be read.
    RegistryUnreadable = "registry_unreadable", "check the path and its permissions";
    /// The registry's file system does not answer in time.
    RegistryHung = "registry_hung", "check the file system the registry lies on";
    /// The registry's server cannot be reached, or is not trusted.
    RegistryUnreachable = "registry_unreachable", "check registry.url, this machine's network and the server's certificate";
    /// The registry's server refuses user name or password.
    RegistryWrongPassword = "registry_wrong_password", "check registry.username and registry.password";
    /// The registry's file system is full.
    RegistryFull = "registry_full", "free space on the share";
    /// The registry's file system refuses writes.
    RegistryReadOnly = "registry_read_only", "make the share writable for this user";
    /// Another holder keeps the lease for longer than a waiter waits.
    RegistryLeaseHeld = "registry_lease_held", "look at the holder that the message names";
    /// A write to the registry failed otherwise.
    RegistryWrite = "registry_write", "look at the message; the agent tries again";
    /// The registry does not know this forest.
    ForestUnknown = "forest_unknown", "check that laptop and node use the same directory of the share";
    /// This node's entry is not there yet.
    EntryMissing = "entry_missing", "wait: the agent writes it";
    /// This node's entry is not as it should be yet.
    EntryDiffers = "entry_differs", "wait: the agent puts it right";
    /// A live node of another instance has this id.
    IdConflict = "id_conflict", "give one of the two nodes another node_id";
    /// A live node of another id has this address.
    AddressConflict = "address_conflict", "give one of the two nodes another address";
    /// The node has been taken out on purpose.
    Removed = "removed", "to bring it back, delete its tombstone in the registry, then the marker in state_dir";

    /// node-info.json cannot be written.
    NodeInfoWrite = "node_info_write", "check the directory of node_info and its permissions";
    /// The JetStream directory cannot be made or written.
    DataDir = "data_dir", "check engine.data_dir and its permissions";
    /// state_dir or runtime_dir cannot be written.
    StateDir = "state_dir", "check state_dir and runtime_dir, and the space left there";

    /// The engine's executable is not there.
    EngineMissing = "engine_missing", "install it at engine.binary, or set engine.download";
    /// The engine's file cannot be executed.
    EngineNotExecutable = "engine_not_executable", "chmod +x the file, and check that it is for this machine";
    /// The engine's download failed.
    DownloadFailed = "download_failed", "check engine.download.url, and that this machine reaches it";
    /// What was downloaded has another sha256.
    DownloadSha256 = "download_sha256", "check engine.download: url and sha256 do not belong together";
    /// Neither a fresh registry nor a kept one: a lone start could split the forest.
    EngineWaitsForRegistry = "engine_waits_for_registry", "bring the registry back";
    /// The engine is not running yet.
    EngineStarting = "engine_starting", "wait: it is being started";
    /// The engine ended and will be started again.
    EngineExited = "engine_exited", "look at the engine's last lines";
    /// The engine ended five times within a minute.
    EngineCrashLoop = "engine_crash_loop", "look at the engine's last lines";
    /// A port that the engine needs is taken.
    EnginePortTaken = "engine_port_taken", "stop the program that holds the port, or set another in `listen`";
    /// An address that the engine is to listen on is not this machine's, or not allowed to this user.
    EngineListen = "engine_listen", "check `listen` in agent.yaml: addresses of this machine, ports this user may open";
    /// The engine refused its configuration.
    EngineConfigRefused = "engine_config_refused", "look at the message of `nats-server -t`";
    /// The engine did not end when asked to, and is being killed.
    EngineIgnoresTerm = "engine_ignores_term", "wait: it is killed after the grace";
    /// The running engine was started by another configuration than the agent has now, and only a restart changes that.
    EngineRestartNeeded = "engine_restart_needed", "restart it when it suits you: systemctl restart forest-agent";
    /// The engine writes more into its log than anyone can read.
    EngineLogFlood = "engine_log_flood", "look at the engine's log; it is kept bounded, so the oldest lines are gone";
    /// The engine is stopped on purpose.
    EngineStopped = "engine_stopped", "the step says why";
    /// The store was written by a standalone server and a cluster would delete its streams.
    StandaloneStore = "standalone_store", "stop the server that wrote it, if it still runs, then: forest-agent take-over";
    /// The streams of a standalone store are being carried into the forest.
    TakingOver = "taking_over", "if forest-agent take-over does not run any more, run it again: it goes on where it was";
    /// The store cannot be taken over as it is; nothing was changed.
    TakeOverRefused = "take_over_refused", "look at the message; what cannot be carried over may be left behind: --leave-behind STREAM";
    /// A stream could not be restored, or is not what it was.
    TakeOverFailed = "take_over_failed", "look at the message, then run forest-agent take-over again; the old store is kept";
    /// The forest has other streams of the same names.
    TakeOverConflict = "take_over_conflict", "delete the forest's, if nothing in it is needed, or leave those of the old store behind: --leave-behind STREAM; then run forest-agent take-over again";
    /// The engine's store cannot be used: full, unreadable or of another server.
    EngineStore = "engine_store", "check engine.data_dir: space, permissions";

    /// The forest's secrets are not there yet, and were never read.
    SecretsMissing = "secrets_missing", "wait: the first node makes them; or bring the share back";
    /// The forest's secrets are lost while other nodes live by them.
    SecretsLost = "secrets_lost", "start the agent of a node that keeps a copy, or put secrets/<forest>.json back";
    /// The store is empty, and the group that it is to join has no leader yet.
    WaitsForFounder = "waits_for_founder", "wait, or start the nodes that were there before";
    /// This node founded the forest, its store is empty, and no member reports a meta leader: waiting alone will not help.
    FounderLost = "founder_lost", "start the nodes that hold the forest's data; if there are none, take the forest down and plant it anew (by hand: with all agents stopped, remove its entries and its file in secrets/ from the share, and secrets.json and cluster.json from each state_dir)";
    /// The store belongs to an earlier forest of the same name.
    OtherFounding = "other_founding", "save its data, move engine.data_dir aside, and let the node join empty";
    /// The group has lost too many members to go on.
    QuorumLost = "quorum_lost", "bring its members back; if they are gone for good: forest-agent forget NODE --rescue";
    /// A member of the group has fallen behind or does not answer.
    MemberNotCurrent = "member_not_current", "look at that node; it is never taken out by itself";
    /// The second server that gives a small forest its quorum does not run.
    WitnessDown = "witness_down", "look at the witness's last lines in state_dir/log/witness.log";
    /// There is no nats-server to be the witness.
    NoWitness = "no_witness", "install nats-server, or set witness.binary";
    /// The node leaves the forest for good, or waits for its turn to.
    Leaving = "leaving", "wait: it goes on by itself, also after a kill";
    /// The node cannot leave: those who stay would have no quorum.
    LeaveQuorum = "leave_quorum", "bring back the nodes that are away, or forget them first; --force leaves all the same";
    /// The node cannot leave: it is the only one.
    LeaveLastNode = "leave_last_node", "take the whole forest down (morpheus teardown), or add a node first; --force destroys what the message names";
    /// The node cannot leave: streams would be lost.
    LeaveStreams = "leave_streams", "move or delete the streams that the message names; --force destroys them";
    /// A rotation of the forest's credentials waits for nodes that have not carried out its stage.
    RotationUnfinished = "rotation_unfinished", "bring back the nodes that the message names, or let them go; then run morpheus rotate-secrets again";
    /// The node lives.
    NodeLives = "node_lives", "let it leave by itself: forest-agent leave, on that node";
    /// No agent runs here.
    NoAgent = "no_agent", "start it: systemctl start forest-agent, or forest-agent run";
    /// A stream has a replica on the witness, which is no place for data.
    StreamOnWitness = "stream_on_witness", "wait: it is moved";
    /// The engine refused to read its new configuration.
    EngineReloadRefused = "engine_reload_refused", "look at the message; the engine goes on as it was";
    /// The engine did not say that it read its new configuration.
    EngineReloadSilent = "engine_reload_silent", "wait: it is asked again";

    /// NimsForest: its work queue refuses a second start on the same JETSTREAM_DIR.
    NimsforestWorkQueue = "nimsforest_work_queue", "known fault of NimsForest: move its JetStream directory aside, once its data is saved";
    /// NimsForest: another node holds its consumer.
    NimsforestConsumerBound = "nimsforest_consumer_bound", "known fault of NimsForest: only one node of a cluster runs its application";
    /// NimsForest: no peer answered at its cluster port.
    NimsforestNoRoute = "nimsforest_no_route", "check that the peers run and let 6222 in";
    /// NimsForest: cannot read its node-info.json.
    NimsforestNodeInfo = "nimsforest_node_info", "check node_info in agent.yaml";
    /// NimsForest: no address but loopback ones.
    NimsforestNoAddress = "nimsforest_no_address", "give this machine an IPv6 address";

    /// The monitoring port does not answer.
    NatsUnreachable = "nats_unreachable", "look at the engine's last lines";
    /// The server says that it is not healthy.
    NatsUnhealthy = "nats_unhealthy", "look at the message";
    /// Another server answers at the monitoring port.
    NatsWrongServer = "nats_wrong_server", "stop the other nats-server, or set another port in `listen.monitor`";
    /// The client port does not answer a round trip.
    NatsNoRoundTrip = "nats_no_round_trip", "look at the engine's last lines";
    /// JetStream is not enabled.
    JetstreamDisabled = "jetstream_disabled", "look at the engine's last lines: the store may be full or unreadable";
    /// The meta group has no leader.
    JetstreamNoLeader = "jetstream_no_leader", "bring back enough nodes for a quorum";
    /// The JetStream API does not answer.
    JetstreamNoAnswer = "jetstream_no_answer", "wait, then look at the engine's last lines";

    /// A peer's cluster port cannot be reached.
    PeerUnreachable = "peer_unreachable", "check the peer, and that its firewall lets 6222 in";
    /// A peer answers and no route to it stands.
    PeerNoRoute = "peer_no_route", "check that both run in one cluster with the same credentials";

    /// The node's firewall rules are not as they should be yet.
    FirewallDiffers = "firewall_differs", "wait: the agent puts them right";
    /// Other firewall rules of this machine drop what the forest needs.
    FirewallBlockedByOther = "firewall_blocked_by_other", "let the ports that the message names in there";
    /// The kernel has no nftables, or none for the family inet.
    NftUnsupported = "nft_unsupported", "boot a kernel with nf_tables and its inet family; else guard the ports elsewhere and set firewall.manage to false";
    /// nft is not installed.
    NftMissing = "nft_missing", "apt-get install nftables";
    /// This process may not read or write firewall rules.
    FirewallNotPermitted = "firewall_not_permitted", "run the agent as root or with CAP_NET_ADMIN; else guard the ports elsewhere and set firewall.manage to false";
    /// nft or ufw refused otherwise.
    FirewallFailed = "firewall_failed", "look at the message; the agent tries again";

    /// The command line cannot be understood.
    Usage = "usage", "look at the command's --help";
    /// This version cannot do it.
    NotSupported = "not_supported", "look at the message for what it can do";
    /// A forest of that name is there already.
    NameTaken = "name_taken", "choose another name";
    /// The forest has no such node.
    NodeUnknown = "node_unknown", "choose one of the nodes that the message names";
    /// A question could not be asked, for nobody is there to answer.
    ConfirmationNeeded = "confirmation_needed", "run it on a terminal, or with --yes";
    /// Another morpheus is at work on the same forest.
    Busy = "busy", "wait for the other one";
    /// A program that is needed is not to be found.
    ProgramMissing = "program_missing", "install it, or name its file";
    /// A port that a node needs is taken.
    PortTaken = "port_taken", "stop the program that holds the port";
    /// An agent could not be started.
    AgentStart = "agent_start", "look at the message";
    /// An agent ended by itself.
    AgentExited = "agent_exited", "look at the agent's log";
    /// A node's agent does not answer.
    AgentUnreachable = "agent_unreachable", "morpheus grow FOREST --repair";
    /// A process does not end, not even when killed.
    StillRunning = "still_running", "look at the process that the message names";
    /// Nodes are not healthy in time.
    NotHealthy = "not_healthy", "look at the nodes that the message names";
    /// The laptop's own state cannot be read or written.
    LocalState = "local_state", "check the path and its permissions";

    /// The command was interrupted.
    Interrupted = "interrupted", "run it again: nothing is done twice";
    /// Another command took the forest, or nodes of it, down meanwhile.
    TornDown = "torn_down", "ask whoever took it down; plant it anew if it is still wanted";
    /// A check of the laptop's set-up found something to put right.
    CheckFailed = "check_failed", "put right what the checks name";
    /// A program is for other machines than those it would go to.
    ProgramArchitecture = "program_architecture", "build it for the architecture that the message names, or choose machines of the other";
    /// A program needs a newer C library than the image has.
    ProgramGlibc = "program_glibc", "build it on an older system or statically (-C target-feature=+crt-static), or choose a newer machine.hetzner.image";
    /// A program could not be put onto the share.
    UploadFailed = "upload_failed", "check the share: space, permissions, this machine's network; then run it again: nothing is done twice";
    /// There is no public key that could log in to new machines.
    SshNoKey = "ssh_no_key", "make one (ssh-keygen -t ed25519), or name it in machine.ssh.key_path";
    /// ssh to a node failed.
    SshFailed = "ssh_failed", "look at the message of ssh; morpheus check ssh tells what it needs";
    /// This machine has no IPv6, and the nodes have nothing else.
    NoIpv6 = "no_ipv6", "use a network with IPv6, or set machine.ipv4.enabled to true, which costs a little";

    /// No API token of Hetzner Cloud is to be found.
    HetznerNoToken = "hetzner_no_token", "make one in the Hetzner console (Security, API tokens, Read & Write) and export HCLOUD_TOKEN";
    /// Hetzner Cloud does not know the API token.
    HetznerUnauthorized = "hetzner_unauthorized", "make a new API token in the Hetzner console, and put it where the old one stands";
    /// The API token may not do this.
    HetznerForbidden = "hetzner_forbidden", "make an API token with Read & Write in the project's console";
    /// Hetzner Cloud cannot be reached.
    HetznerUnreachable = "hetzner_unreachable", "check this machine's network, then run it again: nothing is done twice";
    /// Hetzner Cloud failed on its own side, again and again.
    HetznerFault = "hetzner_fault", "wait some minutes, then run it again: nothing is done twice";
    /// The project's requests of this hour are used up.
    HetznerRateLimit = "hetzner_rate_limit", "wait some minutes, then run it again: nothing is done twice";
    /// The project may not have more of this.
    HetznerLimit = "hetzner_limit", "ask for a higher limit in the Hetzner console (Limits), or delete what is not needed";
    /// No machine is to be had, of any type and in any location that was asked for.
    HetznerUnavailable = "hetzner_unavailable", "name more types in machine.hetzner.server_type_fallback, or another location";
    /// Something that is not ours has the name already.
    HetznerNameTaken = "hetzner_name_taken", "rename it in the Hetzner console, or choose another name";
    /// Another action works on the same thing.
    HetznerLocked = "hetzner_locked", "wait until it is over, then run it again";
    /// It is protected against being deleted.
    HetznerProtected = "hetzner_protected", "take the protection off in the Hetzner console, then run it again";
    /// Hetzner Cloud does not accept the request.
    HetznerRefused = "hetzner_refused", "look at the message: it names the value that is not accepted";
    /// An action of Hetzner Cloud did not end in time.
    HetznerSlow = "hetzner_slow", "look into the Hetzner console, then run it again: nothing is done twice";
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn codes_are_unique_and_snake_case() {
        let codes: HashSet<_> = Reason::ALL.iter().map(|reason| reason.code()).collect();
        assert_eq!(codes.len(), Reason::ALL.len());
        for code in codes {
            assert!(
                code.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
                "{code}"
            );
        }
    }
}
