"""Checks that the agent of an image can work, with a model on loopback."""

import json
from http.server import BaseHTTPRequestHandler

from server import serve


class Model(BaseHTTPRequestHandler):
    """A Messages API whose model repairs the demo's project."""

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        # The name of the shell tool differs between agents.
        shell = next((tool["name"] for tool in request.get("tools", []) if tool["name"].lower() == "bash"), None)
        commands = ["sed -i 's/-gt 1/-gt 0/' greet.sh", "sh test.sh"]
        turn = sum(message["role"] == "assistant" for message in request["messages"])
        if shell and turn < len(commands):
            block = {"type": "tool_use", "id": f"toolu_{turn}", "name": shell, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps({"command": commands[turn]})}
            stop = "tool_use"
        else:
            block, delta, stop = {"type": "text", "text": ""}, {"type": "text_delta", "text": "The last guest is greeted."}, "end_turn"
        usage = {"input_tokens": 10, "output_tokens": 10}
        message = {"id": f"msg_{turn}", "type": "message", "role": "assistant", "model": request["model"], "content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for event in (
            {"type": "message_start", "message": message},
            {"type": "content_block_start", "index": 0, "content_block": block},
            {"type": "content_block_delta", "index": 0, "delta": delta},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": None}, "usage": usage},
            {"type": "message_stop"},
        ):
            self.wfile.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())

    def log_message(self, *_):
        pass


def check_agent(sandbox, agent):
    """Checks that the image's agent does the demo's task if only a key is set."""
    server = serve(Model)
    options = {"host_network": True, "environment": {"ANTHROPIC_API_KEY": "key", "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{server.server_port}"}}
    command = sandbox.config["Entrypoint"] + ["demo"]
    sandbox.check_run(command, f"if only a key is set, {agent} does the demo's task", f"the agent is {agent}", **options)
    sandbox.check_run(command, f"{agent} does the demo's task if only /tmp is writable", "The last guest is greeted.", writable=(), **options)
    server.shutdown()
