//! `${NAME}` in a value: the variable of the environment. Its content is never shown.

use forest_core::yaml::{Field, Problem};

use crate::environment::Environment;

/// The field's text with every `${NAME}` in it replaced.
pub(super) fn text(field: &Field<'_>, env: &Environment) -> Result<String, Problem> {
    expand(field.text()?, env).map_err(|(what, remedy)| field.problem(what, remedy))
}

fn expand(text: &str, env: &Environment) -> Result<String, (String, String)> {
    let mut rest = text;
    let mut out = String::new();
    while let Some((before, behind)) = rest.split_once("${") {
        let name = behind.split_once('}').filter(|(name, _)| is_name(name));
        let Some((name, after)) = name else {
            return Err(("`${` begins no variable".to_owned(), "write ${NAME}".to_owned()));
        };
        let Some(value) = env.get(name) else {
            return Err((
                format!("the variable {name} is not set"),
                format!("export {name}=…, or write the value here"),
            ));
        };
        out.push_str(before);
        out.push_str(value);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Is the whole value one variable? Its name is no secret.
pub(super) fn is_reference(text: &str) -> bool {
    text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')).is_some_and(is_name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn variables_are_replaced_where_they_stand() {
        let env = Environment::from([("A", "1"), ("B", "${A}")]);
        assert_eq!(expand("x${A}y${A}", &env), Ok("x1y1".to_owned()));
        assert_eq!(expand("${B}", &env), Ok("${A}".to_owned()), "once, not again");
        assert_eq!(expand("$A $ {A}", &env), Ok("$A $ {A}".to_owned()));
        assert!(expand("${C}", &env).unwrap_err().0.contains("C is not set"));
        assert!(expand("${A", &env).is_err() && expand("${}", &env).is_err());
        assert!(is_reference("${A_1}") && !is_reference("a${A}") && !is_reference("${A}${B}"));
    }

    proptest! {
        #[test]
        fn text_without_variables_stays(text in "[^$]{0,40}") {
            prop_assert_eq!(expand(&text, &Environment::default()), Ok(text));
        }
    }
}
