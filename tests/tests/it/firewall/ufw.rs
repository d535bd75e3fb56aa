//! ufw is active: its chains drop what they do not know, so it gets rules of ours too.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use forest_tests::lab::{Lab, Reach};

use super::{Scene, unmanage};

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
        for command in [["--force", "reset"], ["--force", "enable"], ["allow", "22/tcp"]] {
            lab.run(n, &["ufw", command[0], command[1]]).unwrap();
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
    let health = first.until_pass();
    assert_eq!(health["checks"]["firewall:rules"][0]["observedValue"], 7);
    assert_eq!([8222, 8223].map(|port| scene.reach(3, port)), [Reach::Open; 2]);
    assert_eq!([6222, 6223].map(|port| scene.reach(2, port)), [Reach::Dropped; 2]);
    let second = scene.node(2).start();
    scene.until_registered(2);
    scene.until_open(2, 6222);
    assert_eq!([4222, 6222, 6223].map(|port| scene.reach(3, port)), [Reach::Dropped; 3]);
    for node in [&first, &second] {
        node.until_pass();
    }
    assert_ne!(ufw.rules(), before.1);

    unmanage(&mut first);
    assert_eq!((scene.ruleset(), ufw.rules()), before, "what is left is what was there before");
}
