//! What others tell of the cluster: whether a member reports a meta leader, and the meta group itself.
