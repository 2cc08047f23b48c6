/**
 * smollm-web through its public interface: the times are the ones that every app sees in
 * `usage.timings`, so tokenizing, drawing and streaming each token are part of them.
 *
 * @param {import("./types.js").OpenOptions} options
 * @returns {Promise<import("./types.js").Engine & { turn(): Promise<{ tokens: number, firstTokenMs: number }> }>}
 */
export async function open({ weights, threads, kernel, contextLength }) {
  const { SmolLM } = await import("/site/smollm-web/index.js");
  const began = performance.now();
  const engine = await SmolLM.load(weights, { threads, kernel, contextLength, cache: "none" });
  const loadMs = performance.now() - began;
  let runs = 0;
  /** @type {import("../../../js/params.js").ChatMessage[]} */
  const conversation = [];
  return {
    info: { ...engine.info, loadMs },
    async run({ ids, prompt, generate }) {
      // A word at the front that the run before did not have: nothing but the template's first tokens is cached.
      const system = ["one", "two"][runs++ % 2];
      const messages = await exactly(engine, system, ids, prompt);
      const { usage } = await engine.chat.completions.create({ messages, max_tokens: generate + 1, temperature: 0 });
      const { prompt_tokens, completion_tokens, prompt_tokens_details, timings } = usage;
      return {
        prefilled: prompt_tokens - prompt_tokens_details.cached_tokens, prefillMs: timings.prefill_ms,
        // The first token comes with the prompt.
        decoded: completion_tokens - 1, decodeMs: timings.decode_ms,
        memoryBytes: engine.info.memoryBytes,
      };
    },
    /** The next question of a conversation, from the call to the first text. */
    async turn() {
      conversation.push({ role: "user", content: conversation.length === 0 ? OPENING_QUESTION : NEXT_QUESTION });
      const start = performance.now();
      const stream = await engine.chat.completions.create({ messages: conversation, max_tokens: 24, temperature: 0, stream: true });
      let firstTokenMs = 0, answer = "", tokens = 0;
      for await (const { choices: [choice], usage } of stream) {
        answer += choice?.delta.content ?? "";
        if (answer !== "") firstTokenMs ||= performance.now() - start;
        if (usage) tokens = usage.prompt_tokens - usage.prompt_tokens_details.cached_tokens;
      }
      conversation.push({ role: "assistant", content: answer });
      return { tokens, firstTokenMs };
    },
    close: async () => engine.unload(),
  };
}

const OPENING_QUESTION = "I am going to the sea for a week with two small children and a dog. What should we not forget to pack?";
/** With the template around it, and what ends the answer before it, no more than sixteen tokens. */
const NEXT_QUESTION = "What else?";

/** `<|im_start|>system\n`, which every prompt of this template begins with, is always cached. */
const OPENING = 3;

/**
 * A question of which exactly `prompt` tokens are new to the engine, the template's own included.
 *
 * @param {import("../../../js/client.js").SmolLM} engine
 * @param {string} system @param {readonly number[]} ids of a text, `prompt` of them @param {number} prompt
 */
async function exactly(engine, system, ids, prompt) {
  /** @param {string} content @returns {import("../../../js/params.js").ChatMessage[]} */
  const ask = (content) => [{ role: "system", content: system }, { role: "user", content }];
  // Where words join at the cut, no length may fit; at another beginning one does.
  for (let from = 0; from < 8; from++) {
    let length = prompt - from;
    // The template's share does not depend on the text, so the second guess is right but where words join.
    for (let tries = 0; tries < 4; tries++) {
      const messages = ask(await engine.detokenize(ids.slice(from, from + length)));
      const excess = await engine.countTokens(messages) - OPENING - prompt;
      if (excess === 0) return messages;
      length -= excess;
    }
  }
  throw new Error(`ours: no prompt of ${prompt} tokens can be cut from the text`);
}
