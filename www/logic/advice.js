/**
 * What went wrong in the words of somebody who wants to chat, and what to do next.
 *
 * @param {string} code of a SmolLMError
 * @returns {{ title: string, advice: string, retry: string | null }} `retry`: what the button says
 */
export function adviceFor(code) {
  return ADVICE[code] ?? { title: "Something went wrong", advice: "Try again; reload the page if that does not help.", retry: "Try again" };
}

/** @type {Record<string, { title: string, advice: string, retry: string | null }>} */
const ADVICE = {
  network: {
    title: "The connection was lost",
    advice: "Check that you are online, then try again.",
    retry: "Try again",
  },
  http_status: {
    title: "The model is not where it should be",
    advice: "The server has no such file, or will not give it. If this is your own site, check its models folder.",
    retry: "Try again",
  },
  integrity: {
    title: "The download is damaged",
    advice: "What arrived is not the file that was promised. Nothing of it was kept; try again.",
    retry: "Download again",
  },
  not_a_model: {
    title: "This is not a model",
    advice: "The file could not be read as a model. Check the address it comes from.",
    retry: "Try again",
  },
  unsupported_architecture: {
    title: "This kind of model is not supported",
    advice: "Choose a SmolLM, SmolLM2 or SmolLM3 model.",
    retry: null,
  },
  unsupported_quantization: {
    title: "This file format is not supported",
    advice: "Choose another quantization of the model.",
    retry: null,
  },
  out_of_memory: {
    title: "Not enough memory",
    advice: "Close other tabs or programs, or let the model read less at once, then load it again.",
    retry: "Load again",
  },
  storage_full: {
    title: "This device is full",
    advice: "Free some space, or go on: the model is then downloaded again next time.",
    retry: "Try again",
  },
  context_overflow: {
    title: "The message is too long",
    advice: "It does not fit into what the model can read at once. Shorten it, or start a new chat.",
    retry: null,
  },
  engine_lost: {
    title: "The engine stopped",
    advice: "The browser may have run out of memory. Your conversation is kept; load the model again to go on.",
    retry: "Load again",
  },
  unsupported_browser: {
    title: "This browser is too old",
    advice: "Chrome 91, Firefox 114 or Safari 16.4, or anything later, can run the model.",
    retry: null,
  },
};
