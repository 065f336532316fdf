//! Carries a plan out. It makes no choice: the order within a workload is the plan's, and the first failure ends what is done
//! for that workload in this turn. Workloads do not wait for each other.

use std::{collections::BTreeMap, future::Future};

use super::{Action, ImageHash, Plan, Workload};
use crate::vm::VmId;

/// What a plan is carried out on. A step may take its time; the caller runs each [`Batch`] on a task of its own.
pub trait Machine: Sync {
    /// Why a step failed.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Shuts a VM down; does not wait for it. One that does not run is no error.
    fn stop_vm(&self, id: &VmId) -> impl Future<Output = Result<(), Self::Error>> + Send;
    /// Removes what an ended monitor left.
    fn clear_vm(&self, id: &VmId) -> impl Future<Output = Result<(), Self::Error>> + Send;
    /// Deletes a workload's data. Data that is not there is no error.
    fn delete_data(&self, id: &VmId) -> impl Future<Output = Result<(), Self::Error>> + Send;
    /// Forgets a contract. One that is not known is no error.
    fn forget(&self, id: &VmId) -> impl Future<Output = Result<(), Self::Error>> + Send;
    /// Begins to fetch an image; does not wait for it.
    fn fetch_image(&self, image: &ImageHash) -> impl Future<Output = Result<(), Self::Error>> + Send;
    /// Starts a VM.
    fn start_vm(&self, workload: &Workload) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// The steps for one workload, in order; or one step that concerns none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The workload.
    pub id: Option<VmId>,
    /// The steps.
    pub actions: Vec<Action>,
}

impl Plan {
    /// Takes the plan apart by workload.
    #[must_use]
    pub fn batches(self) -> Vec<Batch> {
        let mut others = Vec::new();
        let mut by_workload: BTreeMap<VmId, Vec<Action>> = BTreeMap::new();
        for action in self.actions {
            match action.workload().cloned() {
                Some(id) => by_workload.entry(id).or_default().push(action),
                None => others.push(Batch {
                    id: None,
                    actions: vec![action],
                }),
            }
        }
        let batch = |(id, actions)| Batch { id: Some(id), actions };
        others.into_iter().chain(by_workload.into_iter().map(batch)).collect()
    }
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

/// Carries out one workload's steps in order.
///
/// # Errors
/// The first step that failed; the ones behind it were not tried.
pub async fn execute<M: Machine>(batch: Batch, machine: &M) -> Result<(), Failed<M::Error>> {
    for action in batch.actions {
        let result = match &action {
            Action::StopVm(id) => machine.stop_vm(id).await,
            Action::ClearVm(id) => machine.clear_vm(id).await,
            Action::DeleteData(id) => machine.delete_data(id).await,
            Action::Forget(id) => machine.forget(id).await,
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
        Action::Forget(id) => format!("forget {id}"),
        Action::FetchImage(image) => format!("fetch the image {}", data_encoding::HEXLOWER.encode(image)),
        Action::StartVm(workload) => format!("start {}", workload.spec.id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::tests::spec;
    use std::sync::Mutex;

    #[derive(Debug, thiserror::Error)]
    #[error("device busy")]
    struct Busy;

    #[derive(Default)]
    struct Recorder(Mutex<Vec<String>>);

    impl Recorder {
        fn note(&self, text: String) {
            self.0.lock().unwrap().push(text);
        }
    }

    impl Machine for Recorder {
        type Error = Busy;

        async fn stop_vm(&self, id: &VmId) -> Result<(), Busy> {
            self.note(format!("stop {id}"));
            Ok(())
        }
        async fn clear_vm(&self, id: &VmId) -> Result<(), Busy> {
            if id.as_str() == "b" {
                return Err(Busy);
            }
            self.note(format!("clear {id}"));
            Ok(())
        }
        async fn delete_data(&self, id: &VmId) -> Result<(), Busy> {
            self.note(format!("delete {id}"));
            Ok(())
        }
        async fn forget(&self, id: &VmId) -> Result<(), Busy> {
            self.note(format!("forget {id}"));
            Ok(())
        }
        async fn fetch_image(&self, image: &ImageHash) -> Result<(), Busy> {
            self.note(format!("fetch {}", image[0]));
            Ok(())
        }
        async fn start_vm(&self, workload: &Workload) -> Result<(), Busy> {
            self.note(format!("start {}", workload.spec.id));
            Ok(())
        }
    }

    #[tokio::test]
    async fn failure_ends_the_steps_of_its_own_workload_and_of_no_other() {
        let id = |name| VmId::new(name).unwrap();
        let start = |name| {
            Action::StartVm(Box::new(Workload {
                image: [1; 32],
                spec: spec(name),
            }))
        };
        let plan = Plan {
            actions: vec![
                Action::ClearVm(id("b")),
                Action::ClearVm(id("a")),
                Action::FetchImage([9; 32]),
                Action::DeleteData(id("c")),
                start("b"),
                start("a"),
            ],
            withheld: vec![],
        };
        let machine = Recorder::default();
        let mut failed = Vec::new();
        for batch in plan.batches() {
            failed.extend(execute(batch, &machine).await.err().map(|failed| failed.to_string()));
        }
        assert_eq!(failed, ["clear away b"]);
        assert_eq!(
            *machine.0.lock().unwrap(),
            ["fetch 9", "clear a", "start a", "delete c"],
            "b is not started over what was not cleared away, and the others go on"
        );
    }
}
