"""Is a replay the same as the first deliveries, byte for byte and in the same order?

    replayed.py --brokers LIST --prefix TEXT --from SEQUENCE --through SEQUENCE [--topic NAME] [--order any]
                [--repeats] [--mark TEXT] [--only TEXT]...

Reads every topic whose name begins so. Messages without the header outboxd-replay are first deliveries, those with
it are replayed. Of the first deliveries only those count whose sequence lies in the range (the first sixteen digits,
both ends included) and whose key is one of those given, if any. Each partition is compared by itself: the same key,
value and headers, apart from the mark. With --topic all replayed messages are in that topic, and are compared per
key. With --order any the replay may hold others too and in another order, and sequence is not compared.
One line of JSON on standard output is the verdict; the exit code is 0 when there is no fault.
It shares no code with outboxd.
"""

import argparse
import json
import sys

import oracle

MARK = "outboxd-replay"


def sequence(message):
    for name, value in message.headers:
        if name == "ce_sequence":
            return value.decode()
    if message.value and not any(name == "ce_id" for name, _ in message.headers):
        return json.loads(message.value).get("sequence")
    return None


def content(message, ignore_sequence):
    headers = tuple((name, value) for name, value in message.headers if name != MARK)
    value = message.value
    if ignore_sequence:
        headers = tuple((name, value) for name, value in headers if name not in ("ce_sequence", "ce_time"))
        if not any(name == "ce_id" for name, _ in headers) and value:
            envelope = json.loads(value)
            envelope.pop("sequence", None)
            value = json.dumps(envelope)
    return (message.key, headers, value)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--from", dest="first", required=True)
    parser.add_argument("--through", required=True)
    parser.add_argument("--topic")
    parser.add_argument("--order", choices=("same", "any"), default="same")
    parser.add_argument("--repeats", action="store_true", help="the replay was interrupted: the same may come twice")
    parser.add_argument("--mark", help="only replays with this mark")
    parser.add_argument("--only", action="append", help="only events of this key")
    options = parser.parse_args()
    is_loose = options.order == "any"
    first, replayed, marks = {}, {}, {}
    for message in oracle.consume(options.brokers, options.prefix):
        mark = next((value for name, value in message.headers if name == MARK), None)
        place = message.key if options.topic else (message.topic, message.partition)
        if mark is None:
            where = sequence(message)[:16]
            if not options.first <= where <= options.through:
                continue
            if options.only and (message.key or b"").decode() not in options.only:
                continue
            first.setdefault(place, []).append(content(message, is_loose))
        elif options.mark is None or mark.decode() == options.mark:
            marks[mark.decode()] = marks.get(mark.decode(), 0) + 1
            if options.topic and message.topic != options.topic:
                raise SystemExit(f"replayed: {message.topic} got a message that belongs to {options.topic}")
            replayed.setdefault(place, []).append(content(message, is_loose))
    faults = []
    for place in sorted(set(first) | set(replayed), key=repr):
        was, now = first.get(place, []), replayed.get(place, [])
        if options.repeats:
            now = list(dict.fromkeys(now))
        if is_loose:
            missing = set(was) - set(now)
            if missing:
                faults.append(f"{place}: {len(missing)} of {len(was)} are missing, as {sorted(missing, key=repr)[0]!r:.300}")
        elif was != now:
            at = next((i for i, (a, b) in enumerate(zip(was, now)) if a != b), min(len(was), len(now)))
            faults.append(
                f"{place}: {len(was)} and {len(now)}, different from {at} on: "
                f"{was[at] if at < len(was) else None!r:.300} {now[at] if at < len(now) else None!r:.300}")
    print(json.dumps({
        "ok": not faults, "first": sum(map(len, first.values())), "replayed": sum(map(len, replayed.values())),
        "marks": marks, "faults": faults[:5],
    }))
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
