//! `make bench`: figures, each beside the thing to beat, measured in the same run and in turn.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark is there to print")]

mod plant;
mod webdav;

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use forest_core::registry::{
    Document, FsDoor, Limits, Owner, Queue, Registry, SystemClock, UpdateOptions, update,
};
use forest_tests::hangfs::HangFs;
use forest_tests::node::node;
use forest_tests::wait::until;
use forest_tests::{http, nats};

const PAIRS: usize = 9;
