//! The differences between a host's storage and the records. Nothing in a data directory says whether it is the
//! newest one, or a restored copy, perhaps together with its host's. Therefore each start of the engine looks once,
//! and looks again when something shows that the records are older than storage.

use std::sync::Arc;

use common::id::{DiskId, HostId};
use common::words::listed;

use super::tx::Tx;
use crate::change::Change;
use crate::effect::Effect;
use crate::input::{Differences, Inventory};
use crate::model::{Disk, EntityKey, EventCode, Host, Observation, Presence};
use crate::state::{Look, State};

/// How many entities of each kind an event names: a sentence has room for no more.
const NAMED: usize = 10;

impl Tx<'_> {
    /// Has the host's storage looked through again, because something shows that the records are older than storage.
    pub(super) fn want_inventory(&mut self, host_id: HostId) {
        let before = self.state.volatile.looks.insert(host_id, Look::Wanted);
        if before != Some(Look::Wanted) && self.state.volatile.connected.contains_key(&host_id) {
            let effect = self.state.inventory_of(host_id);
            self.effects(effect);
        }
    }

    /// The list is read in pieces while commands go on, so a difference counts only if the next list shows it too.
    pub(super) fn inventory_taken(
        &mut self,
        host_id: HostId,
        inventory: &Inventory,
        before: Option<Arc<Differences>>,
    ) {
        let Some(host) = self.state.host(host_id).cloned() else {
            return;
        };
        let now = self.state.differences(host_id, inventory);
        let lasting = match before {
            None if now.is_empty() => now,
            None => {
                let before = Some(Arc::new(now));
                return self.effect(Effect::TakeInventory { host_id, before });
            }
            Some(before) => now.and(&before),
        };
        self.state.volatile.looks.insert(host_id, Look::Done);
        let told = self.state.volatile.differences.insert(host_id, lasting.clone());
        if !lasting.is_empty() && told.as_ref() != Some(&lasting) {
            self.emit_differences(&host, &lasting);
        }
        for disk_id in lasting.disks {
            self.doubt(disk_id);
        }
    }

    fn emit_differences(&mut self, host: &Host, found: &Differences) {
        let mut said = Vec::new();
        if !found.domains.is_empty() {
            let names = listed(&found.domains, NAMED);
            said.push(format!(
                "it has storage domains that the engine has no record of: {names}"
            ));
        }
        if !found.images.is_empty() {
            let names = found
                .images
                .iter()
                .map(|(domain, image)| format!("{image} in {domain}"));
            let names = listed(names, NAMED);
            said.push(format!("it has images that belong to no disk: {names}"));
        }
        if !found.disks.is_empty() {
            let names = listed(&found.disks, NAMED);
            said.push(format!("it does not have the images of these disks: {names}"));
        }
        if !found.unread.is_empty() {
            let names = listed(&found.unread, NAMED);
            said.push(format!(
                "these storage domains are missing or could not be read completely, so nothing is known of the disks in them: {names}"
            ));
        }
        let message = format!(
            "the storage of {} differs from the engine's records: {}. Nothing was changed; the host's ListImages shows all that is there. Records are older than storage if a copy of the engine's data directory was restored, or if another engine had the host",
            self.state.named_host(host.id),
            said.join("; ")
        );
        let disks = found.disks.iter().copied().map(EntityKey::Disk);
        let images = found
            .images
            .iter()
            .map(|(_, image)| EntityKey::Disk(image.disk()));
        let domains = found.domains.union(&found.unread).copied().map(EntityKey::Domain);
        let entities = [EntityKey::Host(host.id)].into_iter();
        let entities = entities
            .chain(domains.take(NAMED))
            .chain(images.take(NAMED))
            .chain(disks.take(NAMED));
        self.emit_about(EventCode::UnknownStorageSeen, entities.collect(), message);
    }

    /// Marks a disk's last observation as outdated, and asks storage anew.
    fn doubt(&mut self, disk_id: DiskId) {
        let Some(disk) = self.state.disk(disk_id) else {
            return;
        };
        let observation = Some(Observation {
            presence: Presence::Unknown,
            time: self.now,
            note: "its image was not found when the host's storage was listed".into(),
        });
        let disk = Disk {
            observation,
            ..disk.clone()
        };
        self.put(Change::Disk(disk));
        let look = self.state.look_at(EntityKey::Disk(disk_id));
        self.effects(look);
    }
}

impl State {
    /// The look through a host's storage that is still due: each start of the engine looks once, because it cannot
    /// know how old its records are.
    pub(crate) fn inventory_of(&self, host_id: HostId) -> Option<Effect> {
        let before = None;
        let is_done = self.volatile.looks.get(&host_id) == Some(&Look::Done);
        self.host(host_id)
            .filter(|_| !is_done)
            .map(|_| Effect::TakeInventory { host_id, before })
    }

    /// Recorded entities that storage does not have, and entities of storage that are not recorded. An entity that a
    /// command works on counts as neither.
    fn differences(&self, host_id: HostId, inventory: &Inventory) -> Differences {
        let mut found = Differences::default();
        for (domain_id, images) in &inventory.images {
            if self.domain(*domain_id).is_none() {
                if !self.is_held_by_command(&EntityKey::Domain(*domain_id)) {
                    found.domains.insert(*domain_id);
                }
                continue;
            }
            for image in images.iter().flatten() {
                let disk_id = image.disk();
                let is_known = self
                    .disk(disk_id)
                    .is_some_and(|disk| disk.spec.domain_id == *domain_id);
                if !is_known && !self.is_held_by_command(&EntityKey::Disk(disk_id)) {
                    found.images.insert((*domain_id, *image));
                }
            }
        }
        for domain_id in self.domains_on(host_id) {
            let is_read = inventory.images.get(&domain_id).is_some_and(Option::is_some);
            if !is_read && !self.is_held_by_command(&EntityKey::Domain(domain_id)) {
                found.unread.insert(domain_id);
            }
        }
        for disk in self.disks() {
            let domain_id = disk.spec.domain_id;
            let disk_id = disk.spec.disk_id;
            let is_here = self
                .domain(domain_id)
                .is_some_and(|domain| domain.host_id == host_id);
            let read = inventory.images.get(&domain_id).and_then(Option::as_ref);
            let is_missing = is_here && read.is_some_and(|images| !images.contains(&disk_id.image()));
            if is_missing && !self.is_held_by_command(&EntityKey::Disk(disk_id)) {
                found.disks.insert(disk_id);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::input::Input;
    use crate::model::CommandRequest;
    use crate::model::CommandState::*;
    use crate::model::TakeOverHost;
    use crate::testing::{World, create_vm, disk_id, domain_id, host_id, remove_vm};

    fn told(world: &World) -> Vec<(Vec<EntityKey>, String)> {
        let events = world.engine.events.iter();
        let events = events.filter(|event| event.code == EventCode::UnknownStorageSeen);
        events
            .map(|event| (event.entities.clone(), event.message.to_string()))
            .collect()
    }

    fn takes_over(world: &mut World, n: u128) {
        let request = CommandRequest::TakeOverHost(TakeOverHost {
            host_id: host_id(0),
            name: String::new(),
            address: String::new(),
            identity: String::new(),
            reason: "it is ours".to_owned(),
        });
        world.submit(n, "TakeOverHost", request);
        world.settle();
        assert_eq!(world.state_of(n), Succeeded);
    }

    /// An engine that is put back to a time when it had a VM with a disk. Since then the disk was removed and another
    /// one made.
    fn put_back() -> World {
        let mut world = World::with_domains(1);
        world.submit(1, "CreateVm", create_vm(1, [1], 0));
        world.settle();
        let old = world.engine.records.clone();
        world.submit(2, "CreateVm", create_vm(2, [2], 0));
        world.submit(3, "RemoveVm", remove_vm(1));
        world.settle();
        assert_eq!((world.state_of(2), world.state_of(3)), (Succeeded, Succeeded));
        world.put_engine_back(old);
        world
    }

    #[test]
    fn an_engine_that_is_put_back_names_what_it_does_not_know_and_what_is_not_there_any_more() {
        let mut world = put_back();
        world.settle();
        let told = told(&world);
        let [(entities, message)] = &told[..] else {
            panic!("{told:#?}");
        };
        for id in [
            disk_id(1).to_string(),
            disk_id(2).to_string(),
            domain_id(0).to_string(),
        ] {
            assert!(message.contains(&id), "{id}: {message}");
        }
        for disk in [1, 2] {
            assert!(entities.contains(&EntityKey::Disk(disk_id(disk))), "{entities:?}");
        }
        let disk = world.engine.state.disk(disk_id(1)).unwrap();
        assert_eq!(disk.observation.as_ref().unwrap().presence, Presence::Absent);
    }

    #[test]
    fn a_look_that_a_crash_cuts_off_comes_again() {
        let mut world = put_back();
        for _ in 0..3 {
            world.connect(host_id(0));
            let wanted = world.engine.state.inventory_of(host_id(0)).unwrap();
            assert!(world.pending.contains(&wanted));
            world.crash();
        }
        world.settle();
        assert_eq!(told(&world).len(), 1);
        assert_eq!(
            world.engine.state.inventory_of(host_id(0)),
            None,
            "once is enough"
        );
    }

    /// Whatever was restored or lost together with the engine: only storage shows what nobody remembers.
    #[test]
    fn an_engine_that_is_put_back_with_its_host_or_beside_a_host_that_lost_its_memory_looks() {
        for how in ["lost", "older", "both"] {
            let mut world = World::with_domains(1);
            world.submit(1, "CreateVm", create_vm(1, [1], 0));
            world.settle();
            world.host_mut(0).copy();
            let old = world.engine.records.clone();
            world.submit(2, "CreateVm", create_vm(2, [2], 0));
            world.submit(3, "RemoveVm", remove_vm(1));
            world.settle();
            match how {
                "lost" => world.wipe(host_id(0)),
                _ => world.put_back(host_id(0), 0),
            }
            if how == "older" {
                // The engine meets the host once more before both are put back.
                world.settle();
                world.put_back(host_id(0), 0);
            }
            world.put_engine_back(old);
            world.settle();
            let told = told(&world);
            let [(entities, message)] = &told[..] else {
                panic!("{how}: {told:#?}");
            };
            for disk in [1, 2] {
                assert!(
                    entities.contains(&EntityKey::Disk(disk_id(disk))),
                    "{how}: {message}"
                );
            }
        }
    }

    #[test]
    fn a_host_that_comes_back_with_an_older_memory_is_looked_through_again() {
        let mut world = World::with_domains(1);
        world.host_mut(0).copy();
        world.submit(1, "CreateVm", create_vm(1, [1], 0));
        world.settle();
        world.crash();
        world.settle();
        assert_eq!(told(&world), []);
        let unknown = disk_id(77);
        world
            .host_mut(0)
            .images
            .insert(unknown, crate::testing::Image::Whole);
        world.put_back(host_id(0), 0);
        world.settle();
        assert_eq!(told(&world).len(), 1);
    }

    #[test]
    fn who_takes_a_host_over_looks_through_it_and_is_told_of_nothing_that_is_as_recorded() {
        let mut world = World::with_domains(1);
        world.submit(1, "CreateVm", create_vm(1, [1], 0));
        world.settle();
        takes_over(&mut world, 2);
        assert_eq!(told(&world), []);
        let unknown = disk_id(77);
        world
            .host_mut(0)
            .images
            .insert(unknown, crate::testing::Image::Whole);
        takes_over(&mut world, 3);
        let told = told(&world);
        assert_eq!(told.len(), 1);
        assert!(told[0].1.contains(&unknown.to_string()), "{told:?}");
    }

    /// What commands make and remove in between shows in only one of two looks.
    #[test]
    fn what_only_one_of_two_looks_shows_is_not_told() {
        let mut world = World::with_domains(1);
        world.submit(1, "CreateVm", create_vm(1, [1], 0));
        world.settle();
        let host_id = host_id(0);
        let look = |images: &[u128]| Inventory {
            images: BTreeMap::from([(
                domain_id(0),
                Some(
                    images
                        .iter()
                        .map(|n| disk_id(*n).image())
                        .collect::<BTreeSet<_>>(),
                ),
            )]),
        };
        for (first, second, wanted) in [
            (vec![1, 5], vec![1], 0),
            (vec![1], vec![1, 5], 0),
            (vec![], vec![1], 0),
            (vec![5], vec![1, 6], 0),
            (vec![1, 5], vec![1, 5, 6], 1),
            (vec![1, 5], vec![1, 5], 1),
            (vec![], vec![], 2),
        ] {
            let mut before = None;
            for look in [look(&first), look(&second)] {
                let transition = world.engine.step(Input::InventoryTaken {
                    host_id,
                    inventory: look,
                    before: before.take(),
                });
                before = transition.effects.iter().find_map(|effect| match effect {
                    Effect::TakeInventory { before, .. } => before.clone(),
                    _ => None,
                });
            }
            assert_eq!(told(&world).len(), wanted, "{first:?} {second:?}");
        }
    }

    #[test]
    fn a_domain_that_is_not_there_or_cannot_be_read_is_named_and_proves_nothing_of_its_disks() {
        let mut world = World::with_domains(1);
        world.submit(1, "CreateVm", create_vm(1, [1], 0));
        world.settle();
        let unread = Inventory {
            images: BTreeMap::from([(domain_id(0), None)]),
        };
        for inventory in [unread, Inventory::default()] {
            let found = world.engine.state.differences(host_id(0), &inventory);
            let wanted = Differences {
                unread: BTreeSet::from([domain_id(0)]),
                ..Differences::default()
            };
            assert_eq!(found, wanted);
            for before in [None, Some(Arc::new(found))] {
                world.engine.step(Input::InventoryTaken {
                    host_id: host_id(0),
                    inventory: inventory.clone(),
                    before,
                });
            }
        }
        let told = told(&world);
        assert!(
            told.len() == 1 && told[0].1.contains(&domain_id(0).to_string()),
            "{told:?}"
        );
    }
}
