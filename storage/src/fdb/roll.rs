//! The roll of a cluster in FoundationDB.
//!
//! An advance reads the owners of its lanes so that a change of them is a conflict, and a change of the roll reads what it expects in the
//! same way: of the two one comes first, and the other one fails. Members are in no advance, so their beats disturb nobody. Each
//! change of owners rings a bell, a row that nobody reads to write it, so that two changes of different slots go side by side.

use foundationdb::{FdbResult, Transaction, future::FdbSlice, options::MutationType};

use super::{CLUSTER_FORMAT_VERSION, Failure, FdbStore, GUARDED, SNAPSHOT, all_rows, errors, keys, keys::RollRow};
use crate::{
    codec::roll as codec,
    record::LaneId,
    roll::{self, Roll, RollChange},
    store::{Fence, Step, StoreError},
};

impl FdbStore {
    /// The name of the cluster whose the store is, if it is one's.
    pub(super) async fn cluster(&self, transaction: &Transaction) -> Result<Option<String>, Failure> {
        let row = transaction.get(&self.keys.cluster(), GUARDED).await?;
        Ok(row.map(|row| codec::cluster(&row).map(str::to_owned)).transpose().map_err(StoreError::from)?)
    }

    pub(super) async fn found_cluster(&self, name: &str) -> Result<(), StoreError> {
        let lanes = &self.keys.all_progress();
        self.write(|transaction| async move {
            match self.cluster(&transaction).await? {
                Some(found) if found == name => return Ok(()),
                Some(found) => return Err(roll::is_another_clusters(&found, name).into()),
                None => {}
            }
            let next = Fence(self.current_fence(&transaction).await?.0 + 1);
            transaction.set(&self.keys.fence(), &keys::put_fence(next));
            transaction.clear(&self.keys.tenure());
            transaction.clear_range(&lanes.start, &lanes.end);
            transaction.set(&self.keys.format(), &keys::put_format(CLUSTER_FORMAT_VERSION));
            transaction.set(&self.keys.cluster(), &codec::put_cluster(name));
            Ok(())
        })
        .await
    }

    pub(super) async fn read_roll(&self) -> Result<Roll, StoreError> {
        self.read(|transaction| async move {
            let mut roll = Roll::default();
            for (key, value) in all_rows(&transaction, self.keys.roll()).await? {
                match self.keys.parse_roll(&key)? {
                    RollRow::Member(id) => {
                        roll.members.insert(id, codec::member(&value).map_err(StoreError::from)?);
                    }
                    RollRow::Owner(lane) => {
                        roll.owners.insert(lane, codec::owner(&value).map_err(StoreError::from)?);
                    }
                }
            }
            Ok(roll)
        })
        .await
    }

    pub(super) async fn read_term(&self, lane: LaneId) -> Result<u64, StoreError> {
        self.read(|transaction| async move {
            let row = transaction.get(&self.keys.owner(lane), SNAPSHOT).await?;
            Ok(row.map(|row| codec::owner(&row).map_err(StoreError::from)).transpose()?.map_or(0, |owner| owner.term))
        })
        .await
    }

    /// Tried again only while it is known that nothing was committed: if it was, the next attempt would not find what it expects.
    pub(super) async fn write_roll(&self, change: &RollChange) -> Result<bool, StoreError> {
        change.check()?;
        let mut transaction = self.transaction()?;
        loop {
            let again = match self.prepare_roll(&transaction, change).await {
                Ok(false) => return Ok(false),
                Ok(true) => match transaction.commit().await {
                    Ok(_) => return Ok(true),
                    Err(error) if errors::may_have_committed(*error) => return Err(errors::commit_error(*error)),
                    Err(error) => error.on_error().await,
                },
                Err(Failure::Store(error)) => return Err(error),
                Err(Failure::Database(error)) => transaction.on_error(error).await,
            };
            transaction = again.map_err(errors::store_error)?;
        }
    }

    /// All of a change of the roll but its commit, if everything is as expected.
    async fn prepare_roll(&self, transaction: &Transaction, change: &RollChange) -> Result<bool, Failure> {
        let expects_members = change.expects_members.iter();
        let members: Vec<_> = expects_members.map(|(id, _)| transaction.get(&self.keys.member(*id), GUARDED)).collect();
        let expects_owners = change.expects_owners.iter();
        let owners: Vec<_> =
            expects_owners.map(|(lane, _)| transaction.get(&self.keys.owner(*lane), GUARDED)).collect();
        for (read, (_, expected)) in members.into_iter().zip(&change.expects_members) {
            let found = read.await?.map(|row| codec::member(&row)).transpose().map_err(StoreError::from)?;
            if found != *expected {
                return Ok(false);
            }
        }
        for (read, (_, expected)) in owners.into_iter().zip(&change.expects_owners) {
            let found = read.await?.map(|row| codec::owner(&row)).transpose().map_err(StoreError::from)?;
            if found != *expected {
                return Ok(false);
            }
        }
        for (id, member) in &change.members {
            transaction.set(&self.keys.member(*id), &codec::put_member(member));
        }
        for (lane, owner) in &change.owners {
            transaction.set(&self.keys.owner(*lane), &codec::put_owner(*owner));
        }
        for lane in change.begun() {
            transaction.clear(&self.keys.progress(lane));
        }
        if !change.owners.is_empty() {
            transaction.atomic_op(&self.keys.bell(), &1u64.to_le_bytes(), MutationType::Add);
        }
        Ok(true)
    }

    pub(super) async fn wait_for_roll(&self, since: u64) -> Result<(), StoreError> {
        let mut transaction = self.transaction()?;
        loop {
            let again = match self.listen(&transaction, since).await {
                Ok(None) => return Ok(()),
                // Nothing is listened for before the transaction is committed.
                Ok(Some(rings)) => match transaction.commit().await {
                    Ok(_) => return rings.await.map_err(errors::store_error),
                    Err(error) => error.on_error().await,
                },
                Err(Failure::Store(error)) => return Err(error),
                Err(Failure::Database(error)) => transaction.on_error(error).await,
            };
            transaction = again.map_err(errors::store_error)?;
        }
    }

    /// The next ring of the bell, as it was when the owners had this version; none if they have another one.
    async fn listen(
        &self,
        transaction: &Transaction,
        since: u64,
    ) -> Result<Option<impl Future<Output = FdbResult<()>> + use<>>, Failure> {
        let mut owners = Vec::new();
        for (_, owner) in all_rows(transaction, self.keys.owners()).await? {
            owners.push(codec::owner(&owner).map_err(StoreError::from)?);
        }
        Ok((roll::version(owners.iter()) == since).then(|| transaction.watch(&self.keys.bell())))
    }

    /// Reads of the owners of those lanes whose steps have a term, all under way.
    pub(super) fn start_owners(
        &self,
        transaction: &Transaction,
        steps: &[Step],
    ) -> Vec<(Step, impl Future<Output = FdbResult<Option<FdbSlice>>> + use<>)> {
        let in_terms = steps.iter().filter(|step| step.term > 0);
        in_terms.map(|step| (*step, transaction.get(&self.keys.owner(step.lane), GUARDED))).collect()
    }

    pub(super) async fn check_terms(
        owners: Vec<(Step, impl Future<Output = FdbResult<Option<FdbSlice>>>)>,
    ) -> Result<(), Failure> {
        let mut found = Vec::with_capacity(owners.len());
        for (step, read) in owners {
            found.push((step, read.await?.map(|row| codec::owner(&row)).transpose().map_err(StoreError::from)?));
        }
        Ok(roll::check_terms(found)?)
    }
}
