"""Compares requests and answers of the Messages API with Anthropic's SDK for Python.

    sdk.py requests FILE      checks that the SDK's types allow every body in the file (a JSON list)
    sdk.py refuses FILE       checks that the SDK's types reject the last body if any part of it is changed
    sdk.py asks FILE URL      sends every body to a Messages API, and prints the answers as the SDK reads them

`asks` prints a JSON list: `{"message": …}` for each answer, or `{"error": the exception's name, …}`.
"""

import copy
import json
import sys

import anthropic
from anthropic.types.message_create_params import MessageCreateParamsStreaming
from pydantic import BaseModel, TypeAdapter
from pydantic_core import SchemaValidator, ValidationError


def exact(schema):
    """A stricter version of a schema of the SDK.

    It checks the items of an `Iterable` at once, rejects unknown keys in dictionaries, and does not accept the lenient
    models that the SDK uses for blocks of answers.
    """
    if isinstance(schema, list):
        return [exact(part) for part in schema]
    if isinstance(schema, tuple):
        return tuple(exact(part) for part in schema)
    if not isinstance(schema, dict):
        return schema
    if schema.get("type") == "model":
        instance = {"type": "is-instance", "cls": schema["cls"]}
        return instance | ({"ref": schema["ref"]} if "ref" in schema else {})
    schema = {key: exact(part) for key, part in schema.items()}
    if schema.get("type") == "generator":
        schema["type"] = "list"
    if schema.get("type") == "typed-dict":
        schema["extra_behavior"] = "forbid"
    return schema


REQUEST = SchemaValidator(exact(TypeAdapter(MessageCreateParamsStreaming).core_schema))


def errors(body):
    """The errors of the types for a body, as pairs of a path and a message.

    pydantic compares a block with every kind of block and reports errors for each. The errors for the right kind have
    the longest paths, so they come first.
    """
    try:
        REQUEST.validate_python(body, strict=True)
    except ValidationError as error:
        found = {(short(error["loc"]), error["msg"]): None for error in error.errors(include_url=False)}
        return sorted(found, key=lambda pair: -pair[0].count("."))
    return []


def short(location):
    """Numbers and names of fields, without those of the types."""
    return ".".join(str(part) for part in location if isinstance(part, int) or part == part.lower() and "[" not in part)


def requests(bodies):
    for number, body in enumerate(bodies):
        if found := errors(body):
            lines = "\n".join(f"  {path}: {words}" for path, words in found[:20])
            sys.exit(f"the SDK's types don't allow request {number}:\n{lines}\n{json.dumps(body)}")
    print(len(bodies))


def blocks(body, kind):
    """The blocks of a kind, wherever in the messages they are."""
    return [block for message in body["messages"] for block in message["content"] if block["type"] == kind]


def set_to(value):
    return lambda holder, key: holder.__setitem__(key, value)


def without(holder, key):
    del holder[key]


# What is broken: where, which field of it, how.
BREAKS = [
    (lambda body: [body], "max_tokens", without),
    (lambda body: [body], "max_tokens", set_to("32000")),
    (lambda body: [body], "model", without),
    (lambda body: [body], "stream", set_to("yes")),
    (lambda body: [body], "no_such_option", set_to(1)),
    (lambda body: body["tools"], "type", set_to("bash_19700101")),
    (lambda body: body["tools"], "name", set_to("zsh")),
    (lambda body: body["system"], "text", without),
    (lambda body: [body["system"][0]["cache_control"]], "type", set_to("eternal")),
    (lambda body: body["messages"], "role", set_to("nobody")),
    (lambda body: body["messages"], "content", without),
    (lambda body: blocks(body, "text"), "text", without),
    (lambda body: blocks(body, "text"), "text", set_to(None)),
    (lambda body: blocks(body, "text"), "txet", set_to("")),
    (lambda body: blocks(body, "text"), "cache_control", set_to({"type": "eternal"})),
    (lambda body: blocks(body, "text"), "type", set_to("txet")),
    (lambda body: blocks(body, "thinking"), "signature", without),
    (lambda body: blocks(body, "tool_use"), "id", without),
    (lambda body: blocks(body, "tool_use"), "input", set_to("{}")),
    (lambda body: blocks(body, "tool_result"), "tool_use_id", without),
    (lambda body: blocks(body, "tool_result"), "is_error", set_to("no")),
    (lambda body: blocks(body, "tool_result"), "content", set_to([{"type": "text"}])),
]


def refuses(bodies):
    # The last body contains the whole conversation.
    body = bodies[-1]
    if errors(body):
        sys.exit("the unchanged body is rejected too")
    refused = 0
    for find, key, change in BREAKS:
        places = len(find(body))
        if not places:
            sys.exit(f"no request has a part to change at {key}")
        for place in range(places):
            broken = copy.deepcopy(body)
            holder = find(broken)[place]
            change(holder, key)
            if not errors(broken):
                sys.exit(f"the SDK's types allow {json.dumps(holder)}")
            refused += 1
    print(refused)


def unknown(value, path="message"):
    """The paths of fields that the SDK accepted although its types do not have them."""
    if isinstance(value, BaseModel):
        for key in value.model_extra or {}:
            yield f"{path}.{key}"
        for key in type(value).model_fields:
            yield from unknown(getattr(value, key), f"{path}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from unknown(item, f"{path}[{index}]")


def ask(client, body):
    try:
        with client.messages.stream(**{key: value for key, value in body.items() if key != "stream"}) as stream:
            # Check each event, because the final message does not contain unknown fields of events.
            strange = []
            for event in stream:
                strange += unknown(event, event.type)
            message = stream.get_final_message()
    except anthropic.APIStatusError as error:
        kind = error.body["error"]["type"] if isinstance(error.body, dict) else None
        return {"error": type(error).__name__, "status": error.status_code, "kind": kind}
    except Exception as error:  # The test decides whether this exception is right.
        return {"error": type(error).__name__, "words": str(error)}
    strange += unknown(message)
    if strange:
        return {"error": "unknown to the SDK", "words": ", ".join(sorted(set(strange)))}
    return {"message": message.to_dict()}


def asks(bodies, url):
    client = anthropic.Anthropic(
        base_url=url,
        api_key="test",
        max_retries=0,
        # The version that the agent sends; the SDK's default is later.
        default_headers={"anthropic-version": "2023-06-01"},
        # Without this, the SDK does not validate answers.
        _strict_response_validation=True,
    )
    print(json.dumps([ask(client, body) for body in bodies]))


def main():
    command, file, *rest = sys.argv[1:]
    with open(file, encoding="utf-8") as text:
        bodies = json.load(text)
    if not bodies:
        sys.exit("there are no requests")
    {"requests": requests, "refuses": refuses, "asks": asks}[command](bodies, *rest)


main()
