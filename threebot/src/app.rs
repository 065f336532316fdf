//! `app.toml`: what a customer wants to run.

use std::{collections::BTreeMap, fmt, io, path::Path, path::PathBuf, str::FromStr};

use ledger::{Id, Resources, Tokens, text::Text};
use serde::{Deserialize, Serialize};
use workload::{Bound, Volume, Workload};

use ledger::quantity::{self, QuantityError};

/// Longest `app.toml` or secret in bytes.
pub const MAX_FILE: u64 = 64 * 1024;

/// An application: what is looked for on the market, and what is sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct App {
    /// What is looked for.
    pub plan: Plan,
    /// What is sealed; holds secrets.
    pub workload: Workload,
}

/// What is looked for on the market. Holds no secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Name of the deployment.
    pub name: String,
    /// What runs.
    pub image: ImageRef,
    /// What it reserves.
    pub resources: Resources,
    /// For how many periods.
    pub periods: u32,
    /// How many of them are paid in at a time; absent: all at once.
    #[serde(default)]
    pub deposit: Option<u32>,
    /// Most that all periods together may cost.
    pub budget: Tokens,
    /// In which country.
    pub country: Option<[u8; 2]>,
    /// Whether another node is looked for when one fails.
    pub redeploy: bool,
    /// Bytes of all volumes.
    pub volumes: u64,
}

/// An image by the name its owner gave it: `NAME` for an own one, `OWNER/NAME` for another's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRef {
    /// The owner; absent: whoever deploys.
    pub owner: Option<Id>,
    /// Name and tag.
    pub name: Text<128>,
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.owner {
            Some(owner) => write!(f, "{owner}/{}", self.name),
            None => self.name.fmt(f),
        }
    }
}

impl FromStr for ImageRef {
    type Err = AppError;

    fn from_str(text: &str) -> Result<Self, AppError> {
        let wrong = |reason: String| AppError::Field("image", reason);
        let (owner, name) = match text.split_once('/') {
            Some((owner, name)) if owner.len() == 64 => {
                let owner = owner.parse().map_err(|_| wrong("the owner's id is not one".into()))?;
                (Some(owner), name)
            }
            _ => (None, text),
        };
        let name = Text::new(name).map_err(|error| wrong(error.to_string()))?;
        if name.as_str().is_empty() {
            return Err(wrong("it is empty".into()));
        }
        Ok(Self { owner, name })
    }
}

impl Serialize for ImageRef {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ImageRef {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// Why an `app.toml` describes no application.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// Not the expected TOML.
    #[error("{0}")]
    Syntax(String),
    /// A field that cannot be used.
    #[error("{0}: {1}")]
    Field(&'static str, String),
    /// A quantity that cannot be read.
    #[error("{field}")]
    Quantity {
        /// Which field.
        field: &'static str,
        /// Why.
        #[source]
        source: QuantityError,
    },
    /// A secret's file.
    #[error("secret {name} from {path}")]
    Secret {
        /// The variable.
        name: String,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A bound of the workload.
    #[error("{0}")]
    Bound(#[source] Bound),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawApp {
    name: String,
    image: String,
    resources: RawResources,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    secrets: BTreeMap<String, PathBuf>,
    args: Option<Vec<String>>,
    #[serde(default)]
    ports: Vec<u16>,
    #[serde(default)]
    volumes: Vec<RawVolume>,
    periods: u32,
    deposit: Option<u32>,
    budget: String,
    country: Option<String>,
    #[serde(default = "yes")]
    redeploy: bool,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawResources {
    cru: u64,
    mru: String,
    sru: String,
    #[serde(default)]
    hru: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawVolume {
    name: String,
    size: String,
    mount: String,
}

/// What is wrong with the text on one line: where, under which key, and what.
fn syntax(text: &str, error: &toml::de::Error) -> AppError {
    let what = error.message().lines().collect::<Vec<_>>().join(", ");
    // A mistake of the whole text, such as a field that is missing, has no place.
    let Some(span) = error.span().filter(|span| !span.is_empty()) else {
        return AppError::Syntax(what);
    };
    let before = text.get(..span.start).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let is_bare = |key: &&str| key.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    let key = text.lines().nth(line - 1).and_then(|line| line.split_once('='));
    let key = key.map(|(key, _)| key.trim()).filter(is_bare);
    let key = key.map(|key| format!("{key}: ")).unwrap_or_default();
    AppError::Syntax(format!("line {line}: {key}{what}"))
}

/// Reads an `app.toml`. `secret` reads the file of a secret, whose path is as it was written; one line break at its end is
/// left out.
///
/// # Errors
/// [`AppError`] names the field.
pub fn parse(text: &str, secret: impl Fn(&Path) -> io::Result<String>) -> Result<App, AppError> {
    let raw: RawApp = toml::from_str(text).map_err(|error| syntax(text, &error))?;
    let mut env: Vec<(String, String)> = raw.env.into_iter().collect();
    for (name, path) in raw.secrets {
        let value = secret(&path).map_err(|source| AppError::Secret {
            name: name.clone(),
            path,
            source,
        })?;
        let value = value.strip_suffix('\n').unwrap_or(&value).to_owned();
        if env.iter().any(|(known, _)| *known == name) {
            return Err(AppError::Field("secrets", format!("{name} stands under env as well")));
        }
        env.push((name, value));
    }
    let mut volumes = Vec::new();
    for volume in raw.volumes {
        volumes.push(Volume {
            name: volume.name,
            size: read_bytes("volumes.size", &volume.size)?,
            mount: volume.mount,
        });
    }
    let total = volumes
        .iter()
        .map(|volume| volume.size)
        .try_fold(0_u64, u64::checked_add);
    let total = total.ok_or_else(|| AppError::Field("volumes", "they are too large".into()))?;
    let workload = Workload {
        name: raw.name.clone(),
        env,
        args: raw.args,
        ports: raw.ports,
        volumes,
    };
    workload.check().map_err(AppError::Bound)?;
    let resources = Resources {
        cru: raw.resources.cru,
        mru: read_bytes("resources.mru", &raw.resources.mru)?,
        sru: read_bytes("resources.sru", &raw.resources.sru)?,
        hru: read_bytes("resources.hru", raw.resources.hru.as_deref().unwrap_or("0"))?,
    };
    if resources.cru == 0 || resources.mru == 0 {
        return Err(AppError::Field(
            "resources",
            "at least one thread (cru) and memory (mru)".into(),
        ));
    }
    if raw.periods == 0 {
        return Err(AppError::Field("periods", "at least one".into()));
    }
    if raw.deposit.is_some_and(|deposit| deposit == 0 || deposit > raw.periods) {
        return Err(AppError::Field("deposit", "from one period to all of them".into()));
    }
    let budget = quantity::tokens(&raw.budget).map_err(|source| AppError::Quantity {
        field: "budget",
        source,
    })?;
    let plan = Plan {
        name: raw.name,
        image: raw.image.parse()?,
        resources,
        periods: raw.periods,
        deposit: raw.deposit,
        budget,
        country: match &raw.country {
            Some(text) => Some(quantity::country(text).map_err(|source| AppError::Quantity {
                field: "country",
                source,
            })?),
            None => None,
        },
        redeploy: raw.redeploy,
        volumes: total,
    };
    Ok(App { plan, workload })
}

fn read_bytes(field: &'static str, text: &str) -> Result<u64, AppError> {
    quantity::bytes(text).map_err(|source| AppError::Quantity { field, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    const APP: &str = r#"
        name = "web"
        image = "nginx"
        ports = [80]
        periods = 10
        budget = "12.5"
        country = "be"
        [resources]
        cru = 1
        mru = "256 MiB"
        sru = "1 GiB"
        [env]
        GREETING = "hello"
        [secrets]
        TOKEN = "token.txt"
        [[volumes]]
        name = "content"
        size = "64 MiB"
        mount = "/var/www"
    "#;

    fn read(text: &str) -> Result<App, AppError> {
        parse(text, |path| match path.to_str() {
            Some("token.txt") => Ok("secret\n".into()),
            _ => Err(io::ErrorKind::NotFound.into()),
        })
    }

    #[test]
    fn a_whole_application_is_read() {
        let App { plan, workload } = read(APP).unwrap();
        assert_eq!(plan.budget, Tokens::from_micro(12_500_000));
        assert_eq!(plan.country, Some(*b"BE"));
        assert_eq!(plan.volumes, 64 << 20);
        assert!(plan.redeploy && plan.image.owner.is_none());
        let env = [("GREETING", "hello"), ("TOKEN", "secret")].map(|(name, value)| (name.into(), value.into()));
        assert_eq!(workload.env, env);
    }

    #[test]
    fn each_mistake_is_named() {
        for (from, to, field) in [
            ("periods = 10", "periods = 0", "periods"),
            ("\"12.5\"", "\"12,5\"", "budget"),
            ("\"256 MiB\"", "\"256 MB\"", "resources.mru"),
            ("cru = 1", "cru = 0", "resources"),
            ("\"be\"", "\"bel\"", "country"),
            ("token.txt", "none.txt", "secret TOKEN"),
            ("TOKEN =", "GREETING =", "secrets"),
            ("\"web\"", "\"Web\"", "name"),
            ("ports", "prots", "prots"),
        ] {
            let error = read(&APP.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(field), "{to}: {error}");
        }
    }

    #[test]
    fn what_is_no_toml_of_an_application_is_said_on_one_line_with_its_place() {
        for (from, to, said) in [
            (
                "ports = [80]",
                "ports = [80000]",
                "line 4: ports: invalid value: integer `80000`, expected u16",
            ),
            (
                "\"12.5\"",
                "10",
                "line 6: budget: invalid type: integer `10`, expected a string",
            ),
            ("GREETING = \"hello\"", "GREETING = hello", "line 13: GREETING: "),
        ] {
            let error = read(&APP.replace(from, to)).unwrap_err().to_string();
            assert!(error.starts_with(said) && error.lines().count() == 1, "{error}");
        }
        let error = read(&APP.replace("periods = 10", "")).unwrap_err().to_string();
        assert_eq!(error, "missing field `periods`");
    }

    #[test]
    fn an_image_is_an_own_one_or_names_its_owner() {
        let own: ImageRef = "nginx:1".parse().unwrap();
        assert_eq!((own.owner, own.name.as_str()), (None, "nginx:1"));
        let text = format!("{}/library/nginx", "11".repeat(32));
        let other: ImageRef = text.parse().unwrap();
        assert_eq!(other.name.as_str(), "library/nginx");
        assert_eq!(other.to_string(), text);
        assert!("".parse::<ImageRef>().is_err());
    }
}
