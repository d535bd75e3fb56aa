//! Child processes of the agent: started, followed, ended, and found again by the next agent.
pub mod limits;
pub mod machine;
