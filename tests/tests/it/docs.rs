//! What the documents say that can be checked: the table of reason codes is the one in the code.

use std::path::PathBuf;

use forest_core::reason::Reason;

const MARK: &str = "<!-- reasons: the table below is the code's; FOREST_WRITE_DOCS=1 make test writes it -->";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn the_table_of_reasons_is_the_codes() {
    let path = root().join("docs/health.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, _) = text.split_once(MARK).expect("docs/health.md has the mark of the table");
    let mut due = format!("{before}{MARK}\n\n| code | what it means | what to do |\n| --- | --- | --- |\n");
    for reason in Reason::ALL {
        due.push_str(&format!("| `{reason}` | {} | {} |\n", reason.meaning().trim(), reason.remedy()));
    }
    if std::env::var_os("FOREST_WRITE_DOCS").is_some() {
        std::fs::write(&path, &due).unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text == due, "docs/health.md is behind the code; run FOREST_WRITE_DOCS=1 make test");
}

#[test]
fn every_relative_link_of_the_documents_leads_somewhere() {
    for name in [
        "README.md",
        "CHANGELOG.md",
        "docs/ARCHITECTURE.md",
        "docs/cloud.md",
        "docs/health.md",
        "docs/registry.md",
    ] {
        let path = root().join(name);
        let text = std::fs::read_to_string(&path).unwrap();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
        for link in links.filter(|link| !link.is_empty() && !link.contains("://")) {
            assert!(path.parent().unwrap().join(link).exists(), "{name} links to {link}, which is not there");
        }
    }
}
