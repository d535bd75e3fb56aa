//! Errors as text: a message here never repeats its source, so whoever ends a chain says all of it. Pure.

use std::error::Error;

/// An error and all its sources in one line, for a message that ends the chain.
#[must_use]
pub fn chain(err: &dyn Error) -> String {
    let mut text = err.to_string();
    let mut source = err.source();
    while let Some(err) = source {
        text.push_str(": ");
        text.push_str(&err.to_string());
        source = err.source();
    }
    text
}

/// The innermost cause of an error alone, where the outer ones say nothing that the message does not.
#[must_use]
pub fn innermost(err: &dyn Error) -> String {
    let mut cause = err;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Layer(&'static str, #[source] Option<Box<Layer>>);

    #[test]
    fn every_layer_is_said_once_or_the_last_alone() {
        let cause = Layer("no space left", None);
        assert_eq!(
            (chain(&cause), innermost(&cause)),
            ("no space left".to_owned(), "no space left".to_owned())
        );
        let whole = Layer("cannot plant", Some(Layer("cannot write x", Some(cause.into())).into()));
        assert_eq!(chain(&whole), "cannot plant: cannot write x: no space left");
        assert_eq!(innermost(&whole), "no space left");
    }
}
