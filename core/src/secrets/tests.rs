use proptest::prelude::*;

use super::*;

fn node(id: &str) -> NodeId {
    id.parse().unwrap()
}

fn founded() -> Secrets {
    Secrets::empty().found(&node("n1"), "mark", Timestamp::UNIX_EPOCH).unwrap()
}

fn json(secrets: &Secrets) -> Value {
    serde_json::from_str(&secrets.render()).unwrap()
}

#[test]
fn a_founding_happens_once_and_reads_back() {
    let secrets = founded();
    let record = secrets.record().unwrap();
    assert_eq!((record.founder.as_str(), record.founding.as_str()), ("n1", "mark"));
    let duty = Duty { node: "n1".into(), name: "w-n1-1".into(), epoch: 1, retiring: false };
    assert_eq!(record.witness, Some(duty));
    assert_eq!(record.route.password.expose().len(), PASSWORD_CHARS);
    assert_ne!(record.route.password, record.sys.password);
    assert_eq!(Secrets::parse(secrets.render().as_bytes()), Ok(secrets.clone()));
    assert_eq!(secrets.found(&node("n2"), "other", Timestamp::UNIX_EPOCH), None);
}

#[test]
fn an_empty_or_nulled_file_is_not_founded() {
    for text in ["{}", r#"{"founder":null,"note":1}"#] {
        assert_eq!(Secrets::parse(text.as_bytes()).unwrap().record(), None);
    }
}

#[test]
fn a_witness_never_has_a_name_twice() {
    let first = founded();
    assert_eq!(first.take_witness(&node("n2")), None, "somebody has it");
    assert_eq!(first.discharge_witness("w-n1-2"), None, "another's name");
    let none = first.discharge_witness("w-n1-1").unwrap();
    assert_eq!(none.record().unwrap().witness, None);
    let second = none.take_witness(&node("n1")).unwrap();
    assert_eq!(second.record().unwrap().witness.as_ref().unwrap().name, "w-n1-2");
    let none = second.discharge_witness("w-n1-2").unwrap();
    let third = none.take_witness(&node("n3")).unwrap();
    assert_eq!(third.record().unwrap().witness.as_ref().unwrap().name, "w-n3-3");
}

#[test]
fn turns_are_taken_from_whom_they_were_seen_with_alone() {
    let (n2, n3) = (node("n2"), node("n3"));
    let first = founded().take_turn(&n2, None).unwrap();
    assert_eq!(first.record().unwrap().joining.as_deref(), Some("n2"));
    assert_eq!(Secrets::parse(first.render().as_bytes()), Ok(first.clone()));
    assert_eq!(first.take_turn(&n3, None), None, "another was quicker");
    assert_eq!(first.take_turn(&n2, Some("n2")), None, "it has it");
    assert_eq!(first.end_turn(&n3), None);
    let stolen = first.take_turn(&n3, Some("n2")).unwrap();
    assert_eq!(stolen.end_turn(&n3).unwrap().record().unwrap().joining, None);
}

#[test]
fn no_password_is_shown() {
    let secrets = founded();
    let record = secrets.record().unwrap();
    let shown = format!("{secrets:?} {record:?}");
    assert!(shown.contains("***"));
    for credentials in [&record.route, &record.sys] {
        assert!(!shown.contains(credentials.password.expose()));
    }
    let mut text = json(&secrets);
    text["route"]["password"] = "se cret".into();
    let err = Secrets::parse(text.to_string().as_bytes()).unwrap_err();
    assert!(err.to_string().contains("route.password") && !err.to_string().contains("se cret"));
    let err = Secrets::parse(br#"{"route": secret}"#).unwrap_err();
    assert!(!err.to_string().contains("secret"), "{err}");
}

#[test]
fn a_half_founded_file_is_corrupt() {
    for key in ["founding", "route", "sys"] {
        let mut text = json(&founded());
        text.as_object_mut().unwrap().remove(key);
        let err = Secrets::parse(text.to_string().as_bytes()).unwrap_err();
        assert!(err.to_string().contains(key), "{err}");
    }
}

proptest! {
    #[test]
    fn unknown_keys_survive_every_change(key in "[a-z]{12}", value in "\\PC{0,20}") {
        let mut text = json(&founded());
        text[&key] = value.clone().into();
        let secrets = Secrets::parse(text.to_string().as_bytes()).unwrap();
        let none = secrets.discharge_witness("w-n1-1").unwrap();
        let again = none.take_witness(&node("n2")).unwrap();
        prop_assert_eq!(&json(&again)[&key], &Value::from(value));
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Secrets::parse(&bytes);
    }
}
