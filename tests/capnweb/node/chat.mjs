// `node chat.mjs ENTRYPOINT --base-url URL --project-id ID --agent-path PATH`: stands where the published `iterate`
// command starts its terminal. It gets that terminal's arguments and credentials, uses the package's own `connectItx`
// for what that terminal needs of streams, and prints one JSON line. tests/doors/test_node.py says what it should be.

import { readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";

const [entrypoint, ...rest] = process.argv.slice(2);
const { values } = parseArgs({
  args: rest,
  options: {
    "base-url": { type: "string" },
    "project-id": { type: "string" },
    "agent-path": { type: "string" },
  },
});
const input = {
  baseUrl: values["base-url"],
  auth: process.env.ITERATE_BEARER_TOKEN
    ? { type: "bearer", token: process.env.ITERATE_BEARER_TOKEN }
    : { type: "admin-secret", secret: process.env.APP_CONFIG_ADMIN_API_SECRET },
};

/** The package keeps it in a file of its own, under a letter. */
async function findConnectItx() {
  const folder = join(dirname(entrypoint), "..");
  for (const name of readdirSync(folder).filter((name) => /^config-.*\.mjs$/.test(name))) {
    for (const member of Object.values(await import(join(folder, name)))) {
      if (member.name === "connectItx") return member;
    }
  }
  throw new Error(`no connectItx in ${folder}`);
}

const connectItx = await findConnectItx();
const answers = { arguments: values };

const session = connectItx(input);
answers.principal = (await session.__describe()).principal.type;
answers.projects = (await session.projects.list()).map((project) => [project.slug, project.deploymentStatus]);
session[Symbol.dispose]();

const project = connectItx({ ...input, projectId: values["project-id"] });
const other = connectItx({ ...input, projectId: values["project-id"] });
const stream = project.streams.get(values["agent-path"]);
await stream.append({ type: "chat.said", payload: { text: "first" } });
const seen = [];
let caughtUp;
const isCaughtUp = new Promise((resolve) => {
  caughtUp = resolve;
});
const subscription = await stream.subscribe({
  processEventBatch: (batch) => {
    for (const event of batch.events) seen.push([event.offset, event.type]);
    if (seen.at(-1)?.[1] === "chat.done") caughtUp();
  },
  replayAfterOffset: 0,
  subscriber: { description: "iterate chat TUI" },
});
await other.streams
  .get(values["agent-path"])
  .append({ type: "chat.said", payload: { text: "second" } }, { type: "chat.done", payload: {} });
await isCaughtUp;
answers.seen = [...seen];
answers.texts = (await stream.getEvents({ eventTypes: ["chat.said"] })).map((event) => event.payload.text);
answers.waited = (
  await stream.waitForEvent({ afterOffset: 0, eventTypes: ["chat.done"], timeoutMs: 15_000 })
).type;
answers.count = (await stream.runtimeState()).coreProcessorState.eventCount;
answers.streams = (await project.streams.list()).map((each) => each.path);
await subscription.unsubscribe();
// What this deployment does not run is told, and not waited for.
answers.refused = await Promise.all(
  [
    project.agents.get(values["agent-path"]).sendMessage("hello"),
    project.capabilityHost.runScript("1"),
    project.processor.snapshot(),
    project.liveState.subscribe({}),
  ].map((asked) => asked.catch((error) => [error.code, error.message])),
);
project[Symbol.dispose]();
other[Symbol.dispose]();
process.stdout.write(`${JSON.stringify(answers)}\n`);
