//! Against a server of a few lines that says exactly the bytes it is told to.

use std::fs;
use std::io::{self, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use super::*;

/// Answers one request with `bytes` and closes; `http://user:secret@…/engine?token=secret`.
fn serve(bytes: Vec<u8>) -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let _ = stream.read(&mut request);
        let _ = stream.write_all(&bytes);
    });
    format!("http://user:secret@{address}/engine?token=secret").parse().unwrap()
}

fn answer(status: &str, length: usize, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// What stands in the directory afterwards, by name.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn with_an_old_engine() -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        fs::write(place.target(), "old").unwrap();
        place
    }

    fn target(&self) -> PathBuf {
        self.dir.path().join("engine")
    }

    async fn fetch(&self, url: Url, content: &[u8], bounds: Bounds) -> Result<(), Fault> {
        let download = Download { url, sha256: Sha256::digest(content).into() };
        fetch_http(&download, &self.target(), bounds).await
    }

    #[track_caller]
    fn assert_untouched(&self) {
        assert_eq!(fs::read(self.target()).unwrap(), b"old");
        assert_eq!(fs::read_dir(self.dir.path()).unwrap().count(), 1, "nothing else is left");
    }
}

#[test]
fn a_bare_machine_has_no_directory_for_it_yet() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    fs::write(&source, "program").unwrap();
    let url = Url::from_file_path(&source).unwrap();
    let download = Download { url, sha256: Sha256::digest("program").into() };
    let target = dir.path().join("opt/nimsforest/bin/engine");
    copy(&mut fs::File::open(&source).unwrap(), &download, &target, Bounds::default()).unwrap();
    assert_eq!(fs::read(target).unwrap(), b"program");
}

#[tokio::test]
async fn a_good_file_is_put_in_place_executable() {
    let place = Place::with_an_old_engine();
    let content = vec![7; 300_000];
    let url = serve(answer("200 OK", content.len(), &content));
    place.fetch(url, &content, Bounds::default()).await.unwrap();
    assert_eq!(fs::read(place.target()).unwrap(), content);
    let mode = fs::metadata(place.target()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
    assert_eq!(fs::read_dir(place.dir.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn another_file_is_refused_with_both_digests() {
    let place = Place::with_an_old_engine();
    let fault =
        place.fetch(serve(answer("200 OK", 3, b"bad")), b"good", Bounds::default()).await.unwrap_err();
    assert_eq!(fault.reason, Reason::DownloadSha256);
    for content in ["bad", "good"] {
        let digest = Sha256Digest(Sha256::digest(content).into()).to_string();
        assert!(fault.message.contains(&digest), "{fault}");
    }
    assert!(!fault.message.contains("secret"), "{fault}");
    place.assert_untouched();
}

#[tokio::test]
async fn every_failure_leaves_what_stood_there() {
    let small = Bounds { size: 100, ..Bounds::default() };
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nc8\r\n".to_vec();
    let endless = [chunked, vec![7; 200], b"\r\n0\r\n\r\n".to_vec()].concat();
    for (bytes, said) in [
        (answer("404 Not Found", 0, b""), "404 Not Found"),
        (answer("200 OK", 50, b"cut"), "cannot download"),
        (answer("200 OK", 200, b"long"), "larger than"),
        (endless, "larger than"),
        (b"nonsense\r\n\r\n".to_vec(), "cannot download"),
    ] {
        let place = Place::with_an_old_engine();
        let fault = place.fetch(serve(bytes), b"good", small).await.unwrap_err();
        assert_eq!(fault.reason, Reason::DownloadFailed);
        assert!(fault.message.contains(said), "{fault}");
        assert!(!fault.message.contains("secret"), "{fault}");
        place.assert_untouched();
    }
}

#[tokio::test]
async fn https_finds_a_crypto_provider() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/engine", listener.local_addr().unwrap()).parse().unwrap();
    std::thread::spawn(move || drop(listener.accept()));
    let place = Place::with_an_old_engine();
    let fault = place.fetch(url, b"good", Bounds::default()).await.unwrap_err();
    assert_eq!(fault.reason, Reason::DownloadFailed);
    place.assert_untouched();
}

#[tokio::test]
async fn a_server_that_falls_silent_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/engine", listener.local_addr().unwrap()).parse().unwrap();
    let place = Place::with_an_old_engine();
    let bounds = Bounds { stall: Duration::from_millis(50), ..Bounds::default() };
    let fault = place.fetch(url, b"good", bounds).await.unwrap_err();
    assert_eq!(fault.reason, Reason::DownloadFailed);
    place.assert_untouched();
}

#[test]
fn a_file_is_copied_like_a_download() {
    let place = Place::with_an_old_engine();
    let mut download = Download {
        url: "file:///mnt/forest/bin/engine".parse().unwrap(),
        sha256: Sha256::digest("new").into(),
    };
    assert_eq!(file_path(&download.url), Some("/mnt/forest/bin/engine".into()));
    let fault = copy(&mut &b"other"[..], &download, &place.target(), Bounds::default()).unwrap_err();
    assert_eq!(fault.reason, Reason::DownloadSha256);
    place.assert_untouched();

    let fault = copy(&mut Broken, &download, &place.target(), Bounds::default()).unwrap_err();
    assert!(fault.message.contains("file:///mnt/forest/bin/engine"), "{fault}");
    place.assert_untouched();

    copy(&mut &b"new"[..], &download, &place.target(), Bounds::default()).unwrap();
    assert_eq!(fs::read(place.target()).unwrap(), b"new");
    download.url = "https://example.org/engine".parse().unwrap();
    assert_eq!(file_path(&download.url), None);
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("the share went away"))
    }
}
