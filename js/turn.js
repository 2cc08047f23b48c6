/**
 * A wait that ends as soon as the messages already queued have been seen: timers would add
 * milliseconds a token, and a microtask would let no message in.
 */
export function createTurn() {
  const { port1, port2 } = new MessageChannel();
  /** @type {(() => void)[]} */
  const waiting = [];
  port1.onmessage = () => waiting.shift()?.();
  // Node would wait for more messages for ever.
  /** @type {any} */ (port1).unref?.();
  return () => /** @type {Promise<void>} */ (new Promise((resolve) => {
    waiting.push(resolve);
    port2.postMessage(null);
  }));
}
