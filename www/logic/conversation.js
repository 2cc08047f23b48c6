/**
 * The conversation as a value: every function takes one and gives a new one.
 *
 * @typedef {{ tokens: number, tokensPerSecond: number, firstTokenMs: number }} Figures
 * @typedef {{ code: string, message: string }} Failure
 *
 * @typedef {object} Message
 * @property {number} id
 * @property {"user" | "assistant"} role
 * @property {string} content
 * @property {"done" | "waiting" | "streaming" | "stopped" | "length" | "failed"} status
 * @property {Figures} [figures]
 * @property {Failure} [failure]
 *
 * @typedef {{ systemPrompt: string | null, messages: readonly Message[] }} Conversation
 */

/** @param {string | null} systemPrompt @returns {Conversation} */
export function emptyConversation(systemPrompt = null) {
  return { systemPrompt, messages: [] };
}

/** The user's message, and the answer that is waited for. @param {Conversation} c @param {string} text @returns {Conversation} */
export function ask(c, text) {
  const id = (c.messages.at(-1)?.id ?? 0) + 1;
  return { ...c, messages: [
    ...c.messages,
    { id, role: "user", content: text, status: "done" },
    { id: id + 1, role: "assistant", content: "", status: "waiting" },
  ] };
}

/** @param {Conversation} c @param {string} text @returns {Conversation} */
export function appendText(c, text) {
  return changeLast(c, (last) => ({ ...last, content: last.content + text, status: "streaming" }));
}

/** @param {Conversation} c @param {"done" | "stopped" | "length"} status @param {Figures} [figures] @returns {Conversation} */
export function finish(c, status, figures) {
  return changeLast(c, (last) => ({ ...last, status, ...(figures && { figures }) }));
}

/** @param {Conversation} c @param {Failure} failure @returns {Conversation} */
export function fail(c, failure) {
  return changeLast(c, (last) => ({ ...last, status: "failed", failure }));
}

/**
 * The last answer asked for again, or the conversation as it is where there is none.
 * @param {Conversation} c @returns {Conversation}
 */
export function retryLast(c) {
  if (c.messages.at(-1)?.role !== "assistant") return c;
  return changeLast(c, ({ id, role }) => ({ id, role, content: "", status: "waiting" }));
}

/** @param {Conversation} c */
export function isAnswering(c) {
  const status = c.messages.at(-1)?.status;
  return status === "waiting" || status === "streaming";
}

/**
 * What the model is asked: everything but the answer that is being waited for, and without answers
 * that never came (and their questions, which would make two user turns in a row).
 *
 * @param {Conversation} c
 * @returns {{ role: "system" | "user" | "assistant", content: string }[]}
 */
export function toRequest(c) {
  /** @type {{ role: "system" | "user" | "assistant", content: string }[]} */
  const request = c.systemPrompt === null ? [] : [{ role: "system", content: c.systemPrompt }];
  const { messages } = c;
  for (let i = 0; i < messages.length; i += 2) {
    const question = messages[i], answer = messages[i + 1];
    const last = i + 2 >= messages.length;
    if (!last && !answer.content) continue;
    request.push({ role: "user", content: question.content });
    if (!last) request.push({ role: "assistant", content: answer.content });
  }
  return request;
}

/** @param {Conversation} c */
export function toJson(c) {
  return JSON.stringify({ version: 1, ...c });
}

/**
 * What was kept, held to its shape: storage is written by other versions and other hands too.
 * An answer that was being written when the page went away counts as stopped.
 *
 * @param {string | null} json
 * @returns {Conversation}
 */
export function fromJson(json) {
  try {
    const { version, systemPrompt, messages } = JSON.parse(json ?? "");
    if (version !== 1 || !Array.isArray(messages)) return emptyConversation();
    const kept = messages.filter((m) => (m?.role === "user" || m?.role === "assistant") && typeof m.content === "string");
    // Question, answer, question, answer: anything else is not ours.
    if (kept.some((m, i) => m.role !== (i % 2 ? "assistant" : "user")) || kept.length % 2) return emptyConversation();
    return {
      systemPrompt: typeof systemPrompt === "string" ? systemPrompt : null,
      messages: kept.map((m, i) => ({
        id: i + 1, role: m.role, content: m.content,
        status: ["done", "stopped", "length", "failed"].includes(m.status) ? m.status : "stopped",
        ...(isFigures(m.figures) && { figures: m.figures }),
        ...(typeof m.failure?.message === "string" && { failure: { code: String(m.failure.code), message: m.failure.message } }),
      })),
    };
  } catch {
    return emptyConversation();
  }
}

/** @param {any} figures */
function isFigures(figures) {
  return ["tokens", "tokensPerSecond", "firstTokenMs"].every((name) => Number.isFinite(figures?.[name]));
}

/** @param {Conversation} c @param {(last: Message) => Message} change @returns {Conversation} */
function changeLast(c, change) {
  const last = c.messages.at(-1);
  return last ? { ...c, messages: [...c.messages.slice(0, -1), change(last)] } : c;
}
