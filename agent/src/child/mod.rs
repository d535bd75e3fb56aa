//! Child processes of the agent: started, followed, ended, and found again by the next agent.
pub mod limits;
pub mod machine;
pub mod command;
mod token;
mod record;
mod process;
mod adopt;
mod spawn;
mod log;
