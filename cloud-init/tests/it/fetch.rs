//! The commands of the user-data, on this machine: a real curl and a real sha256sum, on files of a temp directory.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;

use secrecy::SecretString;
use serde::Deserialize;

use super::{DIGEST, example, rendered};

/// What has [`DIGEST`].
const PROGRAM: &str = "hello\n";

#[derive(Deserialize)]
struct CloudConfig {
    write_files: Vec<File>,
    runcmd: Vec<Vec<String>>,
}

#[derive(Deserialize)]
struct File {
    path: String,
    content: String,
}

/// Answers one request, and tells its Authorization header.
fn server(status: &'static str) -> (String, thread::JoinHandle<Option<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/agent", listener.local_addr().unwrap());
    let answering = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let head: Vec<String> = BufReader::new(stream.try_clone().unwrap())
            .lines()
            .map(Result::unwrap)
            .take_while(|line| !line.is_empty())
            .collect();
        write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{PROGRAM}",
            PROGRAM.len()
        )
        .unwrap();
        head.iter().find_map(|line| line.strip_prefix("Authorization: Basic ").map(str::to_owned))
    });
    (url, answering)
}

/// Runs the script that cloud-init makes of the commands, with every path below `dir` and the agent's URL `url`.
/// TLS is left to the tests on virtual machines.
fn script(dir: &Path, user_data: &str, url: &str) -> Output {
    let config: CloudConfig = serde_saphyr::from_str(user_data).unwrap();
    let here = |text: &str| {
        let below = |from: &str, text: String| text.replace(from, &format!("{}{from}", dir.display()));
        below("/run/forest-plant", below("/usr/local/bin", text.to_owned()))
    };
    for folder in ["run/forest-plant", "usr/local/bin"] {
        fs::create_dir_all(dir.join(folder)).unwrap();
    }
    for file in config.write_files.iter().filter(|file| file.path.starts_with("/run")) {
        let lines = file.content.lines();
        let lines = lines
            .map(|line| if line.starts_with("url = ") { format!("url = \"{url}\"") } else { here(line) });
        fs::write(here(&file.path), lines.map(|line| line + "\n").collect::<String>()).unwrap();
    }
    let quoted =
        |word: &String| format!("'{}'", here(word).replace('\'', r"'\''").replace("=https", "=http"));
    let line = |words: &Vec<String>| words.iter().map(quoted).collect::<Vec<_>>().join(" ") + "\n";
    Command::new("sh").arg("-c").arg(config.runcmd.iter().map(line).collect::<String>()).output().expect("sh")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn curl_gives_the_server_the_user_and_the_password_as_they_are() {
    for password in
        ["plain", "a\"b\\c", "$(reboot)`id`", "#: {x}", "tab\there", "päss 💥", " edges ", "\\n", "a,b:c'd"]
    {
        let dir = tempfile::tempdir().unwrap();
        let mut plan = example();
        plan.share.password = SecretString::from(password);
        let (url, answering) = server("200 OK");
        script(dir.path(), &rendered(&plan), &url);
        let sent = answering.join().unwrap().expect("an Authorization header");
        assert_eq!(decoded(&sent), format!("u12345:{password}"));
    }
}

#[test]
fn what_has_the_right_digest_is_put_in_place_and_run() {
    let dir = tempfile::tempdir().unwrap();
    let (url, _) = server("200 OK");
    let output = script(dir.path(), &rendered(&example()), &url);
    // It is no program, so that running it is what fails.
    assert!(text(&output.stderr).contains("hello: not found"), "{output:?}");
    assert_eq!(fs::read_to_string(dir.path().join("usr/local/bin/forest-agent")).unwrap(), PROGRAM);
}

#[test]
fn what_has_another_digest_is_never_run() {
    let dir = tempfile::tempdir().unwrap();
    let other = rendered(&example()).replace(DIGEST, &"0".repeat(64));
    let (url, _) = server("200 OK");
    let output = script(dir.path(), &other, &url);
    assert!(!output.status.success());
    assert!(text(&output.stdout).contains("forest-agent.new: FAILED"), "{output:?}");
    assert!(text(&output.stderr).contains("did NOT match"), "{output:?}");
    assert!(!dir.path().join("usr/local/bin/forest-agent").exists());
}

#[test]
fn what_is_not_there_is_named_with_its_url_and_without_the_password() {
    let dir = tempfile::tempdir().unwrap();
    let (url, _) = server("404 Not Found");
    let output = script(dir.path(), &rendered(&example()), &url);
    assert_eq!(output.status.code(), Some(22), "{output:?}");
    let said = text(&output.stderr);
    assert!(
        said.contains(&format!("forest-agent was not fetched from {url}: ")) && said.contains("404"),
        "{said}"
    );
    assert!(!said.contains("horse"), "{said}");
}

/// Base64, by a tool that every machine has.
fn decoded(text: &str) -> String {
    let output =
        Command::new("sh").args(["-c", "printf %s \"$1\" | base64 -d", "sh", text]).output().unwrap();
    self::text(&output.stdout)
}
