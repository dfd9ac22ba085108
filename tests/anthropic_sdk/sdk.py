"""Compares requests and answers of the Messages API with Anthropic's SDK for Python.

    sdk.py requests FILE       checks that the SDK's types allow every body in the file (a JSON list)
    sdk.py changes FILE        checks that the SDK's types reject the last body if any part of it is changed
    sdk.py answers FILE URL    sends every body to a Messages API, and prints the answers as the SDK reads them

`answers` prints a JSON list: `{"message": …}` for each answer, or `{"error": the exception's name, …}`.
"""

import copy
import json
import sys

import anthropic
from anthropic.types.message_create_params import MessageCreateParamsStreaming
from pydantic import BaseModel, TypeAdapter
from pydantic_core import SchemaValidator, ValidationError


def strict_schema(schema):
    """A stricter version of a schema of the SDK.

    It checks the items of an `Iterable` at once, rejects unknown keys in dictionaries, and does not accept the lenient
    models that the SDK uses for blocks of answers.
    """
    if isinstance(schema, list):
        return [strict_schema(part) for part in schema]
    if isinstance(schema, tuple):
        return tuple(strict_schema(part) for part in schema)
    if not isinstance(schema, dict):
        return schema
    if schema.get("type") == "model":
        instance = {"type": "is-instance", "cls": schema["cls"]}
        return instance | ({"ref": schema["ref"]} if "ref" in schema else {})
    schema = {key: strict_schema(part) for key, part in schema.items()}
    if schema.get("type") == "generator":
        schema["type"] = "list"
    if schema.get("type") == "typed-dict":
        schema["extra_behavior"] = "forbid"
    return schema


REQUEST = SchemaValidator(strict_schema(TypeAdapter(MessageCreateParamsStreaming).core_schema))


def errors(body):
    """The errors of the types for a body, as pairs of a path and a message.

    pydantic compares a block with every kind of block and reports errors for each. The errors for the right kind have
    the longest paths, so they come first.
    """
    try:
        REQUEST.validate_python(body, strict=True)
    except ValidationError as error:
        found = {(path_without_types(error["loc"]), error["msg"]): None for error in error.errors(include_url=False)}
        return sorted(found, key=lambda pair: -pair[0].count("."))
    return []


def path_without_types(location):
    """The path of an error without the names of types: only indexes and names of fields."""
    return ".".join(str(part) for part in location if isinstance(part, int) or part == part.lower() and "[" not in part)


def requests(bodies):
    for number, body in enumerate(bodies):
        if found := errors(body):
            lines = "\n".join(f"  {path}: {message}" for path, message in found[:20])
            sys.exit(f"the SDK's types don't allow request {number}:\n{lines}\n{json.dumps(body)}")
    print(len(bodies))


def blocks(body, kind):
    """All blocks of a kind in the messages."""
    return [block for message in body["messages"] for block in message["content"] if block["type"] == kind]


def set_value(value):
    return lambda holder, key: holder.__setitem__(key, value)


def remove_key(holder, key):
    del holder[key]


# Invalid changes of a request: a function that finds the objects to change, the key to change in each, and the change.
INVALID_CHANGES = [
    (lambda body: [body], "max_tokens", remove_key),
    (lambda body: [body], "max_tokens", set_value("32000")),
    (lambda body: [body], "model", remove_key),
    (lambda body: [body], "stream", set_value("yes")),
    (lambda body: [body], "no_such_option", set_value(1)),
    (lambda body: body["tools"], "type", set_value("bash_19700101")),
    (lambda body: body["tools"], "name", set_value("zsh")),
    (lambda body: body["system"], "text", remove_key),
    (lambda body: [body["system"][0]["cache_control"]], "type", set_value("eternal")),
    (lambda body: body["messages"], "role", set_value("nobody")),
    (lambda body: body["messages"], "content", remove_key),
    (lambda body: blocks(body, "text"), "text", remove_key),
    (lambda body: blocks(body, "text"), "text", set_value(None)),
    (lambda body: blocks(body, "text"), "txet", set_value("")),
    (lambda body: blocks(body, "text"), "cache_control", set_value({"type": "eternal"})),
    (lambda body: blocks(body, "text"), "type", set_value("txet")),
    (lambda body: blocks(body, "thinking"), "signature", remove_key),
    (lambda body: blocks(body, "tool_use"), "id", remove_key),
    (lambda body: blocks(body, "tool_use"), "input", set_value("{}")),
    (lambda body: blocks(body, "tool_result"), "tool_use_id", remove_key),
    (lambda body: blocks(body, "tool_result"), "is_error", set_value("no")),
    (lambda body: blocks(body, "tool_result"), "content", set_value([{"type": "text"}])),
]


def changes(bodies):
    # The last body contains the whole conversation.
    body = bodies[-1]
    if errors(body):
        sys.exit("the unchanged body is rejected too")
    rejected = 0
    for find, key, change in INVALID_CHANGES:
        places = len(find(body))
        if not places:
            sys.exit(f"no request has a part to change at {key}")
        for place in range(places):
            broken = copy.deepcopy(body)
            holder = find(broken)[place]
            change(holder, key)
            if not errors(broken):
                sys.exit(f"the SDK's types allow {json.dumps(holder)}")
            rejected += 1
    print(rejected)


def unknown_fields_of(value, path="message"):
    """The paths of fields that the SDK accepted although its types do not have them."""
    if isinstance(value, BaseModel):
        for key in value.model_extra or {}:
            yield f"{path}.{key}"
        for key in type(value).model_fields:
            yield from unknown_fields_of(getattr(value, key), f"{path}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from unknown_fields_of(item, f"{path}[{index}]")


def ask(client, body):
    try:
        with client.messages.stream(**{key: value for key, value in body.items() if key != "stream"}) as stream:
            # Check each event, because the final message does not contain unknown fields of events.
            unknown_fields = []
            for event in stream:
                unknown_fields += unknown_fields_of(event, event.type)
            message = stream.get_final_message()
    except anthropic.APIStatusError as error:
        kind = error.body["error"]["type"] if isinstance(error.body, dict) else None
        return {"error": type(error).__name__, "status": error.status_code, "kind": kind}
    except Exception as error:  # The test decides whether this exception is right.
        return {"error": type(error).__name__, "text": str(error)}
    unknown_fields += unknown_fields_of(message)
    if unknown_fields:
        return {"error": "unknown to the SDK", "text": ", ".join(sorted(set(unknown_fields)))}
    return {"message": message.to_dict()}


def answers(bodies, url):
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
    {"requests": requests, "changes": changes, "answers": answers}[command](bodies, *rest)


main()
