//! What people and programs read.

use std::io::{self, Write};

use ledger::{Id, Resources, body::Location};
use serde::Serialize;
use threebot::control::{DeploymentView, Event, FarmView, MovementView, NodeView, StatusView};

/// One line on standard output. A reader that went away is no reason to fail.
pub(super) fn line(text: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{text}");
    let _ = out.flush();
}

/// Raw bytes on standard output.
pub(super) fn raw(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(bytes);
    let _ = out.flush();
}

/// One JSON object on one line.
pub(super) fn json(value: &impl Serialize) {
    if let Ok(text) = serde_json::to_string(value) {
        line(&text);
    }
}

/// Recovery words, which are shown once.
pub(super) fn words(id: Option<Id>, words: &str, json: bool) {
    if json {
        return match id {
            Some(id) => self::json(&serde_json::json!({"id": id, "words": words})),
            None => self::json(&serde_json::json!({"words": words})),
        };
    }
    if let Some(id) = id {
        line(&format!("id: {id}"));
    }
    line("recovery words, shown only now; write them down and keep them secret:");
    line(words);
}

/// One line on standard error.
pub(super) fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Why it was not done.
pub(super) fn error(text: &str) {
    note(&format!("error: {text}"));
}

/// What happens during a deployment.
pub(super) fn event(event: &Event, as_json: bool) {
    match event {
        Event::Stage(stage) if as_json => json(stage),
        Event::Stage(stage) => line(&format!(
            "stage: {} ({:.1} s) {}",
            stage.stage, stage.seconds, stage.detail
        )),
        Event::Note { text } => note(text),
        Event::Open | Event::Done { .. } | Event::Failed(_) => {}
    }
}

pub(super) fn status(status: &StatusView) {
    line(&format!("id:     {}", status.id));
    line(&format!("name:   {}", status.name));
    let link = status.link.as_ref().map_or("no address".into(), ToString::to_string);
    line(&format!("link:   {link}"));
    line(&format!("height: {}", status.height));
}

pub(super) fn movements(movements: &[MovementView]) {
    table(
        &["HEIGHT", "BALANCE", "BY"],
        movements.iter().map(|movement| {
            vec![
                movement.height.to_string(),
                movement.balance.to_string(),
                movement.author.to_string(),
            ]
        }),
    );
}

pub(super) fn farms(farms: &[FarmView]) {
    for farm in farms {
        line(&format!(
            "{} {} {}, {} terms",
            farm.id,
            farm.name,
            farm.country,
            farm.terms.len()
        ));
        for node in &farm.nodes {
            let (capacity, reserved) = (resources(&node.capacity), resources(&node.reserved));
            line(&format!(
                "  node {} {}: {capacity}; reserved {reserved} by {}",
                node.id,
                node.state.name(),
                node.contracts
            ));
            line(&format!("    {}", node.hardware));
            for refused in &node.refused_disks {
                line(&format!("    leaves alone {refused}"));
            }
        }
    }
}

pub(super) fn nodes(nodes: &[NodeView]) {
    table(
        &["NODE", "FARM", "PLACE", "AN HOUR", "FREE"],
        nodes.iter().map(|node| {
            vec![
                node.node.to_string(),
                node.farm.clone(),
                place(&node.location),
                node.hour.to_string(),
                resources(&node.free),
            ]
        }),
    );
}

pub(super) fn deployments(deployments: &[DeploymentView]) {
    table(
        &["NAME", "STATE", "NODE", "PRICE", "PERIODS", "PAID", "WITHHELD", "HELD"],
        deployments.iter().map(|view| {
            vec![
                view.name.clone(),
                view.state.clone(),
                view.node.map_or_else(|| "-".into(), ledger::Id::short),
                view.price.map_or_else(|| "-".into(), |price| price.to_string()),
                format!("{}/{}", view.settled, view.periods),
                view.paid.to_string(),
                view.withheld.to_string(),
                view.held.to_string(),
            ]
        }),
    );
}

/// Threads, memory and storage in words.
fn resources(resources: &Resources) -> String {
    let mut parts = vec![
        format!("{} threads", resources.cru),
        format!("{} memory", size(resources.mru)),
    ];
    if resources.sru > 0 {
        parts.push(format!("{} ssd", size(resources.sru)));
    }
    if resources.hru > 0 {
        parts.push(format!("{} hdd", size(resources.hru)));
    }
    parts.join(", ")
}

/// Bytes in the largest unit that leaves a whole number before the point, rounded down to a tenth.
fn size(bytes: u64) -> String {
    for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
        let whole = bytes >> shift;
        if whole > 0 {
            let tenths = ((bytes >> (shift - 10)).saturating_sub(whole << 10) * 10) >> 10;
            return format!("{whole}.{tenths} {unit}");
        }
    }
    format!("{bytes} B")
}

fn place(location: &Location) -> String {
    let country = String::from_utf8_lossy(&location.country).into_owned();
    format!(
        "{country} {},{}",
        degrees(location.latitude),
        degrees(location.longitude)
    )
}

fn degrees(millionths: i32) -> String {
    let sign = if millionths < 0 { "-" } else { "" };
    let magnitude = millionths.unsigned_abs();
    format!("{sign}{}.{:02}", magnitude / 1_000_000, magnitude % 1_000_000 / 10_000)
}

fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let mut all: Vec<Vec<String>> = vec![head.iter().map(|cell| (*cell).to_owned()).collect()];
    all.extend(rows);
    let width = |column: usize| {
        let cells = all.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    for row in &all {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        line(cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_degrees_read_well() {
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1 << 30), "1.0 GiB");
        assert_eq!(size(1_610_612_736), "1.5 GiB");
        assert_eq!(degrees(-3_703_790), "-3.70");
        assert_eq!(degrees(50_850_000), "50.85");
    }
}
