"""A strict reader of CloudEvents 1.0 in Kafka messages: binary and structured JSON mode.

It refuses what lenient libraries let pass: doubled headers, control characters, wrong URIs and
times, `ce_` headers beside an envelope. It knows nothing of outboxd, and shares no code with it.
"""

import base64
import datetime
import json
import re
from json.decoder import scanstring

ATTRIBUTE_NAME = re.compile(r"[a-z0-9]+\Z")
MEDIA_TYPE = re.compile(
    r"[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+"
    r"(?:\s*;\s*[A-Za-z0-9!#$&^_.+-]+=(?:[A-Za-z0-9!#$&^_.+-]+|\"[^\"]*\"))*\Z"
)
JSON_MEDIA = re.compile(r"[^/;]+/(?:json|[^/;]*\+json)\s*(?:;|\Z)", re.IGNORECASE)
TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)\Z")
SEGMENT = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})*"
URI = re.compile(
    r"[A-Za-z][A-Za-z0-9+.-]*:(?://[A-Za-z0-9._~!$&'()*+,;=:@\[\]%-]*)?(?:/?" + SEGMENT + r"(?:/" + SEGMENT + r")*)"
    r"(?:\?(?:" + SEGMENT + r"|[/?])*)?(?:#(?:" + SEGMENT + r"|[/?])*)?\Z"
)
RELATIVE = re.compile(
    r"(?://[A-Za-z0-9._~!$&'()*+,;=:@\[\]%-]*)?(?:/?" + SEGMENT + r"(?:/" + SEGMENT + r")*)"
    r"(?:\?(?:" + SEGMENT + r"|[/?])*)?(?:#(?:" + SEGMENT + r"|[/?])*)?\Z"
)
# The String type's forbidden characters: controls, lone surrogates, noncharacters.
FORBIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane * 0x10000 + low) for plane in range(17) for low in (0xFFFE, 0xFFFF))
    + "]"
)
CONTEXT = ("id", "source", "specversion", "type", "datacontenttype", "dataschema", "subject", "time")
REQUIRED = ("id", "source", "specversion", "type")
STRUCTURED_TYPE = "application/cloudevents+json; charset=utf-8"
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


class Invalid(Exception):
    """The message breaks the specification."""


class Event:
    __slots__ = ("mode", "attributes", "data", "kind")

    def __init__(self, mode, attributes, data, kind):
        self.mode = mode
        """`binary` or `structured`."""
        self.attributes = attributes
        """Name to text, number or boolean. `datacontenttype` is among them."""
        self.data = data
        """The payload's bytes as they stand in the message; None where there is none."""
        self.kind = kind
        """How an envelope carries the data: `json`, `text`, `base64`; None in binary mode."""


def microseconds(text):
    """RFC 3339 to microseconds since 1970."""
    match = TIME.match(text)
    if not match:
        raise Invalid(f"not an RFC 3339 time: {text!r}")
    year, month, day, hour, minute, second = (int(part) for part in match.group(1, 2, 3, 4, 5, 6))
    zone = datetime.timezone.utc
    if match[8] != "Z":
        hours, minutes = int(match[8][1:3]), int(match[8][4:6])
        if hours > 23 or minutes > 59:
            raise Invalid(f"not an offset: {text!r}")
        zone = datetime.timezone((1 if match[8][0] == "+" else -1) * datetime.timedelta(hours=hours, minutes=minutes))
    try:
        moment = datetime.datetime(year, month, day, hour, minute, second, tzinfo=zone)
    except ValueError as error:
        raise Invalid(f"no such time: {text!r}: {error}") from None
    fraction = int(((match[7] or "") + "000000")[:6])
    return (moment - EPOCH) // datetime.timedelta(microseconds=1) + fraction


def check_attributes(attributes):
    for name in REQUIRED:
        if name not in attributes:
            raise Invalid(f"no {name}")
    for name, value in attributes.items():
        if not ATTRIBUTE_NAME.match(name) or name == "data":
            raise Invalid(f"not an attribute's name: {name!r}")
        if name in CONTEXT and not isinstance(value, str):
            raise Invalid(f"{name} is not a string: {value!r}")
        if isinstance(value, bool):
            continue
        if isinstance(value, int):
            if not -(2**31) <= value < 2**31:
                raise Invalid(f"{name} is beyond 32 bits: {value}")
            continue
        if not isinstance(value, str):
            raise Invalid(f"{name} is neither text, boolean nor integer: {value!r}")
        if FORBIDDEN.search(value):
            raise Invalid(f"{name} holds a forbidden character: {value!r}")
        if value == "" and (name in CONTEXT or name in ("sequence", "partitionkey", "correlationid", "causationid")):
            raise Invalid(f"{name} is empty")
    if attributes["specversion"] != "1.0":
        raise Invalid(f"specversion {attributes['specversion']!r}")
    source = attributes["source"]
    if not URI.match(source) and not (RELATIVE.match(source) and ":" not in source.split("/", 1)[0]):
        raise Invalid(f"source is no URI reference: {source!r}")
    if "dataschema" in attributes and not URI.match(attributes["dataschema"]):
        raise Invalid(f"dataschema is no absolute URI: {attributes['dataschema']!r}")
    if "time" in attributes:
        microseconds(attributes["time"])
    if "datacontenttype" in attributes and not MEDIA_TYPE.match(attributes["datacontenttype"]):
        raise Invalid(f"not a media type: {attributes['datacontenttype']!r}")


def members(text):
    """The members of a JSON object: name to (value, first and last offset of the value's text)."""
    decoder = json.JSONDecoder()
    found, at = {}, _blank(text, 0)
    if text[at : at + 1] != "{":
        raise Invalid("the value is not a JSON object")
    at = _blank(text, at + 1)
    while text[at : at + 1] != "}":
        if text[at : at + 1] != '"':
            raise Invalid("not JSON: a name is missing")
        name, at = scanstring(text, at + 1)
        at = _blank(text, at)
        if text[at : at + 1] != ":":
            raise Invalid("not JSON: a colon is missing")
        at = _blank(text, at + 1)
        try:
            value, end = decoder.raw_decode(text, at)
        except ValueError as error:
            raise Invalid(f"not JSON: {error}") from None
        if name in found:
            raise Invalid(f"the member {name!r} stands twice")
        found[name] = (value, at, end)
        at = _blank(text, end)
        if text[at : at + 1] == ",":
            at = _blank(text, at + 1)
            if text[at : at + 1] != '"':
                raise Invalid("not JSON: a comma before the end")
        elif text[at : at + 1] != "}":
            raise Invalid("not JSON: a comma is missing")
    if _blank(text, at + 1) != len(text):
        raise Invalid("bytes after the JSON object")
    return found


def _blank(text, at):
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


def read(headers, value):
    """Headers as a list of (name, bytes), the value as bytes or None. Throws Invalid."""
    names = [name for name, _ in headers]
    if len(set(names)) != len(names):
        raise Invalid(f"a header stands twice: {names}")
    texts = {}
    for name, raw in headers:
        if raw is None:
            raise Invalid(f"the header {name} is null")
        try:
            texts[name] = raw.decode("utf-8")
        except UnicodeDecodeError:
            raise Invalid(f"the header {name} is not UTF-8") from None
    content_type = texts.get("content-type", "")
    if content_type.lower().startswith("application/cloudevents"):
        event = _structured(texts, value)
    else:
        event = _binary(texts, value)
    check_attributes(event.attributes)
    return event


def _binary(texts, value):
    attributes = {}
    for name, text in texts.items():
        if name == "content-type":
            attributes["datacontenttype"] = text
        elif name.startswith("ce_"):
            if name == "ce_datacontenttype":
                raise Invalid("ce_datacontenttype: it belongs into content-type")
            attributes[name[3:]] = text
        else:
            raise Invalid(f"a header that is not the event's: {name}")
    if value is not None and JSON_MEDIA.match(attributes.get("datacontenttype", "")):
        try:
            json.loads(value)
        except ValueError as error:
            raise Invalid(f"the value is not JSON: {error}") from None
    return Event("binary", attributes, value, None)


def _structured(texts, value):
    if texts["content-type"].lower() != STRUCTURED_TYPE:
        raise Invalid(f"content-type {texts['content-type']!r}")
    if len(texts) != 1:
        raise Invalid(f"headers beside content-type: {sorted(texts)}")
    if value is None:
        raise Invalid("an envelope that is null")
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        raise Invalid("the envelope is not UTF-8") from None
    found = members(text)
    attributes = {name: entry[0] for name, entry in found.items() if name not in ("data", "data_base64")}
    if "data" in found and "data_base64" in found:
        raise Invalid("data and data_base64 together")
    if "data_base64" in found:
        encoded = found["data_base64"][0]
        try:
            data = base64.b64decode(encoded.encode("ascii"), validate=True)
        except (AttributeError, ValueError):
            raise Invalid("data_base64 is not base64") from None
        return Event("structured", attributes, data, "base64")
    if "data" not in found:
        return Event("structured", attributes, None, None)
    content, first, last = found["data"]
    media = attributes.get("datacontenttype")
    if media is None or JSON_MEDIA.match(str(media)):
        return Event("structured", attributes, text[first:last].encode("utf-8"), "json")
    if not isinstance(content, str):
        raise Invalid(f"data of {media} is not a string")
    return Event("structured", attributes, content.encode("utf-8", "surrogatepass"), "text")
