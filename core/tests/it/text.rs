//! The file's text through the whole algorithm: what others wrote is there, to the byte, after 100 updates.

use std::convert::Infallible;

use forest_core::registry::{
    Claim, Clock as _, Files, Limits, Outcome, Owner, Ports, Probes, Registry, UpdateOptions, VirtualClock,
    bury, claim, diff, read, update,
};
use jiff::Timestamp;

use crate::bench::{Bench, Plain, creating, grove};

const BEFORE: &str = r#"{
  "zeta": {
    "b": 1.10,
    "a": 12345678901234567890123
  },
  "version": 1,
  "updated_at": "2020-01-01T00:00:00Z",
  "forests": {
    "grove": {
      "size": "small",
      "weight": 1e-7,
      "id": "grove",
      "next_node": 4
    }
  },
  "nodes": {
    "elm": null,
    "grove": [
      {
        "colour": "grün \"x\"",
        "id": "n9",
        "ip": "",
        "metadata": {
          "rack": "7"
        },
        "score": -0.50
      }
    ]
  },
  "alpha": []
}
"#;

#[test]
fn a_hundred_updates_change_what_they_own_and_nothing_else() {
    let bench = Plain::new();
    bench.put("registry.json", BEFORE.as_bytes());
    let (clock, limits, owner) =
        (VirtualClock::new(Timestamp::now()), Limits::default(), Owner::current("me"));
    let door = bench.door();
    for port in 0..100 {
        let mut mine = Claim {
            forest: grove(),
            node: "n1".parse().unwrap(),
            address: "fd00::1".parse().unwrap(),
            instance: "me".to_owned(),
            ports: Ports::default(),
            now: "2026-11-22T20:16:55Z".parse().unwrap(),
            probes: Probes::default(),
        };
        mine.ports.health += port;
        update(&*door, &clock, &owner, &limits, &creating(), |registry| {
            claim(registry, &mine).map(|change| change.registry)
        })
        .unwrap();
    }
    let after = read::<Registry>(&*door, &clock, &limits, &Files::default()).unwrap();
    let after = String::from_utf8(after.bytes).unwrap();
    let due = r#"--- registry.json
+++ registry.json
@@ -4,7 +4,7 @@
     "a": 12345678901234567890123
   },
   "version": 1,
-  "updated_at": "2020-01-01T00:00:00Z",
+  "updated_at": "2026-11-22T20:16:55Z",
   "forests": {
     "grove": {
       "size": "small",
@@ -24,6 +24,18 @@
           "rack": "7"
         },
         "score": -0.50
+      },
+      {
+        "id": "n1",
+        "ip": "fd00::1",
+        "forest_id": "grove",
+        "ipv6": "fd00::1",
+        "status": "active",
+        "created_at": "2026-11-22T20:16:55Z",
+        "metadata": {
+          "instance": "me",
+          "health_port": "8322"
+        }
       }
     ]
   },
"#;
    assert_eq!(diff::unified("registry.json", BEFORE, &after), due);
}

#[test]
fn a_document_in_a_directory_of_its_own_goes_the_same_way() {
    let bench = Plain::new();
    let (clock, limits, owner) =
        (VirtualClock::new(Timestamp::now()), Limits::default(), Owner::current("me"));
    let door = bench.door();
    let options = UpdateOptions { files: Files::of("secrets/grove.json"), create_missing: true };
    let set = || {
        update(&*door, &clock, &owner, &limits, &options, |secrets: &Registry| {
            Ok::<_, Infallible>(bury(secrets, &grove(), &"n1".parse().unwrap(), clock.now()))
        })
    };
    let err = set().unwrap_err();
    assert!(err.to_string().contains("secrets/"), "{err}");
    assert_eq!(bench.leftovers(), [""; 0]);

    door.mkdir("secrets").unwrap();
    assert_eq!(set().unwrap(), Outcome::Committed { restored: None });
    assert_eq!(set().unwrap(), Outcome::Unchanged);
    assert_eq!(bench.get("secrets/grove.json"), bench.get("secrets/.grove.last-good.json"));
    bench.put("secrets/grove.json", b"");
    let copy = match set().unwrap() {
        Outcome::Committed { restored } => restored.unwrap().quarantined.unwrap(),
        Outcome::Unchanged => panic!("it was restored"),
    };
    assert!(copy.starts_with("secrets/grove.json.corrupt-20"), "{copy}");
    assert_eq!(bench.leftovers(), ["secrets"]);
}
