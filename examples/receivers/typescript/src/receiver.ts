// A small orchestrator: grants tasks, receives what the workers report, and prints it.
//
//     DESCARTES_CALLBACK_SECRET=whsec_... node dist/receiver.js [PORT]
//
// A line `cancel TASK_ID` on standard input cancels a task at its next heartbeat.
// LEASE_SECONDS is the shortest lease of a run, by default 60.

import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { createInterface } from "node:readline";
import { Webhook, WebhookVerificationError } from "standardwebhooks";

/** What this receiver reads of an event. There are more fields, and more will be added. */
interface Event {
  project_id: string;
  task_id: string;
  status: string;
  message: string;
  event_id: string;
  run_id: string;
  sequence: number;
  timestamp: string;
  /** Only in `started`. */
  heartbeat_interval_ms?: number | null;
  limits?: { task_timeout_ms: number; finish_deadline_ms: number };
  /** Only in `failed`. */
  failure?: { retryable: boolean };
}

type Answer = [status: number, body: object];

/** One worker's attempt at a task. */
interface Run {
  runId: string;
  leaseMs: number;
  finishDeadlineMs: number;
  /** When the last event arrived, by performance.now(). */
  renewed: number;
  /** Of the latest event. */
  sequence: number;
  /** The terminal event's id. */
  end?: string;
}

interface Task {
  taskId: string;
  /** The latest run. */
  run?: Run;
  /** By event_id: a retry gets the same answer. */
  answers: Map<string, Answer>;
  /** The ids of runs whose leases ended, and whose task another run got. */
  replacedRuns: Set<string>;
  /** Completed, or failed for good: no further run. */
  isFinished: boolean;
  isCancelled: boolean;
}

const MAX_BODY_SIZE = 256 * 1024; // in bytes, from the protocol
const MISSING_HEARTBEATS = 4; // a lease ends after this many missing heartbeats
const MIN_LEASE_MS = Number(process.env.LEASE_SECONDS || 60) * 1000;
const CLONE_AND_PUSH_MS = 30 * 60_000; // what a run may need besides its limits
const CANCELLED_RUN_MS = 130_000; // what a cancelled run may need before its terminal event
const ROUTES = ["started", "progress", "completed", "failed"];

/** By project and task id. `8` and `webapp:8` may be the same task: this example expects that all
 * workers are started with the same spelling. A real orchestrator keeps the tasks in a database, and
 * stores an event and the decision about it in one transaction. */
const tasks = new Map<string, Task>();

/** The lease that docs/protocol.md recommends. */
function leaseMs(claim: Event): number {
  const interval = claim.heartbeat_interval_ms;
  if (interval === null && claim.limits) {
    return claim.limits.task_timeout_ms + claim.limits.finish_deadline_ms + CLONE_AND_PUSH_MS;
  }
  return Math.max(MISSING_HEARTBEATS * (interval ?? 15_000), MIN_LEASE_MS);
}

function isAlive(run: Run): boolean {
  return run.end === undefined && performance.now() - run.renewed < run.leaseMs;
}

function receive(route: string, event: Event): Answer {
  const key = JSON.stringify([event.project_id, event.task_id]);
  let task = tasks.get(key);
  if (!task) {
    const [answers, replacedRuns] = [new Map<string, Answer>(), new Set<string>()];
    task = { taskId: event.task_id, answers, replacedRuns, isFinished: false, isCancelled: false };
    tasks.set(key, task);
  }
  // Also if it repeats an event.
  if (task.replacedRuns.has(event.run_id)) return [409, { error: "another run has got the task" }];
  const earlier = task.answers.get(event.event_id);
  if (earlier) return earlier;
  if (route === "started") {
    if (task.isFinished) return [410, { error: "the task is finished" }];
    if (task.run?.runId !== event.run_id) {
      if (task.run && isAlive(task.run)) return [409, { error: `run ${task.run.runId} has the task` }];
      if (task.run && task.run.end === undefined) task.replacedRuns.add(task.run.runId);
      const finishDeadlineMs = event.limits?.finish_deadline_ms ?? 15 * 60_000;
      const renewed = performance.now();
      task.run = { runId: event.run_id, leaseMs: leaseMs(event), finishDeadlineMs, renewed, sequence: -1 };
      task.isCancelled = false;
    }
  }
  if (task.run?.runId !== event.run_id) return [409, { error: "another run has the task, or none" }];
  const answer = decide(task, task.run, route, event);
  task.answers.set(event.event_id, answer);
  return answer;
}

function decide(task: Task, run: Run, route: string, event: Event): Answer {
  if (run.end) return [409, { error: `the run ended with ${run.end}` }];
  run.renewed = performance.now();
  // The next event may overtake a heartbeat. An older event is not shown.
  const isLate = event.sequence < run.sequence;
  run.sequence = Math.max(run.sequence, event.sequence);
  const name = `${event.project_id}/${event.task_id}`;
  console.log(`${event.timestamp} ${name} ${event.status}: ${isLate ? "(late)" : event.message}`);
  if (route === "completed" || route === "failed") {
    run.end = event.event_id;
    // The status counts, not the route: an orchestrator may have one route for both.
    task.isFinished = event.status === "completed" || !event.failure?.retryable;
  } else if (route === "progress" && task.isCancelled) {
    // From now on the run sends no heartbeats, only its terminal event.
    run.leaseMs = Math.max(run.leaseMs, CANCELLED_RUN_MS + run.finishDeadlineMs);
    return [200, { cancel: true, reason: "cancelled by hand" }];
  }
  return [200, {}];
}

async function answerTo(request: IncomingMessage, webhook: Webhook): Promise<Answer> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request) {
    length += chunk.length;
    if (length > MAX_BODY_SIZE) return [413, { error: "too large" }];
    chunks.push(chunk);
  }
  const route = new URL(request.url ?? "/", "http://receiver").pathname.split("/").at(-1) ?? "";
  if (request.method !== "POST" || !ROUTES.includes(route)) return [404, { error: "no such route" }];
  try {
    // The bytes as they arrived: parsing and writing again would change them.
    const body = Buffer.concat(chunks).toString();
    return receive(route, webhook.verify(body, request.headers as Record<string, string>) as Event);
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
  const [status, body] = await answerTo(request, webhook).catch((error): Answer => {
    console.log(`failed at ${request.url}: ${error}`);
    return [500, { error: "a bug" }];
  });
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
});
server.listen(Number(process.argv[2] ?? 8080), "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${(server.address() as AddressInfo).port}`);
});
createInterface({ input: process.stdin }).on("line", (line) => {
  const [command, taskId] = line.trim().split(" ");
  if (command !== "cancel") return;
  for (const task of tasks.values()) {
    if (task.taskId === taskId) task.isCancelled = true;
  }
  console.log(`cancelling ${taskId}`);
});
