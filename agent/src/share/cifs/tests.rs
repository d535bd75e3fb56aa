use proptest::prelude::*;

use super::*;

fn share(options: &[&str]) -> Share {
    Share {
        host: "u1.box.example".into(),
        path: "backup/morpheus".into(),
        mountpoint: "/mnt/forest".into(),
        username: "u1".into(),
        password_file: "/etc/morpheus/storagebox.password".into(),
        options: options.iter().map(|&option| option.to_owned()).collect(),
    }
}

fn request(options: &[&str], password: &str) -> Request {
    let address = "[2001:db8::1]:445".parse().unwrap();
    Request::new(&share(options), address, &SecretString::from(password)).unwrap()
}

fn text(request: &Request) -> &str {
    request.expose_data().to_str().unwrap()
}

#[test]
fn the_default_options_go_into_the_data() {
    let request = request(&["seal", "vers=3.1.1", "soft"], "s3cret");
    assert_eq!(request.source, "//u1.box.example/backup/morpheus");
    assert_eq!(request.target, PathBuf::from("/mnt/forest"));
    assert_eq!(request.flags, MountFlags::empty());
    assert_eq!(text(&request), "ip=2001:db8::1,username=u1,password=s3cret,seal,vers=3.1.1,soft");
}

#[test]
fn flags_and_words_of_fstab_stay_out_of_the_data() {
    let options = ["nosuid", "ro", "rw", "_netdev", "x-systemd.automount", " nodev ,noatime", "seal", ""];
    let request = request(&options, "s3cret");
    assert_eq!(request.flags, MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME);
    assert_eq!(text(&request), "ip=2001:db8::1,username=u1,password=s3cret,seal");
}

#[test]
fn the_port_is_an_option() {
    assert_eq!(port(&share(&["seal"])), 445);
    assert_eq!(port(&share(&["port=1", "seal,port=4450"])), 4450);
    assert_eq!(port(&share(&["port=no"])), 445);
}

#[test]
fn a_link_local_address_keeps_its_interface() {
    let scoped = std::net::SocketAddrV6::new("fe80::1".parse().unwrap(), 445, 0, 2);
    assert_eq!(ip(SocketAddr::V6(scoped)), "fe80::1%2");
    assert_eq!(ip("192.0.2.1:445".parse().unwrap()), "192.0.2.1");
}

#[test]
fn the_password_is_never_shown() {
    let shown = format!("{:?}", request(&["seal"], "s3cret"));
    assert!(shown.contains("//u1.box.example/backup/morpheus"));
    assert!(!shown.contains("s3cret") && !shown.contains("115, 51"), "{shown}");
}

#[test]
fn what_mount_would_cut_off_is_refused_without_showing_it() {
    let long = "x".repeat(DATA_MAX);
    let address = "192.0.2.1:445".parse().unwrap();
    let fault = Request::new(&share(&[&long]), address, &SecretString::from("s3cret")).unwrap_err();
    assert_eq!(fault.reason, Reason::ShareMountFailed);
    assert!(fault.message.contains("longer than the 4096"), "{fault}");
    assert!(!fault.message.contains("s3cret"));
    let fault = Request::new(&share(&["a\0b"]), address, &SecretString::from("s3cret")).unwrap_err();
    assert!(fault.message.contains("NUL"), "{fault}");
}

/// Reads the data as the kernel's smb3_fs_context_parse_monolithic does: split at commas, a doubled one joined.
fn as_the_kernel_reads(data: &str) -> Vec<(String, String)> {
    let mut options = Vec::new();
    let mut rest = data.chars().peekable();
    let mut option = String::new();
    while let Some(c) = rest.next() {
        match c {
            ',' if rest.peek() == Some(&',') => {
                rest.next();
                option.push(',');
            }
            ',' => options.push(std::mem::take(&mut option)),
            c => option.push(c),
        }
    }
    options.push(option);
    let pair = |option: String| match option.split_once('=') {
        Some((key, value)) => (key.to_owned(), value.to_owned()),
        None => (option, String::new()),
    };
    options.into_iter().map(pair).collect()
}

proptest! {
    #[test]
    fn the_kernel_reads_back_any_password(password in "[ -~äß,=]{1,40}") {
        let request = request(&["seal", "vers=3.1.1"], &password);
        let read = as_the_kernel_reads(text(&request));
        let expected = [("ip", "2001:db8::1"), ("username", "u1"), ("password", &password), ("seal", ""), ("vers", "3.1.1")];
        let expected: Vec<_> = expected.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        prop_assert_eq!(read, expected);
    }
}
