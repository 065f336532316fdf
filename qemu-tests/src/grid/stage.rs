//! How far a deployment is.

use serde_json::Value;

/// A stage that a deployment has reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Its name, such as `capacity found`.
    pub name: String,
    /// What there is to say of it.
    pub detail: String,
}

impl Stage {
    /// Takes a line of `threebot --json deploy`; nothing if it is not a stage.
    pub(super) fn read(line: &Value) -> Option<Self> {
        Some(Self {
            name: line.get("stage")?.as_str()?.to_owned(),
            detail: line.get("detail")?.as_str()?.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn stages_are_told_from_the_last_word() {
        let stage = Stage::read(&json!({"stage": "offer", "seconds": 1.5, "at": 2.0, "detail": "3"})).unwrap();
        assert_eq!((stage.name.as_str(), stage.detail.as_str()), ("offer", "3"));
        assert_eq!(Stage::read(&json!({"name": "demo", "state": "active"})), None);
    }
}
