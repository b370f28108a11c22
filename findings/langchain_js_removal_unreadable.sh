#!/usr/bin/env bash
# A RemoveMessage that LangChain.js has stored in a chat history makes that history unreadable for LangChain.js itself.
#
# Versions: @langchain/redis 1.1.2 with @langchain/core 1.4.0 (Node 20 or later and redis-server must be on the PATH).
# Why it matters: an agent's answer to "forget that" is a RemoveMessage beside the others, and a program that keeps what
#   the agent returns adds it to the history. addMessages() accepts it, and stores it as "remove". getMessages() does not
#   know that type and throws, so the user's whole conversation can't be read any more until somebody edits the list in
#   Redis. Python's LangChain reads the same list.
# Seen:
#   stored: remove, ai, human
#   getMessages: Got unexpected type: remove
#   after the element was taken out: 2 messages
# Source: https://reference.langchain.com/javascript has RemoveMessage as one of the messages, and addMessages() takes
#   any.
set -euo pipefail

folder=$(mktemp -d)
server=""
trap '[ -z "$server" ] || { kill "$server"; wait "$server" || true; }; rm -rf "$folder"' EXIT

command -v node npm redis-server >/dev/null || { echo "Node, npm and redis-server are needed"; exit 1; }
cd "$folder"
npm init -y >/dev/null
npm install --silent @langchain/core@1.4.0 @langchain/redis@1.1.2 redis@4.7.1 >/dev/null

port=$(node -e 'const s = require("net").createServer().listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close(); })')
redis-server --bind 127.0.0.1 --port "$port" --save '' --dir "$folder" >/dev/null &
server=$!
for _ in $(seq 100); do (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break || sleep 0.1; done

cat >history.mjs <<'JS'
import { AIMessage, HumanMessage, RemoveMessage } from "@langchain/core/messages";
import { RedisChatMessageHistory } from "@langchain/redis";
import { createClient } from "redis";

const client = createClient({ url: `redis://127.0.0.1:${process.argv[2]}` });
await client.connect();
const history = new RedisChatMessageHistory({ sessionId: "chat", client });
await history.addMessages([new HumanMessage("Forget that."), new AIMessage("Done."), new RemoveMessage({ id: "7" })]);
const elements = await client.lRange("chat", 0, -1);
console.log("stored:", elements.map((element) => JSON.parse(element).type).join(", "));
try {
    console.log("getMessages:", (await history.getMessages()).length, "messages");
} catch (error) {
    console.log("getMessages:", error.message);
}
await client.lRem("chat", 1, elements.find((element) => JSON.parse(element).type === "remove"));
console.log("after the element was taken out:", (await history.getMessages()).length, "messages");
await client.quit();
JS

node history.mjs "$port" | tee seen
diff - seen <<'SEEN' || { echo "the behaviour is gone"; exit 1; }
stored: remove, ai, human
getMessages: Got unexpected type: remove
after the element was taken out: 2 messages
SEEN
