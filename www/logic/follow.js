/**
 * Whether the transcript follows the answer: it lets go as soon as the reader scrolls up, and takes
 * hold again when the reader comes back to the end.
 *
 * @param {boolean} following
 * @param {{ top: number, height: number, client: number }} before the scroll position last seen
 * @param {{ top: number, height: number, client: number }} now
 * @returns {boolean}
 */
export function follows(following, before, now) {
  const gap = now.height - now.top - now.client;
  if (gap < 8) return true;
  // A shorter page or a bigger window moves `top` too, and is no wish of the reader's.
  const byReader = now.height >= before.height && now.client <= before.client;
  if (now.top < before.top - 2 && byReader) return false;
  return gap < 40 ? true : following;
}
