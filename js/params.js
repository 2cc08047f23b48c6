/**
 * Checks what a caller passes to `chat.completions.create`, once, before anything is sent to the
 * worker. A misspelt or unsupported parameter is an error: silently ignoring it would look like a
 * bad model.
 */
import { SmolLMError } from "./errors.js";

/**
 * @typedef {import("./protocol.js").WireMessage} WireMessage
 *
 * @typedef {{ role: "system" | "developer" | "user" | "assistant" | "tool", content: string | { type: "text", text: string }[] | null }} ChatMessage
 *   `developer` is what newer OpenAI clients call `system`
 *
 * @typedef {object} SamplingParams names as in the OpenAI API; absent means the model's own default
 * @property {number} [temperature] 0 is greedy
 * @property {number} [top_p] in (0, 1]
 * @property {number} [top_k] 0 is off
 * @property {number} [min_p] in [0, 1)
 * @property {number} [repetition_penalty] above 0; 1 is off
 * @property {number} [max_tokens] at most; 512 without it, or as many as still fit
 * @property {number} [max_completion_tokens] OpenAI's newer name of `max_tokens`
 * @property {string | string[]} [stop] the answer ends before any of these
 * @property {number} [seed] same seed, same answer; drawn when absent
 * @property {boolean} [enable_thinking] for models that can think aloud
 *
 * @typedef {object} CompletionExtras
 * @property {ChatMessage[]} messages
 * @property {string} [model] ignored: an engine is one model
 * @property {string} [user] ignored
 * @property {boolean} [logprobs]
 * @property {number} [top_logprobs] 0 to 20
 * @property {1} [n]
 * @property {{ type: "text" }} [response_format]
 * @property {boolean} [stream]
 * @property {{ include_usage?: boolean }} [stream_options] usage is always included
 * @property {AbortSignal} [signal]
 * @property {(progress: { done: number, total: number }) => void} [onPrefill] tokens of the prompt read so far
 *
 * @typedef {SamplingParams & CompletionExtras} CompletionParams
 */

/** A check returns what it expected, or nothing when the value is fine. @typedef {(v: unknown) => string | undefined} Check */

/** @param {string} text @param {(v: any) => boolean} test @returns {Check} */
const expect = (text, test) => (value) => (test(value) ? undefined : text);

const positiveInteger = expect("a whole number of at least 1", (v) => Number.isInteger(v) && v >= 1);
const boolean = expect("true or false", (v) => typeof v === "boolean");
const anything = () => undefined;
const off = expect("its neutral value; it is not supported", (v) => v === 0 || v === false
  || (typeof v === "object" && Object.keys(v).length === 0));

/** Every parameter there is; `null` counts as absent everywhere, as with OpenAI's server. @type {Record<string, Check>} */
const CHECKS = {
  messages: expect("an array with at least one message", (v) => Array.isArray(v) && v.length > 0),
  temperature: expect("a number of at least 0", (v) => Number.isFinite(v) && v >= 0),
  top_p: expect("a number above 0 and at most 1", (v) => Number.isFinite(v) && v > 0 && v <= 1),
  top_k: expect("a whole number of at least 0", (v) => Number.isInteger(v) && v >= 0),
  min_p: expect("a number of at least 0 and below 1", (v) => Number.isFinite(v) && v >= 0 && v < 1),
  repetition_penalty: expect("a number above 0", (v) => Number.isFinite(v) && v > 0),
  max_tokens: positiveInteger,
  max_completion_tokens: positiveInteger,
  stop: expect("a non-empty string or an array of at most 16", (v) => [v].flat().length <= 16
    && [v].flat().every((s) => typeof s === "string" && s !== "")),
  seed: expect("a whole number from 0 to 2^53 - 1", (v) => Number.isSafeInteger(v) && v >= 0),
  logprobs: boolean,
  top_logprobs: expect("a whole number from 0 to 20", (v) => Number.isInteger(v) && v >= 0 && v <= 20),
  n: expect("1: an engine gives one answer at a time", (v) => v === 1),
  response_format: expect('{ type: "text" }: other formats are not supported', (v) => v?.type === "text"),
  tools: expect("no tools: this model was not trained to call any", (v) => Array.isArray(v) && v.length === 0),
  tool_choice: expect('"none" or "auto": this model was not trained to call tools', (v) => v === "none" || v === "auto"),
  enable_thinking: boolean,
  stream: boolean,
  stream_options: expect("an object", (v) => typeof v === "object"),
  signal: expect("an AbortSignal", (v) => typeof v === "object" && "aborted" in v && typeof v.addEventListener === "function"),
  onPrefill: expect("a function", (v) => typeof v === "function"),
  frequency_penalty: off,
  presence_penalty: off,
  logit_bias: off,
  model: anything,
  user: anything,
  store: anything,
  metadata: anything,
};

const ROLES = new Set(["system", "developer", "user", "assistant", "tool"]);

/**
 * @param {unknown} params
 * @param {() => number} drawSeed
 * @returns {import("./protocol.js").GenerateArgs} what the worker gets
 */
export function checkCompletion(params, drawSeed = randomSeed) {
  if (typeof params !== "object" || params === null) throw invalid("create: expected an object of parameters");
  const given = /** @type {Record<string, any>} */ (params);
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined || value === null) continue;
    if (!Object.hasOwn(CHECKS, name)) throw invalid(`${name}: no such parameter`);
    const expected = CHECKS[name](value);
    if (expected) throw invalid(`${name}: expected ${expected}, found ${shown(value)}`);
  }
  if (!given.messages) throw invalid("messages: expected an array with at least one message, found nothing");
  if (given.top_logprobs && !given.logprobs) throw invalid("top_logprobs: needs logprobs: true");

  /** @type {import("./protocol.js").GenerateArgs} */
  const args = {
    messages: checkMessages(given.messages),
    seed: given.seed ?? drawSeed(),
    date: isoDay(new Date()),
  };
  for (const name of /** @type {const} */ ([
    "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "logprobs", "top_logprobs", "enable_thinking",
  ])) {
    if (given[name] !== undefined && given[name] !== null) /** @type {any} */ (args)[name] = given[name];
  }
  const limit = given.max_completion_tokens ?? given.max_tokens;
  if (limit !== undefined && limit !== null) args.max_tokens = limit;
  if (given.stop !== undefined && given.stop !== null) args.stop = [given.stop].flat();
  return args;
}

/**
 * @param {unknown} messages
 * @returns {WireMessage[]} plain objects with plain text
 */
export function checkMessages(messages) {
  if (!Array.isArray(messages)) throw invalid("messages: expected an array");
  return messages.map((message, i) => {
    const where = `messages[${i}]`;
    if (typeof message !== "object" || message === null) throw invalid(`${where}: expected an object`);
    const { role, content } = message;
    if (!ROLES.has(role)) throw invalid(`${where}.role: expected system, user, assistant or tool, found ${shown(role)}`);
    if (message.tool_calls?.length) throw invalid(`${where}.tool_calls: this model was not trained to call tools`);
    return { role: role === "developer" ? "system" : role, content: plainText(content, `${where}.content`) };
  });
}

/** @param {unknown} content @param {string} where */
function plainText(content, where) {
  if (typeof content === "string") return content;
  if (Array.isArray(content)) {
    return content.map((part, i) => {
      if (part?.type === "text" && typeof part.text === "string") return part.text;
      throw invalid(`${where}[${i}]: expected a text part, found ${shown(part?.type ?? part)}`);
    }).join("");
  }
  throw invalid(`${where}: expected text, found ${shown(content)}`);
}

/** The local calendar day, for templates that tell the model what day it is. @param {Date} date */
export function isoDay(date) {
  const two = (/** @type {number} */ n) => String(n).padStart(2, "0");
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
}

function randomSeed() {
  return crypto.getRandomValues(new Uint32Array(1))[0];
}

/** @param {string} message */
function invalid(message) {
  return new SmolLMError("invalid_argument", message);
}

/** @param {unknown} value */
function shown(value) {
  if (typeof value === "number" || typeof value === "bigint") return String(value);
  if (value === undefined) return "nothing";
  const text = JSON.stringify(value) ?? typeof value;
  return text.length > 60 ? `${text.slice(0, 57)}…` : text;
}
