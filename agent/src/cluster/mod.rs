//! The cluster: how the nodes of a forest become one group of NATS servers, and stay one.
//!
//! ```text
//!   registry ─┐
//!   secrets ──┤
//!   store ────┼──► machine: decides, pure ──► steps `witness` and `engine`
//!   marker ───┤          (may the engine start? who keeps the witness?)
//!   view ─────┘
//! ```
//!
//! A lone server in cluster mode never elects a meta leader, and a standalone one cannot become a member later
//! without losing its streams. So a forest is clustered from its first day: below three real nodes one of them
//! keeps a [`witness`], a small second nats-server that has a vote and no stream. [`machine`] decides; [`sys`]
//! asks and steers the servers through the system account; [`marker`] and [`store`] say what this node did and
//! has; [`reload`] tells a running server of its peers, [`routes`] by which credentials they are dialed; [`turn`] watches whose turn it is to join;
//! [`gather`] asks all agents for their health; [`leave`] takes a node out without a loss, [`rescue`] brings back a
//! quorum that went with the dead. Beside NimsForest, [`companion`] carries orders where no server of ours runs, and
//! [`strays`] are streams that go from the witness. A store is never deleted here but the witness's own.

pub mod companion;
pub mod gather;
pub mod leave;
pub mod machine;
pub mod marker;
pub mod reload;
pub mod rescue;
pub mod routes;
pub mod situation;
pub mod store;
pub mod strays;
pub mod sys;
pub mod take_over;
pub mod turn;
pub mod view;
pub mod witness;
