use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::Path,
};

use super::*;
use crate::{disks::signature, layout};

fn add(root: &Path, name: &str, bytes: u64, sequence: u32) -> File {
    let sys = root.join("sys").join(name);
    fs::create_dir_all(&sys).unwrap();
    fs::write(sys.join("size"), (bytes / 512).to_string()).unwrap();
    fs::write(sys.join("serial"), format!("S-{name}")).unwrap();
    fs::write(sys.join("diskseq"), sequence.to_string()).unwrap();
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(root.join("dev").join(name))
        .unwrap();
    file.set_len(bytes).unwrap();
    file
}

fn storage(root: &Path) -> Storage {
    fs::create_dir_all(root.join("sys")).unwrap();
    fs::create_dir_all(root.join("dev")).unwrap();
    let places = Places {
        sys_block: root.join("sys"),
        dev: root.join("dev"),
        data: root.join("data"),
        mkfs: "/bin/false".into(),
        verified: "/".into(),
    };
    Storage::new(places, Erase::new())
}

async fn steps(storage: &mut Storage) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        lines.extend(
            tokio::task::block_in_place(|| storage.step())
                .unwrap()
                .iter()
                .map(ToString::to_string),
        );
        if storage.reading().is_empty() {
            return lines;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn data_in_the_middle_of_a_disk_is_found_by_the_full_read_and_the_disk_is_untouched() {
    let root = tempfile::tempdir().unwrap();
    let mut storage = storage(root.path());
    assert!(steps(&mut storage).await.is_empty());
    let disk = add(root.path(), "vdb", 1 << 30, 1);
    disk.write_all_at(b"precious", 600 << 20).unwrap();
    assert_eq!(
        steps(&mut storage).await,
        [
            "disk vdb: reading all 1 GiB before its first use; large disks take hours",
            "disk vdb (serial S-vdb, 1 GiB): carries data of an unknown kind (first byte that is not zero at 629145600); \
             not touched; zos.erase=S-vdb on the command line would erase it",
        ]
    );
    assert_eq!(storage.refused().len(), 1);
    let mut head = vec![1; 2 << 20];
    disk.read_exact_at(&mut head, 0).unwrap();
    assert!(head.iter().all(|byte| *byte == 0));
    assert!(steps(&mut storage).await.is_empty(), "said once");
}

#[tokio::test(flavor = "multi_thread")]
async fn disk_that_was_replaced_under_its_name_is_looked_at_anew() {
    let root = tempfile::tempdir().unwrap();
    let mut storage = storage(root.path());
    add(root.path(), "vdb", 1 << 20, 1);
    assert_eq!(
        steps(&mut storage).await,
        ["disk vdb (serial S-vdb, 1 MiB): is smaller than 1 GiB; not used"]
    );
    let foreign = add(root.path(), "vdb", 1 << 30, 2);
    foreign.write_all_at(b"XFSB", 0).unwrap();
    let lines = steps(&mut storage).await;
    assert!(lines[0].contains("carries an XFS file system"), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn disk_of_zeros_is_formatted_and_a_format_that_cannot_go_on_says_why() {
    let root = tempfile::tempdir().unwrap();
    let mut storage = storage(root.path());
    let disk = add(root.path(), "vdb", 1 << 30, 1);
    let lines = steps(&mut storage).await;
    // A file has no partitions to read anew; the mark is on it by then.
    assert!(
        lines[1].starts_with("disk not formatted: read the new partition table of vdb: "),
        "{lines:?}"
    );
    assert_eq!(
        signature::probe(&disk, 1 << 30, 512).unwrap(),
        Content::Ours(OurTable::HalfMade)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn erase_waits_for_other_disks_and_one_with_the_same_serial_stops_it() {
    let root = tempfile::tempdir().unwrap();
    let mut storage = storage(root.path());
    storage.erase = ["S-vdb".to_owned()].into();
    let mark = b"precious";
    let foreign = add(root.path(), "vdb", 1 << 30, 1);
    foreign.write_all_at(mark, 4096).unwrap();
    let began = Instant::now();
    let lines = |events: Vec<Event>| events.iter().map(ToString::to_string).collect::<Vec<_>>();
    let step = |storage: &mut Storage, after| {
        tokio::task::block_in_place(|| storage.step_at(began + after))
            .map(lines)
            .unwrap()
    };
    assert!(step(&mut storage, Duration::ZERO).is_empty());
    assert!(step(&mut storage, SETTLE - Duration::from_secs(1)).is_empty());
    let twin = add(root.path(), "vdc", 1 << 30, 2);
    twin.write_all_at(mark, 4096).unwrap();
    fs::write(root.path().join("sys/vdc/serial"), "S-vdb").unwrap();
    let late = step(&mut storage, SETTLE);
    assert_eq!(late.len(), 2, "{late:?}");
    assert!(
        late.iter()
            .all(|line| line.contains("so is another disk with the same serial")),
        "{late:?}"
    );
    let mut found = [0; 8];
    foreign.read_exact_at(&mut found, 4096).unwrap();
    assert_eq!(&found, mark);
}

#[tokio::test(flavor = "multi_thread")]
async fn disk_that_is_named_alone_is_erased_once_the_disks_have_settled() {
    let root = tempfile::tempdir().unwrap();
    let mut storage = storage(root.path());
    storage.erase = ["S-vdb".to_owned()].into();
    let foreign = add(root.path(), "vdb", 1 << 30, 1);
    foreign.write_all_at(b"precious", 4096).unwrap();
    let began = Instant::now();
    tokio::task::block_in_place(|| storage.step_at(began)).unwrap();
    tokio::task::block_in_place(|| storage.step_at(began + SETTLE)).unwrap();
    assert_eq!(
        signature::probe(&foreign, 1 << 30, 512).unwrap(),
        Content::Ours(OurTable::HalfMade)
    );
}

/// Puts the tables and the beginning of the file system of a data disk on it.
fn make_ours(disk: &File) {
    let partition = layout::choose(1 << 30, 512, [7; 16], 0).unwrap();
    let mut writes = layout::table(&partition, 1 << 30, 512, [8; 16]);
    writes.push(layout::mark(&partition, layout::MarkState::Made));
    for write in writes {
        disk.write_all_at(&write.bytes, write.offset).unwrap();
    }
    disk.write_all_at(b"XFSB", 1 << 20).unwrap();
    disk.write_all_at(b"zos-data", (1 << 20) + 108).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn mount_that_fails_is_tried_again_and_the_disk_is_suspect_until_it_succeeds() {
    let root = tempfile::tempdir().unwrap();
    let mut storage = storage(root.path());
    make_ours(&add(root.path(), "vda", 1 << 30, 1));
    // Its partition is there, and whatever the kernel says to it is no XFS.
    let part = root.path().join("sys/vda/vda1");
    fs::create_dir_all(&part).unwrap();
    fs::write(part.join("start"), "2048").unwrap();
    fs::write(root.path().join("dev/vda1"), "").unwrap();
    let began = Instant::now();
    let lines = |events: Vec<Event>| events.iter().map(ToString::to_string).collect::<Vec<_>>();
    let first = lines(storage.step_at(began).unwrap());
    assert!(
        first[0].starts_with("disk not mounted: mount the data partition of vda"),
        "{first:?}"
    );
    assert!(
        storage.suspects()[0].starts_with("vda (mount"),
        "{:?}",
        storage.suspects()
    );
    let tries = |storage: &Storage| match &storage.seen["vda"].state {
        State::Failed(failed) => failed.failures,
        state => panic!("{state:?}"),
    };
    for (second, expected) in [(0, 1), (1, 2), (2, 2), (3, 3), (4, 3), (7, 4)] {
        let events = storage.step_at(began + Duration::from_secs(second)).unwrap();
        assert_eq!((tries(&storage), events.len()), (expected, 0), "after {second} s");
    }
    let late = storage.news;
    add(root.path(), "vdb", 1 << 20, 2);
    storage.step_at(began + Duration::from_secs(8)).unwrap();
    assert!(storage.news > late, "a disk that comes is news");
}
