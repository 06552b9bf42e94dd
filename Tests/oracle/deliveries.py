"""What Kafka holds, one line of JSON for each message, each partition in order of offset.

    deliveries.py --brokers LIST --prefix TEXT

Reads every topic whose name begins so, of events in binary mode. It shares no code with outboxd.
"""

import argparse
import json

import oracle


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--prefix", required=True)
    options = parser.parse_args()
    for message in oracle.consume(options.brokers, options.prefix):
        headers = {name: value.decode() for name, value in message.headers}
        print(json.dumps({
            "id": headers["ce_id"], "sequence": headers.get("ce_sequence"), "time": message.time,
            "place": f"{message.topic}/{message.partition}@{message.offset}",
        }))


if __name__ == "__main__":
    main()
