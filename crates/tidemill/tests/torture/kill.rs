//! `kill -9` at random moments under load.

use std::sync::Arc;
use std::time::Duration;

use tidemill_base::rand::Rng;

use crate::command::Folder;
use crate::load::{Load, PIPELINE, Sent, root, shown, undisturbed};
use crate::{count, seed};

#[test]
fn nothing_acknowledged_is_lost_and_nothing_counted_twice() {
    let kills = count("TIDEMILL_TORTURE", 8);
    let mut rng = Rng::seeded(seed());
    let folder = Folder::with(PIPELINE);
    let sent = Arc::new(Sent::default());
    for kill in 0..kills {
        let lanes = (1 + rng.below(3)).to_string();
        let mut running =
            folder.start(&["run", "pipeline.sql", "--listen", "127.0.0.1:0", "--state", "kept", "--lanes", &lanes]);
        // Some are killed before they have come up.
        if rng.chance(1, 10) {
            std::thread::sleep(Duration::from_millis(rng.below(60)));
            running.signal("KILL");
            drop(running.end());
            continue;
        }
        let address = running.address();
        let level = if kill % 2 == 0 { None } else { Some("process") };
        let load = Load::begin(&address, &sent, level);
        std::thread::sleep(Duration::from_millis(20 + rng.below(400)));
        running.signal("KILL");
        drop(running.end());
        load.end();
    }
    let mut running = folder.start(&["run", "pipeline.sql", "--listen", "127.0.0.1:0", "--state", "kept"]);
    running.address();
    running.signal("INT");
    running.end().failed(130, &[]);
    let (written, acknowledged) = (shown(&folder.path("out")), sent.acknowledged());
    let lost: Vec<u64> = acknowledged.difference(&written).copied().collect();
    assert!(lost.is_empty(), "{} of {} acknowledged events are lost: {lost:?}", lost.len(), acknowledged.len());
    assert!(written.iter().all(|id| *id < sent.count()), "there is nothing that was not sent");
    assert!(!acknowledged.is_empty(), "something was acknowledged");
    assert_eq!(root(&folder, "kept"), undisturbed(&written), "the content is that of an undisturbed run");
    println!(
        "{kills} kills, {} events acknowledged, {} written: none lost, none twice",
        acknowledged.len(),
        written.len()
    );
}
