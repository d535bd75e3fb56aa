//! The one integration binary of forest-agent.

mod child;
