// Writes every kind of message with the real packages to a Redis, and prints what Redis then has as JSON:
//   node capture.mjs redis://localhost:6379/0 > core-1.4.0.json
// Run it in a folder that has @langchain/redis, @langchain/core and, if it shall be used, @langchain/community; with
// "ioredis" as the second argument, the class of @langchain/community writes.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { readFileSync } from "node:fs";
import { join } from "node:path";

const here = join(process.cwd(), "package.json");
const require = createRequire(here);
const load = (name) => import(pathToFileURL(require.resolve(name)).href).then((found) => found.default ?? found);
const version = (name) => JSON.parse(readFileSync(join(process.cwd(), "node_modules", name, "package.json"))).version;

const [url, client = "redis"] = process.argv.slice(2);
const core = await load("@langchain/core/messages");
const { createClient } = await load("redis");
const { HumanMessage, AIMessage, SystemMessage, ToolMessage, FunctionMessage, ChatMessage } = core;

const usage = { input_tokens: 1, output_tokens: 2, total_tokens: 3, input_token_details: { cache_read: 1 } };
const call = { name: "look", args: { at: "ü", n: 2 }, id: "call-1", type: "tool_call" };
const openAiCall = { id: "call-3", type: "function", function: { name: "look", arguments: '{"at":"x"}' } };
const image = { type: "image_url", image_url: { url: "data:image/png;base64,AA==" } };
const data = { type: "image", source_type: "base64", mime_type: "image/png", data: "AA==" };
const text = [{ type: "text", text: "a block" }];
const chunk = { name: "look", args: '{"at":"x"}', id: "call-4", index: 0, type: "tool_call_chunk" };

// Each kind by a name that says how the message was made; a version that can't make one has none.
const kinds = {
  "human": () => new HumanMessage("Wie geht's? 😀 日本語\n\u2028"),
  "human, empty": () => new HumanMessage(""),
  "human with id and name": () => new HumanMessage({ content: "hi", id: "1", name: "ann" }),
  "human with additional_kwargs": () => new HumanMessage({ content: "x", additional_kwargs: { deep: [{ a: [1.5, null] }] } }),
  "human with response_metadata": () => new HumanMessage({ content: "x", response_metadata: { model: "m" } }),
  "human of blocks": () => new HumanMessage({ content: [...text, image] }),
  "human made from a list": () => new HumanMessage([...text, image]),
  "human of data blocks": () => new HumanMessage({ content: [...text, data] }),
  "human, empty list": () => new HumanMessage({ content: [] }),
  "human, null": () => new HumanMessage({ content: null }),
  "human without content": () => new HumanMessage({}),
  "human, contentBlocks": () => new HumanMessage({ contentBlocks: text }),
  "human, v1": () => new HumanMessage({ content: text, response_metadata: { output_version: "v1" } }),
  "human, half a pair": () => new HumanMessage("half \ud83d of a pair"),
  "human with undefined": () => new HumanMessage({ content: "x", name: undefined, id: undefined }),
  "human with big numbers": () => new HumanMessage({ content: "x", additional_kwargs: { n: 2 ** 53 + 2, f: 1e300 } }),
  "human chunk": () => new core.HumanMessageChunk("piece"),
  "system": () => new SystemMessage("Be brief."),
  "system of blocks": () => new SystemMessage({ content: text }),
  "system chunk": () => new core.SystemMessageChunk("piece"),
  "ai": () => new AIMessage("fine"),
  "ai, empty": () => new AIMessage(""),
  "ai, null": () => new AIMessage({ content: null }),
  "ai, null, with OpenAI's tool calls": () => new AIMessage({ content: null, additional_kwargs: { tool_calls: [openAiCall] } }),
  "ai of blocks": () => new AIMessage({ content: text }),
  "ai made from a list": () => new AIMessage(text),
  "ai with tool calls": () => new AIMessage({ content: "", tool_calls: [call] }),
  "ai with two tool calls": () => new AIMessage({ content: "", tool_calls: [call, { ...call, id: "call-2" }] }),
  "ai, tool call without id": () => new AIMessage({ content: "", tool_calls: [{ name: "look", args: {} }] }),
  "ai, tool call without args": () => new AIMessage({ content: "", tool_calls: [{ name: "look", id: "call-1" }] }),
  "ai, tool call with args as text": () => new AIMessage({ content: "", tool_calls: [{ ...call, args: '{"at":"x"}' }] }),
  "ai, tool call with args as other text": () => new AIMessage({ content: "", tool_calls: [{ ...call, args: "no JSON" }] }),
  "ai, tool call with null args": () => new AIMessage({ content: "", tool_calls: [{ ...call, args: null }] }),
  "ai, tool call with null id": () => new AIMessage({ content: "", tool_calls: [{ ...call, id: null }] }),
  "ai, invalid tool call": () =>
    new AIMessage({ content: "", invalid_tool_calls: [{ name: "x", args: "{", id: "call-2", error: "bad", type: "invalid_tool_call" }] }),
  "ai, invalid tool call in part": () => new AIMessage({ content: "", invalid_tool_calls: [{ name: "x" }] }),
  "ai with OpenAI's tool calls": () => new AIMessage({ content: "", additional_kwargs: { tool_calls: [openAiCall] } }),
  "ai with a function call": () => new AIMessage({ content: "", additional_kwargs: { function_call: { name: "f", arguments: "{}" } } }),
  "ai with usage": () => new AIMessage({ content: "x", usage_metadata: usage, response_metadata: { model_name: "m" } }),
  "ai, usage without total": () => new AIMessage({ content: "x", usage_metadata: { input_tokens: 1, output_tokens: 2 } }),
  "ai, empty usage": () => new AIMessage({ content: "x", usage_metadata: {} }),
  "ai, contentBlocks": () => new AIMessage({ contentBlocks: text }),
  "ai, contentBlocks with a tool call": () => new AIMessage({ contentBlocks: [...text, { type: "tool_call", ...call }] }),
  "ai, v1": () => new AIMessage({ content: [...text, { ...call }], response_metadata: { output_version: "v1" } }),
  "ai with reasoning": () => new AIMessage({ content: [{ type: "reasoning", reasoning: "hm" }, ...text] }),
  "ai chunk": () => new core.AIMessageChunk("piece"),
  "ai chunk with tool call chunks": () => new core.AIMessageChunk({ content: "", tool_call_chunks: [chunk] }),
  "ai chunk with half a tool call": () => new core.AIMessageChunk({ content: "", tool_call_chunks: [{ ...chunk, args: '{"at"' }] }),
  "ai chunk with usage": () => new core.AIMessageChunk({ content: "x", usage_metadata: usage, id: "run-1" }),
  "ai chunks put together": () =>
    new core.AIMessageChunk({ content: "a", tool_call_chunks: [chunk] }).concat(new core.AIMessageChunk({ content: "b" })),
  "tool": () => new ToolMessage({ content: "fine", tool_call_id: "call-1", name: "look" }),
  "tool made from arguments": () => new ToolMessage("fine", "call-1", "look"),
  "tool with status and artifact": () =>
    new ToolMessage({ content: "bad", tool_call_id: "call-1", status: "error", artifact: { rows: [1, null] } }),
  "tool of blocks": () => new ToolMessage({ content: text, tool_call_id: "call-1" }),
  "tool without a call": () => new ToolMessage({ content: "fine" }),
  "tool chunk": () => new core.ToolMessageChunk({ content: "fine", tool_call_id: "call-1" }),
  "function": () => new FunctionMessage({ content: "42", name: "answer" }),
  "function without a name": () => new FunctionMessage({ content: "42" }),
  "generic": () => new ChatMessage("aside", "narrator"),
  "generic of blocks": () => new ChatMessage({ content: text, role: "narrator" }),
  "generic without a role": () => new ChatMessage({ content: "aside" }),
  "generic chunk": () => new core.ChatMessageChunk({ content: "piece", role: "narrator" }),
  "remove": () => new core.RemoveMessage({ id: "1" }),
};

async function historyOf(sessionId) {
  if (client === "redis") {
    const { RedisChatMessageHistory } = await load("@langchain/redis");
    return new RedisChatMessageHistory({ sessionId, sessionTTL: 600, config: { url } });
  }
  const { RedisChatMessageHistory } = await load("@langchain/community/stores/message/ioredis");
  return new RedisChatMessageHistory({ sessionId, sessionTTL: 600, url });
}

const raw = createClient({ url });
await raw.connect();

const elements = {};
const refused = [];
for (const [name, make] of Object.entries(kinds)) {
  const history = await historyOf("one");
  try {
    await history.addMessage(make());
    [elements[name]] = await raw.lRange("one", 0, 0);
  } catch {
    refused.push(name);
  }
  await raw.del("one");
}
const session = await historyOf("session");
for (const name of ["system", "human", "ai with tool calls", "tool", "ai"]) await session.addMessage(kinds[name]());
const list = await raw.lRange("session", 0, -1);
await raw.del("session");
await raw.quit();
const store = client === "redis" ? "@langchain/redis" : "@langchain/community";
const packages = Object.fromEntries(["@langchain/core", store].map((name) => [name, version(name)]));
console.log(JSON.stringify({ packages, elements, refused, list }, null, 1));
process.exit(0);
