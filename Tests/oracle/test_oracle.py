"""The oracle must fail when it should: each test breaks one thing and expects that fault, and no other."""

import hashlib
import json
import unittest

import checker
import oracle

PARTITIONS = 4
PAYLOAD = '{"b":1, "a":  "é"}'.encode()


def row(number, key, version, **changes):
    values = {
        "source": "/shop", "id": f"id-{number}", "topic": "t", "key": key.encode().hex(), "type": "made",
        "subject": key, "time": "1700000000123456", "datacontenttype": "application/json", "dataschema": None,
        "extensions": '{"traceparent":"00-1"}', "mode": "binary", "kind": "json",
        "sha": hashlib.sha256(PAYLOAD).hexdigest(), "version": str(version),
    }
    values.update(changes)
    return (values["source"], values["id"]), oracle.Truth(values)


def sequence(number):
    return f"{number // 3 + 1:016X}-{number % 3:08d}"


def binary(number, key, offset, **changes):
    headers = {
        "ce_specversion": "1.0", "ce_id": f"id-{number}", "ce_source": "/shop", "ce_type": "made",
        "ce_subject": key, "ce_time": "2023-11-14T22:13:20.123456Z", "ce_sequence": sequence(number),
        "ce_traceparent": "00-1", "content-type": "application/json",
    }
    headers.update(changes.pop("headers", {}))
    partition = (oracle.murmur2(key.encode()) & 0x7FFFFFFF) % PARTITIONS
    message = oracle.Message(
        "t", partition, PARTITIONS, offset, key.encode(),
        [(name, text.encode()) for name, text in headers.items() if text is not None], PAYLOAD,
    )
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def structured(number, key, offset, **changes):
    message = binary(number, key, offset)
    event = {name[3:]: value.decode() for name, value in message.headers if name.startswith("ce_")}
    event.update(changes)
    text = json.dumps({**event, "datacontenttype": "application/json"})[:-1] + ', "data":' + PAYLOAD.decode() + "}"
    message.headers = [("content-type", b"application/cloudevents+json; charset=UTF-8")]
    message.value = text.encode()
    return message


KEYS = ("k1", "k2")


def good_truth(mode="binary"):
    return dict(row(number, KEYS[number % 2], number // 2 + 1, mode=mode) for number in range(8))


def good_messages(make=binary):
    return [make(number, KEYS[number % 2], number) for number in range(8)]


def judge(messages, truth=None, sdk=True, unsequenced=False, **options):
    reader = oracle.sdk_reader() if sdk else None
    judge = oracle.Oracle(good_truth() if truth is None else truth, reader, unsequenced)
    for message in messages:
        judge.feed(message)
    return judge.verdict(**options)


class OracleTests(unittest.TestCase):
    def expect(self, verdict, *kinds):
        self.assertEqual(sorted(verdict["faults"]), sorted(kinds), verdict)
        self.assertEqual(verdict["ok"], not kinds)

    def test_accepts_a_right_run(self):
        verdict = judge(good_messages())
        self.expect(verdict)
        self.assertEqual((verdict["delivered"], verdict["messages"]), (8, 8))

    def test_accepts_a_right_structured_run(self):
        self.expect(judge(good_messages(structured), good_truth("structured")))

    def test_events_without_sequence_where_they_are_expected(self):
        bare = [binary(number, KEYS[number % 2], number, headers={"ce_sequence": None}) for number in range(8)]
        self.expect(judge(bare), "sequence")
        self.expect(judge(bare, unsequenced=True))
        # Once from the table and once from the stream it is the same event.
        self.expect(judge(bare + good_messages(), unsequenced=True, duplicates="allowed"))
        changed = good_messages()
        changed[3].value = b"{}"
        self.expect(judge(bare + changed, unsequenced=True, duplicates="allowed"), "unstable")
        bare[0], bare[2] = bare[2], bare[0]
        self.expect(judge(bare, unsequenced=True), "order")

    def test_a_structured_event_with_and_without_sequence(self):
        def make(number, key, offset):
            message = structured(number, key, offset)
            message.value = oracle.SEQUENCE_MEMBER.sub(b"", message.value, count=1)
            return message
        self.expect(
            judge(good_messages(make) + good_messages(structured), good_truth("structured"), unsequenced=True,
                  duplicates="allowed"))

    def test_missing(self):
        self.expect(judge(good_messages()[:-1]), "missing")

    def test_missing_in_the_middle(self):
        messages = good_messages()
        del messages[3]
        self.expect(judge(messages), "missing")

    def test_rolled_back_event(self):
        self.expect(judge([*good_messages(), binary(99, "k1", 9)]), "phantom")

    def test_wrong_order_of_one_key(self):
        truth = good_truth()
        messages = good_messages()
        messages[0], messages[2] = messages[2], messages[0]
        self.assertIn("order", judge(messages, truth)["faults"])

    def test_wrong_order_that_the_sequence_hides(self):
        messages = [binary(2, "k1", 0, headers={"ce_sequence": sequence(0)}),
                    binary(0, "k1", 1, headers={"ce_sequence": sequence(2)})]
        truth = {key: value for key, value in good_truth().items() if key[1] in ("id-0", "id-2")}
        self.expect(judge(messages, truth), "order")

    def test_order_between_keys_is_free(self):
        messages = good_messages()
        messages[0], messages[1] = messages[1], messages[0]
        self.expect(judge(messages, duplicates="allowed"))

    def test_disorder_within_a_partition(self):
        messages = good_messages()
        self.assertEqual(messages[0].partition, messages[1].partition)
        messages[0], messages[1] = messages[1], messages[0]
        self.expect(judge(messages), "rewind")

    def test_changed_payload(self):
        messages = good_messages()
        messages[4].value = b'{"b":1,"a":"\xc3\xa9"}'
        self.expect(judge(messages), "payload")

    def test_changed_payload_in_an_envelope(self):
        messages = good_messages(structured)
        messages[4].value = messages[4].value.replace(b'"a":  ', b'"a": ')
        self.expect(judge(messages, good_truth("structured")), "payload")

    def test_null_payload_is_not_an_empty_one(self):
        messages = good_messages()
        messages[4].value = None
        self.expect(judge(messages), "payload")

    def test_duplicate_without_a_fault(self):
        messages = [*good_messages(), good_messages()[7]]
        self.expect(judge(messages), "duplicate", "rewind")

    def test_duplicate_after_a_fault(self):
        messages = good_messages()
        verdict = judge(messages[:6] + messages[2:], duplicates="allowed", rewinds=1)
        self.expect(verdict)
        self.assertEqual((verdict["duplicates"], verdict["rewinds"]), (4, 1))

    def test_more_rewinds_than_faults(self):
        messages = good_messages()
        verdict = judge(messages[:6] + messages[2:7] + messages[2:], duplicates="allowed", rewinds=1)
        self.expect(verdict, "rewind")

    def test_duplicate_that_changed(self):
        messages = good_messages()
        for header in ("ce_sequence", "ce_time"):
            again = binary(7, "k2", 8, headers={header: sequence(90) if header == "ce_sequence" else
                                                "2023-11-14T22:13:20.123457Z"})
            self.expect(judge([*messages, again], duplicates="allowed"), "unstable")

    def test_wrong_attribute(self):
        for headers in ({"ce_type": "other"}, {"ce_subject": "k9"}, {"ce_time": "2023-11-14T22:13:20.123457Z"},
                        {"ce_time": None}, {"ce_dataschema": "urn:x"}, {"ce_traceparent": None},
                        {"ce_extra": "1"}, {"content-type": "text/json"}, {"ce_partitionkey": "k1"}):
            messages = good_messages()
            messages[0] = binary(0, "k1", 0, headers=headers)
            # Without ce_time the package invents one.
            self.expect(judge(messages, sdk=headers != {"ce_time": None}), "attributes")

    def test_wrong_mode(self):
        self.expect(judge(good_messages(structured)), "attributes")

    def test_wrong_key_topic_and_partition(self):
        messages = good_messages()
        messages[0].key = b"other"
        self.expect(judge(messages), "key")
        messages = good_messages()
        messages[0].key = None
        self.expect(judge(messages), "key")
        messages = good_messages()
        messages[6].partition = (messages[6].partition + 1) % PARTITIONS
        self.expect(judge(messages), "partition")
        messages = good_messages()
        messages[7].topic = "u"
        self.expect(judge(messages), "topic")

    def test_wrong_sequence(self):
        for bad in (None, "7", sequence(0), sequence(7) + "0", "x" * 25):
            messages = good_messages()
            messages[7] = binary(7, "k2", 7, headers={"ce_sequence": bad})
            self.assertIn("sequence", judge(messages)["faults"], bad)

    def test_missing_id(self):
        messages = good_messages()
        messages[0] = binary(0, "k1", 0, headers={"ce_id": None})
        self.expect(judge(messages), "invalid", "missing")

    def test_murmur2_is_that_of_the_java_client(self):
        golden = {
            b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536,
            b"a-little-bit-longer-string": -1486304829, b"abc": 479470107,
            b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
        }
        for data, expected in golden.items():
            self.assertEqual(oracle.murmur2(data), expected & 0xFFFFFFFF)

    def test_copy_fields(self):
        self.assertEqual(oracle.field("a\\tb\\\\n\\n"), "a\tb\\n\n")
        self.assertIsNone(oracle.field("\\N"))
        self.assertEqual(oracle.field(""), "")


class CheckerTests(unittest.TestCase):
    def refuses(self, headers, value=b"{}"):
        with self.assertRaises(checker.Invalid, msg=f"{headers} {value}"):
            checker.read(headers, value)

    def base(self, **changes):
        headers = {"ce_specversion": b"1.0", "ce_id": b"1", "ce_source": b"/s", "ce_type": b"t"}
        headers.update(changes)
        return [(name, value) for name, value in headers.items() if value != b"-"]

    def test_the_scenarios_of_the_conformance_suite(self):
        binary = [("ce_specversion", b"1.0"), ("ce_type", b"com.example.someevent"),
                  ("ce_time", b"2018-04-05T03:56:24Z"), ("ce_id", b"1234-1234-1234"),
                  ("ce_source", b"/mycontext/subcontext"), ("content-type", b"application/json; charset=utf-8")]
        event = checker.read(binary, b'{"message": "Hello World!"}')
        self.assertEqual((event.mode, event.data), ("binary", b'{"message": "Hello World!"}'))
        envelope = (b'{"specversion":"1.0","type":"com.example.someevent","time":"2018-04-05T03:56:24Z","id":"1",'
                    b'"source":"/mycontext/subcontext","datacontenttype":"application/json","data":{"m": 1}}')
        event = checker.read([("content-type", b"application/cloudevents+json; charset=utf-8")], envelope)
        self.assertEqual((event.mode, event.data, event.kind), ("structured", b'{"m": 1}', "json"))

    def test_refuses_bad_headers(self):
        checker.read(self.base(), b"")
        for changes in (
            {"ce_id": b"-"}, {"ce_source": b"-"}, {"ce_type": b"-"}, {"ce_specversion": b"-"},
            {"ce_specversion": b"1.0.1"}, {"ce_id": b""}, {"ce_subject": b""}, {"ce_Upper": b"x"},
            {"ce_a_b": b"x"}, {"ce_": b"x"}, {"ce_data": b"x"}, {"ce_x": b"a\x1fb"}, {"ce_x": b"\xff"},
            {"ce_x": None}, {"ce_x": "a\u0085".encode()}, {"ce_x": "\ufffe".encode()}, {"other": b"x"},
            {"ce_datacontenttype": b"text/plain"}, {"content-type": b"json"}, {"ce_source": b"a b"},
            {"ce_source": b"%zz"}, {"ce_dataschema": b"/relative"}, {"ce_time": b"2018-04-05T03:56:24"},
            {"ce_time": b"2018-04-05 03:56:24Z"}, {"ce_time": b"2018-02-30T03:56:24Z"}, {"ce_time": b"infinity"},
            {"ce_sequence": b""},
        ):
            self.refuses(self.base(**changes))
        self.refuses([*self.base(), ("ce_id", b"1")])
        self.refuses(self.base(**{"content-type": b"application/json"}), b"{not json")

    def test_refuses_bad_envelopes(self):
        head = '{"specversion":"1.0","id":"1","source":"/s","type":"t"'
        kind = [("content-type", b"application/cloudevents+json; charset=UTF-8")]
        checker.read(kind, (head + "}").encode())
        for rest in (
            ',"id":"2"}', ',"time":null}', ',"subject":""}', ',"data":1,"data_base64":"AA=="}', ',"data_base64":"A"}',
            ',"data_base64":1}', ',"Upper":"x"}', ',"big":2147483648}', ',"float":1.5}', ',"object":{}}', "",
            "}x", ',"datacontenttype":"text/plain","data":{}}', ',"data":nope}', ",}",
        ):
            self.refuses(kind, (head + rest).encode())
        self.refuses(kind, None)
        self.refuses(kind, b"[]")
        self.refuses([*kind, ("ce_id", b"1")], (head + "}").encode())
        self.refuses([("content-type", b"application/cloudevents-batch+json")], b"[]")

    def test_keeps_the_bytes_of_the_data(self):
        kind = [("content-type", b"application/cloudevents+json; charset=UTF-8")]
        head = '{"specversion":"1.0","id":"1","source":"/s","type":"t",'
        for text in ("1.0000000000000000000001", '{"a":1,"a":2}', '"\\u00e9"', "null", "[ ]", "1e999"):
            event = checker.read(kind, (head + '"data":' + text + "}").encode())
            self.assertEqual(event.data, text.encode())

    def test_accepts_usual_sources(self):
        for source in (b"/", b"/orders", b"orders", b"https://a.example:8080/x?y=z#f", b"urn:uuid:1", b"mailto:a@b.c",
                       b"/a%20b", b"//host/x", b"?q"):
            checker.read(self.base(ce_source=source), b"")


if __name__ == "__main__":
    unittest.main()
