// Torpor's sessions in Node: the scripts, keys and arguments that docs/interop.md describes.
import { randomBytes } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { crc32 } from "node:zlib";
import { ErrorReply } from "redis";
import { wakeRequest } from "./wake.js";

const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;
const PAGE = { bytes: 1024 * 1024, messages: 1000 };
// Redis remembers a request for a minute. A turn that is sent again later would be written twice.
const RESEND_MS = 45_000;

/** What Torpor refuses; `code` is the script's word for it, such as "owner" or "purged". */
export class Refused extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

export class Torpor {
  #client; #broker; #scripts; #namespace; #config; #wakeMs; #signing;

  /**
   * The deployment of a namespace; throws Refused if Node may not write to it. `client` and `broker` are of node-redis,
   * `client` perhaps of a Cluster. `scripts` is the JSON of `torpor scripts append read --json`.
   */
  static async open(client, scripts, { broker = client, namespace = "torpor", wakeSeconds = 20, signing } = {}) {
    const torpor = new Torpor();
    const fields = ["shards", "idle", "max_age", "policies", "require_owner", "dictionary"];
    const [shards, idle, maxAge, policies, requireOwner, dictionary] = await client.hmGet(`${namespace}:config`, fields);
    if (!shards) throw new Refused("unused", "nobody has used this deployment yet: start a worker first");
    if (policies && policies !== "[]") throw new Refused("policies", "this deployment has policies, which need Python");
    if (dictionary) throw new Refused("compression", "this deployment compresses messages, which needs Python");
    torpor.#config = { shards: Number(shards), defaults: [idle ?? 24 * 3600 * 1000, maxAge ?? ""], requireOwner };
    torpor.#client = client; torpor.#broker = broker; torpor.#scripts = scripts; torpor.#namespace = namespace;
    torpor.#wakeMs = wakeSeconds * 1000; torpor.#signing = signing;
    return torpor;
  }

  /** Append one turn, messages in the form of LangChain's Python; it is written once, also if it is sent again. */
  async append(id, messages, { owner, ttl, request = randomBytes(8) } = {}) {
    const elements = messages.map((each) => JSON.stringify(each));
    const bytes = Math.max(...elements.map((each) => Buffer.byteLength(each))); // -Infinity for an empty turn
    if (!(bytes > 0 && bytes <= MAX_MESSAGE_BYTES)) throw new RangeError("a turn has messages, of 16 MiB at most");
    const idle = ttl === undefined ? "" : checkedSeconds(ttl) * 1000;
    const keys = this.#keys(id, ["m", "s", "due", "t", "w"], owner);
    const options = ["", "", this.#caller(owner), 0, 0, 1]; // max. age, retention, caller, only new, reuse, only known
    const args = [id, request, ...this.#config.defaults, idle, ...options, ...elements];
    const [answer, length] = await this.#awake(id, owner, () => this.#run("append", keys, args), (it) => it[0] !== "unknown");
    if (answer !== "ok") throw refusal(id, answer);
    return length;
  }

  /** The complete transcript, oldest first; a session that sleeps is woken, and an unknown one has no messages. */
  async read(id, { owner } = {}) {
    let messages = [], state;
    for (;;) {
      const look = () => this.#page(id, owner, messages.length, PAGE.messages);
      const [epoch, restored, total, , , ...texts] = await this.#awake(id, owner, look, isComplete);
      if (state !== undefined && state !== `${epoch}:${restored}`) messages = []; // cleared, or asleep and woken meanwhile
      else messages.push(...texts);
      state = `${epoch}:${restored}`;
      if (messages.length >= total) break;
    }
    if (messages.some((each) => each.charCodeAt(0) === 0xfffd)) throw new Refused("compression", `session ${id} has compressed messages`);
    if (messages[0]?.charCodeAt(0) <= 2) throw new Refused("kind", `session ${id} is a LangGraph thread`);
    return messages.map((each) => JSON.parse(each));
  }

  async #page(id, owner, from, count, touch = 1) {
    const args = [id, touch, ...this.#config.defaults, from, from + count, PAGE.bytes, count, this.#caller(owner)];
    const reply = await this.#run("read", this.#keys(id, ["m", "s", "due"]), args);
    if (reply.length === 1) throw refusal(id, reply[0]);
    return reply;
  }

  /** The reply of `act` that is `enough`. Before another try, a worker is asked to wake the session. */
  async #awake(id, owner, act, enough) {
    for (;;) {
      const reply = await act();
      if (enough(reply)) return reply;
      const until = Date.now() + this.#wakeMs;
      const request = wakeRequest(id, this.#namespace, new Date(until), this.#signing);
      await this.#broker.lPush(`${this.#namespace}:celery:${this.#namespace}`, JSON.stringify(request));
      while (!isComplete(await this.#page(id, owner, 0, 0, 0))) {
        if (Date.now() > until) throw new Error(`session ${id} did not wake in time: is a worker running? See its log`);
        await pause(50);
      }
    }
  }

  #keys(id, kinds, owner) {
    const tag = `{${this.#namespace}:${crc32(encoded(id)) % this.#config.shards}}`;
    const keys = kinds.map((kind) => ("msw".includes(kind) ? `${tag}:${kind}:${id}` : `${tag}:${kind}`));
    return owner === undefined ? keys : [...keys, `${tag}:o:${owner}`];
  }

  #caller(owner) {
    if (owner === undefined && this.#config.requireOwner) throw new Refused("owner", "this deployment requires an owner");
    return owner === undefined ? "" : `=${encoded(owner)}`;
  }

  /** Send a script, and again with the same arguments if the connection was lost before the reply came. */
  async #run(name, keys, args) {
    const { sha1, source } = this.#scripts[name];
    const call = { keys, arguments: args.map((each) => (Buffer.isBuffer(each) ? each : String(each))) };
    for (const until = Date.now() + RESEND_MS; ; await pause(100)) {
      try {
        return await this.#client.evalSha(sha1, call).catch((error) => {
          if (error.message.startsWith("NOSCRIPT")) return this.#client.eval(source, call);
          throw error;
        });
      } catch (error) {
        if (error instanceof ErrorReply || !this.#client.isOpen || Date.now() > until) throw error;
      }
    }
  }
}

const isComplete = (page) => page.length > 0 && page[3] === "1";

function encoded(id) {
  const bytes = Buffer.from(id);
  if (!id.isWellFormed() || bytes.length < 1 || bytes.length > 1024) throw new RangeError("an id has 1 to 1,024 bytes of UTF-8");
  return bytes;
}

function checkedSeconds(ttl) {
  if (Number.isInteger(ttl) && ttl >= 1 && ttl <= 36_500 * 86_400) return ttl;
  throw new RangeError("ttl is a whole number of seconds, up to 100 years");
}

function refusal(id, code) {
  return new Refused(code, `session ${id} was refused: ${code}`);
}
