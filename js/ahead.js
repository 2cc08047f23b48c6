/** Work that is started several at a time, and whose results are taken in order. */

/** Downloads on their way at once: enough to fill a line with latency, few enough to hold in memory. */
export const PARALLEL = 4;

/**
 * Starts the first ones at once, and one more whenever a result was taken.
 *
 * @template T, R
 * @param {readonly T[]} items
 * @param {number} most under way at once
 * @param {(item: T) => Promise<R>} start
 * @returns {AsyncGenerator<[T, R], void, void>}
 */
export function ahead(items, most, start) {
  /** @type {Promise<R>[]} */
  const coming = [];
  let next = 0;
  const fill = () => {
    for (; next < items.length && coming.length < most; next++) {
      const promise = start(items[next]);
      // Thrown where it is awaited; not twice.
      promise.catch(() => {});
      coming.push(promise);
    }
  };
  fill();
  return (async function* () {
    for (const item of items) {
      const result = await /** @type {Promise<R>} */ (coming.shift());
      fill();
      yield [item, result];
    }
  })();
}
