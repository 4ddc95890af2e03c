//! The six requests of Kafka's protocol that lag takes, <https://kafka.apache.org/protocol>, each in a version that brokers
//! from 1.0 to 4 answer (what 4.0 dropped is in KIP-896).

use crate::error::ErrorKind;

/// A request: what it is called, its number and version, and how its body is written.
pub(super) struct Request {
    pub name: &'static str,
    pub key: i16,
    pub version: i16,
    pub body: Vec<u8>,
}

impl Request {
    fn new(name: &'static str, key: i16, version: i16, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut body = Vec::new();
        write(&mut body);
        Self { name, key, version, body }
    }

    /// The topics' partitions and who leads them. No topic is created by asking: the last byte is `allow_auto_topic_creation`.
    pub fn metadata(topics: &[&str]) -> Self {
        Self::new("Metadata", 3, 4, |to| {
            put_array(to, topics, |to, topic| put_text(to, topic));
            to.push(0);
        })
    }

    /// The broker that keeps a group's offsets.
    pub fn find_coordinator(group: &str) -> Self {
        Self::new("FindCoordinator", 10, 1, |to| {
            put_text(to, group);
            // A consumer group's, not a transaction's.
            to.push(0);
        })
    }

    /// What a group has committed for these partitions. The group is not joined.
    pub fn offset_fetch(group: &str, topics: &[(&str, Vec<i32>)]) -> Self {
        Self::new("OffsetFetch", 9, 2, |to| {
            put_text(to, group);
            put_array(to, topics, |to, (topic, partitions)| {
                put_text(to, topic);
                put_array(to, partitions, |to, partition| to.extend(partition.to_be_bytes()));
            });
        })
    }

    /// Where these partitions begin or end.
    pub fn list_offsets(end: End, topics: &[(&str, Vec<i32>)]) -> Self {
        let timestamp: i64 = match end {
            End::Latest => -1,
            End::Earliest => -2,
        };
        Self::new("ListOffsets", 2, 1, |to| {
            // No replica, but a client.
            to.extend((-1_i32).to_be_bytes());
            put_array(to, topics, |to, (topic, partitions)| {
                put_text(to, topic);
                put_array(to, partitions, |to, partition| {
                    to.extend(partition.to_be_bytes());
                    to.extend(timestamp.to_be_bytes());
                });
            });
        })
    }

    pub fn sasl_handshake(mechanism: &str) -> Self {
        Self::new("SaslHandshake", 17, 1, |to| put_text(to, mechanism))
    }

    pub fn sasl_authenticate(token: &[u8]) -> Self {
        Self::new("SaslAuthenticate", 36, 0, |to| {
            to.extend(length(token.len()));
            to.extend_from_slice(token);
        })
    }

    /// The request as it is sent: its length, its head and its body.
    pub fn frame(&self, correlation: i32) -> Vec<u8> {
        let mut head = [self.key.to_be_bytes(), self.version.to_be_bytes()].concat();
        head.extend(correlation.to_be_bytes());
        put_text(&mut head, "tidegate");
        [&length(head.len() + self.body.len())[..], &head, &self.body].concat()
    }
}

/// Which end of a partition is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    /// The first record that is kept.
    Earliest,
    /// Behind the last record.
    Latest,
}

fn length(length: usize) -> [u8; 4] {
    i32::try_from(length).expect("limits::problem keeps every setting short").to_be_bytes()
}

fn put_text(to: &mut Vec<u8>, text: &str) {
    to.extend(i16::try_from(text.len()).expect("the schema keeps names short").to_be_bytes());
    to.extend_from_slice(text.as_bytes());
}

fn put_array<T>(to: &mut Vec<u8>, items: &[T], mut put: impl FnMut(&mut Vec<u8>, &T)) {
    to.extend(length(items.len()));
    items.iter().for_each(|item| put(to, item));
}

/// The body of an answer. Every part is `None` where the answer ends before it.
pub(super) struct Body<'a>(pub &'a [u8]);

impl<'a> Body<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    pub fn i16(&mut self) -> Option<i16> {
        self.take(2)?.try_into().ok().map(i16::from_be_bytes)
    }

    pub fn i32(&mut self) -> Option<i32> {
        self.take(4)?.try_into().ok().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.take(8)?.try_into().ok().map(i64::from_be_bytes)
    }

    /// A text, or nothing in its place.
    fn nullable_text(&mut self) -> Option<Option<&'a str>> {
        match self.i16()? {
            -1 => Some(None),
            length => std::str::from_utf8(self.take(length.try_into().ok()?)?).ok().map(Some),
        }
    }

    fn text(&mut self) -> Option<&'a str> {
        self.nullable_text()?
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.i32()?;
        self.take(length.try_into().ok()?)
    }

    /// An array, which is read item by item, so that no promised length takes memory.
    fn array<T>(&mut self, mut item: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let mut items = Vec::new();
        for _ in 0..u32::try_from(self.i32()?).ok()? {
            items.push(item(self)?);
        }
        Some(items)
    }
}

/// A broker and where it says that it is.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Broker {
    pub id: i32,
    pub host: String,
    pub port: u16,
}

impl Broker {
    fn read(body: &mut Body<'_>) -> Option<Self> {
        let (id, host, port) = (body.i32()?, body.text()?.to_owned(), body.i32()?);
        Some(Self { id, host, port: port.try_into().ok()? })
    }
}

/// The answer to `Metadata`.
#[derive(Debug, PartialEq)]
pub(super) struct Metadata {
    pub brokers: Vec<Broker>,
    pub topics: Vec<Topic>,
}

/// A topic as its cluster describes it.
#[derive(Debug, PartialEq)]
pub(super) struct Topic {
    pub error: i16,
    pub name: String,
    pub partitions: Vec<Partition>,
}

/// A partition as its cluster describes it.
#[derive(Debug, PartialEq)]
pub(super) struct Partition {
    pub error: i16,
    pub index: i32,
    pub leader: i32,
}

impl Metadata {
    pub fn read(body: &mut Body<'_>) -> Option<Self> {
        let _throttled_ms = body.i32()?;
        let brokers = body.array(|body| {
            let broker = Broker::read(body)?;
            let _rack = body.nullable_text()?;
            Some(broker)
        })?;
        let (_cluster, _controller) = (body.nullable_text()?, body.i32()?);
        let topics = body.array(|body| {
            let (error, name, _internal) = (body.i16()?, body.text()?.to_owned(), body.u8()?);
            let partitions = body.array(|body| {
                let partition = Partition { error: body.i16()?, index: body.i32()?, leader: body.i32()? };
                let (_replicas, _in_sync) = (body.array(Body::i32)?, body.array(Body::i32)?);
                Some(partition)
            })?;
            Some(Topic { error, name, partitions })
        })?;
        Some(Self { brokers, topics })
    }
}

/// The answer to `FindCoordinator`.
pub(super) fn coordinator(body: &mut Body<'_>) -> Option<(i16, Broker)> {
    let _throttled_ms = body.i32()?;
    let (error, _message) = (body.i16()?, body.nullable_text()?);
    // Where there is none, its host is empty and its port is -1.
    let broker = match error {
        0 => Broker::read(body)?,
        _ => Broker { id: -1, host: String::new(), port: 0 },
    };
    Some((error, broker))
}

/// An offset of a partition, -1 for none.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Offset {
    pub topic: String,
    pub partition: i32,
    pub error: i16,
    pub offset: i64,
}

/// The answer to `OffsetFetch`: an error of the whole, and the committed offsets.
pub(super) fn committed(body: &mut Body<'_>) -> Option<(i16, Vec<Offset>)> {
    let topics = body.array(|body| {
        let topic = body.text()?;
        body.array(|body| {
            let (partition, offset, _metadata, error) = (body.i32()?, body.i64()?, body.nullable_text()?, body.i16()?);
            Some(Offset { topic: topic.to_owned(), partition, error, offset })
        })
    })?;
    Some((body.i16()?, topics.concat()))
}

/// The answer to `ListOffsets`.
pub(super) fn listed(body: &mut Body<'_>) -> Option<Vec<Offset>> {
    let topics = body.array(|body| {
        let topic = body.text()?;
        body.array(|body| {
            let (partition, error, _timestamp, offset) = (body.i32()?, body.i16()?, body.i64()?, body.i64()?);
            Some(Offset { topic: topic.to_owned(), partition, error, offset })
        })
    })?;
    Some(topics.concat())
}

/// The answer to `SaslHandshake`: an error, and the mechanisms that there are.
pub(super) fn handshaken(body: &mut Body<'_>) -> Option<(i16, Vec<String>)> {
    Some((body.i16()?, body.array(|body| body.text().map(str::to_owned))?))
}

/// The answer to `SaslAuthenticate`: an error, and the server's token.
pub(super) fn authenticated(body: &mut Body<'_>) -> Option<(i16, Vec<u8>)> {
    let (error, _message) = (body.i16()?, body.nullable_text()?);
    Some((error, body.bytes()?.to_vec()))
}

/// What an error of a broker means for the operator: <https://kafka.apache.org/protocol#protocol_error_codes>.
pub(super) fn meaning(code: i16) -> (ErrorKind, String) {
    let (kind, text) = match code {
        3 => (ErrorKind::NotFound, "it does not exist"),
        5 | 6 | 9 | 72 | 78 => (ErrorKind::Unavailable, "it has no leader that can answer now"),
        -1 | 7 | 8 | 13 | 14 | 15 | 16 | 56 => (ErrorKind::Unavailable, "the broker cannot answer now"),
        17 => (ErrorKind::Config, "it is no name of a topic"),
        24 => (ErrorKind::Config, "it is no name of a group"),
        29 => (ErrorKind::Denied, "access denied; grant Describe on the topic (MSK: kafka-cluster:DescribeTopic)"),
        30 => (ErrorKind::Denied, "access denied; grant Describe on the group (MSK: kafka-cluster:DescribeGroup)"),
        31 => (ErrorKind::Denied, "access denied; grant Describe on the cluster (MSK: kafka-cluster:Connect)"),
        35 => (ErrorKind::Refused, "the broker is too old or too new for this request"),
        69 => (ErrorKind::NotFound, "the group does not exist; check consumer_group"),
        89 => (ErrorKind::Throttled, "the broker asks for fewer requests"),
        _ => (ErrorKind::Malformed, "the broker answers with an error that is not known here"),
    };
    (kind, format!("{text} (error {code})"))
}

/// What must hold for any bytes: the first one chooses the answer that the others are read as. Nothing is invented from what is
/// not there, and an answer that ends a byte earlier is none.
#[cfg(any(test, fuzzing))]
pub(in crate::sources) fn holds_for(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    // How many things an answer has in it.
    let read = |bytes: &[u8]| -> Option<(usize, usize)> {
        let mut body = Body(bytes);
        let things = match kind % 6 {
            0 => Metadata::read(&mut body).map(|read| {
                read.brokers.len() + read.topics.iter().map(|topic| 1 + topic.partitions.len()).sum::<usize>()
            }),
            1 => coordinator(&mut body).map(|_| 1),
            2 => committed(&mut body).map(|(_, offsets)| offsets.len()),
            3 => listed(&mut body).map(|offsets| offsets.len()),
            4 => handshaken(&mut body).map(|(_, mechanisms)| mechanisms.len()),
            _ => authenticated(&mut body).map(|_| 1),
        };
        Some((things?, bytes.len() - body.0.len()))
    };
    let Some((things, taken)) = read(bytes) else { return };
    assert!(things <= taken, "{things} things in {taken} bytes");
    assert_eq!(read(&bytes[..taken]), Some((things, taken)), "what follows an answer changes it");
    assert_eq!(read(&bytes[..taken - 1]), None, "an answer without its last byte was taken for one");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asking_about_a_topic_does_not_create_it() {
        let frame = Request::metadata(&["orders"]).frame(7);
        let expected =
            b"\x00\x00\x00\x1f\x00\x03\x00\x04\x00\x00\x00\x07\x00\x08tidegate\x00\x00\x00\x01\x00\x06orders\x00";
        assert_eq!(frame, expected);
    }

    /// The version is the one that has the byte: <https://kafka.apache.org/protocol#The_Messages_Metadata>.
    #[test]
    fn an_answer_that_ends_early_is_none_at_every_length() {
        let metadata = [
            &[0, 0, 0, 0][..],
            b"\x00\x00\x00\x01\x00\x00\x00\x05\x00\x04host\x00\x00\x23\x84\xff\xff",
            b"\x00\x01c\x00\x00\x00\x05",
            b"\x00\x00\x00\x01\x00\x00\x00\x06orders\x00\x00\x00\x00\x01",
            b"\x00\x00\x00\x00\x00\x02\x00\x00\x00\x05\x00\x00\x00\x01\x00\x00\x00\x05\x00\x00\x00\x00",
        ]
        .concat();
        let broker = Broker { id: 5, host: "host".to_owned(), port: 9092 };
        let topic = Topic {
            error: 0,
            name: "orders".to_owned(),
            partitions: vec![Partition { error: 0, index: 2, leader: 5 }],
        };
        let expected = Metadata { brokers: vec![broker], topics: vec![topic] };
        assert_eq!(Metadata::read(&mut Body(&metadata)), Some(expected));
        for end in 0..metadata.len() {
            assert_eq!(Metadata::read(&mut Body(&metadata[..end])), None, "{end} bytes");
        }
        // A length of -1 is no empty list, and one of two thousand million takes no memory.
        for length in [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff"] {
            assert_eq!(listed(&mut Body(length)), None);
        }
    }
}
