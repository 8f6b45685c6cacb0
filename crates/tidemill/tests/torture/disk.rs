//! Disks whose power is cut, that fail, and that are full.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use tidemill_base::rand::Rng;

use crate::command::Folder;
use crate::load::{Load, PIPELINE, Sent, post, shown};
use crate::{count, seed};

/// Runs a command of the system; its text when it failed.
fn system(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

/// A file system in a file, mounted as long as this lives.
struct Mounted<'a> {
    at: &'a Path,
}

impl<'a> Mounted<'a> {
    fn new(image: &Path, at: &'a Path) -> Result<Self, String> {
        let text = |path: &Path| path.display().to_string();
        // Nothing is written by itself while the image is copied: a copy is what a power cut would have left.
        system("mount", &["-o", "loop,commit=300", &text(image), &text(at)])?;
        Ok(Mounted { at })
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        // Lazily: a process that is being killed may still have it open.
        let _ = system("umount", &["-l", &self.at.display().to_string()]);
    }
}

#[test]
fn what_was_flushed_survives_a_power_cut() {
    let cuts = count("TIDEMILL_POWER_CUTS", 2);
    let mut rng = Rng::seeded(seed() ^ 0x70);
    for cut in 0..cuts {
        let folder = Folder::with(PIPELINE);
        let (image, disk) = (folder.path("disk.ext4"), folder.path("disk"));
        std::fs::create_dir(&disk).expect("the folder is ours");
        let text = image.display().to_string();
        let made = system("truncate", &["-s", "96M", &text]).and_then(|()| system("mkfs.ext4", &["-q", "-F", &text]));
        let mounted = match made.and_then(|()| Mounted::new(&image, &disk)) {
            Ok(mounted) => mounted,
            Err(reason) => return eprintln!("skipped: this user may not mount an image: {reason}"),
        };
        let script = std::fs::File::create(disk.join("pipeline.sql"));
        let script = script.and_then(|mut file| file.write_all(PIPELINE.as_bytes()).and_then(|()| file.sync_all()));
        script.and_then(|()| std::fs::File::open(&disk)?.sync_all()).expect("there is room");
        let sent = Arc::new(Sent::default());
        let run = ["run", "pipeline.sql", "--listen", "127.0.0.1:0", "--state", "kept"];
        let mut running = folder.start_in("disk", &run);
        let load = Load::begin(&running.address(), &sent, None);
        std::thread::sleep(Duration::from_millis(100 + rng.below(900)));
        // What was acknowledged before it stands still must be in the copy, whatever else is.
        let acknowledged = sent.acknowledged();
        running.signal("STOP");
        std::thread::sleep(Duration::from_millis(50));
        let copy = folder.path("cut.ext4");
        std::fs::copy(&image, &copy).expect("there is room");
        running.signal("KILL");
        drop(running.end());
        load.end();
        drop(mounted);
        let _mounted = Mounted::new(&copy, &disk).expect("an ext4 that lost its power mounts again");
        let mut running = folder.start_in("disk", &run);
        running.address();
        running.signal("INT");
        running.end().failed(130, &[]);
        let written = shown(&disk.join("out"));
        let lost: Vec<u64> = acknowledged.difference(&written).copied().collect();
        assert!(
            lost.is_empty(),
            "cut {cut}: {} of {} flushed events are lost: {lost:?}",
            lost.len(),
            acknowledged.len()
        );
        println!("cut {cut}: {} flushed events are there, {} in all", acknowledged.len(), written.len());
    }
}

#[test]
fn a_failing_disk_stops_acknowledgements_and_is_told() {
    let folder = Folder::with(PIPELINE);
    let arguments = ["run", "pipeline.sql", "--listen", "127.0.0.1:0", "--state", "kept"];
    // From its thirtieth on, every flush of the journal fails.
    let inject = ["-f", "-qq", "-o", "/dev/null", "-e", "trace=msync", "-e", "inject=msync:error=EIO:when=30+"];
    if Command::new("strace")
        .args(["-qq", "-o", "/dev/null", "true"])
        .output()
        .map_or(true, |done| !done.status.success())
    {
        return eprintln!("skipped: there is no strace here, or it may not trace");
    }
    let mut running = folder.start_under("strace", &inject, &arguments);
    let address = running.address();
    let mut acknowledged = 0;
    let refused = (0..1_000_u32).find_map(|id| {
        let answer = post(&address, &format!("{{\"id\": {id}, \"page\": \"a\"}}\n"), None);
        match answer {
            Some((202, _)) => {
                acknowledged += 1;
                None
            }
            other => Some(other),
        }
    });
    let refused = refused.expect("a disk that fails cannot flush");
    if let Some((status, answer)) = refused {
        assert_eq!(status, 503, "{answer}");
        assert!(answer.contains("TM5115") || answer.contains("TM5112"), "{answer}");
    }
    running.end().failed(1, &["TM1106", "the journal stopped", "start again"]);
    assert!(acknowledged > 0, "it worked before the disk failed");
    let mut running = folder.start(&arguments);
    running.address();
    running.signal("INT");
    running.end().failed(130, &[]);
    let written = shown(&folder.path("out"));
    assert!((0..acknowledged).all(|id| written.contains(&id)), "what was acknowledged is there");
}

#[test]
fn a_full_disk_turns_input_away_and_goes_on_when_there_is_room() {
    let folder = Folder::with(&PIPELINE.replace("'1 MiB'", "'256 KiB'"));
    std::fs::create_dir(folder.path("small")).expect("the folder is ours");
    let small = folder.path("small").display().to_string();
    if let Err(reason) = system("mount", &["-t", "tmpfs", "-o", "size=4m", "tmpfs", &small]) {
        return eprintln!("skipped: this user may not mount: {reason}");
    }
    let at = folder.path("small");
    let mounted = Mounted { at: &at };
    let arguments = ["run", "pipeline.sql", "--listen", "127.0.0.1:0", "--state", "small/kept"];
    let mut running = folder.start(&arguments);
    let address = running.address();
    let ballast = at.join("ballast");
    std::fs::write(&ballast, vec![0; 2_500_000]).expect("there is room yet");
    let (mut next, mut acknowledged) = (0_u64, Vec::new());
    let mut send = |acknowledged: &mut Vec<u64>| {
        let ids = next..next + 200;
        next += 200;
        let body: String =
            ids.clone().map(|id| format!("{{\"id\": {id}, \"page\": \"{}\"}}\n", "x".repeat(200))).collect();
        let answer = post(&address, &body, None);
        if matches!(answer, Some((202, _))) {
            acknowledged.extend(ids);
        }
        answer
    };
    let refused = (0..400).find_map(|_| match send(&mut acknowledged) {
        Some((202, _)) => None,
        other => Some(other),
    });
    let refused = refused.expect("four megabytes are full some time");
    if let Some((status, answer)) = &refused {
        assert!(matches!(status, 429 | 503), "{answer}");
    }
    std::fs::remove_file(&ballast).expect("it is ours");
    let goes_on = (0..200).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        matches!(send(&mut acknowledged), Some((202, _)))
    });
    if goes_on {
        running.signal("INT");
    }
    // When not even a snapshot fits it stops, says why, and goes on where it was.
    let ended = running.end();
    if !goes_on {
        assert!(ended.stderr.contains("room") || ended.stderr.contains("space"), "{}", ended.stderr);
    }
    let mut running = folder.start(&arguments);
    running.address();
    running.signal("INT");
    running.end().failed(130, &[]);
    let written = shown(&folder.path("out"));
    assert!(acknowledged.iter().all(|id| written.contains(id)), "what was acknowledged is there");
    drop(mounted);
}
