/**
 * A scripted stand-in for the wasm build, with the same exports (src/wasm/): the package and the
 * page can be tested without weights. It understands the same calls, "tokenizes" by words, and
 * answers from a script in the last message:
 *
 *   say: text        answers with that text        long: 500    answers with 500 words
 *   slow: 20 text    20 ms a token                 trap         crashes as wasm does
 *   fail             throws a typed error          anything else is echoed
 *
 * Its threads do nothing.
 */
const WORDS = /\s*\S+/g;
const FAKE_STATE = "state 1\n";

export default async function init() {
  return { memory: new WebAssembly.Memory({ initial: 16 }) };
}

export function initSync() {}

export function set_threads(n) {
  return n;
}

export function run_kernel_worker() {}

export function rival_kernels() {
  return ["fake"];
}

export function try_kernel() {}

export function select_kernel() {
  return true;
}

export function kernel_name() {
  return "fake";
}

function coded(code, message) {
  return Object.assign(new Error(message), { code });
}

function wait(ms) {
  const until = performance.now() + ms;
  while (performance.now() < until);
}

export class SmolLMInstruct {
  #words = [];
  #bytes = 0;
  #format = "";
  #context = 2048;
  #plan = null;
  /** The last prompt. */
  cached = [];

  begin_load(spec) {
    const { format, context_length } = JSON.parse(spec);
    this.#format = format;
    this.#context = context_length ?? 2048;
  }

  begin_file() {}

  feed(chunk) {
    this.#bytes += chunk.length;
  }

  finish_load() {
    if (this.#bytes < 100) throw coded("not_a_model", `tensor table: truncated after ${this.#bytes} bytes`);
    return JSON.stringify({
      model: "Fake", architecture: this.#format === "gguf" ? "llama" : "smollm3", parameters: 1000,
      quantization: "none", context_length: this.#context, kernel: "fake",
      weight_bytes: this.#bytes, memory_bytes: 1 << 20,
    });
  }

  tokenize(text) {
    return Uint32Array.from(text.match(WORDS) ?? [], (word) => this.#id(word));
  }

  detokenize(ids) {
    return [...ids].map((id) => this.#words[id] ?? "").join("");
  }

  count_messages(messages) {
    return this.#prompt(JSON.parse(messages)).length;
  }

  start(request) {
    const { messages, max_tokens = Infinity, stop = [], logprobs, top_logprobs = 0 } = JSON.parse(request);
    const prompt = this.#prompt(messages);
    if (prompt.length >= this.#context) {
      throw coded("context_overflow", `prompt of ${prompt.length} tokens does not fit into ${this.#context}`);
    }
    const last = messages[messages.length - 1].content;
    const [, verb, rest] = /^(say|long|slow|trap|fail)(?:: ?([^]*))?$/.exec(last) ?? [null, "say", `You said: ${last}`];
    const slow = verb === "slow" ? Number(/^\d+/.exec(rest)) : 0;
    let words = verb === "long" ? Array.from({ length: Number(rest) }, (_, i) => ` word${i}`)
      : (verb === "slow" ? rest.replace(/^\d+ /, "") : rest ?? "").match(WORDS) ?? [];
    const text = words.join("");
    for (const s of stop) {
      const at = text.indexOf(s);
      if (at >= 0) words = text.slice(0, at).match(WORDS) ?? [];
    }
    const differs = prompt.findIndex((word, i) => word !== this.cached[i]);
    const cachedTokens = Math.min(differs < 0 ? prompt.length : differs, prompt.length - 1);
    this.cached = prompt;
    this.#plan = {
      verb, slow, words: words.slice(0, max_tokens), reason: words.length > max_tokens ? "length" : "stop",
      prompt: prompt.length, prefilled: cachedTokens, cached: cachedTokens, made: 0, logprobs, top: top_logprobs,
    };
    return JSON.stringify({ prompt_tokens: prompt.length, cached_tokens: cachedTokens, dropped: [] });
  }

  step() {
    const plan = this.#plan;
    if (!plan) throw coded("invalid_argument", "step: nothing was started");
    if (plan.prefilled < plan.prompt) {
      plan.prefilled = Math.min(plan.prompt, plan.prefilled + 32);
      wait(1);
      return JSON.stringify({ type: "prefill", done: plan.prefilled, total: plan.prompt });
    }
    if (plan.verb === "trap") throw new WebAssembly.RuntimeError("unreachable");
    if (plan.verb === "fail") throw coded("out_of_memory", "kv cache: no memory for 10 more positions");
    if (plan.made >= plan.words.length) return this.#done(plan.reason);
    wait(plan.slow);
    const text = plan.words[plan.made++];
    const step = { type: "token", id: this.#id(text), text };
    if (plan.logprobs) {
      const likely = (token, logprob) => ({ id: this.#id(token), token, bytes: [...new TextEncoder().encode(token)], logprob });
      Object.assign(step, likely(text, -0.5));
      step.top_logprobs = Array.from({ length: plan.top }, (_, i) => likely(i ? ` other${i}` : text, -0.5 - i));
    }
    return JSON.stringify(step);
  }

  abort() {
    return this.#done("abort");
  }

  #done(finish_reason) {
    const { prompt, made, cached } = this.#plan ?? { prompt: 0, made: 0, cached: 0 };
    this.#plan = null;
    return JSON.stringify({
      type: "done", finish_reason, text: "",
      usage: { prompt_tokens: prompt, completion_tokens: made, total_tokens: prompt + made, cached_tokens: cached },
    });
  }

  #prompt(messages) {
    return messages.flatMap(({ role, content }) => [role, ...(content.match(WORDS) ?? [])]);
  }

  #id(word) {
    const known = this.#words.indexOf(word);
    return known >= 0 ? known : this.#words.push(word) - 1;
  }
}

/** Takes a step a word of the text, and its digests are no digests. */
export class FingerprintRun {
  constructor(engine, text, answer) {
    this.left = engine.tokenize(text).length;
    this.found = { text: `text of ${this.left}`, answer: `answer of ${answer}`, ids: Array.from({ length: answer }, (_, i) => i) };
    FingerprintRun.alive++;
  }

  static alive = 0;

  step() {
    wait(1);
    return this.left-- > 0 ? undefined : JSON.stringify(this.found);
  }

  free() {
    FingerprintRun.alive--;
  }
}

/** A model whose every token of context takes a kilobyte, and whose steps take a millisecond. */
export class Preflight {
  #context;
  #bytes = 0;
  #known;

  constructor(spec) {
    const { format, context_length } = JSON.parse(spec);
    this.#context = context_length ?? 2048;
    this.#known = format !== "gguf";
  }

  feed(chunk) {
    this.#bytes += chunk.length;
    return (this.#known ||= this.#bytes >= 100);
  }

  footprint(contextLength = this.#context) {
    if (!this.#known) throw coded("not_a_model", "the file has no header");
    if (contextLength > 1 << 23) throw coded("invalid_argument", `context_length: ${contextLength} is more than the model's`);
    const cache = contextLength * 1024;
    return JSON.stringify({
      context_length: contextLength, weight_bytes: 1000, cache_bytes: cache, tokenizer_bytes: 10, working_bytes: 10, peak_bytes: 1020 + cache,
    });
  }

  rehearse() {
    return 0.5;
  }

  step() {
    wait(1);
  }
}

/** Parts of a few words each; the first one names the fake's version. */
export class StateWriter {
  constructor(engine) {
    const parts = [FAKE_STATE];
    for (let at = 0; at < engine.cached.length; at += 3) parts.push(`${engine.cached.slice(at, at + 3).join("\n")}\n`);
    this.words = engine.cached.length;
    this.parts = parts.map((part) => new TextEncoder().encode(part));
    StateWriter.alive++;
  }

  static alive = 0;

  tokens() {
    return this.words;
  }

  bytes() {
    return this.parts.reduce((sum, part) => sum + part.length, 0);
  }

  next() {
    return this.parts.shift();
  }

  free() {
    StateWriter.alive--;
  }
}

/** Takes what `StateWriter` gave; a `?` counts as damage. */
export class StateReader {
  #text = "";

  feed(_engine, chunk) {
    this.#text += new TextDecoder().decode(chunk);
    if (this.#text.includes("?")) throw coded("integrity", "the saved conversation is damaged");
  }

  finish(engine) {
    if (!this.#text.startsWith(FAKE_STATE)) throw coded("invalid_argument", "the conversation was saved by another version of the engine");
    engine.cached = this.#text.slice(FAKE_STATE.length).split("\n").slice(0, -1);
    return engine.cached.length;
  }

  free() {}
}
