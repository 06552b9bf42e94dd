"""The delivery oracle: does Kafka hold what Postgres committed, all of it, nothing else, in order?

    oracle.py --psql CONNINFO --brokers LIST --prefix TEXT [--duplicates none|allowed] [--rewinds N] [--unsequenced]
    oracle.py --count --brokers LIST --prefix TEXT

The truth is the view `truth.event` of the database (see workload.sql): one row for each event that
must be in Kafka, with every attribute it must have. The messages come from an independent consumer.
One line of JSON on standard output is the verdict; the exit code is 0 when there is no fault.
It shares no code with outboxd.
"""

import argparse
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import time

import checker

SEQUENCE = re.compile(r"[0-9A-Fa-f]{16}-[0-9A-Fa-f]+\Z|[0-9A-Fa-f]{16}[0-9A-Fa-f-]*\Z")
SEQUENCE_MEMBER = re.compile(rb'"sequence" *: *"[0-9A-Fa-f-]*" *,? *')
TIME_MEMBER = re.compile(rb'"time" *: *"[^"]*" *,? *')
SAMPLES = 5


class Truth:
    """What one event must look like."""

    __slots__ = ("topic", "key", "fixed", "time", "mode", "kind", "sha", "version", "extensions")

    COLUMNS = (
        "source", "id", "topic", "key", "type", "subject", "time", "datacontenttype", "dataschema",
        "extensions", "mode", "kind", "sha", "version",
    )

    def __init__(self, row):
        self.topic = row["topic"]
        self.key = None if row["key"] is None else bytes.fromhex(row["key"])
        self.fixed = (row["type"], row["subject"], row["datacontenttype"], row["dataschema"])
        self.time = None if row["time"] is None else int(row["time"])
        self.mode = row["mode"]
        self.kind = row["kind"]
        self.sha = None if row["sha"] is None else bytes.fromhex(row["sha"])
        self.version = int(row["version"])
        self.extensions = json.loads(row["extensions"]) if row["extensions"] else {}


class Message:
    __slots__ = ("topic", "partition", "partitions", "offset", "key", "headers", "value", "time")

    def __init__(self, topic, partition, partitions, offset, key, headers, value, time=None):
        self.topic, self.partition, self.partitions, self.offset = topic, partition, partitions, offset
        self.key, self.headers, self.value = key, headers, value
        self.time = time
        """When it was sent, in milliseconds since 1970."""


class First:
    """What is kept of an event's first delivery."""

    __slots__ = ("digest", "sequence")

    def __init__(self, digest, sequence):
        self.digest, self.sequence = digest, sequence


def murmur2(data):
    """The hash of Kafka's Java client (org.apache.kafka.common.utils.Utils.murmur2)."""
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    h = (0x9747B28C ^ len(data)) & mask
    whole = len(data) & ~3
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * m & mask
        k ^= k >> 24
        h = (h * m & mask) ^ (k * m & mask)
    rest = data[whole:]
    if rest:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h ^= h >> 13
    h = h * m & mask
    return h ^ h >> 15


class Oracle:
    """Feed it every message of every partition in order of offset, then ask for the verdict."""

    def __init__(self, truth, read_with_sdk=None, unsequenced=False):
        self.truth = truth
        self.unsequenced = unsequenced
        """Events that come from a table have no sequence."""
        self.read_with_sdk = read_with_sdk
        self.first = {}
        self.versions = {}
        self.sequences = {}
        self.last_in_partition = {}
        self.rewinds = {}
        self.sequence_length = None
        self.partition_of = {}
        self.faults = {}
        self.samples = {}
        self.messages = 0
        self.duplicates = 0
        self.modes = {"binary": 0, "structured": 0}

    def fault(self, kind, text):
        self.faults[kind] = self.faults.get(kind, 0) + 1
        samples = self.samples.setdefault(kind, [])
        if len(samples) < SAMPLES:
            samples.append(text[:500])

    def feed(self, message):
        self.messages += 1
        place = f"{message.topic}/{message.partition}@{message.offset}"
        try:
            event = checker.read(message.headers, message.value)
        except checker.Invalid as error:
            self.fault("invalid", f"{place}: {error}")
            return
        self.modes[event.mode] += 1
        if self.read_with_sdk:
            difference = self.read_with_sdk(message, event)
            if difference:
                self.fault("sdk", f"{place}: {difference}")
        identity = (event.attributes["source"], event.attributes["id"])
        truth = self.truth.get(identity)
        if truth is None:
            self.fault("phantom", f"{place}: {identity} was not committed")
            return
        headers, value = message.headers, message.value
        if self.unsequenced:
            # A table knows neither the commit LSN nor, for certain, the commit time.
            headers = [header for header in headers if header[0] not in ("ce_sequence", "ce_time")]
            if event.mode == "structured":
                value = TIME_MEMBER.sub(b"", SEQUENCE_MEMBER.sub(b"", value, count=1), count=1)
        digest = hashlib.blake2b(
            repr((message.topic, message.key, headers, value)).encode(), digest_size=16
        ).digest()
        sequence = event.attributes.get("sequence")
        self._check_partition_progress(message, sequence)
        known = self.first.get(identity)
        if known is not None:
            self.duplicates += 1
            if known.digest != digest:
                self.fault("unstable", f"{place}: {identity} differs from its first delivery")
            return
        self.first[identity] = First(digest, sequence)
        self._check_content(place, message, event, truth)
        self._check_order(place, message, truth, sequence)

    def _check_partition_progress(self, message, sequence):
        where = (message.topic, message.partition)
        last = self.last_in_partition.get(where)
        if last is not None and sequence is not None and sequence <= last:
            self.rewinds[where] = self.rewinds.get(where, 0) + 1
        if sequence is not None:
            self.last_in_partition[where] = sequence

    def _check_content(self, place, message, event, truth):
        attributes = event.attributes
        sequence = attributes.get("sequence")
        fixed = tuple(attributes.get(name) for name in ("type", "subject", "datacontenttype", "dataschema"))
        if fixed != truth.fixed:
            self.fault("attributes", f"{place}: {fixed} instead of {truth.fixed}")
        if truth.time is not None:
            time = attributes.get("time")
            is_unknown = time is None and sequence is None and self.unsequenced
            if not is_unknown and (time is None or checker.microseconds(time) != truth.time):
                self.fault("attributes", f"{place}: time {time}, not {truth.time} microseconds")
        elif "time" in attributes:
            self.fault("attributes", f"{place}: time {attributes['time']} out of nowhere")
        extensions = {
            name: value if isinstance(value, str) else json.dumps(value)
            for name, value in attributes.items()
            if name not in checker.CONTEXT and name != "sequence"
        }
        if extensions != truth.extensions:
            self.fault("attributes", f"{place}: extensions {extensions} instead of {truth.extensions}")
        if event.mode != truth.mode:
            self.fault("attributes", f"{place}: {event.mode} mode instead of {truth.mode}")
        if event.mode == "structured" and event.data is not None and event.kind != truth.kind:
            self.fault("payload", f"{place}: data as {event.kind} instead of {truth.kind}")
        sha = None if event.data is None else hashlib.sha256(event.data).digest()
        if sha != truth.sha:
            shown = None if event.data is None else event.data[:80]
            self.fault("payload", f"{place}: the payload differs: {shown!r}")
        if message.topic != truth.topic:
            self.fault("topic", f"{place}: should be in {truth.topic}")
        if message.key != truth.key:
            self.fault("key", f"{place}: key {message.key!r} instead of {truth.key!r}")
        elif message.key is not None:
            known = self.partition_of.get((message.key, message.partitions))
            if known is None:
                known = (murmur2(message.key) & 0x7FFFFFFF) % message.partitions
                self.partition_of[(message.key, message.partitions)] = known
            if known != message.partition:
                self.fault("partition", f"{place}: key {message.key!r} belongs to partition {known}")

    def _check_order(self, place, message, truth, sequence):
        if sequence is not None or not self.unsequenced:
            if sequence is None or not SEQUENCE.match(sequence):
                self.fault("sequence", f"{place}: sequence {sequence!r}")
                return
            if self.sequence_length is None:
                self.sequence_length = len(sequence)
            if len(sequence) != self.sequence_length:
                self.fault("sequence", f"{place}: {sequence!r} has not the width of the others")
            if sequence in self.sequences:
                self.fault("sequence", f"{place}: {sequence} is also the sequence of {self.sequences[sequence]}")
            self.sequences[sequence] = place
        if message.key is None:
            return
        last = self.versions.get((message.topic, message.key))
        if last is not None:
            version, earlier = last
            if truth.version <= version:
                self.fault("order", f"{place}: version {truth.version} of {message.key!r} after {version}")
            if sequence is not None and earlier is not None and sequence <= earlier:
                self.fault("sequence", f"{place}: {sequence} after {earlier}")
            sequence = sequence or earlier
        self.versions[(message.topic, message.key)] = (truth.version, sequence)

    def verdict(self, duplicates="none", rewinds=None):
        missing = [identity for identity in self.truth if identity not in self.first]
        for identity in missing:
            self.fault("missing", f"{identity} of {self.truth[identity].topic}")
        if duplicates == "none" and self.duplicates:
            self.fault("duplicate", f"{self.duplicates} duplicates without a fault")
        most = max(self.rewinds.values(), default=0)
        limit = 0 if duplicates == "none" else rewinds
        if limit is not None and most > limit:
            self.fault("rewind", f"a partition went back {most} times; {limit} are explained")
        return {
            "ok": not self.faults,
            "committed": len(self.truth),
            "delivered": len(self.first),
            "messages": self.messages,
            "duplicates": self.duplicates,
            "rewinds": most,
            "modes": self.modes,
            "faults": self.faults,
            "samples": self.samples,
        }


# Postgres

ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def field(text):
    """A field of COPY's text format."""
    if text == "\\N":
        return None
    if "\\" not in text:
        return text
    return re.sub(r"\\(.)", lambda match: ESCAPES.get(match[1], match[1]), text)


def load_truth(conninfo):
    query = f"COPY (SELECT {', '.join(Truth.COLUMNS)} FROM truth.event) TO STDOUT"
    command = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", conninfo, "-c", query]
    environment = {**os.environ, "PGCLIENTENCODING": "UTF8"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    truth = {}
    for line in io.TextIOWrapper(process.stdout, encoding="utf-8", newline="\n"):
        row = dict(zip(Truth.COLUMNS, map(field, line.rstrip("\n").split("\t"))))
        identity = (row["source"], row["id"])
        if identity in truth:
            raise SystemExit(f"oracle: the truth has {identity} twice")
        truth[identity] = Truth(row)
    if process.wait() != 0:
        raise SystemExit("oracle: the truth cannot be read")
    return truth


# Kafka


def open_topics(brokers, prefix):
    """A consumer, and each topic whose name begins so with its partitions."""
    from confluent_kafka import Consumer

    consumer = Consumer({
        "bootstrap.servers": brokers,
        "group.id": f"oracle-{os.getpid()}",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "earliest",
        "fetch.wait.max.ms": 50,
        "fetch.queue.backoff.ms": 5,
        "queued.max.messages.kbytes": 131072,
    })
    metadata = consumer.list_topics(timeout=30).topics
    return consumer, {name: sorted(metadata[name].partitions) for name in metadata if name.startswith(prefix)}


def watermarks(consumer, topics):
    """Topic and partition to the offset after the last message."""
    from confluent_kafka import TopicPartition

    ends = {}
    for name, partitions in topics.items():
        for partition in partitions:
            low, high = consumer.get_watermark_offsets(TopicPartition(name, partition), timeout=30)
            if low != 0:
                raise SystemExit(f"oracle: {name}/{partition} has lost its first {low} messages")
            ends[(name, partition)] = high
    return ends


def consume(brokers, prefix):
    """Every message of every topic whose name begins so, each partition in order, to its end."""
    from confluent_kafka import OFFSET_BEGINNING, KafkaError, TopicPartition

    consumer, topics = open_topics(brokers, prefix)
    counts = {name: len(partitions) for name, partitions in topics.items()}
    ends = {place: end for place, end in watermarks(consumer, topics).items() if end > 0}
    consumer.assign([TopicPartition(name, partition, OFFSET_BEGINNING) for name, partition in ends])
    last_news = time.monotonic()
    while ends:
        # It waits for the full number: hence the small timeout.
        batch = consumer.consume(num_messages=5000, timeout=0.2)
        if batch:
            last_news = time.monotonic()
        elif time.monotonic() > last_news + 30:
            raise SystemExit(f"oracle: nothing more for 30 s, although {ends} were not reached")
        for message in batch:
            where = (message.topic(), message.partition())
            if message.error():
                if message.error().code() == KafkaError._PARTITION_EOF:
                    if where in ends and message.offset() >= ends[where]:
                        del ends[where]
                    continue
                if not message.error().fatal() and message.error().retriable():
                    continue
                raise SystemExit(f"oracle: {message.error()}")
            yield Message(
                where[0], where[1], counts[where[0]], message.offset(), message.key(), message.headers() or [],
                message.value(), message.timestamp()[1],
            )
            if where in ends and message.offset() + 1 >= ends[where]:
                del ends[where]
    consumer.close()


# The SDK as a second reader


def sdk_reader():
    from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka_event

    def read(message, event):
        """What the package `cloudevents` reads differently, or None."""
        try:
            other = from_kafka_event(KafkaMessage(dict(message.headers), message.key, message.value))
        except Exception as error:  # noqa: BLE001  whatever it throws is a finding
            return f"the package cloudevents refuses it: {error!r}"
        attributes = {name: value for name, value in other.get_attributes().items() if value is not None}
        if "partitionkey" not in event.attributes:
            attributes.pop("partitionkey", None)
        # It invents a time where there is none.
        if "time" not in event.attributes and "sequence" not in event.attributes:
            attributes.pop("time", None)
        if attributes.keys() != event.attributes.keys():
            return f"the package cloudevents reads {sorted(attributes)} instead of {sorted(event.attributes)}"
        for name, value in event.attributes.items():
            if name != "time" and attributes[name] != value:
                return f"the package cloudevents reads {name} as {attributes[name]!r}, not {value!r}"
        data = other.get_data()
        if event.data is None:
            return None if data is None else f"the package cloudevents reads data {data!r}"
        media = event.attributes.get("datacontenttype")
        if event.kind == "json" or (event.kind is None and (media is None or checker.JSON_MEDIA.match(media))):
            try:
                expected = json.loads(event.data)
            except ValueError:
                expected = data if media is None else None
            return None if data == expected else "the package cloudevents reads other JSON"
        content = data.encode("utf-8") if isinstance(data, str) else data
        if content is None and event.data == b"":
            return None  # Its JSON format makes no difference between "" and nothing.
        return None if content == event.data else f"the package cloudevents reads other bytes: {content!r:.80}"

    return read


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--psql", help="conninfo of the database with the truth")
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--prefix", required=True, help="every topic that begins so is read")
    parser.add_argument("--duplicates", choices=("none", "allowed"), default="none")
    parser.add_argument("--rewinds", type=int, help="how often a partition may go back; default: any number")
    parser.add_argument("--unsequenced", action="store_true", help="some events come from tables: no sequence")
    parser.add_argument("--count", action="store_true", help="only count the messages")
    options = parser.parse_args()
    if options.count:
        print(sum(watermarks(*open_topics(options.brokers, options.prefix)).values()))
        return
    oracle = Oracle(load_truth(options.psql), sdk_reader(), options.unsequenced)
    for message in consume(options.brokers, options.prefix):
        oracle.feed(message)
    verdict = oracle.verdict(options.duplicates, options.rewinds)
    print(json.dumps(verdict))
    sys.exit(0 if verdict["ok"] else 1)


if __name__ == "__main__":
    main()
