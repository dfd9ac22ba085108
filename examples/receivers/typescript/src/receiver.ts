// A small orchestrator: grants tasks, listens to the workers, prints what they say.
//
//     DESCARTES_CALLBACK_SECRET=whsec_... node dist/receiver.js [PORT]
//
// A line `cancel TASK_ID` on standard input cancels a task at its next heartbeat.

import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { createInterface } from "node:readline";
import { Webhook, WebhookVerificationError } from "standardwebhooks";

/** What this receiver reads of an event; there is more, and there will be more still. */
interface Event {
  task_id: string;
  status: string;
  message: string;
  event_id: string;
  run_id: string;
  sequence: number;
  timestamp: string;
}

type Answer = [status: number, body: object];

/** One worker's attempt at a task. */
interface Run {
  runId: string;
  /** By event_id: a retry gets the same answer. */
  answers: Map<string, Answer>;
  /** Of the latest event. */
  sequence: number;
  /** The terminal event's id. */
  end?: string;
  cancelled: boolean;
}

const LIMIT = 256 * 1024; // the most that one event may be, says the protocol
const ROUTES = ["started", "progress", "completed", "failed"];

/** By task_id: the run that has the task. A real orchestrator keeps this in a database, and decides
 * in one transaction what it also writes down. */
const runs = new Map<string, Run>();

function hear(route: string, event: Event): Answer {
  let run = runs.get(event.task_id);
  const before = run?.answers.get(event.event_id);
  if (before) return before;
  if (route === "started") {
    if (run && run.runId !== event.run_id) return [409, { error: `run ${run.runId} has the task` }];
    run = { runId: event.run_id, answers: new Map(), sequence: -1, cancelled: false };
    runs.set(event.task_id, run);
  } else if (run?.runId !== event.run_id) {
    return [409, { error: "the task is not this run's" }];
  }
  const answer = decide(run!, route, event);
  run!.answers.set(event.event_id, answer);
  return answer;
}

function decide(run: Run, route: string, event: Event): Answer {
  if (run.end) return [409, { error: `the run ended with ${run.end}` }];
  // A heartbeat may be overtaken by the next event; what is older is not news.
  const late = event.sequence < run.sequence;
  run.sequence = Math.max(run.sequence, event.sequence);
  console.log(`${event.timestamp} ${event.task_id} ${event.status}: ${late ? "(late)" : event.message}`);
  if (route === "completed" || route === "failed") {
    // The status counts, not the route: an old orchestrator has one route for both.
    run.end = event.event_id;
  } else if (route === "progress" && run.cancelled) {
    return [200, { cancel: true, reason: "cancelled by hand" }];
  }
  return [200, {}];
}

async function answer(request: IncomingMessage, webhook: Webhook): Promise<Answer> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request) {
    length += chunk.length;
    if (length > LIMIT) return [413, { error: "too large" }];
    chunks.push(chunk);
  }
  const route = new URL(request.url ?? "/", "http://receiver").pathname.split("/").at(-1) ?? "";
  if (request.method !== "POST" || !ROUTES.includes(route)) return [404, { error: "no such route" }];
  try {
    // The bytes as they came: parsing and writing again would change them.
    const body = Buffer.concat(chunks).toString();
    return hear(route, webhook.verify(body, request.headers as Record<string, string>) as Event);
  } catch (error) {
    if (!(error instanceof WebhookVerificationError)) throw error;
    console.log(`refused ${request.url}: ${error.message}`);
    return [401, { error: error.message }];
  }
}

const secret = process.env.DESCARTES_CALLBACK_SECRET;
if (!secret) throw new Error("DESCARTES_CALLBACK_SECRET is not set");
const webhook = new Webhook(secret);
const server = createServer(async (request: IncomingMessage, response: ServerResponse) => {
  const [status, body] = await answer(request, webhook).catch((error): Answer => {
    console.log(`broke at ${request.url}: ${error}`);
    return [500, { error: "a bug" }];
  });
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
});
server.listen(Number(process.argv[2] ?? 8080), "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${(server.address() as AddressInfo).port}`);
});
createInterface({ input: process.stdin }).on("line", (line) => {
  const [command, taskId] = line.trim().split(" ");
  const run = taskId && runs.get(taskId);
  if (command !== "cancel" || !run) return;
  run.cancelled = true;
  console.log(`cancelling ${taskId}`);
});
