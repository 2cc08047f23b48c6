/**
 * Which blocks of a growing Markdown text must be drawn anew: while an answer streams, all but the
 * last stay as they are, and with them selections and scroll positions.
 *
 * @param {readonly string[]} drawn sources of the blocks on the page
 * @param {readonly string[]} wanted sources of the blocks that should be there
 * @returns {{ keep: number, remove: number, add: readonly string[] }} keep so many from the start,
 *   remove the rest, then add these
 */
export function planBlocks(drawn, wanted) {
  let keep = 0;
  while (keep < drawn.length && keep < wanted.length && drawn[keep] === wanted[keep]) keep++;
  return { keep, remove: drawn.length - keep, add: wanted.slice(keep) };
}
