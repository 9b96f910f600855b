//! People who remove their devices, and devices that were removed and try to come back.

use proto_spec::{DeviceId, DeviceInfo};

use super::{Simulation, oracle::DeviceKey};

impl Simulation {
    /// A person removes a device of their own, the one in their hands perhaps.
    pub(super) fn remove_something(&mut self, index: usize) {
        let user = self.apps[index].key.0;
        let own = self.apps.iter().filter(|app| app.key.0 == user).map(|app| app.key.1);
        let device = *self.rng.pick(&own.collect::<Vec<_>>());
        if let Some(state) = &mut self.apps[index].state {
            let asked = state.remove_device(device);
            debug_assert!(asked.is_ok() || state.is_ended(), "{asked:?}");
        }
    }

    /// An app that starts sometimes says that it is a device which was removed.
    pub(super) fn pretend(&mut self, index: usize) {
        let (user, own) = self.apps[index].key;
        let removed: Vec<DeviceId> =
            self.oracle.removed.iter().filter(|(of, _)| *of == user).map(|(_, device)| *device).collect();
        if removed.is_empty() || self.healing || !self.rng.chance(40) {
            return;
        }
        let app = &mut self.apps[index];
        app.key.1 = *self.rng.pick(&removed);
        app.own = Some(own);
    }

    /// The device of an app is removed, says the server: whoever used it goes on with a new one.
    pub(super) fn on_removed(&mut self, index: usize) {
        let key = self.apps[index].key;
        self.crash_app(index);
        self.oracle.kept.remove(&key);
        self.subscription_removed(key);
        if let Some(own) = self.apps[index].own.take() {
            self.reached("removed device tried to come back");
            self.apps[index].key.1 = own;
            return;
        }
        self.reached("device removed");
        self.oracle.removed.insert(key);
        // One that pretends goes back to its own.
        let apps = self.apps.iter().flat_map(|app| [Some(app.key), app.own.map(|own| (app.key.0, own))]).flatten();
        let known = apps.chain(self.oracle.removed.iter().copied()).filter(|(user, _)| *user == key.0);
        let newest = known.map(|(_, device)| device.0).max().unwrap_or_default();
        self.apps[index].begin_anew((key.0, DeviceId(newest + 1)));
    }

    /// A list has come.
    pub(super) fn check_devices(&mut self, key: DeviceKey, devices: &[DeviceInfo]) {
        let gone = devices.iter().find(|info| self.oracle.removed.contains(&(key.0, info.device)));
        if let Some(info) = gone.cloned() {
            self.oracle.fail(|| format!("{key:?}: {info:?} is listed, and was removed"));
        }
    }
}
