//! How it looks, and what is refused.

use forest_cloud_init::{Engine, EngineKind, Fetch, RenderError, Sha256, UserData};
use secrecy::SecretString;

use super::{download, example, rendered};

#[test]
fn the_whole_of_it() {
    insta::assert_snapshot!(rendered(&example()));
}

#[test]
fn the_least_of_it() {
    let mut plan = example();
    plan.agent = Fetch { download: download("https://[2001:db8::1]/forest-agent"), login: false };
    plan.engine = Engine { kind: EngineKind::NatsServer, download: None };
    plan.witness = None;
    insta::assert_snapshot!(rendered(&plan));
}

#[test]
fn it_stays_small() {
    let text = rendered(&example());
    assert!(text.lines().count() <= 40, "{} lines", text.lines().count());
    assert!(text.len() <= 3 * 1024, "{} bytes", text.len());
}

#[test]
fn what_a_machine_could_not_use_is_refused_without_showing_it() {
    let refused = |change: &dyn Fn(&mut UserData)| {
        let mut plan = example();
        change(&mut plan);
        let err = plan.render().expect_err("refused").to_string();
        assert!(!err.contains("hunter2"), "{err}");
        err
    };
    let password = |text: &str| {
        let text = SecretString::from(text);
        refused(&|plan| plan.share.password = text.clone())
    };
    assert_eq!(password(""), "the share's password is empty");
    assert_eq!(password("hunter2\nx"), "the share's password is not one line of text");
    assert_eq!(password("hunter2\r"), "the share's password is not one line of text");
    assert_eq!(password("hunter2\0"), "the share's password is not one line of text");
    assert!(password(&"hunter2".repeat(74)).contains("512 bytes"));
    let url = |text: &str| refused(&|plan| plan.agent.download = download(text));
    assert_eq!(url("http://box.test/agent"), "the URL of the agent is not https");
    assert!(url("https://u:hunter2@box.test/agent").contains("belong elsewhere"));
    assert!(refused(&|plan| plan.witness = Some(download("https://hunter2@x/"))).contains("of the witness"));
    assert!(refused(&|plan| plan.share.username = "a:hunter2".into()).contains("a colon"));
    assert!(refused(&|plan| plan.share.username.clear()).contains("is empty"));
    assert!(refused(&|plan| plan.share.source = "\\\\box\\backup".into()).contains("two slashes"));
    assert!(refused(&|plan| plan.share.source = "//box/backup\n".into()).contains("control character"));
    assert!(
        refused(&|plan| plan.share.source = format!("//box/{}", "x".repeat(40_000)))
            .contains("32768 are the most")
    );
}

#[test]
fn a_digest_is_what_sha256sum_prints() {
    let digest = "ABCDEF0123456789".repeat(4);
    assert_eq!(digest.parse::<Sha256>().unwrap().to_string(), digest.to_lowercase());
    for text in ["", "00", &"0".repeat(63), &"g".repeat(64), &"é".repeat(32)] {
        assert!(matches!(text.parse::<Sha256>(), Err(RenderError::Digest)), "{text}");
    }
}

#[test]
fn debug_shows_no_password() {
    let plan = example();
    let shown = format!("{plan:?} {:?}", plan.render().unwrap());
    assert!(!shown.contains("horse"), "{shown}");
}
