//! One session's commands that wait for their replies, and its data connections.

use std::collections::VecDeque;

use ftp_nat_common::{
    abi::{Event, Flow, Said, Session, event, remark, role},
    ftp::command::named,
    wire::addr::{Addr, Endpoint},
};

use super::{directory::Directory, tables::Tables};
use crate::{
    daemon::occurrence::Detail,
    kernel::clock::Clock,
    model::{
        flow::{self, State, signs},
        transfer::{Action, Name, Transfer},
    },
};

/// Commands that may wait for their replies, of one session.
const COMMANDS: usize = 64;
/// Data connections that are remembered, of one session.
const CONNECTIONS: usize = 16;
/// The longest name of a user that is kept, in bytes.
const USER: usize = 128;

/// A transfer or a change that is over: the event that tells it, and what was done.
pub(in crate::daemon) type Over = (Event, Transfer);

/// A command that waits.
#[derive(Debug)]
struct Command {
    number: u32,
    name: u32,
    argument: Name,
    is_cut: bool,
    /// When it came, in ticks.
    time: u64,
    /// The reply's code and when it came, in ticks, once it has.
    reply: Option<(u16, u64)>,
    /// Whether no reply is waited for any more.
    is_settled: bool,
    /// Its data connection, once that has come.
    data: Option<u64>,
    /// What held when it came.
    user: Option<Name>,
    directory: Option<Name>,
    is_encrypted: bool,
}

/// A data connection.
#[derive(Debug)]
struct Data {
    number: u64,
    /// What told its beginning.
    event: Event,
    /// Whether a command has it.
    is_claimed: bool,
    /// Whether a further announcement came after it: it is no later command's.
    is_stale: bool,
    is_watched: bool,
    is_encrypted: bool,
    /// What it has carried, once it is gone.
    carried: Option<Carried>,
}

impl Data {
    fn may_be_claimed(&self) -> bool {
        !self.is_claimed && !self.is_stale
    }
}

/// What is known of a session.
#[derive(Debug)]
pub(super) struct Talk {
    number: u32,
    clock: Clock,
    role: u8,
    peer: Endpoint,
    inside: Endpoint,
    public: Endpoint,
    is_encrypted: bool,
    /// Who has logged in.
    user: Option<Name>,
    /// Who wants to.
    candidate: Option<Name>,
    directory: Directory,
    /// What is renamed.
    renamed: Option<(Name, bool)>,
    commands: VecDeque<Command>,
    data: VecDeque<Data>,
}

impl Talk {
    pub(super) fn new(number: u32, session: &Session, clock: Clock) -> Self {
        Self {
            number,
            clock,
            role: session.role,
            peer: session.outside,
            inside: session.inside,
            public: session.public,
            is_encrypted: session.answered.encrypted != session.commands.cleared,
            user: None,
            candidate: None,
            directory: Directory::default(),
            renamed: None,
            commands: VecDeque::new(),
            data: VecDeque::new(),
        }
    }

    /// How many commands wait.
    pub(super) fn waiting(&self) -> usize {
        self.commands.len()
    }

    pub(super) fn set_encrypted(&mut self, is_encrypted: bool) {
        self.is_encrypted = is_encrypted;
    }

    /// A command. `is_full`: no more may wait.
    pub(super) fn command(
        &mut self,
        said: &Said,
        line: &[u8],
        is_full: bool,
        over: &mut Vec<Over>,
    ) {
        if is_full || self.commands.len() >= COMMANDS {
            if self.commands.is_empty() {
                return;
            }
            self.conclude(0, over);
        }
        let argument = argument(line, said.name);
        let is_cut = said.remark == remark::CUT;
        if said.name == USER_NAME {
            self.candidate = Some(argument[..argument.len().min(USER)].into());
        }
        let mut command = Command {
            number: said.number,
            name: said.name,
            argument: argument.into(),
            is_cut,
            time: said.time,
            reply: None,
            is_settled: false,
            data: None,
            user: self.user.clone(),
            directory: self.directory.name().map(Name::from),
            is_encrypted: self.is_encrypted,
        };
        if action(said.name).is_some_and(Action::is_transfer)
            && let Some(data) = self.data.iter_mut().rfind(|it| it.may_be_claimed())
        {
            data.is_claimed = true;
            command.data = Some(data.number);
        }
        self.commands.push_back(command);
    }

    /// A final reply: what came before it and has none gets none any more. One that is perhaps a later
    /// command's is no transfer's.
    pub(super) fn reply(&mut self, said: &Said, tables: &dyn Tables, over: &mut Vec<Over>) {
        let is_before = |it: &Command| said.number.wrapping_sub(it.number).cast_signed() > 0;
        let waits = |it: &Command| !it.is_settled && is_before(it);
        while let Some(at) = self.commands.iter().position(waits) {
            self.answer(at, None, over);
        }
        let is_it = |it: &Command| it.number == said.number && !it.is_settled;
        if let Some(at) = self.commands.iter().position(is_it) {
            if said.remark == remark::EARLY && self.is_under_way(at, tables) {
                // STAT's, or NOOP's: the transfer's own one is counted next.
                self.commands[at].number = said.number.wrapping_add(1);
                return;
            }
            let is_transfer = action(self.commands[at].name).is_some_and(Action::is_transfer);
            let reply = Some((said.code, said.time));
            let is_its = !is_transfer || said.remark != remark::EARLY;
            self.answer(at, reply.filter(|_| is_its), over);
        }
    }

    /// Whether a command's data connection is there and not over yet.
    fn is_under_way(&self, at: usize, tables: &dyn Tables) -> bool {
        let number = self.commands[at].data;
        let data = self.data.iter().find(|it| Some(it.number) == number);
        data.filter(|it| it.carried.is_none())
            .and_then(|it| tables.flows(&it.event))
            .is_some_and(|flows| !is_over(&flows))
    }

    /// A command was answered, or gets no answer any more: its data connection may have more to carry.
    fn answer(&mut self, at: usize, reply: Option<(u16, u64)>, over: &mut Vec<Over>) {
        let command = &mut self.commands[at];
        command.is_settled = true;
        command.reply = reply;
        let number = command.data;
        let data = self.data.iter_mut().find(|it| Some(it.number) == number);
        match data.filter(|it| it.carried.is_none()) {
            Some(data) => data.is_watched = false,
            None => self.conclude(at, over),
        }
    }

    /// A data connection was announced: those that came before it are no later command's.
    pub(super) fn opened(&mut self) {
        for data in &mut self.data {
            data.is_stale = true;
        }
    }

    /// A data connection came.
    pub(super) fn used(&mut self, event: &Event, number: u64) {
        let waits = |it: &&mut Command| {
            it.data.is_none() && !it.is_settled && action(it.name).is_some_and(Action::is_transfer)
        };
        let command = self.commands.iter_mut().find(waits);
        if self.data.len() >= CONNECTIONS {
            self.data.pop_front();
        }
        self.data.push_back(Data {
            number,
            event: *event,
            is_claimed: command.is_some(),
            is_stale: false,
            // A command's is looked at once its reply has come.
            is_watched: command.is_some(),
            is_encrypted: self.is_encrypted,
            carried: None,
        });
        if let Some(command) = command {
            command.data = Some(number);
        }
    }

    /// Data connections that have to be looked at from now on.
    pub(super) fn take_unwatched(&mut self, numbers: &mut Vec<u64>) {
        for data in &mut self.data {
            if !data.is_watched {
                data.is_watched = true;
                numbers.push(data.number);
            }
        }
    }

    /// Looks at a data connection; whether it is still under way.
    pub(super) fn look(&mut self, number: u64, tables: &dyn Tables, over: &mut Vec<Over>) -> bool {
        let Some(at) = self.data.iter().position(|it| it.number == number) else {
            return false;
        };
        let data = &self.data[at];
        let command = self.commands.iter().find(|it| it.data == Some(number));
        if data.is_claimed && command.is_none_or(|it| !it.is_settled) {
            // Its command's reply will have it looked at.
            return false;
        }
        if data.carried.is_some() {
            self.finish(at, over);
            return false;
        }
        // Where it is gone, its end is about to be told.
        let flows = tables.flows(&data.event).filter(is_over);
        let Some(flows) = flows else {
            return true;
        };
        let is_claimed = data.is_claimed;
        self.data[at].carried = Some(carried(&flows, &self.clock));
        if is_claimed {
            self.finish(at, over);
        }
        // What is not claimed yet gets another turn: the tables are ahead of what was read of the ring,
        // where its command may stand.
        !is_claimed
    }

    /// A data connection has ended and is gone.
    pub(super) fn ended(&mut self, event: &Event, detail: &Detail, over: &mut Vec<Over>) {
        let is_it = |it: &Data| {
            it.event.peer == event.peer && it.event.public == event.public && it.carried.is_none()
        };
        let Some(at) = self.data.iter().rposition(is_it) else {
            return;
        };
        self.data[at].carried = Some(match detail {
            Detail::Ended(ended) => Carried {
                payload: ended.payload,
                seconds: Some(ended.seconds),
                last: event.time,
            },
            _ => Carried::default(),
        });
        self.finish(at, over);
    }

    /// The session has ended.
    pub(super) fn end(&mut self, over: &mut Vec<Over>) {
        while !self.commands.is_empty() {
            self.conclude(0, over);
        }
    }

    /// A data connection is over: tells its command, if that was answered, or that a connection without
    /// a command carried something.
    fn finish(&mut self, at: usize, over: &mut Vec<Over>) {
        let number = self.data[at].number;
        let its = |it: &Command| it.data == Some(number);
        if let Some(at) = self.commands.iter().position(its) {
            if self.commands[at].is_settled {
                self.conclude(at, over);
            }
            return;
        }
        let Some(data) = self.data.remove(at) else {
            return;
        };
        let carried = data.carried.unwrap_or_default();
        let [to_client, from_client] = carried.by_receiver(self.role);
        let is_to_client = to_client.unwrap_or(0) >= from_client.unwrap_or(0);
        let bytes = if is_to_client { to_client } else { from_client };
        if data.is_claimed || (bytes.unwrap_or(0) == 0 && !data.is_encrypted) {
            return;
        }
        let action = if is_to_client {
            Action::Sent
        } else {
            Action::Received
        };
        let transfer = Transfer {
            action,
            command: None,
            user: self.user.clone(),
            path: None,
            is_cut: false,
            from: None,
            directory: None,
            bytes,
            seconds: carried.seconds.unwrap_or(0.0),
            is_encrypted: data.is_encrypted,
            code: None,
            client: self.client(),
            server: self.server(),
        };
        over.push((
            self.event(Some(&data.event), carried.last, &transfer),
            transfer,
        ));
    }

    /// A command is over that has no data connection, or will not hear of it any more.
    fn conclude(&mut self, at: usize, over: &mut Vec<Over>) {
        let command = &self.commands[at];
        let Some(action) = action(command.name) else {
            self.settle(at);
            return;
        };
        if action.is_transfer() {
            let number = command.data;
            let data = self.data.iter().position(|it| Some(it.number) == number);
            let data = data.and_then(|at| self.data.remove(at));
            self.tell_transfer(at, action, data.as_ref(), over);
            return;
        }
        self.tell_change(at, action, over);
    }

    /// Takes note of an answered command that only says who or where the client is.
    fn settle(&mut self, at: usize) {
        let Some(command) = self.commands.remove(at) else {
            return;
        };
        let Some((code, _)) = command.reply else {
            return;
        };
        let is_done = (200..300).contains(&code);
        match command.name {
            USER_NAME | PASS | ACCT => match code {
                230 | 232 | 202 => {
                    self.user = self.candidate.clone();
                    self.directory = Directory::default();
                }
                // A further word is wanted.
                300..=399 => {}
                _ => self.candidate = None,
            },
            REIN if is_done => {
                self.user = None;
                self.candidate = None;
                self.directory = Directory::default();
            }
            CWD | XCWD if is_done => self.directory.change(&command.argument, command.is_cut),
            CDUP | XCUP if is_done => self.directory.up(),
            RNFR if code == 350 => self.renamed = Some((command.argument, command.is_cut)),
            _ => {}
        }
    }

    fn tell_change(&mut self, at: usize, action: Action, over: &mut Vec<Over>) {
        let Some(command) = self.commands.remove(at) else {
            return;
        };
        let from = match command.name {
            RNTO => self.renamed.take(),
            _ => None,
        };
        let time = command.reply.map_or(command.time, |(_, time)| time);
        let transfer = Transfer {
            action,
            command: Some(verb(command.name)),
            user: self.user.clone(),
            path: Some(command.argument),
            is_cut: command.is_cut || from.as_ref().is_some_and(|(_, is_cut)| *is_cut),
            from: from.map(|(name, _)| name),
            directory: command.directory,
            bytes: None,
            seconds: 0.0,
            is_encrypted: command.is_encrypted,
            code: command.reply.map(|(code, _)| code),
            client: self.client(),
            server: self.server(),
        };
        over.push((self.event(None, time, &transfer), transfer));
    }

    fn tell_transfer(
        &mut self,
        at: usize,
        action: Action,
        data: Option<&Data>,
        over: &mut Vec<Over>,
    ) {
        let Some(command) = self.commands.remove(at) else {
            return;
        };
        let end = command.reply.map_or(command.time, |(_, time)| time);
        let carried = data.and_then(|it| it.carried).unwrap_or_default();
        let from_command_to_reply = self.clock.between(command.time, end).as_secs_f64();
        let [to_client, from_client] = carried.by_receiver(self.role);
        let transfer = Transfer {
            action,
            command: Some(verb(command.name)),
            user: command.user.or_else(|| self.user.clone()),
            path: Some(command.argument).filter(|it| !it.is_empty()),
            is_cut: command.is_cut,
            from: None,
            directory: command.directory,
            bytes: if action.is_to_client() {
                to_client
            } else {
                from_client
            },
            seconds: carried.seconds.unwrap_or(from_command_to_reply),
            is_encrypted: command.is_encrypted,
            code: command.reply.map(|(code, _)| code),
            client: self.client(),
            server: self.server(),
        };
        let event = data.map(|it| &it.event);
        over.push((
            self.event(event, end.max(carried.last), &transfer),
            transfer,
        ));
    }

    fn client(&self) -> Addr {
        if self.role == role::PUBLISH {
            self.peer.addr
        } else {
            self.inside.addr
        }
    }

    fn server(&self) -> Option<Endpoint> {
        (self.role == role::PUBLISH).then_some(self.inside)
    }

    /// The event that tells it, with the ends of its data connection, or else of the session.
    fn event(&self, data: Option<&Event>, time: u64, transfer: &Transfer) -> Event {
        let (kind, cause) = data.map_or((0, 0), |it| (it.kind, it.cause));
        let ends = data.map_or((self.peer, self.inside, self.public), |it| {
            (it.peer, it.inside, it.public)
        });
        Event {
            time,
            what: if transfer.action.is_transfer() {
                event::TRANSFER
            } else {
                event::CHANGE
            },
            kind,
            cause,
            reason: transfer.code.unwrap_or(0),
            session: self.number,
            peer: ends.0,
            inside: ends.1,
            public: ends.2,
            ..Event::default()
        }
    }
}

/// What a data connection has carried.
#[derive(Clone, Copy, Debug, Default)]
struct Carried {
    /// Bytes inward and outward, without headers, where they are known.
    payload: [Option<u64>; 2],
    seconds: Option<f64>,
    /// When its last packet came, in ticks; 0: not known.
    last: u64,
}

impl Carried {
    /// Bytes to the client and from it.
    fn by_receiver(&self, role: u8) -> [Option<u64>; 2] {
        let [inward, outward] = self.payload;
        if role == role::PUBLISH {
            [outward, inward]
        } else {
            [inward, outward]
        }
    }
}

/// What flows say of what their connection has carried.
fn carried([inbound, outbound]: &[Flow; 2], clock: &Clock) -> Carried {
    let now = clock.now();
    let last = flow::seen_at(inbound, Some(outbound), now);
    Carried {
        payload: flow::payload(inbound, outbound),
        seconds: Some(clock.between(inbound.born, last).as_secs_f64()),
        last,
    }
}

/// Whether a data connection carries no more: both ends have closed it, or one whose last byte has come,
/// or somebody has broken it off.
fn is_over(flows: &[Flow; 2]) -> bool {
    let [inbound, outbound] = flows;
    match State::of(signs(inbound), signs(outbound)) {
        State::Closed | State::Reset | State::Cut => true,
        State::HalfClosed => [(inbound, outbound), (outbound, inbound)]
            .iter()
            .any(|(from, to)| flow::is_delivered(from, to)),
        State::Opening | State::Established => false,
    }
}

/// What stands behind the verb.
fn argument(line: &[u8], name: u32) -> &[u8] {
    let verb = name.to_be_bytes().iter().filter(|byte| **byte != 0).count();
    let argument = line.get(verb..).unwrap_or_default();
    let argument = argument.strip_suffix(b"\r").unwrap_or(argument);
    let argument = argument.get(1..).unwrap_or_default();
    argument.trim_ascii_start()
}

/// A verb in upper case.
fn verb(name: u32) -> String {
    let bytes = name.to_be_bytes();
    String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

const USER_NAME: u32 = named(b"USER");
const PASS: u32 = named(b"PASS");
const ACCT: u32 = named(b"ACCT");
const REIN: u32 = named(b"REIN");
const CWD: u32 = named(b"CWD");
const XCWD: u32 = named(b"XCWD");
const CDUP: u32 = named(b"CDUP");
const XCUP: u32 = named(b"XCUP");
const RETR: u32 = named(b"RETR");
const STOR: u32 = named(b"STOR");
const STOU: u32 = named(b"STOU");
const APPE: u32 = named(b"APPE");
const LIST: u32 = named(b"LIST");
const NLST: u32 = named(b"NLST");
const MLSD: u32 = named(b"MLSD");
const DELE: u32 = named(b"DELE");
const RMD: u32 = named(b"RMD");
const XRMD: u32 = named(b"XRMD");
const MKD: u32 = named(b"MKD");
const XMKD: u32 = named(b"XMKD");
const RNFR: u32 = named(b"RNFR");
const RNTO: u32 = named(b"RNTO");

/// What a command of this name does; none: it only says who or where the client is.
const fn action(name: u32) -> Option<Action> {
    Some(match name {
        RETR => Action::Retrieved,
        STOR | STOU | APPE => Action::Stored,
        LIST | NLST | MLSD => Action::Listed,
        DELE | RMD | XRMD => Action::Deleted,
        MKD | XMKD => Action::Created,
        RNTO => Action::Renamed,
        _ => return None,
    })
}
