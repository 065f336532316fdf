//! From an image's configuration and a workload to the process that the guest runs.

use node_api::guest::{DEFAULT_PATH, Process};
use serde::Deserialize;
use workload::Workload;

/// The part of an OCI image configuration that says how to run it. Source: OCI image specification 1.1, `config.md`.
#[derive(Debug, Default, Deserialize)]
struct ImageConfig {
    #[serde(default)]
    config: Execution,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Execution {
    user: Option<String>,
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: Option<String>,
}

/// An image that cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The configuration is no OCI image configuration.
    #[error("image configuration is not the JSON of an OCI image")]
    Malformed(#[source] serde_json::Error),
    /// Neither the image nor the workload names a command.
    #[error("neither the image nor the workload names a command")]
    NoCommand,
    /// The user is a name, which only the image itself could resolve.
    #[error("the image's user {0:?} is a name; give it as UID or UID:GID")]
    UserName(String),
}

/// Decides what runs: the workload's arguments replace the image's command, its environment is laid over the image's.
///
/// # Errors
/// [`ImageError`] when the image cannot be run.
pub fn process(config: &[u8], workload: &Workload) -> Result<Process, ImageError> {
    let execution = serde_json::from_slice::<ImageConfig>(config)
        .map_err(ImageError::Malformed)?
        .config;
    let mut argv = execution.entrypoint.unwrap_or_default();
    argv.extend(workload.args.clone().or(execution.cmd).unwrap_or_default());
    if argv.is_empty() {
        return Err(ImageError::NoCommand);
    }
    let mut env: Vec<(String, String)> = vec![("PATH".into(), DEFAULT_PATH.into())];
    let of_image = execution.env.unwrap_or_default();
    let of_image = of_image.iter().filter_map(|entry| entry.split_once('='));
    let of_image = of_image.map(|(name, value)| (name.to_owned(), value.to_owned()));
    for (name, value) in of_image.chain(workload.env.iter().cloned()) {
        match env.iter_mut().find(|(known, _)| *known == name) {
            Some(entry) => entry.1 = value,
            None => env.push((name, value)),
        }
    }
    let (uid, gid) = user(execution.user.as_deref().unwrap_or_default())?;
    let cwd = execution
        .working_dir
        .filter(|path| path.starts_with('/'))
        .unwrap_or_else(|| "/".into());
    Ok(Process {
        argv,
        env,
        cwd,
        uid,
        gid,
    })
}

fn user(text: &str) -> Result<(u32, u32), ImageError> {
    if text.is_empty() || text == "root" {
        return Ok((0, 0));
    }
    let (uid, gid) = text.split_once(':').unwrap_or((text, "0"));
    let number = |part: &str| part.parse::<u32>().map_err(|_| ImageError::UserName(text.to_owned()));
    Ok((number(uid)?, number(gid)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(args: Option<&[&str]>, env: &[(&str, &str)]) -> Workload {
        Workload {
            name: "web".into(),
            env: env
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
            args: args.map(|args| args.iter().map(|arg| (*arg).into()).collect()),
            ports: vec![],
            volumes: vec![],
        }
    }

    #[test]
    fn the_workload_is_laid_over_the_image() {
        let config = br#"{"config":{"Entrypoint":["nginx"],"Cmd":["-v"],"Env":["A=1","B=2=3"],"User":"33:34"}}"#;
        let plain = process(config, &workload(None, &[])).unwrap();
        assert_eq!(plain.argv, ["nginx", "-v"]);
        assert_eq!((plain.uid, plain.gid, plain.cwd.as_str()), (33, 34, "/"));
        let laid = process(config, &workload(Some(&["-t"]), &[("A", "9")])).unwrap();
        assert_eq!(laid.argv, ["nginx", "-t"]);
        let env: Vec<_> = laid
            .env
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(env[1..], [("A", "9"), ("B", "2=3")]);
    }

    #[test]
    fn an_image_that_cannot_be_run_says_why() {
        assert!(matches!(
            process(b"no", &workload(None, &[])),
            Err(ImageError::Malformed(_))
        ));
        assert!(matches!(
            process(b"{}", &workload(None, &[])),
            Err(ImageError::NoCommand)
        ));
        let named = br#"{"config":{"Cmd":["x"],"User":"www-data"}}"#;
        assert!(matches!(
            process(named, &workload(None, &[])),
            Err(ImageError::UserName(_))
        ));
    }
}
