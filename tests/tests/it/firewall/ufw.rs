//! ufw is active: its chains drop what they do not know, so it gets rules of ours too.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use forest_tests::lab::{Lab, Reach};
use forest_tests::wait::until_value;

use super::{Scene, unmanage, until_peer, until_rules};

/// ufw's settings of a test's host alone: `ip netns exec` shows them there as /etc/ufw.
struct Ufw {
    dir: PathBuf,
}

impl Ufw {
    /// A fresh one, which lets in ssh and nothing else.
    fn enable(lab: &Lab, n: usize) -> Self {
        let ufw = Self { dir: PathBuf::from("/etc/netns").join(lab.host(n)) };
        fs::create_dir_all(&ufw.dir).unwrap();
        let copied = Command::new("cp").arg("-a").arg("/etc/ufw").arg(ufw.dir.join("ufw")).status().unwrap();
        assert!(copied.success(), "ufw is needed: make tools");
        // The reload puts in place what ufw leaves out of a first start, and adds by itself later.
        for command in [&["--force", "reset"][..], &["--force", "enable"], &["allow", "22/tcp"], &["reload"]]
        {
            lab.run(n, &[&["ufw"], command].concat()).unwrap();
        }
        ufw
    }

    fn rules(&self) -> [String; 2] {
        ["user.rules", "user6.rules"].map(|name| fs::read_to_string(self.dir.join("ufw").join(name)).unwrap())
    }
}

impl Drop for Ufw {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
        // Only where nobody else has anything in it.
        let _ = fs::remove_dir("/etc/netns");
    }
}

#[test]
fn an_active_ufw_lets_in_whom_we_let_in_and_is_left_as_it_was() {
    let scene = Scene::new(3);
    let ufw = Ufw::enable(&scene.lab, 1);
    let before = (scene.ruleset(), ufw.rules());
    assert_eq!(scene.reach(2, 22), Reach::Refused, "ufw lets in ssh, and nobody listens");
    assert_eq!(scene.reach(2, 6222), Reach::Dropped, "ufw drops what it does not know");

    let mut first = scene.node(1).start();
    until_rules(&first, 7);
    for port in [8222, 8223] {
        scene.until_open(3, port);
    }
    assert_eq!([6222, 6223].map(|port| scene.reach(2, port)), [Reach::Dropped; 2]);
    let second = scene.node(2).start();
    scene.until_registered(2);
    scene.until_open(2, 6222);
    assert_eq!([4222, 6222, 6223].map(|port| scene.reach(3, port)), [Reach::Dropped; 3]);
    until_rules(&first, 8);
    until_peer(&first);
    until_peer(&second);
    assert_ne!(ufw.rules(), before.1);

    unmanage(&mut first);
    let left = || (scene.ruleset(), ufw.rules());
    until_value("what is left is what was there before", left, |left| *left == before);
}
