//! Carries a plan out. It makes no choice: the order is the plan's, and the first failure ends it.

use std::future::Future;

use super::{Action, ImageHash, Plan, Workload};
use crate::vm::VmId;

/// What a plan is carried out on.
pub trait Machine {
    /// Why a step failed.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Shuts a VM down. One that does not run is no error.
    fn stop_vm(&mut self, id: &VmId) -> impl Future<Output = Result<(), Self::Error>>;
    /// Removes what an ended monitor left.
    fn clear_vm(&mut self, id: &VmId) -> impl Future<Output = Result<(), Self::Error>>;
    /// Deletes a workload's data. Data that is not there is no error.
    fn delete_data(&mut self, id: &VmId) -> impl Future<Output = Result<(), Self::Error>>;
    /// Begins to fetch an image; does not wait for it.
    fn fetch_image(&mut self, image: &ImageHash) -> impl Future<Output = Result<(), Self::Error>>;
    /// Starts a VM.
    fn start_vm(&mut self, workload: &Workload) -> impl Future<Output = Result<(), Self::Error>>;
}

/// The step that failed.
#[derive(Debug, thiserror::Error)]
#[error("{}", describe(.action))]
pub struct Failed<E: std::error::Error + 'static> {
    /// What was tried.
    pub action: Action,
    /// The cause.
    #[source]
    pub source: E,
}

/// Carries out a plan's actions in order.
///
/// # Errors
/// The first step that failed; the ones behind it were not tried.
pub async fn execute<M: Machine>(plan: Plan, machine: &mut M) -> Result<(), Failed<M::Error>> {
    for action in plan.actions {
        let result = match &action {
            Action::StopVm(id) => machine.stop_vm(id).await,
            Action::ClearVm(id) => machine.clear_vm(id).await,
            Action::DeleteData(id) => machine.delete_data(id).await,
            Action::FetchImage(image) => machine.fetch_image(image).await,
            Action::StartVm(workload) => machine.start_vm(workload).await,
        };
        result.map_err(|source| Failed { action, source })?;
    }
    Ok(())
}

fn describe(action: &Action) -> String {
    match action {
        Action::StopVm(id) => format!("stop {id}"),
        Action::ClearVm(id) => format!("clear away {id}"),
        Action::DeleteData(id) => format!("delete the data of {id}"),
        Action::FetchImage(image) => format!("fetch the image {}", data_encoding::HEXLOWER.encode(image)),
        Action::StartVm(workload) => format!("start {}", workload.spec.id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the disk is full")]
    struct Full;

    #[derive(Default)]
    struct Recorder(Vec<String>);

    impl Machine for Recorder {
        type Error = Full;

        async fn stop_vm(&mut self, id: &VmId) -> Result<(), Full> {
            self.0.push(format!("stop {id}"));
            Ok(())
        }
        async fn clear_vm(&mut self, _: &VmId) -> Result<(), Full> {
            Err(Full)
        }
        async fn delete_data(&mut self, id: &VmId) -> Result<(), Full> {
            self.0.push(format!("delete {id}"));
            Ok(())
        }
        async fn fetch_image(&mut self, _: &ImageHash) -> Result<(), Full> {
            Ok(())
        }
        async fn start_vm(&mut self, _: &Workload) -> Result<(), Full> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn first_failure_ends_the_plan_and_names_the_step() {
        let id = |name| VmId::new(name).unwrap();
        let actions = vec![
            Action::StopVm(id("a")),
            Action::ClearVm(id("b")),
            Action::DeleteData(id("c")),
        ];
        let mut machine = Recorder::default();
        let failed = execute(
            Plan {
                actions,
                withheld: vec![],
            },
            &mut machine,
        )
        .await
        .unwrap_err();
        assert_eq!(failed.to_string(), "clear away b");
        assert_eq!(machine.0, ["stop a"]);
    }
}
