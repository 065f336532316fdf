//! A chain of several validators on one computer, as `cargo xtask devnet` runs it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use qemu_tests::free_udp_port;
use qemu_tests::grid::{Programs, Validators};

#[test]
fn several_validators_found_a_chain_and_go_on_with_it() {
    let programs = Programs::built().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let ports = [(); 4].map(|()| free_udp_port().unwrap());
    let start = |count: usize| Validators::start(&programs, directory.path(), &ports[..count], &[]);
    let founded = start(4).unwrap();
    let (chain, peers) = (
        founded.chain().to_owned(),
        founded.peers().map(str::to_owned).collect::<Vec<_>>(),
    );
    assert_eq!(peers.len(), 4);
    for (peer, port) in peers.iter().zip(ports) {
        assert!(peer.ends_with(&format!("@127.0.0.1:{port}")), "{peer}");
    }
    assert!(founded.ended().is_empty());
    drop(founded);
    let again = start(4).unwrap();
    assert_eq!(
        (again.chain(), again.peers().collect::<Vec<_>>()),
        (chain.as_str(), peers.iter().map(String::as_str).collect())
    );
    drop(again);
    let fewer = start(3).unwrap_err().to_string();
    assert!(fewer.contains("listen at the ports"), "{fewer}");
    let others = [(); 4].map(|()| free_udp_port().unwrap());
    let elsewhere = Validators::start(&programs, directory.path(), &others, &[])
        .unwrap_err()
        .to_string();
    assert!(
        elsewhere.contains(&format!("{ports:?} and not {others:?}")),
        "{elsewhere}"
    );
}
