//! Takes a host for this engine, whoever has it: a person has decided so, because the engine that has it is dead, or
//! is another life of this one that must not go on (docs/adr/0012).
//!
//! While the host belongs to somebody else, there is no connection over which it could be called: the shell takes it as
//! soon as it sees that, by this command's record. The call that is made then, as at each connection, is a repeat.
//!
//! It has no undo, for nobody knows whether the former owner still lives: once the host may have heard of it, it runs to
//! its verdict.

use std::sync::Arc;

use common::id::CommandId;
use common::lock::Mode;
use common::{Fault, FaultCode, Timestamp};

use crate::change::Change;
use crate::model::{Command, CommandState, EntityKey, Host, HostCall, TakeOverHost};
use crate::plan::next::{End, Next, call_awaited};
use crate::plan::tree::Plan;
use crate::plan::verb::{At, Calling, CommandVerb, Following, Root};
use crate::state::State;

impl Root for TakeOverHost {
    fn plan(state: &State, _id: CommandId, request: &Self) -> Result<Plan, Fault> {
        let mode = match state.host(request.host_id) {
            // What else is to be done there rests until this is done, and must not be in its way.
            Some(host) => as_recorded(host, request).map(|()| Mode::Shared)?,
            None if request.address.is_empty() => {
                let message = "is empty, and this engine has no record of the host: say where it is";
                return Err(Fault::invalid("address", message));
            }
            None if request.name.is_empty() => {
                let message = "is empty, and this engine has no record of the host: name it";
                return Err(Fault::invalid("name", message));
            }
            None => Mode::Exclusive,
        };
        let locks = vec![(EntityKey::Host(request.host_id), mode)];
        Ok(Plan::of(request.clone(), locks))
    }
}

fn as_recorded(host: &Host, request: &TakeOverHost) -> Result<(), Fault> {
    for (field, asked, recorded) in [
        ("name", &request.name, &host.name),
        ("address", &request.address, &host.address),
    ] {
        if !asked.is_empty() && asked != recorded {
            let message =
                format!("this engine has recorded {recorded:?} for the host; leave the field empty");
            return Err(Fault::new(FaultCode::EntityExists, message).about(field));
        }
    }
    Ok(())
}

impl CommandVerb for TakeOverHost {
    fn next(&self, at: At<'_>, _now: Timestamp) -> Next {
        call_awaited(at.command)
    }

    fn calling(&self) -> Option<&dyn Calling> {
        Some(self)
    }
}

impl Calling for TakeOverHost {
    fn call(&self, command: &Command) -> HostCall {
        HostCall::TakeOver {
            user: command.user.clone(),
            reason: self.reason.clone(),
            correlation_id: command.correlation_id.clone(),
        }
    }

    fn answered(&self, at: At<'_>, result: Result<(), Fault>) -> Next {
        match result {
            Ok(()) if at.state.host(self.host_id).is_some() => End::succeeded(Vec::new()),
            Ok(()) => {
                let life = at.state.volatile.connected.get(&self.host_id);
                End::succeeded(vec![Change::Host(Arc::new(Host {
                    id: self.host_id,
                    name: self.name.clone(),
                    address: self.address.clone(),
                    store_id: life.map(|life| life.store_id),
                    start: life.map(|life| life.start),
                    has_risen: false,
                    other_life: None,
                    cursor: None,
                }))])
            }
            Err(fault) => End::without_trace(at.command, Some(fault)),
        }
    }

    /// That somebody else has the host is why it is taken over; that it is another host ends it.
    fn refused(&self, command: &Command, fault: Fault) -> Next {
        if matches!(fault.code, FaultCode::HostOwned | FaultCode::EngineFenced) {
            Next::Stay
        } else {
            End::without_trace(command, Some(fault))
        }
    }

    fn has_opposite(&self) -> bool {
        false
    }

    fn follows(&self, state: &State) -> Option<&str> {
        state.host(self.host_id).is_none().then_some(&*self.address)
    }

    fn takes_over(&self) -> bool {
        true
    }

    fn ended(&self, at: At<'_>) -> Vec<Following> {
        match at.command.state {
            // Whoever had it has changed what is there.
            CommandState::Succeeded => vec![Following::Anew, Following::LookedThrough],
            _ if at.state.host(self.host_id).is_none() => vec![Following::NoLonger],
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use common::{Fault, FaultCode};

    use super::TakeOverHost;
    use crate::input::Input;
    use crate::model::Ask;
    use crate::model::CommandState::*;
    use crate::model::EventCode;
    use crate::step::Reply;
    use crate::testing::{World, add_host, command_id, create_domain, create_vm, host_id};

    fn take_over(name: &str, address: &str) -> Ask {
        Ask::TakeOverHost(TakeOverHost {
            host_id: host_id(0),
            name: name.to_owned(),
            address: address.to_owned(),
            reason: "its engine burnt down".to_owned(),
        })
    }

    fn refuse(world: &mut World, code: FaultCode) {
        world.disconnect(host_id(0));
        world.step(Input::HostRefused {
            host_id: host_id(0),
            fault: Fault::new(code, "somebody else has it"),
            is_proven: false,
        });
    }

    fn code(reply: Reply) -> Option<FaultCode> {
        match reply {
            Reply::Refused(fault) => Some(fault.code),
            _ => None,
        }
    }

    #[test]
    fn a_host_of_another_engine_is_recorded_once_it_is_taken_over() {
        let mut world = World::new(1);
        world.submit(1, "TakeOverHost", take_over("host-0", "host-0:1"));
        refuse(&mut world, FaultCode::HostOwned);
        assert_eq!(world.state_of(1), Active, "that is why it is taken over");
        world.crash();
        world.settle();
        assert_eq!(world.state_of(1), Succeeded);
        let host = world.engine.state.host(host_id(0)).unwrap();
        assert!(host.cursor.is_some(), "and followed from then on");
        let told = world
            .engine
            .events
            .iter()
            .find(|e| e.code == EventCode::HostTakenOver);
        let told = told.expect("people are told");
        assert!(told.message.contains("its engine burnt down"), "{}", told.message);
        assert_eq!(told.user, "ann");
    }

    #[test]
    fn while_another_life_has_a_host_nothing_new_is_taken_for_it_and_the_rest_waits_for_the_take_over() {
        let mut world = World::with_domains(2);
        world.submit(1, "CreateVm", create_vm(1, [1], 0));
        refuse(&mut world, FaultCode::EngineFenced);
        assert_eq!(world.state_of(1), NeedsAttention);
        for (n, ask) in [(2, create_vm(2, [2], 0)), (3, create_domain(7, 0))] {
            assert_eq!(code(world.submit(n, "Any", ask)), Some(FaultCode::EngineFenced));
        }
        assert_eq!(
            code(world.submit(4, "CreateVm", create_vm(4, [4], 1))),
            None,
            "another host"
        );
        assert_eq!(code(world.submit(5, "TakeOverHost", take_over("", ""))), None);
        world.settle();
        for n in [1, 4, 5] {
            assert_eq!(world.state_of(n), Succeeded, "{n}");
        }
        assert_eq!(code(world.submit(6, "CreateVm", create_vm(6, [6], 0))), None);
    }

    /// Of so many hosts, what has become of each: one letter a host. Whether a command that touches no host is taken.
    fn goes_on(hosts: &str) -> bool {
        let mut world = World::with_domains(hosts.len() as u128);
        for (n, what) in hosts.chars().enumerate() {
            let host_id = host_id(n as u128);
            if what != 'o' {
                world.disconnect(host_id);
            }
            if matches!(what, 'p' | 'd') {
                world.step(Input::HostRefused {
                    host_id,
                    fault: Fault::new(FaultCode::EngineFenced, "another life has it"),
                    is_proven: what == 'p',
                });
            }
        }
        code(world.submit(90, "CreateVm", create_vm(90, [], 0))).is_none()
    }

    /// Ours, denied by the host's word alone, denied with proof, away.
    #[test]
    fn of_two_lives_that_share_the_hosts_one_goes_on_whichever_hosts_are_away() {
        for (hosts, wanted) in [
            ("o", true),
            ("a", true),
            ("d", false),
            ("p", false),
            // One host's word is not enough beside another, whichever it is.
            ("od", true),
            ("do", true),
            ("da", true),
            ("dda", false),
            // Proof is, where this life has no more, and not the first.
            ("op", true),
            ("po", false),
            ("pa", false),
            ("opa", true),
            ("poa", false),
            ("oop", true),
            ("ppo", false),
            ("oopp", true),
            ("poop", false),
            ("aaop", true),
            ("aapo", false),
            ("aapp", false),
            ("oaap", true),
        ] {
            assert_eq!(goes_on(hosts), wanted, "{hosts}");
        }
        // The other life sees the same hosts the other way round: whatever the split, one goes on and the other does not.
        for count in 1..=4_u32 {
            for split in 0..3_u32.pow(count) {
                let of = |letters: [char; 3]| -> String {
                    (0..count)
                        .map(|n| letters[(split / 3_u32.pow(n) % 3) as usize])
                        .collect()
                };
                let (one, other) = (of(['o', 'p', 'a']), of(['p', 'o', 'a']));
                if one.contains(['o', 'p']) {
                    assert_ne!(goes_on(&one), goes_on(&other), "{one}");
                }
            }
        }
    }

    #[test]
    fn what_was_proved_is_known_after_a_restart_while_no_host_answers() {
        for (is_proven, wanted) in [(true, false), (false, true)] {
            let mut world = World::with_domains(1);
            world.disconnect(host_id(0));
            world.step(Input::HostRefused {
                host_id: host_id(0),
                fault: Fault::new(FaultCode::EngineFenced, "another life has it"),
                is_proven,
            });
            world.crash();
            let is_taken =
                |world: &mut World, n| code(world.submit(n, "CreateVm", create_vm(n, [], 0))).is_none();
            assert_eq!(is_taken(&mut world, 1), wanted);
            world.step(Input::HostAway { host_id: host_id(0) });
            assert_eq!(is_taken(&mut world, 2), wanted);
            // Its owner lets it go, or it was taken over.
            world.settle();
            assert!(is_taken(&mut world, 3));
            assert_eq!(world.engine.state.host(host_id(0)).unwrap().other_life, None);
            let said = world
                .engine
                .events
                .iter()
                .any(|event| event.message.contains("this one's again"));
            assert_eq!(said, is_proven);
        }
    }

    #[test]
    fn what_rests_for_a_host_of_another_life_is_not_tried_again_before_it_is_ours() {
        let mut world = World::with_domains(1);
        world.submit(1, "CreateVm", create_vm(1, [1], 0));
        refuse(&mut world, FaultCode::EngineFenced);
        assert_eq!(world.state_of(1), NeedsAttention);
        let retry = Input::Retry {
            command_id: command_id(1),
            user: "ann".to_owned(),
        };
        assert_eq!(code(world.step(retry).reply), Some(FaultCode::EngineFenced));
        assert_eq!(world.state_of(1), NeedsAttention);
        world.settle();
        assert_eq!(world.state_of(1), Succeeded, "it goes on by itself");
    }

    #[test]
    fn a_host_that_was_not_asked_yet_is_no_reason_to_be_over() {
        let mut world = World::with_domains(2);
        world.crash();
        for (n, is_proven) in [(1, false), (2, true)] {
            world.step(Input::HostRefused {
                host_id: host_id(1),
                fault: Fault::new(FaultCode::EngineFenced, "another life has it"),
                is_proven,
            });
            assert_eq!(code(world.submit(n, "CreateVm", create_vm(n, [], 0))), None);
        }
    }

    #[test]
    fn an_engine_most_of_whose_hosts_are_another_lifes_takes_nothing_but_take_overs() {
        let bare = |n| create_vm(n, [], 0);
        let mut world = World::with_domains(3);
        refuse(&mut world, FaultCode::EngineFenced);
        assert_eq!(
            code(world.submit(1, "CreateVm", bare(1))),
            None,
            "one of three is not most"
        );
        world.disconnect(host_id(1));
        world.step(Input::HostRefused {
            host_id: host_id(1),
            fault: Fault::new(FaultCode::EngineFenced, "another life has it"),
            is_proven: false,
        });
        assert_eq!(
            code(world.submit(2, "CreateVm", bare(2))),
            Some(FaultCode::EngineFenced)
        );
        let loyal = world.submit(3, "CreateVm", create_vm(3, [3], 2));
        assert_eq!(code(loyal), Some(FaultCode::EngineFenced));
        assert_eq!(code(world.submit(4, "TakeOverHost", take_over("", ""))), None);
        world.settle();
        assert_eq!(code(world.submit(5, "CreateVm", bare(5))), None);
    }

    #[test]
    fn it_can_be_stopped_until_the_host_may_have_heard_of_it_and_another_host_ends_it() {
        let mut world = World::new(1);
        world.submit(1, "TakeOverHost", take_over("host-0", "host-0:1"));
        world.step(Input::Cancel {
            command_id: command_id(1),
            user: "ann".into(),
        });
        assert_eq!(world.state_of(1), Cancelled);
        assert!(world.followed.is_empty());
        world.submit(2, "TakeOverHost", take_over("host-0", "host-0:1"));
        refuse(&mut world, FaultCode::HostIdMismatch);
        assert_eq!(world.state_of(2), Failed);
        assert!(world.followed.is_empty());
    }

    #[test]
    fn a_host_without_a_record_needs_a_name_and_an_address_and_one_with_a_record_keeps_its_own() {
        let mut world = World::new(1);
        for (ask, field) in [
            (take_over("", "host-0:1"), "name"),
            (take_over("host-0", ""), "address"),
        ] {
            let Reply::Refused(fault) = world.submit(1, "TakeOverHost", ask) else {
                panic!("{field}")
            };
            assert_eq!(
                (fault.code, fault.subject.as_str()),
                (FaultCode::InvalidArgument, field)
            );
        }
        world.submit(1, "AddHost", add_host(0));
        world.settle();
        let other = world.submit(2, "TakeOverHost", take_over("", "elsewhere:1"));
        assert_eq!(code(other), Some(FaultCode::EntityExists));
        world.submit(3, "TakeOverHost", take_over("host-0", "host-0:1"));
        world.settle();
        assert_eq!(world.state_of(3), Succeeded, "harmless for a host that is ours");
    }
}
