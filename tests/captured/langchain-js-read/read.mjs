// Reads the elements of a captured file's "given" with the real packages, and prints the file with what they read:
//   node read.mjs redis://localhost:6379/0 given.json > new.json
// Run it in a folder that has @langchain/redis and @langchain/core.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { readFileSync } from "node:fs";
import { join } from "node:path";

const require = createRequire(join(process.cwd(), "package.json"));
const load = (name) => import(pathToFileURL(require.resolve(name)).href).then((found) => found.default ?? found);
const version = (name) => JSON.parse(readFileSync(join(process.cwd(), "node_modules", name, "package.json"))).version;

const [url, file] = process.argv.slice(2);
const { given } = JSON.parse(readFileSync(file));
const { createClient } = await load("redis");
const { RedisChatMessageHistory } = await load("@langchain/redis");
const raw = createClient({ url });
await raw.connect();

const read = {};
for (const [name, element] of Object.entries(given)) {
  await raw.lPush("one", element);
  const history = new RedisChatMessageHistory({ sessionId: "one", config: { url } });
  const [message] = await history.getMessages();
  const { content, role, name: called, id, tool_calls, tool_call_id, status, artifact, usage_metadata } = message;
  const parts = { content, role, name: called, id, tool_calls, tool_call_id, status, artifact, usage_metadata };
  read[name] = { class: message.constructor.name, ...parts };
  await raw.del("one");
}
const packages = Object.fromEntries(["@langchain/core", "@langchain/redis"].map((name) => [name, version(name)]));
console.log(JSON.stringify({ packages, given, read }, null, 1));
process.exit(0);
