//! Takes a host for this engine, whoever owns it: a person has decided so, because the engine that owns the host is
//! dead, or is another life of this engine that must not go on (docs/adr/0012).
//!
//! While the host belongs to somebody else, no connection exists over which the engine could call it: the shell
//! claims the host by this command's record as soon as it sees the other owner. The call that follows, as at each
//! connection, is a repeat.
//!
//! The command has no undo, because nobody knows whether the former owner still lives: once the host may have heard
//! of it, the command runs to its verdict.

use std::sync::Arc;

use common::id::CommandId;
use common::lock::Mode;
use common::{Fault, FaultCode, Timestamp};

use crate::change::Change;
use crate::model::{Command, CommandState, EntityKey, Host, HostCall, TakeOverHost};
use crate::plan::at::At;
use crate::plan::next::{End, Next, call_awaited};
use crate::plan::tree::Plan;
use crate::plan::verb::{Calling, CommandVerb, Following, Root};
use crate::state::State;
use crate::when::utc;

impl Root for TakeOverHost {
    fn plan(state: &State, _id: CommandId, request: &Self) -> Result<Plan, Fault> {
        if let Some(under_way) = state.taking_over(request.host_id) {
            let message = format!(
                "command {} of {} has been taking the host over since {}: wait until it ends, or cancel it",
                under_way.id,
                under_way.user,
                utc(under_way.created)
            );
            let host = EntityKey::Host(request.host_id);
            return Err(Fault::new(FaultCode::EntityBusy, message).about(host));
        }
        let mode = match state.host(request.host_id) {
            // Other work on the host rests until the take-over is done, and must not be in its way.
            Some(host) => as_recorded(host, request).map(|()| Mode::Shared)?,
            None if request.address.is_empty() => {
                let message = "is empty, and this engine has no record of the host: give its address";
                return Err(Fault::invalid("address", message));
            }
            None if request.name.is_empty() => {
                let message = "is empty, and this engine has no record of the host: give its name";
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
        ("identity", &request.identity, &host.identity),
    ] {
        if !asked.is_empty() && asked != recorded {
            let message = format!(
                "this engine has recorded {recorded:?} for host {}; leave the field empty",
                host.id
            );
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
                    identity: self.identity.clone(),
                    store_id: life.map(|life| life.store_id),
                    start: life.map(|life| life.start),
                    has_risen: false,
                    other_life: None,
                    other_owner: None,
                    cursor: None,
                }))])
            }
            Err(fault) => End::without_trace(at.command, Some(fault)),
        }
    }

    /// Another owner is the reason for a take-over; another host at the address ends the command.
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

    fn follows(&self, state: &State) -> Option<(&str, &str)> {
        let is_recorded = state.host(self.host_id).is_some();
        (!is_recorded).then_some((&self.address, &self.identity))
    }

    fn ended(&self, at: At<'_>) -> Vec<Following> {
        match at.command.state {
            // The former owner has changed what is on the host.
            CommandState::Succeeded => vec![Following::Anew, Following::LookedThrough],
            _ if at.state.host(self.host_id).is_none() => vec![Following::NoLonger],
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use common::{Fault, FaultCode};

    use super::TakeOverHost;
    use crate::effect::Effect;
    use crate::input::Input;
    use crate::model::CommandRequest;
    use crate::model::CommandState::*;
    use crate::model::EventCode;
    use crate::testing::{
        World, add_host, code, command_id, create_domain, create_vm, host_id, other_start, refusal,
        remove_host,
    };

    fn take_over(name: &str, address: &str) -> CommandRequest {
        CommandRequest::TakeOverHost(TakeOverHost {
            host_id: host_id(0),
            name: name.to_owned(),
            address: address.to_owned(),
            identity: String::new(),
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
    fn while_somebody_else_has_a_host_nothing_new_is_taken_for_it_and_the_rest_waits_for_the_take_over() {
        for refusal in [FaultCode::EngineFenced, FaultCode::HostOwned] {
            let mut world = World::with_domains(2);
            world.submit(1, "CreateVm", create_vm(1, [1], 0));
            refuse(&mut world, refusal);
            assert_eq!(world.state_of(1), NeedsAttention);
            // Nobody can be told that it is to stop, so it rests on, and says why.
            world.step(Input::Cancel {
                command_id: command_id(1),
                user: "ann".to_owned(),
            });
            assert_eq!(world.state_of(1), NeedsAttention, "{refusal:?}");
            for (n, request) in [(2, create_vm(2, [2], 0)), (3, create_domain(7, 0))] {
                assert_eq!(code(world.submit(n, "Any", request)), Some(refusal));
            }
            assert_eq!(
                code(world.submit(4, "CreateVm", create_vm(4, [4], 1))),
                None,
                "another host"
            );
            assert_eq!(code(world.submit(5, "TakeOverHost", take_over("", ""))), None);
            world.settle();
            for (n, end) in [(1, Cancelled), (4, Succeeded), (5, Succeeded)] {
                assert_eq!(world.state_of(n), end, "{n} {refusal:?}");
            }
            assert_eq!(code(world.submit(6, "CreateVm", create_vm(6, [6], 0))), None);
        }
    }

    fn fenced() -> Fault {
        Fault::new(FaultCode::EngineFenced, "another life has it")
    }

    fn still_connected() -> Fault {
        Fault::new(FaultCode::EngineStillConnected, "another start is connected")
    }

    /// Sets the answers of the hosts, one letter each: ours, away, put off, denied by its word, denied with proof,
    /// not asked yet.
    fn becomes(world: &mut World, hosts: &str) {
        for (n, what) in hosts.chars().enumerate() {
            let host_id = host_id(n as u128);
            let (fault, is_proven) = (fenced(), what == 'p');
            match what {
                'o' => world.connect(host_id),
                'a' => drop(world.step(Input::HostAway { host_id })),
                's' => drop(world.step(Input::HostPutsOff {
                    host_id,
                    fault: still_connected(),
                })),
                'd' | 'p' => drop(world.step(Input::HostRefused {
                    host_id,
                    fault,
                    is_proven,
                })),
                _ => assert_eq!(what, 'u'),
            }
        }
    }

    /// The life that owns the hosts that deny with proof says so itself, through the first of them.
    fn speaks(world: &mut World, hosts: &str) {
        let held = hosts.chars().zip(0..).filter(|(what, _)| *what == 'p');
        let holds: BTreeSet<_> = held.map(|(_, n)| host_id(n)).collect();
        if let Some(via) = holds.first().copied() {
            let lives = vec![other_start(&holds)];
            world.step(Input::LivesMet { host_id: via, lives });
        }
    }

    /// The refusal of a command that touches no host.
    fn refuses(world: &mut World, n: u128) -> Option<FaultCode> {
        code(world.submit(n, "CreateVm", create_vm(n, [], 0)))
    }

    /// The refusal that a start gives, after these answers of the hosts, to a command that touches no host.
    fn refusal_of(hosts: &str) -> Option<FaultCode> {
        let mut world = World::with_domains(hosts.len() as u128);
        world.crash_unasked();
        becomes(&mut world, hosts);
        speaks(&mut world, hosts);
        refuses(&mut world, 90)
    }

    fn goes_on(hosts: &str) -> bool {
        refusal_of(hosts).is_none()
    }

    /// All words of this length over these letters.
    fn words(letters: &str, count: u32) -> Vec<String> {
        let mut words = vec![String::new()];
        for _ in 0..count {
            let longer = |word: &String| letters.chars().map(|c| format!("{word}{c}")).collect::<Vec<_>>();
            words = words.iter().flat_map(longer).collect();
        }
        words
    }

    fn seen(hosts: &str, as_the_other: fn(char) -> char) -> String {
        hosts.chars().map(as_the_other).collect()
    }

    #[test]
    fn of_two_lives_that_share_the_hosts_one_goes_on_whichever_hosts_are_away() {
        for (hosts, wanted) in [
            ("o", true),
            ("a", true),
            ("d", false),
            ("p", false),
            ("s", false),
            ("u", false),
            // The word of one host is not enough beside another host that is ours, in either order.
            ("od", true),
            ("do", true),
            ("os", true),
            ("so", false),
            ("dda", false),
            // The word is enough if no host is ours.
            ("da", false),
            ("ad", false),
            ("sa", false),
            ("daa", false),
            // Proof is enough if this life has no more hosts, and not the first one.
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
        // The other life sees the same hosts the other way round: of each split, one life goes on and the other does
        // not.
        for split in (1..=4).flat_map(|count| words("opa", count)) {
            let other = seen(&split, |c| match c {
                'o' => 'p',
                'p' => 'o',
                other => other,
            });
            if split.contains(['o', 'p']) {
                assert_ne!(goes_on(&split), goes_on(&other), "{split}");
            }
        }
    }

    /// The hosts are loyal to a start in the copy's own line: they can prove nothing to the copy, and say only that
    /// this start is connected, or was when the copy came.
    #[test]
    fn a_copy_of_an_engine_at_work_does_not_act_whichever_hosts_are_away() {
        for split in (1..=4).flat_map(|count| words("oa", count)) {
            assert!(goes_on(&split), "{split}");
            for said in ['s', 'd'] {
                let other = split.replace('o', &said.to_string());
                let is_told = other.contains(said);
                assert_eq!(goes_on(&other), !is_told, "{other}");
                // Once the copy was told, it knows, even after a restart during which nobody answers.
                let mut world = World::with_domains(split.len() as u128);
                world.crash_unasked();
                becomes(&mut world, &other);
                world.crash();
                assert_eq!(refuses(&mut world, 90).is_none(), !is_told, "{other}");
            }
        }
    }

    /// The host that it got is more than a word: a copy claimed it, with the key.
    #[test]
    fn a_start_to_which_another_life_is_proven_takes_a_new_incarnation_so_that_it_is_proven_to_that_one() {
        let mut world = World::with_domains(2);
        let proof = |n| Input::HostRefused {
            host_id: host_id(n),
            fault: fenced(),
            is_proven: true,
        };
        let word = |n| Input::HostRefused {
            host_id: host_id(n),
            fault: fenced(),
            is_proven: false,
        };
        assert!(!world.step(word(1)).renews);
        let renewed = world.step(proof(1));
        assert!(renewed.renews);
        let followed = |effect: &Effect| matches!(effect, Effect::Follow { .. });
        assert_eq!(renewed.effects.iter().filter(|e| followed(e)).count(), 2, "by it");
        for again in [proof(1), word(1), proof(1)] {
            assert!(!world.step(again).renews, "once");
        }
        assert!(
            world.step(proof(0)).renews,
            "another host, which may have another life"
        );
        // Hosts that flap do not use up the bound of the line.
        let mut taken = 0;
        for _ in 0..40 {
            world.settle();
            world.disconnect(host_id(0));
            taken += u32::from(world.step(proof(0)).renews);
        }
        assert!((1..20).contains(&taken), "{taken}");
    }

    #[test]
    fn before_the_hosts_were_asked_nothing_is_taken_that_they_might_forbid() {
        for (hosts, wanted) in [
            ("u", Some(FaultCode::Loading)),
            ("ua", Some(FaultCode::Loading)),
            ("uo", Some(FaultCode::Loading)),
            ("ou", None),
            ("uoo", None),
            ("uuo", Some(FaultCode::Loading)),
            ("ud", Some(FaultCode::Loading)),
            ("udd", Some(FaultCode::EngineFenced)),
            ("up", Some(FaultCode::Loading)),
            ("su", Some(FaultCode::EngineStillConnected)),
            ("soo", None),
            ("so", Some(FaultCode::EngineStillConnected)),
            ("os", None),
            // A host that has not decided may prove another life yet.
            ("soa", Some(FaultCode::EngineStillConnected)),
            ("sso", Some(FaultCode::EngineStillConnected)),
        ] {
            assert_eq!(refusal_of(hosts), wanted, "{hosts}");
        }
        // If all hosts are down, the command is taken, and waits for them.
        let mut world = World::with_domains(2);
        world.crash_unasked();
        world.step(Input::HostAway { host_id: host_id(0) });
        assert_eq!(refuses(&mut world, 1), Some(FaultCode::Loading));
        world.step(Input::HostAway { host_id: host_id(1) });
        assert_eq!(code(world.submit(2, "CreateVm", create_vm(2, [2], 0))), None);
        world.settle();
        assert_eq!(world.state_of(2), Succeeded);
    }

    #[test]
    fn what_decides_about_commands_is_refused_as_they_are() {
        let mut world = World::with_domains(2);
        world.submit(1, "CreateVm", create_vm(1, [1], 0));
        let user = || "ann".to_owned();
        let (command_id, reason) = (command_id(1), user());
        becomes(&mut world, "pp");
        assert_eq!(world.state_of(1), NeedsAttention);
        for input in [
            Input::Cancel {
                command_id,
                user: user(),
            },
            Input::Retry {
                command_id,
                user: user(),
            },
        ] {
            assert_eq!(code(world.step(input).reply), Some(FaultCode::EngineFenced));
        }
        let abandon = Input::Abandon {
            command_id,
            user: user(),
            reason,
        };
        // A command that would be refused for another reason too is refused for this one first: a task of it may
        // still run.
        assert_eq!(code(world.step(abandon).reply), Some(FaultCode::EngineFenced));
        assert_eq!(world.state_of(1), NeedsAttention);
        let in_use = world.submit(2, "RemoveHost", remove_host(0));
        assert_eq!(code(in_use), Some(FaultCode::EngineFenced));
    }

    /// A host that has put this start off, or lies, may never answer again: then a person decides.
    #[test]
    fn a_take_over_that_is_asked_for_is_a_way_out_while_the_host_is_away() {
        for what in ["s", "d", "p"] {
            let mut world = World::with_domains(1);
            world.crash_unasked();
            becomes(&mut world, what);
            world.crash();
            assert!(refuses(&mut world, 1).is_some(), "{what}");
            assert_eq!(code(world.submit(2, "TakeOverHost", take_over("", ""))), None);
            assert_eq!(refuses(&mut world, 3), None, "{what}");
            world.crash();
            assert_eq!(refuses(&mut world, 4), None, "{what}");
            world.step(Input::Cancel {
                command_id: command_id(2),
                user: "ann".to_owned(),
            });
            assert_eq!(world.state_of(2), Cancelled);
            assert!(refuses(&mut world, 5).is_some(), "{what}");
        }
    }

    #[test]
    fn what_a_host_said_is_known_after_a_restart_while_no_host_answers() {
        for (is_proven, letter) in [(true, "p"), (false, "d")] {
            let mut world = World::with_domains(1);
            world.disconnect(host_id(0));
            becomes(&mut world, letter);
            world.crash_unasked();
            assert_eq!(refuses(&mut world, 1), Some(FaultCode::EngineFenced));
            world.step(Input::HostAway { host_id: host_id(0) });
            assert_eq!(refuses(&mut world, 2), Some(FaultCode::EngineFenced));
            // The owner releases the host, or another engine takes the host over.
            world.settle();
            assert_eq!(refuses(&mut world, 3), None);
            assert_eq!(world.engine.state.host(host_id(0)).unwrap().other_life, None);
            let said = world
                .engine
                .events
                .iter()
                .any(|event| event.message.contains("belongs to this one again"));
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

    /// The data directory is a copy from before another engine took the host over.
    #[test]
    fn a_host_that_was_another_engines_does_not_come_back_without_a_decision() {
        let mut world = World::with_domains(1);
        refuse(&mut world, FaultCode::HostOwned);
        let lost = |world: &World| {
            let events = world.engine.events.iter();
            events
                .filter(|event| event.message.contains("It belonged to this engine"))
                .count()
        };
        assert_eq!(lost(&world), 1);
        for _ in 0..2 {
            world.connect(host_id(0));
            assert!(!world.engine.state.volatile.connected.contains_key(&host_id(0)));
            world.cut(host_id(0));
            world.crash();
        }
        assert_eq!(lost(&world), 1);
        let told = world.engine.events.last().unwrap();
        assert!(told.message.contains("was restored"), "{}", told.message);
        assert_eq!(code(world.submit(1, "TakeOverHost", take_over("", ""))), None);
        world.settle();
        assert_eq!(world.state_of(1), Succeeded);
        assert_eq!(world.engine.state.host(host_id(0)).unwrap().other_owner, None);
        world.crash();
        world.settle();
        assert!(world.engine.state.volatile.connected.contains_key(&host_id(0)));
        // Once the other engine has released it, the host belongs to nobody, and is claimed again as before.
        refuse(&mut world, FaultCode::HostOwned);
        world.host_mut(0).owner = None;
        world.settle();
        assert!(world.engine.state.volatile.connected.contains_key(&host_id(0)));
    }

    #[test]
    fn one_take_over_of_a_host_is_under_way_at_a_time() {
        for is_recorded in [true, false] {
            let mut world = World::new(1);
            if is_recorded {
                world.submit(1, "AddHost", add_host(0));
                world.settle();
                world.disconnect(host_id(0));
            }
            let request = || match is_recorded {
                true => take_over("", ""),
                false => take_over("host-0", "host-0:1"),
            };
            world.submit(2, "TakeOverHost", request());
            let fault = refusal(world.submit(3, "TakeOverHost", request()));
            assert_eq!(fault.code, FaultCode::EntityBusy);
            let first = command_id(2).to_string();
            assert!(
                fault.message.contains(&first) && fault.message.contains("ann"),
                "{fault}"
            );
            world.settle();
            assert_eq!(world.state_of(2), Succeeded);
            assert_eq!(code(world.submit(4, "TakeOverHost", take_over("", ""))), None);
        }
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
        for (request, field) in [
            (take_over("", "host-0:1"), "name"),
            (take_over("host-0", ""), "address"),
        ] {
            let fault = refusal(world.submit(1, "TakeOverHost", request));
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
