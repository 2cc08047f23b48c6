/**
 * Which messages of a conversation still fit into the context. Whole oldest exchanges go first (a
 * user message and all that follows up to the next one), leading system messages and the last
 * exchange never. More goes at once than must, so that the beginning of the prompt, and with it the
 * KV cache, stays the same for some turns.
 *
 * @typedef {import("./protocol.js").WireMessage} WireMessage
 */

/** The share of the context kept free for the answer, as in `src/instruct/`. */
const RESERVED_FOR_ANSWER = 8;
/** The share of the context that goes in one step. */
const STEP = 8;
/** As in `src/instruct/`. */
const DEFAULT_MAX_TOKENS = 512;
/** More than any template puts around a message, or around them all. */
const TEMPLATE_TOKENS = 16, TEMPLATE_TOKENS_ONCE = 512;

/**
 * @param {readonly WireMessage[]} messages
 * @param {object} options
 * @param {number} options.contextLength tokens
 * @param {number} [options.maxTokens] of the answer
 * @param {(messages: readonly WireMessage[]) => number} options.count tokens of a prompt
 * @returns {{ messages: readonly WireMessage[], dropped: WireMessage[] }}
 */
export function fitMessages(messages, { contextLength, maxTokens = DEFAULT_MAX_TOKENS, count }) {
  const limit = contextLength - Math.max(1, Math.min(maxTokens, Math.floor(contextLength / RESERVED_FOR_ANSWER)));
  if (mostTokens(messages) <= limit) return { messages, dropped: [] };
  const total = count(messages);
  const starts = exchanges(messages);
  if (total <= limit || starts.length < 2) return { messages, dropped: [] };

  const step = Math.max(1, Math.floor(contextLength / STEP));
  const target = total - Math.ceil((total - limit) / step) * step;
  const system = messages.slice(0, starts[0]);
  /** @param {number} k exchanges left out */
  const rest = (k) => [...system, ...messages.slice(starts[k])];
  let low = 1, high = starts.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (count(rest(middle)) <= target) high = middle;
    else low = middle + 1;
  }
  return { messages: rest(low), dropped: messages.slice(starts[0], starts[low]) };
}

/** A bound that needs no tokenizer: no token is shorter than a byte. @param {readonly WireMessage[]} messages */
function mostTokens(messages) {
  let tokens = TEMPLATE_TOKENS_ONCE;
  // A UTF-16 unit has three bytes of UTF-8 at most.
  for (const { content } of messages) tokens += TEMPLATE_TOKENS + 3 * content.length;
  return tokens;
}

/** Where each exchange begins. @param {readonly WireMessage[]} messages */
function exchanges(messages) {
  const first = messages.findIndex(({ role }) => role !== "system");
  if (first < 0) return [];
  const starts = [first];
  for (let i = first + 1; i < messages.length; i++) if (messages[i].role === "user") starts.push(i);
  return starts;
}
