//! What the run shows: two bots agree on a workload, a node boots and runs it, and it answers.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use qemu_tests::Firmware;
use qemu_tests::grid::{App, Grid, Node, NodeOptions, Programs, Terms, Tunnel};
use qemu_tests::http::Answer;

use super::stages::Stages;
use crate::console;

/// Periods that are agreed on: at ten seconds each, two hours.
const PERIODS: u32 = 720;
/// A file that is left on the workload's volume.
const FILE: &str = "/data/hello.txt";
const CONTENT: &str = "kept on the workload's volume\n";

/// What a run is made of.
#[derive(Debug)]
pub(super) struct Sources {
    pub(super) programs: Programs,
    pub(super) iso: PathBuf,
    pub(super) image: PathBuf,
    pub(super) firmware: Firmware,
}

/// A grid whose workload has answered. Dropping it ends everything, the tunnel first.
#[derive(Debug)]
pub(super) struct Demo {
    answer: Answer,
    app: PathBuf,
    threebot: PathBuf,
    tunnel: Tunnel,
    node: Node,
    grid: Grid,
}

impl Demo {
    /// From nothing to the first answer.
    pub(super) fn start(sources: &Sources, directory: &Path, stages: &mut Stages) -> Result<Self> {
        let grid = Grid::start(&sources.programs, directory)?;
        stages.reached(
            "chain up",
            &format!("genesis {}, one validator, two bots", grid.chain()),
        );
        let farm = grid.create_farm(&Terms::default())?;
        stages.reached("farm created", &farm);
        let node = boot(&grid, sources, stages)?;

        grid.push_demo(&sources.image)?;
        let app = App::demo(PERIODS).write_in(grid.directory())?;
        grid.customer()
            .deploy(&app, |stage| stages.reached(&stage.name, &stage.detail))?;

        let tunnel = grid.customer().tunnel("demo", 80)?;
        let answer = tunnel.first_answer("/")?;
        let detail = format!("status {}, {} bytes", answer.status, answer.body.len());
        stages.reached("first HTTP answer", &detail);
        let detail = keep_a_file(&tunnel)?;
        stages.reached("volume written and read", &detail);
        Ok(Self {
            answer,
            app,
            threebot: sources.programs.threebot().to_owned(),
            tunnel,
            node,
            grid,
        })
    }

    /// Prints what the workload answered.
    pub(super) fn show_answer(&self) {
        console::result("");
        console::result(&format!("http://{}/ answers:", self.tunnel.address()));
        for line in self.answer.text().lines() {
            console::result(&format!("    {line}"));
        }
    }

    /// Prints what to try while it runs.
    pub(super) fn show_next_steps(&self) {
        let threebot = self.threebot.display();
        let customer = self.grid.customer().home().display();
        let farmer = self.grid.farmer().home().display();
        let address = self.tunnel.address();
        let lines = [
            "What to try next:".to_owned(),
            format!("  curl http://{address}/"),
            format!("  curl -T README.md http://{address}/data/readme; curl http://{address}/data/"),
            format!("  {threebot} --home {customer} ps"),
            format!("  {threebot} --home {customer} logs demo"),
            format!("  {threebot} --home {customer} balance"),
            format!("  {threebot} --home {farmer} farm list"),
            format!("  {threebot} --home {customer} cancel demo    # the escrow's rest comes back"),
            format!(
                "  {threebot} --home {customer} deploy {}    # and again",
                self.app.display()
            ),
            format!(
                "  tail -f {}",
                self.node.machine.directory().join("console.log").display()
            ),
            format!("Logs and homes are in {}.", self.grid.directory().display()),
            "Ctrl-C ends all of it.".to_owned(),
        ];
        for line in lines {
            console::step(&line);
        }
    }
}

fn boot(grid: &Grid, sources: &Sources, stages: &mut Stages) -> Result<Node> {
    let mut node = grid.boot_node(&NodeOptions {
        firmware: sources.firmware,
        ..NodeOptions::new("node", sources.iso.clone())
    })?;
    node.wait_until_booted()?;
    let firmware = match sources.firmware {
        Firmware::Bios => "BIOS",
        Firmware::Uefi => "UEFI",
    };
    stages.reached(
        "node booted",
        &format!("from the ISO by {firmware}, with the farm's media"),
    );
    let identity = node.wait_for_identity()?;
    stages.reached("identity made", &identity);
    node.wait_for_chain()?;
    stages.reached("chain verified", "by the node, from the genesis");
    let capacity = node.wait_until_registered()?;
    stages.reached("node registered", &capacity);
    Ok(node)
}

/// Leaves a file on the volume and reads it again.
fn keep_a_file(tunnel: &Tunnel) -> Result<String> {
    tunnel.put(FILE, CONTENT.as_bytes())?;
    let got = tunnel.get(FILE)?;
    ensure!(got == CONTENT.as_bytes(), "GET {FILE}: not what was put");
    Ok(format!("PUT and GET {FILE}, {} bytes", got.len()))
}
