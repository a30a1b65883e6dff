//! Cuts the message of a record, `key=value key=value ...`, into its tokens.
//!
//! No server escapes anything: accounts hold quotes, spaces, newlines and whole imitations of other keys. What can be relied on is
//! the order in which the server writes its keys ([`Key`]). A value therefore ends at the next ` key=` that may follow its key; a key
//! that was already passed is text. Where the text would also be a record if it were cut elsewhere, it is refused, not guessed.

use super::key::{Key, Order, key};
use super::value::{A_DURATION, duration, whole};
use crate::run::{Reason, bounded};
use memchr::memchr_iter;
use nom::Parser;
use std::borrow::Cow;

/// A key with its value, as it stands: quotes included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) key: Key,
    /// Of `Resource_List.` and the like; else empty.
    pub(super) resource: &'a [u8],
    pub(super) value: &'a [u8],
}

/// Why a message cannot be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault<'a> {
    /// It does not begin with a key.
    NoKey(&'a [u8]),
    /// The quote of this key's value is not closed.
    OpenQuote(Key),
    /// This key stands a second time where it cannot; the text that begins with it.
    Again(Key, &'a [u8]),
}

impl From<Fault<'_>> for Reason {
    fn from(fault: Fault<'_>) -> Self {
        match fault {
            Fault::NoKey(text) => {
                Self::Value { field: Cow::Borrowed("message"), found: bounded(text), expected: "key=value" }
            }
            Fault::OpenQuote(key) => Self::OpenQuote { field: key.name() },
            Fault::Again(key, text) => Self::Value {
                field: Cow::Borrowed(key.name()),
                found: bounded(text),
                expected: "this key once: the record can be cut in two ways",
            },
        }
    }
}

/// The tokens of a message in their order; stops after a fault.
#[derive(Debug, Clone)]
pub(super) struct Tokens<'a> {
    state: State<'a>,
    order: Order,
    has_account: bool,
    /// Quotes of which it is known that no `Resource_List` value ahead is closed by them (else a hostile record costs quadratic time).
    never_closed: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
enum State<'a> {
    /// Nothing read yet.
    Start(&'a [u8]),
    /// Behind the `=` of this key.
    At(Key, &'a [u8], &'a [u8]),
    Done,
}

/// A value, and the key that ends it with its resource and what follows its `=`.
type Found<'a> = (&'a [u8], Option<(Key, &'a [u8], &'a [u8])>);

impl<'a> Tokens<'a> {
    /// `message`: what follows the id, without blanks at its end.
    pub(super) fn new(message: &'a [u8]) -> Self {
        Self::in_order(message, Order::Run)
    }

    fn in_order(message: &'a [u8], order: Order) -> Self {
        Self { state: State::Start(message), order, has_account: false, never_closed: Vec::new() }
    }

    /// The value that `rest` begins with.
    fn value(&mut self, current: Key, rest: &'a [u8]) -> Result<Found<'a>, Fault<'a>> {
        let Some(&quote) = rest.first().filter(|&&byte| current.quoted_with(byte)) else {
            return Ok(self.find_end(current, rest, None)?.unwrap_or((rest, None)));
        };
        if !self.never_closed.contains(&quote)
            && let Some(found) = self.find_end(current, rest, Some(quote))?
        {
            return Ok(found);
        }
        match current {
            // cpy_quote_value() quotes what has a space: without one, the quote is the value's own (`foo_str="abc`).
            Key::Requested | Key::Assigned => {
                self.never_closed.push(quote);
                let found = self.find_end(current, rest, None)?.unwrap_or((rest, None));
                if found.0.contains(&b' ') && inside_quotes(current, found.0).is_none() {
                    return Err(Fault::OpenQuote(current));
                }
                Ok(found)
            }
            Key::AppendedAccount if inside_quotes(current, rest).is_some() => Ok((rest, None)),
            _ => Err(Fault::OpenQuote(current)),
        }
    }

    /// Looks for the first ` key=` that may follow `current`, behind a closing `quote` if there is one to be closed.
    fn find_end(
        &self,
        current: Key,
        rest: &'a [u8],
        quote: Option<u8>,
    ) -> Result<Option<Found<'a>>, Fault<'a>> {
        for space in memchr_iter(b' ', rest) {
            let Some((value, [_, ahead @ ..])) = rest.split_at_checked(space) else { break };
            let Some((behind, (next, resource))) = key(ahead) else { continue };
            let next = match next {
                Key::Account if current >= Key::ExitStatus && !self.has_account => Key::AppendedAccount,
                next => next,
            };
            // A server that does not quote accounts knows no projects.
            let foreign = current == Key::Account
                && quote.is_none()
                && matches!(next, Key::Project | Key::AccountingId);
            if current.admits(next, self.order) && !foreign {
                let closed = quote.is_none_or(|quote| value.len() > 1 && value.ends_with(&[quote]));
                if closed {
                    return Ok(Some((value, Some((next, resource, behind)))));
                }
            } else if current.excludes(next, self.order) {
                return Err(Fault::Again(next, ahead));
            }
        }
        Ok(None)
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Result<Token<'a>, Fault<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let (current, resource, rest) = match std::mem::replace(&mut self.state, State::Done) {
            State::Done => return None,
            State::Start(message) => match key(message) {
                Some((rest, (first, resource))) => (first, resource, rest),
                None => return Some(Err(Fault::NoKey(message))),
            },
            State::At(current, resource, rest) => (current, resource, rest),
        };
        self.has_account |= current == Key::Account;
        match self.value(current, rest) {
            Ok((value, next)) => {
                if let Some((next, resource, rest)) = next {
                    self.state = State::At(next, resource, rest);
                }
                Some(Ok(Token { key: current, resource, value }))
            }
            Err(fault) => Some(Err(fault)),
        }
    }
}

/// The value without its quotes, if it has a pair of those that the server puts around values of this key.
fn inside_quotes(key: Key, value: &[u8]) -> Option<&[u8]> {
    match value {
        [first, inner @ .., last] if first == last && key.quoted_with(*first) => Some(inner),
        _ => None,
    }
}

/// The value without its quotes, if it has any.
pub(super) fn unquote(key: Key, value: &[u8]) -> &[u8] {
    inside_quotes(key, value).unwrap_or(value)
}

/// The requested resources that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resource {
    Ncpus,
    Nodect,
    Mem,
    Nodes,
    Neednodes,
    /// Cray: processing elements.
    Mppwidth,
    /// Cray: processing elements on a node.
    Mppnppn,
    /// Cray: cores of a processing element.
    Mppdepth,
}

impl Resource {
    const COUNT: usize = Self::Mppdepth as usize + 1;

    fn of(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"ncpus" => Self::Ncpus,
            b"nodect" => Self::Nodect,
            b"mem" => Self::Mem,
            b"nodes" => Self::Nodes,
            b"neednodes" => Self::Neednodes,
            b"mppwidth" => Self::Mppwidth,
            b"mppnppn" => Self::Mppnppn,
            b"mppdepth" => Self::Mppdepth,
            _ => return None,
        })
    }

    /// As it stands in a record.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ncpus => "Resource_List.ncpus",
            Self::Nodect => "Resource_List.nodect",
            Self::Mem => "Resource_List.mem",
            Self::Nodes => "Resource_List.nodes",
            Self::Neednodes => "Resource_List.neednodes",
            Self::Mppwidth => "Resource_List.mppwidth",
            Self::Mppnppn => "Resource_List.mppnppn",
            Self::Mppdepth => "Resource_List.mppdepth",
        }
    }
}

/// What was asked for of the resource `name`, without quotes, in the `Resource_List` part of a message. `None` where the text says it
/// twice: a value that a user wrote can hold an imitation of another resource.
pub(super) fn resource<'a>(list: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    if list.is_empty() {
        return None;
    }
    let mut found = Tokens::new(list)
        .map_while(Result::ok)
        .filter(|token| token.key == Key::Requested && token.resource == name);
    let value = found.next().map(|token| unquote(Key::Requested, token.value))?;
    found.next().is_none().then_some(value)
}

/// Where `part` of `whole` begins.
fn offset_in(whole: &[u8], part: &[u8]) -> usize {
    part.as_ptr().addr().saturating_sub(whole.as_ptr().addr())
}

/// The names of the resources that count GPUs: `ngpus`, and what a site may have in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GpuNames(pub(super) Vec<Box<[u8]>>);

impl GpuNames {
    fn place(&self, name: &[u8]) -> Option<usize> {
        self.0.iter().position(|known| **known == *name)
    }

    pub(super) fn contains(&self, name: &[u8]) -> bool {
        self.place(name).is_some()
    }
}

/// The values of resources that count GPUs, each with its name's place. Nearly all sites have one such resource.
#[derive(Debug, Clone, Default)]
struct Gpus<'a> {
    first: Option<(usize, &'a [u8])>,
    others: Vec<(usize, &'a [u8])>,
}

impl<'a> Gpus<'a> {
    /// False if there is one of that name already.
    fn put(&mut self, name: usize, value: &'a [u8]) -> bool {
        if self.iter().any(|(known, _)| known == name) {
            return false;
        }
        match &mut self.first {
            None => self.first = Some((name, value)),
            Some(_) => self.others.push((name, value)),
        }
        true
    }

    fn iter(&self) -> impl Iterator<Item = (usize, &'a [u8])> {
        self.first.iter().chain(&self.others).copied()
    }
}

/// The values of a message.
#[derive(Debug, Clone)]
pub(super) struct Message<'a> {
    /// From the first `Resource_List.` to the end of the last one's value.
    resources: &'a [u8],
    values: [Option<&'a [u8]>; Key::COUNT],
    requested: [Option<&'a [u8]>; Resource::COUNT],
    requested_gpus: Gpus<'a>,
    assigned_ncpus: Option<&'a [u8]>,
    assigned_mem: Option<&'a [u8]>,
    assigned_gpus: Gpus<'a>,
    walltime: Option<&'a [u8]>,
}

impl<'a> Message<'a> {
    /// Reads all of a message.
    pub(super) fn read(message: &'a [u8], gpus: &GpuNames) -> Result<Self, Fault<'a>> {
        Self::in_order(message, Order::Run, gpus)
    }

    /// Reads all of a message whose keys stand in this order.
    pub(super) fn in_order(message: &'a [u8], order: Order, gpus: &GpuNames) -> Result<Self, Fault<'a>> {
        let mut read = Self {
            resources: b"",
            values: [None; Key::COUNT],
            requested: [None; Resource::COUNT],
            requested_gpus: Gpus::default(),
            assigned_ncpus: None,
            assigned_mem: None,
            assigned_gpus: Gpus::default(),
            walltime: None,
        };
        let mut first_resource = None;
        for token in Tokens::in_order(message, order) {
            let Token { key, resource, value } = token?;
            let slot = match key {
                Key::Requested => {
                    let start = *first_resource
                        .get_or_insert(offset_in(message, resource).saturating_sub("Resource_List.".len()));
                    let end = offset_in(message, value).saturating_add(value.len());
                    read.resources = message.get(start..end).unwrap_or_default();
                    match Resource::of(resource) {
                        Some(known) => read.requested.get_mut(known as usize),
                        None => match gpus.place(resource) {
                            Some(name) if !read.requested_gpus.put(name, value) => {
                                return Err(Fault::Again(key, value));
                            }
                            _ => None,
                        },
                    }
                }
                Key::Used if resource == b"walltime" => Some(&mut read.walltime),
                Key::Used => None,
                Key::Assigned => match resource {
                    b"ncpus" => Some(&mut read.assigned_ncpus),
                    b"mem" => Some(&mut read.assigned_mem),
                    _ => match gpus.place(resource) {
                        Some(name) if !read.assigned_gpus.put(name, value) => {
                            return Err(Fault::Again(key, value));
                        }
                        _ => None,
                    },
                },
                _ => read.values.get_mut(key as usize),
            };
            if let Some(slot) = slot
                && slot.replace(value).is_some()
            {
                return Err(Fault::Again(key, value));
            }
        }
        Ok(read)
    }

    /// The value of a key as it stands.
    pub(super) fn get(&self, key: Key) -> Option<&'a [u8]> {
        self.values.get(key as usize).copied().flatten()
    }

    /// The value of a key that every record has.
    pub(super) fn required(&self, key: Key) -> Result<&'a [u8], Reason> {
        self.get(key).ok_or(Reason::Missing { field: key.name() })
    }

    /// What a key's value says; `None` where the key is not there.
    pub(super) fn optional<T>(
        &self,
        key: Key,
        grammar: impl Parser<&'a [u8], Output = T, Error = nom::error::Error<&'a [u8]>>,
        expected: &'static str,
    ) -> Result<Option<T>, Reason> {
        self.get(key).map(|text| whole(key.name(), text, grammar, expected)).transpose()
    }

    /// What was asked for, without quotes.
    pub(super) fn requested(&self, resource: Resource) -> Option<&'a [u8]> {
        self.requested.get(resource as usize).copied().flatten().map(|value| unquote(Key::Requested, value))
    }

    /// What was asked for of each resource that counts GPUs, without quotes.
    pub(super) fn requested_gpus(&self) -> impl Iterator<Item = &'a [u8]> {
        self.requested_gpus.iter().map(|(_, value)| unquote(Key::Requested, value))
    }

    /// `resource_assigned.ncpus`.
    pub(super) fn assigned_ncpus(&self) -> Option<&'a [u8]> {
        self.assigned_ncpus.map(|value| unquote(Key::Assigned, value))
    }

    /// `resource_assigned.mem`.
    pub(super) fn assigned_mem(&self) -> Option<&'a [u8]> {
        self.assigned_mem.map(|value| unquote(Key::Assigned, value))
    }

    /// `resource_assigned` of each resource that counts GPUs.
    pub(super) fn assigned_gpus(&self) -> impl Iterator<Item = &'a [u8]> {
        self.assigned_gpus.iter().map(|(_, value)| unquote(Key::Assigned, value))
    }

    /// All that was asked for, as it stands: see [`resource`].
    pub(super) fn resources(&self) -> &'a [u8] {
        self.resources
    }

    /// Seconds of `resources_used.walltime`.
    pub(super) fn used_walltime(&self) -> Result<Option<u64>, Reason> {
        self.walltime.map(|text| whole("resources_used.walltime", text, duration, A_DURATION)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bstr::ByteSlice;

    fn gpus() -> GpuNames {
        GpuNames(vec![(*b"ngpus").into()])
    }

    fn tokens(message: &str) -> Vec<(Key, &str)> {
        Tokens::new(message.as_bytes())
            .map(|token| token.map(|token| (token.key, token.value.to_str().unwrap())))
            .collect::<Result<_, _>>()
            .unwrap()
    }

    fn value(message: &str, key: Key) -> &str {
        tokens(message).into_iter().find(|token| token.0 == key).unwrap().1
    }

    fn fault(message: &str) -> Fault<'_> {
        Tokens::new(message.as_bytes()).find_map(Result::err).unwrap()
    }

    #[test]
    fn any_resource_is_found_by_its_name() {
        let text = "user=u group=g jobname=j queue=q start=2 Resource_List.job_priority=premium Resource_List.ncpus=3 \
                    Resource_List.note=\"a b; x=1\" Resource_List.other='say \"x\" y' session=4 end=5 resources_used.mem=6kb";
        let list = Message::read(text.as_bytes(), &gpus()).unwrap().resources();
        assert!(
            list.starts_with(b"Resource_List.job_priority=") && list.ends_with(b"y'"),
            "{}",
            list.as_bstr()
        );
        let of = |name: &str| resource(list, name.as_bytes()).map(|value| value.to_str().unwrap());
        assert_eq!(of("job_priority"), Some("premium"));
        assert_eq!(of("ncpus"), Some("3"));
        assert_eq!(of("note"), Some("a b; x=1"));
        assert_eq!(of("other"), Some("say \"x\" y"));
        assert_eq!((of("mem"), of("job"), of("")), (None, None, None));
        assert_eq!(Message::read(b"user=u group=g jobname=j queue=q", &gpus()).unwrap().resources(), b"");
        assert_eq!(resource(b"", b"ncpus"), None);
    }

    #[test]
    fn a_resource_that_is_there_twice_is_none() {
        // The server puts what has a space and a double quote between single quotes, and lets single quotes stand in it.
        let forged = b"Resource_List.note='a' Resource_List.job_priority=economy b' Resource_List.job_priority=premium";
        assert_eq!(resource(forged, b"job_priority"), None);
    }

    #[test]
    fn tokens_are_key_and_value() {
        assert_eq!(
            tokens("user=u group=g jobname=j queue=q ctime=1 start=2 Resource_List.ncpus=3 end=4"),
            [
                (Key::User, "u"),
                (Key::Group, "g"),
                (Key::Jobname, "j"),
                (Key::Queue, "q"),
                (Key::Ctime, "1"),
                (Key::Start, "2"),
                (Key::Requested, "3"),
                (Key::End, "4")
            ]
        );
        assert_eq!(tokens("queue=batch"), [(Key::Queue, "batch")]);
        assert_eq!(fault("floating license hour:0"), Fault::NoKey(b"floating license hour:0"));
    }

    #[test]
    fn a_group_may_hold_spaces() {
        assert_eq!(
            value("user=u group=domain users project=p jobname=j queue=q", Key::Group),
            "domain users"
        );
        assert_eq!(value("user=u group=domain users jobname=j queue=q", Key::Group), "domain users");
    }

    #[test]
    fn quoted_accounts_end_at_a_quote_before_a_key_that_may_follow() {
        let of = |account: &str| {
            let message = format!("user=u group=g account={account} project=p jobname=j queue=q");
            value(&message, Key::Account).to_owned()
        };
        for account in [
            "\"a\"",
            "\"\"",
            "\"my acct; x=1\"",
            "\"ac\"ct q=2 \"end\"",
            "\"z end=1 Exit_status=99 user=root\"",
            "\"l1\nl2\"",
            "\"a project=b\"",
        ] {
            assert_eq!(of(account), account);
        }
    }

    #[test]
    fn unquoted_accounts_end_at_jobname() {
        let of = |account: &str| {
            let message = format!("user=u group=g account={account} jobname=j queue=q");
            value(&message, Key::Account).to_owned()
        };
        for account in
            ["y06", "my acct; x=1 \"q\"", "z end=1 Exit_status=99 user=root", "l1\nl2", "a project=b", ""]
        {
            assert_eq!(of(account), account);
        }
    }

    #[test]
    fn an_open_account_is_a_fault() {
        assert_eq!(fault("user=u group=g account=\"line1"), Fault::OpenQuote(Key::Account));
        assert_eq!(fault("user=u group=g account=\"line1\""), Fault::OpenQuote(Key::Account));
        assert_eq!(fault("user=u group=g account=\""), Fault::OpenQuote(Key::Account));
        // TORQUE does not quote: this account begins with a quote of its own. It cannot be told from a torn record.
        assert_eq!(fault("user=u group=g account=\"x\" y jobname=j queue=q"), Fault::OpenQuote(Key::Account));
    }

    #[test]
    fn imitated_keys_make_the_record_ambiguous() {
        for account in [
            "x\" project=victim",
            "x\" project=victim jobname=j",
            "x\" project=victim jobname=j queue=q ctime=1 start=1 end=2 Exit_status=0 resources_used.foo=y",
            "x\" jobname=j queue=q ctime=1 start=1 Resource_List.foo=\"",
            "x\" project=\"victim",
        ] {
            let message = format!(
                "user=u group=g account=\"{account}\" project=real jobname=real queue=real ctime=5 start=6 \
                 exec_host=n/0 Resource_List.s=\"two words\" Resource_List.ncpus=1 end=7 Exit_status=0 run_count=1"
            );
            assert!(
                matches!(fault(&message), Fault::Again(..) | Fault::OpenQuote(_)),
                "{account}: {:?}",
                fault(&message)
            );
        }
    }

    #[test]
    fn resource_strings_are_quoted_by_need() {
        let of = |text: &str| {
            let message = format!("queue=q start=1 Resource_List.foo_str={text} Resource_List.ncpus=1 end=2");
            value(&message, Key::Requested).to_owned()
        };
        for text in [
            "\"two words\"",
            "'two \"q\" words'",
            "a\"b",
            "a=b;c,d",
            "\"abc",
            "'",
            "\"x Resource_List.ncpus=9\"",
        ] {
            assert_eq!(of(text), text);
        }
        assert_eq!(
            fault("queue=q start=1 Resource_List.foo_str=\"two words Resource_List.ncpus=1 end=2"),
            Fault::OpenQuote(Key::Requested)
        );
    }

    #[test]
    fn hook_values_are_raw() {
        let message = "end=1 Exit_status=0 resources_used.foo_json='{\"n01\": {\"note\": \"a b;c=d\"}}' \
                       resources_used.foo_str=plain words with = and \"dq\" resources_used.walltime=00:00:03 run_count=1";
        assert_eq!(
            tokens(message).iter().map(|token| token.1).collect::<Vec<_>>(),
            [
                "1",
                "0",
                "'{\"n01\": {\"note\": \"a b;c=d\"}}'",
                "plain words with = and \"dq\"",
                "00:00:03",
                "1"
            ]
        );
    }

    #[test]
    fn keys_appended_by_a_site_are_read() {
        let message =
            "queue=q start=1 end=2 Exit_status=0 resources_used.walltime=00:00:01 account=abc session_id=7";
        assert_eq!(value(message, Key::AppendedAccount), "abc");
        assert_eq!(value("end=2 Exit_status=0 account=\"a b\"", Key::AppendedAccount), "\"a b\"");
        let both =
            "user=u group=g account=own jobname=j queue=q end=2 Exit_status=0 run_count=1 account=other";
        assert_eq!(value(both, Key::RunCount), "1 account=other");
    }

    #[test]
    fn what_counts_stands_once() {
        let message = b"queue=q start=1 Resource_List.ncpus=1 Resource_List.ncpus=2 end=2";
        assert_eq!(Message::read(message, &gpus()).err(), Some(Fault::Again(Key::Requested, b"2")));
        let message = b"end=2 Exit_status=0 resources_used.walltime=00:01 resources_used.walltime=00:02";
        assert_eq!(Message::read(message, &gpus()).err(), Some(Fault::Again(Key::Used, b"00:02")));
    }

    #[test]
    fn quotes_are_taken_off_in_pairs() {
        let of = |value: &'static [u8]| (unquote(Key::Account, value), unquote(Key::Requested, value));
        assert_eq!(of(b"\"a b\""), (&b"a b"[..], &b"a b"[..]));
        assert_eq!(of(b"'a \"b'"), (&b"'a \"b'"[..], &b"a \"b"[..]));
        assert_eq!(of(b"\"\""), (&b""[..], &b""[..]));
        for value in [&b"\"a'"[..], b"\"", b"", b"a\"b"] {
            assert_eq!(of(value), (value, value));
        }
    }

    #[test]
    fn open_quotes_cost_no_more_than_linear_time() {
        let hostile = "queue=q start=1".to_owned() + &" Resource_List.a=\"x".repeat(50_000);
        assert_eq!(Tokens::new(hostile.as_bytes()).filter(Result::is_ok).count(), 50_002);
    }
}
