/**
 * Keeps what the engine has read of the conversation on this device, so that after a reload it goes on without reading it
 * again. A device that keeps nothing costs only that.
 */
import { isAnswering } from "./logic/conversation.js";
import { SmolLM } from "./smollm-web/index.js";

const KEY = "chat";
/** The next message often comes at once, and what it adds would have to be saved again. */
const IDLE_MS = 500;

/** @param {import("./controller.js").Controller} controller */
export function keepState(controller) {
  /** @type {SmolLM | null} */
  let engine = null;
  /** What is on the device, as far as this page knows. */
  let kept = controller.state.conversation.messages;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let idle;
  let saving = new AbortController();

  controller.addEventListener("change", () => {
    const { conversation } = controller.state;
    const { messages } = conversation;
    if (controller.engine !== engine) {
      engine = controller.engine;
      // What was refused, or is not there, is read again.
      if (messages.length > 0) engine?.restoreState(KEY).catch(() => {});
    }
    if (messages === kept) return;
    // An answer does not wait for a save, and what is about to change need not be saved.
    clearTimeout(idle);
    saving.abort();
    if (isAnswering(conversation)) return;
    kept = messages;
    if (messages.length === 0) {
      SmolLM.states.delete(KEY).catch(() => {});
      return;
    }
    idle = setTimeout(() => {
      saving = new AbortController();
      engine?.saveState(KEY, { signal: saving.signal }).catch(() => {});
    }, IDLE_MS);
  });
}
