// A turn of a chat whose session Python and Node share. It is woken if it sleeps. Run it with a worker beside it:
//   npm ci
//   torpor scripts append read --json > scripts.json
//   node chat.js user-42 ann "Where is my order?"
//
// REDIS_URL has the sessions; REDIS_CLUSTER=1 if it is a node of a Cluster. BROKER_URL is the workers' TORPOR_BROKER_URL.
// SIGNING_KEY and SIGNING_CERTIFICATE name files in PEM, if the deployment signs its tasks. TTL, and WAKE_SECONDS for which
// the program waits for a worker, are in seconds.
import { readFile } from "node:fs/promises";
import { createClient, createCluster } from "redis";
import { Torpor } from "./torpor.js";

const { REDIS_URL: url = "redis://localhost:6379/0", REDIS_CLUSTER, BROKER_URL, SIGNING_KEY, SIGNING_CERTIFICATE } = process.env;
const [session, owner, question] = process.argv.slice(2);
const ttl = Number(process.env.TTL ?? 3600), wakeSeconds = Number(process.env.WAKE_SECONDS ?? 20);

const client = REDIS_CLUSTER ? createCluster({ rootNodes: [{ url }] }) : createClient({ url });
const broker = BROKER_URL ? createClient({ url: BROKER_URL }) : client;
for (const each of new Set([client, broker])) {
  each.on("error", (error) => console.error(error.message)); // without a listener, a lost connection ends the process
  await each.connect();
}
const scripts = JSON.parse(await readFile(process.env.SCRIPTS ?? "scripts.json"));
const signing = SIGNING_KEY && { key: await readFile(SIGNING_KEY), certificate: await readFile(SIGNING_CERTIFICATE) };
const torpor = await Torpor.open(client, scripts, { broker, signing, wakeSeconds });

for (const { type, data } of await torpor.read(session, { owner })) console.log(`${type}: ${data.content}`);
const turn = [
  { type: "human", data: { content: question } },
  { type: "ai", data: { content: `You said: ${question}` } }, // a model's answer
];
console.log(`${await torpor.append(session, turn, { owner, ttl })} messages`);
for (const each of new Set([client, broker])) await each.close();
